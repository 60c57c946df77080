//! The record of the events that were reported to the engine, so that each event is reported once.
//!
//! A supervisor reports events as they happen, and its whole state after a reconnection. Events and
//! states are compared with this record, and only new facts become reports.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::supervise::protocol::{AttemptState, ChildState, Message};
use crate::supervise::report::{Found, FoundChild, FoundState, Report};
use crate::supervise::words::{AttemptKey, ChildId};

/// The attempts of one supervisor.
#[derive(Debug, Default)]
pub(super) struct Told {
    attempts: HashMap<AttemptKey, ToldAttempt>,
}

#[derive(Debug, Default)]
struct ToldAttempt {
    children: BTreeMap<u16, ToldChild>,
    ended: bool,
    /// Whether the host asked for the attempt's end and must still get an answer.
    asked: bool,
    held: Option<String>,
}

/// The latest state of a child that was reported to the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum ToldChild {
    Nothing,
    Started,
    Over,
}

impl Told {
    pub(super) fn knows(&self, attempt: &AttemptKey) -> bool {
        self.attempts.contains_key(attempt)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.attempts.is_empty()
    }

    pub(super) fn starting(&mut self, child: &ChildId) {
        let attempt = self.attempts.entry(child.attempt().clone()).or_default();
        attempt.ended = false;
        // The engine orders a start only if it does not know the child. A supervisor that was
        // silent may know the child nevertheless, and then its answer is news.
        attempt.children.insert(child.index(), ToldChild::Nothing);
    }

    pub(super) fn asked_to_end(&mut self, attempt: &AttemptKey) {
        self.attempts.entry(attempt.clone()).or_default().asked = true;
    }

    pub(super) fn forget(&mut self, attempt: &AttemptKey) {
        self.attempts.remove(attempt);
    }

    /// Records that the engine knows this attempt, which was found when the host started.
    pub(super) fn found(&mut self, state: AttemptState) -> Found {
        let children = state.children.into_iter().map(|view| {
            let state = match view.state {
                ChildState::NotStarted { class, message } => {
                    FoundState::NotStarted { class, message }
                }
                ChildState::Running { pid, start_time } => FoundState::Running { pid, start_time },
                ChildState::Exited(exit) => FoundState::Exited(exit),
            };
            FoundChild {
                child: view.child,
                state,
            }
        });
        let found = Found {
            attempt: state.attempt,
            children: children.collect(),
            stopping: state.stopping,
            ended: state.ended.is_some(),
            held: state.held,
            output_cut: false,
        };
        let told = self.attempts.entry(found.attempt.clone()).or_default();
        told.ended = found.ended;
        told.held.clone_from(&found.held);
        for child in &found.children {
            let running = matches!(child.state, FoundState::Running { .. });
            let known = if running {
                ToldChild::Started
            } else {
                ToldChild::Over
            };
            told.children.insert(child.child.index(), known);
        }
        found
    }

    /// The report that a message contains; `None` if the message is not new or not for the engine.
    pub(super) fn news(&mut self, message: Message) -> Option<Report> {
        match message {
            Message::Started {
                child,
                pid,
                start_time,
            } => self
                .advance(&child, ToldChild::Started)
                .then_some(Report::Started {
                    child,
                    pid,
                    start_time,
                }),
            Message::NotStarted {
                child,
                class,
                message,
            } => self
                .advance(&child, ToldChild::Over)
                .then_some(Report::NotStarted {
                    child,
                    class,
                    message,
                }),
            Message::Exited { child, exit, ended } => {
                if !self.advance(&child, ToldChild::Over) {
                    return None;
                }
                let told = self.attempts.get_mut(child.attempt())?;
                told.ended = ended;
                told.asked &= !ended;
                Some(Report::Exited { child, exit, ended })
            }
            Message::Ended {
                attempt,
                swept,
                alive,
            } => {
                let told = self.attempts.get_mut(&attempt)?;
                let news = told.asked || !told.ended;
                (told.asked, told.ended) = (false, true);
                news.then_some(Report::Ended {
                    attempt,
                    swept,
                    alive,
                })
            }
            Message::Held { attempt, message } => {
                let told = self.attempts.get_mut(&attempt)?;
                let news = told.held != message;
                told.held.clone_from(&message);
                news.then_some(Report::Held { attempt, message })
            }
            _ => None,
        }
    }

    /// The new reports in the state after a reconnection. `on_the_way` holds the attempts for which
    /// commands will be sent again, because the supervisor has not received them.
    pub(super) fn catch_up(
        &mut self,
        states: Vec<AttemptState>,
        on_the_way: &HashSet<AttemptKey>,
    ) -> Vec<Report> {
        let mut news = Vec::new();
        let present: HashSet<AttemptKey> =
            states.iter().map(|state| state.attempt.clone()).collect();
        for state in states {
            if self.knows(&state.attempt) {
                self.catch_up_with(state, &mut news);
            }
        }
        for (attempt, told) in &mut self.attempts {
            if told.asked && !present.contains(attempt) && !on_the_way.contains(attempt) {
                (told.asked, told.ended) = (false, true);
                news.push(Report::Ended {
                    attempt: attempt.clone(),
                    swept: 0,
                    alive: 0,
                });
            }
        }
        news
    }

    fn catch_up_with(&mut self, state: AttemptState, news: &mut Vec<Report>) {
        let AttemptState {
            attempt,
            children,
            ended,
            held,
            ..
        } = state;
        // Must come first, because the output of an ended child counts as complete unless it is
        // held back.
        news.extend(self.news(Message::Held {
            attempt: attempt.clone(),
            message: held,
        }));
        for view in children {
            let child = view.child;
            news.extend(self.news(match view.state {
                ChildState::NotStarted { class, message } => Message::NotStarted {
                    child,
                    class,
                    message,
                },
                ChildState::Running { pid, start_time } => Message::Started {
                    child,
                    pid,
                    start_time,
                },
                // The end of the whole attempt is a separate message, below.
                ChildState::Exited(exit) => Message::Exited {
                    child,
                    exit,
                    ended: false,
                },
            }));
        }
        if let Some(ended) = ended {
            let (swept, alive) = (ended.swept, ended.alive);
            news.extend(self.news(Message::Ended {
                attempt,
                swept,
                alive,
            }));
        }
    }

    /// Records a child's new state; returns `true` if the child has advanced beyond its recorded
    /// state.
    fn advance(&mut self, child: &ChildId, to: ToldChild) -> bool {
        let Some(attempt) = self.attempts.get_mut(child.attempt()) else {
            return false;
        };
        let known = attempt
            .children
            .entry(child.index())
            .or_insert(ToldChild::Nothing);
        let news = *known < to;
        *known = to.max(*known);
        news
    }

    /// The attempts that were not over yet, and the children without an outcome, when the
    /// supervisor died.
    pub(super) fn unfinished(&self) -> (Vec<AttemptKey>, Vec<ChildId>) {
        let mut attempts = Vec::new();
        let mut children = Vec::new();
        for (key, told) in &self.attempts {
            let open = told
                .children
                .iter()
                .filter(|(_, known)| **known != ToldChild::Over);
            let open: Vec<_> = open
                .map(|(index, _)| ChildId::new(key.clone(), *index))
                .collect();
            if !told.ended || told.asked || !open.is_empty() {
                attempts.push(key.clone());
            }
            children.extend(open);
        }
        attempts.sort();
        children.sort();
        (attempts, children)
    }

    /// Whether the answer to a start is missing.
    pub(super) fn awaits_start(&self) -> bool {
        let attempts = self.attempts.values();
        let mut children = attempts.flat_map(|told| told.children.values());
        children.any(|known| *known == ToldChild::Nothing)
    }

    /// Reports that the attempts that are not over are held back, because their supervisor does not
    /// answer. `before` is the reason of this kind that was reported before.
    pub(super) fn hold_back(&mut self, before: Option<&str>, why: &str) -> Vec<Report> {
        let is_open = |told: &ToldAttempt| {
            let held = told.held.as_deref();
            !told.ended && (held.is_none() || held == before)
        };
        let held = Some(why.to_owned());
        self.replace_held(is_open, held)
    }

    /// Reports that this attempt is held back, unless it is held back already.
    pub(super) fn hold(&mut self, attempt: &AttemptKey, why: &str) -> Option<Report> {
        let told = self.attempts.get_mut(attempt)?;
        if told.held.is_some() {
            return None;
        }
        told.held = Some(why.to_owned());
        Some(Report::Held {
            attempt: attempt.clone(),
            message: told.held.clone(),
        })
    }

    /// Reports that the attempts that were held back for this reason go on.
    pub(super) fn let_go_on(&mut self, why: &str) -> Vec<Report> {
        let is_held = |told: &ToldAttempt| told.held.as_deref() == Some(why);
        self.replace_held(is_held, None)
    }

    fn replace_held(
        &mut self,
        is_meant: impl Fn(&ToldAttempt) -> bool,
        held: Option<String>,
    ) -> Vec<Report> {
        let meant = self.attempts.iter_mut();
        let meant = meant.filter(|(_, told)| is_meant(told));
        let reports = meant.map(|(attempt, told)| {
            told.held.clone_from(&held);
            Report::Held {
                attempt: attempt.clone(),
                message: held.clone(),
            }
        });
        reports.collect()
    }

    pub(super) fn attempts(&self) -> impl Iterator<Item = &AttemptKey> {
        self.attempts.keys()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervise::protocol::{ChildView, EndedState};
    use crate::supervise::words::{Exit, Status};

    #[test]
    fn the_answer_to_a_start_is_passed_on_even_if_the_supervisor_knew_the_child() {
        let attempt = AttemptKey::new("t.1");
        let child = ChildId::new(attempt.clone(), 0);
        let exit = Exit::sample(Status::Code(0));
        let mut told = Told::default();
        told.found(AttemptState {
            attempt,
            children: vec![ChildView {
                child: child.clone(),
                state: ChildState::Exited(exit.clone()),
            }],
            stopping: None,
            finished: false,
            ended: Some(EndedState { swept: 0, alive: 0 }),
            held: None,
        });
        told.starting(&child);
        let ended = true;
        let answer = Message::Exited {
            child: child.clone(),
            exit: exit.clone(),
            ended,
        };
        let expected = Report::Exited { child, exit, ended };
        assert_eq!(told.news(answer.clone()), Some(expected));
        assert_eq!(told.news(answer), None);
    }

    /// In the other order, the output of the child would count as complete for a moment.
    #[test]
    fn after_a_reconnection_a_hold_is_reported_before_the_exit_of_its_child() {
        let attempt = AttemptKey::new("t.1");
        let child = ChildId::new(attempt.clone(), 0);
        let exit = Exit::sample(Status::Code(0));
        let held = Some("no space".to_owned());
        let mut told = Told::default();
        told.starting(&child);
        let state = AttemptState {
            attempt: attempt.clone(),
            children: vec![ChildView {
                child: child.clone(),
                state: ChildState::Exited(exit.clone()),
            }],
            stopping: None,
            finished: false,
            ended: None,
            held: held.clone(),
        };
        let ended = false;
        let expected = [
            Report::Held {
                attempt,
                message: held,
            },
            Report::Exited { child, exit, ended },
        ];
        assert_eq!(told.catch_up(vec![state], &HashSet::new()), expected);
    }
}
