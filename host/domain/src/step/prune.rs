//! Removes tasks that finished long ago.
//!
//! The list of tasks was read from the store earlier. Tasks that have run again since then, and
//! tasks to which an unfinished task refers, are not removed.

use super::{Answer, Prune};
use crate::{
    batch::BatchNumber,
    board::Board,
    id::TaskId,
    time::{Timestamp, millis},
};

/// Time for which a sum of the ledger outlives finished tasks of the same age. The age of a sum
/// counts from the end of its day or the beginning of its graph. The time is long, since a sum
/// takes only a few bytes and a graph may run for weeks.
const SPENT_KEPT: std::time::Duration = std::time::Duration::from_hours(90 * 24);

impl Board {
    pub(super) fn prune(&mut self, prune: Prune) -> Answer {
        let Prune {
            tasks,
            events_to,
            older_than,
            as_of,
            sessions_to,
            all_sessions_to,
        } = prune;
        let may_go = |id: &TaskId| self.may_go(*id, as_of);
        let gone: Vec<TaskId> = tasks.into_iter().filter(may_go).collect();
        if !gone.is_empty() {
            self.ended_again.note_pruned(self.pending.number);
            self.note_forgotten_sessions(sessions_to, all_sessions_to);
        }
        for id in &gone {
            self.ended_again.forget(*id);
        }
        self.forget_spent(older_than);
        let pruned = &mut self.pending.pruned;
        pruned.tasks.extend(&gone);
        pruned.events_to = pruned.events_to.max(events_to);
        Answer::Pruned(gone)
    }

    /// Whether the task has not run again since it was read, and no unfinished task refers to it.
    fn may_go(&self, id: TaskId, as_of: BatchNumber) -> bool {
        !self.ended_again.may_be_stale(as_of)
            && !self.ended_again.ended_after(id, as_of)
            && !self.tasks.contains_key(&id)
            && !self.dependants.contains_key(&id)
            && !self.descendants.contains_key(&id)
    }

    fn forget_spent(&mut self, older_than: Timestamp) {
        let before = Timestamp(older_than.0.saturating_sub(millis(SPENT_KEPT)));
        let count = self.spent.len();
        self.spent.retain(|scope, _| !scope.began_before(before));
        if self.spent.len() < count {
            self.pending
                .spent
                .retain(|scope| !scope.began_before(before));
            self.pending.pruned.spent_before = Some(before);
        }
    }
}
