//! Handles a restored backup. None of its tasks starts automatically: the host that was backed up
//! may have continued the same work.

use super::{Answer, Cause, Ending, place::unassign};
use crate::{
    attempt::Phase,
    board::Board,
    event::Fact,
    id::TaskId,
    outcome::ReasonClass,
    task::{State, Task},
    time::{Now, Timestamp},
};

impl Board {
    /// Ends the attempts that were under way when the backup was taken, and holds the other tasks.
    /// Existing holds remain. Tasks that another host has run since the backup are unknown here.
    pub(super) fn restored(&mut self, now: Now, taken_at: Timestamp) -> Answer {
        for id in self.ids_where(is_under_way) {
            self.write_off(now, id);
        }
        let is_held = |task: &Task| matches!(task.state, State::Held { .. });
        let queued = self.ids_where(|task| !is_held(task));
        for id in &queued {
            self.change(*id, |task| {
                unassign(task);
                task.held = Some(now.wall);
                task.state = State::Held { since: now.wall };
                task.restored_from = Some(taken_at);
            });
            self.record(*id, now, Fact::Restored { taken_at });
        }
        self.note_forgotten_sessions(Some(now.wall), Some(now.wall));
        Answer::Changed(queued.len())
    }

    /// Ends an attempt as lost, since its outcome is unknown. If the attempt was being stopped, the
    /// reason for the stop decides the outcome.
    fn write_off(&mut self, now: Now, id: TaskId) {
        let Some(attempt) = self.attempt_id(id) else {
            return;
        };
        let lost = Cause::Class(ReasonClass::Lost);
        let message = "the attempt was under way when the backup was taken";
        self.conclude(now, attempt, Ending::new(lost, message));
    }
}

/// Whether an attempt of the task has begun. A reserved attempt has not begun.
fn is_under_way(task: &Task) -> bool {
    task.phase().is_some_and(|phase| *phase != Phase::Assigned)
}
