//! What a backup brought back. None of it starts by itself: the host that the backup was taken from
//! may have gone on with the same work.

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
    /// Ends what was under way when the backup was taken, and holds the rest. What somebody holds
    /// stays held by them.
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
        Answer::Changed(queued.len())
    }

    /// It cannot be told how it ended, so it is lost; if it was to stop already, the reason for
    /// that decides.
    fn write_off(&mut self, now: Now, id: TaskId) {
        let Some(attempt) = self.attempt_id(id) else {
            return;
        };
        let lost = Cause::Class(ReasonClass::Lost);
        let message = "it was under way when the backup was taken that it was restored from";
        self.conclude(now, attempt, Ending::new(lost, message));
    }
}

/// Whether an attempt was given out. One that was only chosen has not begun.
fn is_under_way(task: &Task) -> bool {
    task.phase().is_some_and(|phase| *phase != Phase::Assigned)
}
