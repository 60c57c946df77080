//! The newest ends of tasks that ran again: a copy of such a task that was read from the store
//! before does not have them.
//!
//! The latest are kept, up to a limit. A copy that was read before the oldest of these may be out
//! of date, and has to be read again.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::{batch::BatchNumber, id::TaskId, task::Task};

#[derive(Debug, Default)]
pub(crate) struct EndedAgain {
    /// Unfinished tasks that have ended before, since this board was made.
    revived: BTreeSet<TaskId>,
    /// How they ended since, with the batch that says so.
    ends: BTreeMap<TaskId, (BatchNumber, Arc<Task>)>,
    oldest_first: BTreeSet<(BatchNumber, TaskId)>,
    /// What was read when an earlier batch was the last one on disk may be out of date.
    known_from: BatchNumber,
}

impl EndedAgain {
    /// For a board that was made of what is on disk after this batch: what was read before it may
    /// be out of date.
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

    /// Notes how a task ended in that batch, if it had ended before. At most `limit` ends are kept.
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

    /// Tasks are gone with that batch: what was read before it may name them still.
    pub(crate) fn note_pruned(&mut self, batch: BatchNumber) {
        self.known_from = self.known_from.max(batch);
    }

    /// Its newest end, as far as that is kept.
    pub(crate) fn newest(&self, task: TaskId) -> Option<&Arc<Task>> {
        self.ends.get(&task).map(|(_, task)| task)
    }

    /// Whether a copy that was read when that batch was the last one on disk may be out of date.
    pub(crate) fn may_be_stale(&self, as_of: BatchNumber) -> bool {
        as_of < self.known_from
    }

    /// Whether the task has ended again after that batch.
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
