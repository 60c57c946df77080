//! Executors whose code cannot be had at the moment.

use std::sync::Arc;

use super::Answer;
use crate::{
    attempt::Phase,
    board::{Board, Clock},
    id::TaskId,
    time::{Now, millis},
};

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
}
