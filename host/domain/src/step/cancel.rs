//! Somebody asks for a task, and what it submitted, to stop.

use super::{Answer, Refused};
use crate::{
    attempt::{Phase, StopWhy},
    batch::Action,
    board::Board,
    event::Fact,
    id::TaskId,
    outcome::{Outcome, Reason, ReasonClass},
    task::State,
    time::Now,
};

impl Board {
    pub(super) fn cancel(
        &mut self,
        now: Now,
        task: TaskId,
        reason: Option<String>,
    ) -> Result<Answer, Refused> {
        if !self.tasks.contains_key(&task) {
            return Err(Refused::Unknown { task });
        }
        let already = self.stopping.contains(&task);
        self.cancel_one(now, task, reason.clone());
        for child in self.attached_descendants(task) {
            self.cancel_one(now, child, Some(with_parent(task, reason.as_deref())));
        }
        Ok(Answer::Cancelling { task, already })
    }

    /// Unfinished descendants, without those that were detached and what is below them.
    fn attached_descendants(&self, task: TaskId) -> Vec<TaskId> {
        let mut found = Vec::new();
        let mut open = vec![task];
        while let Some(id) = open.pop() {
            let children = self.children.get(&id).into_iter().flatten();
            let attached = children.filter(|child| {
                self.tasks
                    .get(child)
                    .is_some_and(|task| !task.request.detached)
            });
            for child in attached {
                found.push(*child);
                open.push(*child);
            }
        }
        found
    }

    /// A parent that is being cancelled may submit more while it is asked to stop: that is cancelled with the rest.
    pub(super) fn cancel_with_parent(&mut self, now: Now, child: TaskId, parent: TaskId) {
        let phase = self.tasks.get(&parent).and_then(|parent| parent.phase());
        if let Some(Phase::Stopping(StopWhy::Cancelled { reason })) = phase {
            let why = with_parent(parent, reason.as_deref());
            self.cancel_one(now, child, Some(why));
        }
    }

    fn cancel_one(&mut self, now: Now, id: TaskId, reason: Option<String>) {
        let Some(task) = self.tasks.get(&id) else {
            return;
        };
        match &task.state {
            State::Running {
                phase: Phase::Starting | Phase::Live | Phase::Finishing,
                ..
            } => {
                self.stop(now, id, StopWhy::Cancelled { reason });
            }
            State::Running {
                phase: Phase::Assigned,
                ..
            } => {
                self.change(id, |task| {
                    task.attempts.pop();
                });
                self.finish(now, id, Outcome::Cancelled, Some(cancelled(reason)));
            }
            State::Waiting { .. } | State::Ready { .. } => {
                self.finish(now, id, Outcome::Cancelled, Some(cancelled(reason)));
            }
            // It stops already, for whatever reason, or is over: asking again changes nothing.
            State::Running {
                phase: Phase::Stopping(_),
                ..
            }
            | State::Done { .. } => {}
        }
    }

    /// Asks a running attempt to stop.
    pub(super) fn stop(&mut self, now: Now, id: TaskId, why: StopWhy) {
        let Some(attempt) = self.attempt_id(id) else {
            return;
        };
        self.change(id, |task| {
            task.state = State::Running {
                phase: Phase::Stopping(why.clone()),
                since: now.wall,
            };
        });
        self.record(
            id,
            now,
            Fact::StopRequested {
                attempt: attempt.number,
                why: why.clone(),
            },
        );
        self.effect(Action::Stop { attempt, why });
    }

    pub(super) fn finish(
        &mut self,
        now: Now,
        id: TaskId,
        outcome: Outcome,
        reason: Option<Reason>,
    ) {
        self.change(id, |task| {
            task.state = State::Done {
                at: now.wall,
                outcome,
                reason: reason.clone(),
            };
        });
        self.record(id, now, Fact::Done { outcome, reason });
    }
}

fn with_parent(parent: TaskId, reason: Option<&str>) -> String {
    let why = reason.unwrap_or("cancelled");
    format!("with its parent {parent}: {why}")
}

pub(super) fn cancelled(reason: Option<String>) -> Reason {
    Reason::new(
        ReasonClass::Cancelled,
        reason.unwrap_or_else(|| "cancelled".to_owned()),
    )
}
