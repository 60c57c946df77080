//! Orders to the runner of attempts: the effects that a durable batch allows, and preparations for
//! the next attempts.

use claudine_domain::{
    batch::{Action, Effect},
    id::AttemptId,
};

use super::Owner;
use crate::engine::{Attempts, Launch, port};

impl Owner {
    /// Whether the effect starts an attempt of a task with dependencies. Such an attempt may ask
    /// for the end of a dependency before that end is on disk.
    pub(super) fn follows_an_end(&self, effect: &Effect) -> bool {
        let Action::Start(attempt) = effect.action else {
            return false;
        };
        let task = self.board.task(attempt.task);
        task.is_some_and(|task| !task.dependencies.is_empty())
    }

    /// Tells the runner which attempts start next, and dismisses attempts that are no longer among
    /// them.
    pub(super) fn name_next(&mut self) {
        let next: Vec<AttemptId> = if self.stopping {
            Vec::new()
        } else {
            self.board.next_to_start(self.durable)
        };
        if next == self.standing_by {
            return;
        }
        for attempt in &next {
            if !self.standing_by.contains(attempt)
                && let Some(task) = self.board.task(attempt.task)
            {
                self.attempts.prepare(Launch {
                    attempt: *attempt,
                    task: task.clone(),
                    spec: self.recent.get(attempt.task),
                });
            }
        }
        for attempt in std::mem::replace(&mut self.standing_by, next) {
            if !self.standing_by.contains(&attempt) {
                self.attempts.dismiss(attempt);
            }
        }
    }

    pub(super) fn perform(&mut self, effects: Vec<Effect>) {
        for Effect { action, .. } in effects {
            match action {
                Action::Start(attempt) => {
                    self.launch(attempt, port::Attempts::start);
                }
                Action::Resume(attempt) => {
                    self.launch(attempt, port::Attempts::resume);
                }
                Action::Spawn(attempt) => self.attempts.spawn(attempt),
                Action::Settle(attempt) => self.attempts.settle(attempt),
                Action::Stop { attempt, why } => self.attempts.stop(attempt, why),
                Action::Release(attempt) => {
                    self.reports.released(attempt);
                    self.attempts.release(attempt);
                }
                Action::CheckpointStored { attempt, number } => {
                    self.attempts.checkpoint_stored(attempt, number);
                }
            }
        }
    }

    /// Starts or resumes an attempt. If the attempt was stopped after the decision, its task has
    /// left the board or has a later attempt. Nothing is started in this case.
    fn launch(&mut self, attempt: AttemptId, go: impl FnOnce(&dyn Attempts, Launch)) {
        match self.board.task(attempt.task) {
            Some(task) if task.last_attempt_id() == Some(attempt) => {
                go(
                    &*self.attempts,
                    Launch {
                        attempt,
                        task: task.clone(),
                        spec: self.recent.take(attempt.task),
                    },
                );
            }
            _ => tracing::debug!(%attempt, "a stopped or replaced attempt is not launched"),
        }
    }
}
