//! What an earlier host left running is taken up again.

use super::{Answer, Found};
use crate::{attempt::Phase, batch::Action, board::Board, id::TaskId, task::State, time::Now};

impl Board {
    pub(super) fn recover(&mut self, now: Now, id: TaskId, found: Found) -> Answer {
        let Some(phase) = self.tasks.get(&id).and_then(|task| task.phase()).cloned() else {
            return Answer::Stale;
        };
        let Some(attempt) = self.attempt_id(id) else {
            return Answer::Stale;
        };
        match (found, phase) {
            // An assignment that nobody received stays assigned: it starts when a slot is free.
            (Found::NeverReceived | Found::Orphaned, Phase::Assigned) => {}
            (Found::NeverReceived, Phase::Starting) => self.back_to_ready(now, id),
            (Found::Known, Phase::Assigned) => {
                self.mark_started(now, id);
                self.effect(Action::Resume(attempt));
            }
            (_, Phase::Stopping(why)) => {
                self.effect(Action::Resume(attempt));
                self.effect(Action::Stop { attempt, why });
            }
            (_, Phase::Starting | Phase::Live | Phase::Finishing) => {
                self.effect(Action::Resume(attempt))
            }
        }
        Answer::Noted
    }

    /// The start was seen by the supervisor only; from here on the board knows it too.
    pub(super) fn mark_started(&mut self, now: Now, id: TaskId) {
        let boot = self.boot_id.clone();
        self.change(id, |task| {
            task.state = State::Running {
                phase: Phase::Starting,
                since: now.wall,
            };
            if let Some(attempt) = task.attempts.last_mut() {
                attempt.started_at = Some(now.wall);
                attempt.started_monotonic = Some((now.monotonic, boot));
            }
        });
    }
}
