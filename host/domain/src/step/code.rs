//! Executors whose code cannot be had at the moment, and attempts whose executors have still to say
//! how they ended.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::Answer;
use crate::{
    attempt::Phase,
    board::{Board, Clock},
    id::TaskId,
    outcome::ReasonClass,
    task::{State, Task},
    time::{Now, millis},
};

/// Time for which agents wait at most for the costs of attempts that have ended.
const ENDS_WITHIN: Duration = Duration::from_secs(30);

impl Board {
    /// Notes why the code of an executor cannot be had, or that it can be had again.
    pub(super) fn set_code(
        &mut self,
        now: Now,
        executor: Arc<str>,
        lacks: Option<Arc<str>>,
    ) -> Answer {
        if let Some(why) = lacks {
            self.without_code.insert(executor, why);
        } else if self.without_code.remove(&executor).is_some() {
            self.ends_first
                .insert(executor.clone(), now.monotonic.after(ENDS_WITHIN));
            // The executor can tell of signs of life only now.
            let starts = self.ids_where(|task| {
                task.request.executor == executor && task.phase() == Some(&Phase::Starting)
            });
            for id in starts {
                self.restart_phase_clock(id, now);
            }
        }
        Answer::Noted
    }

    /// The executors without whose code the last attempts of queued tasks could not begin, each
    /// with the reason. Another host may find the code, or may lack it too.
    pub fn lacked_code(&self) -> BTreeMap<Arc<str>, Arc<str>> {
        let is_queued = |task: &&Arc<Task>| matches!(task.phase(), None | Some(Phase::Assigned));
        let queued = self.tasks.values().filter(is_queued);
        let lacked = queued.filter_map(|task| {
            let mut latest = task.attempts.iter().rev();
            let ended = latest.find_map(|attempt| attempt.ended.as_ref())?;
            let reason = ended.reason.as_ref()?;
            let is_lack = ended.never_began && reason.class == ReasonClass::Plugin;
            is_lack.then(|| {
                let why = Arc::from(reason.message.as_str());
                (task.request.executor.clone(), why)
            })
        });
        lacked.collect()
    }

    /// Whether this time limit is not to be enforced, because the executor has no code and so
    /// cannot tell of a sign of life of the attempt, whose process may well give one.
    pub(super) fn is_deaf(&self, id: TaskId, clock: Clock) -> bool {
        let Some(task) = self.tasks.get(&id).filter(|_| clock == Clock::Start) else {
            return false;
        };
        let has_length = task
            .request
            .start_timeout
            .is_some_and(|limit| millis(limit) > 0);
        has_length && self.without_code.contains_key(&task.request.executor)
    }

    /// Notes that nothing of the attempt is alive. What its processes have done decides how it
    /// ended, so no time limit counts any more, however long its executor cannot be asked.
    pub(super) fn comes_to_rest(&mut self, now: Now, id: TaskId) {
        let Some(task) = self.tasks.get(&id) else {
            return;
        };
        let executor = task.request.executor.clone();
        let is_at_its_end = matches!(task.phase(), None | Some(Phase::Assigned | Phase::Settling));
        self.ends_first
            .insert(executor, now.monotonic.after(ENDS_WITHIN));
        if is_at_its_end {
            return;
        }
        self.has_turn(now, id);
        self.change(id, |task| {
            if let Some(last) = task.attempts.last_mut() {
                last.is_over = true;
            }
        });
        self.finishing(now, id);
    }

    /// Whether the executor has still to tell the costs of attempts that have ended, and its agents
    /// wait for that: they may have spent the budget of the day. An executor that does not answer
    /// holds them back only for a while.
    pub(crate) fn must_tell_ends(&self, now: Now, executor: &str) -> bool {
        let is_untold = |id: &TaskId| {
            let task = self.tasks.get(id);
            let task = task.filter(|task| *task.request.executor == *executor);
            task.is_some_and(|task| {
                let is_over = task.last_attempt().is_some_and(|last| last.is_over);
                is_over || task.phase() == Some(&Phase::Settling)
            })
        };
        let until = self.ends_first.get(executor);
        until.is_some_and(|until| now.monotonic < *until) && self.running.iter().any(is_untold)
    }

    /// Lets the time limits count again, because another process of the attempt is about to start.
    /// If another attempt has had its turn to start meanwhile, this one does not start once more
    /// beside it, and counts as live.
    pub(super) fn goes_on(&mut self, now: Now, id: TaskId) {
        let Some(task) = self.tasks.get(&id) else {
            return;
        };
        let Some(last) = task.last_attempt().filter(|last| last.is_over) else {
            return;
        };
        let key = task.request.serial_start.as_ref();
        let has_lost_its_turn = key.is_some_and(|key| self.starting.contains_key(key));
        let was_alive = last.live_at.is_some() || has_lost_its_turn;
        let is_finishing = task.phase() == Some(&Phase::Finishing);
        self.change(id, |task| {
            if let Some(last) = task.attempts.last_mut() {
                last.is_over = false;
                last.live_at = last.live_at.or(was_alive.then_some(now.wall));
            }
            if is_finishing && was_alive {
                task.state = State::Running {
                    phase: Phase::Live,
                    since: now.wall,
                };
            }
        });
        if is_finishing && !was_alive {
            self.enter(now, id, Phase::Starting, |_| {});
        }
    }
}
