//! The newest ends of tasks that ended, ran again and ended again. A copy of such a task lacks the
//! newest end if the copy was read from the store earlier.
//!
//! Only the latest ends are kept, up to a limit. A copy that was read before the oldest kept end
//! may be stale, and must be read again.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::{batch::BatchNumber, id::TaskId, task::Task};

#[derive(Debug, Default)]
pub(crate) struct EndedAgain {
    /// Unfinished tasks that had ended, and were run again after this board was made.
    revived: BTreeSet<TaskId>,
    /// Newest ends of tasks that ran again, each with the batch that holds it.
    ends: BTreeMap<TaskId, (BatchNumber, Arc<Task>)>,
    oldest_first: BTreeSet<(BatchNumber, TaskId)>,
    /// Copies may be stale if they were read while the last batch on disk was earlier than this
    /// one.
    known_from: BatchNumber,
}

impl EndedAgain {
    /// Makes the record for a board that was read from disk after this batch. Copies that were read
    /// before this batch may be stale.
    pub(super) fn since(batch: BatchNumber) -> Self {
        Self {
            known_from: batch,
            ..Self::default()
        }
    }

    pub(crate) fn note_revival(&mut self, task: TaskId) {
        self.forget(task);
        self.revived.insert(task);
    }

    /// Notes how a task ended in this batch, if the task had ended before. Keeps at most `limit`
    /// ends.
    pub(super) fn note_end(&mut self, task: &Arc<Task>, batch: BatchNumber, limit: usize) {
        let id = task.id;
        if !self.revived.remove(&id) {
            return;
        }
        self.ends.insert(id, (batch, task.clone()));
        self.oldest_first.insert((batch, id));
        while self.ends.len() > limit
            && let Some((batch, oldest)) = self.oldest_first.pop_first()
        {
            self.ends.remove(&oldest);
            self.known_from = self.known_from.max(batch);
        }
    }

    pub(crate) fn forget(&mut self, task: TaskId) {
        if let Some((batch, _)) = self.ends.remove(&task) {
            self.oldest_first.remove(&(batch, task));
        }
    }

    /// Notes that tasks were removed by this batch. Copies that were read before this batch may
    /// still refer to the removed tasks.
    pub(crate) fn note_pruned(&mut self, batch: BatchNumber) {
        self.known_from = self.known_from.max(batch);
    }

    /// Newest end of the task, if this end is remembered.
    pub(crate) fn newest(&self, task: TaskId) -> Option<&Arc<Task>> {
        self.ends.get(&task).map(|(_, task)| task)
    }

    /// Whether a copy that was read while this batch was the last on disk may be stale.
    pub(crate) fn may_be_stale(&self, as_of: BatchNumber) -> bool {
        as_of < self.known_from
    }

    /// Whether the task has ended again after this batch.
    pub(crate) fn ended_after(&self, task: TaskId, as_of: BatchNumber) -> bool {
        let found = self.ends.get(&task);
        found.is_some_and(|(batch, _)| *batch > as_of)
    }

    #[cfg(test)]
    pub(crate) fn was_revived(&self, task: TaskId) -> bool {
        self.revived.contains(&task)
    }

    #[cfg(test)]
    pub(crate) fn kept(&self) -> impl Iterator<Item = TaskId> {
        self.oldest_first.iter().map(|(_, task)| *task)
    }
}
