//! Tests that every back end must pass.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod commit;
mod depend;
mod events;
mod keep;
mod list;
mod prune;
mod random;
mod transfer;

use std::sync::Arc;

use claudine_domain::{
    batch::{Batch, BatchNumber, DocumentKey, Pruned},
    dependency::{Condition, Dependency},
    id::{AttemptId, TaskId},
    task::Task,
    time::Timestamp,
};

use super::{
    Epoch, Filter, Old, Store, StoreError, memory::MemoryStore, samples::id, sqlite::SqliteStore,
};

/// A back end that can be made to run out of space.
pub(super) trait Subject: Store {
    fn set_full(&self, full: bool);
}

impl Subject for MemoryStore {
    fn set_full(&self, full: bool) {
        self.fail_commits(if full { u32::MAX } else { 0 });
    }
}

impl Subject for SqliteStore {
    fn set_full(&self, full: bool) {
        self.limit_pages(full);
    }
}

/// Runs a case on an empty store of each kind.
fn check(case: impl Fn(&dyn Subject)) {
    case(&MemoryStore::new());
    let directory = tempfile::tempdir().unwrap();
    case(&SqliteStore::open(&directory.path().join("claudine.db")).unwrap());
}

/// A leader that commits one batch after another.
struct Leader<'a> {
    store: &'a dyn Subject,
    epoch: Epoch,
    last: BatchNumber,
}

impl<'a> Leader<'a> {
    fn of(store: &'a dyn Subject) -> Self {
        let epoch = store.lead().unwrap();
        Self {
            store,
            epoch,
            last: 0,
        }
    }

    fn try_commit(&mut self, mut batch: Batch) -> Result<(), StoreError> {
        batch.number = self.last + 1;
        self.store.commit(self.epoch, &batch)?;
        self.last = batch.number;
        Ok(())
    }

    fn commit(&mut self, batch: Batch) {
        self.try_commit(batch).unwrap();
    }

    fn put(&mut self, tasks: impl IntoIterator<Item = Task>) {
        self.commit(of_tasks(tasks));
    }

    /// Removes at most `limit` tasks that are old enough, whether or not they have idempotency
    /// keys. Returns the removed tasks.
    fn prune(&mut self, older_than: Timestamp, limit: usize) -> Vec<TaskId> {
        let found = self.store.prunable(old(older_than), None, limit).unwrap();
        let tasks: Vec<TaskId> = found.into_iter().map(|found| found.task).collect();
        self.forget(Pruned {
            tasks: tasks.clone(),
            ..Pruned::default()
        });
        tasks
    }

    fn forget(&mut self, pruned: Pruned) {
        self.commit(Batch {
            pruned,
            ..Batch::default()
        });
    }
}

fn old(older_than: Timestamp) -> Old {
    Old {
        finished_before: older_than,
        keyed_before: older_than,
    }
}

fn of_tasks(tasks: impl IntoIterator<Item = Task>) -> Batch {
    Batch {
        tasks: tasks.into_iter().map(Arc::new).collect(),
        ..Batch::default()
    }
}

/// The contents of a store, as text. Two stores with the same text have the same contents.
pub(super) fn everything(store: &dyn Store) -> String {
    let all = store.list(&Filter::default(), usize::MAX).unwrap();
    let documents = all.tasks.iter().flat_map(|task| {
        let of_attempts = task.attempts.iter().flat_map(|attempt| {
            let attempt = AttemptId {
                task: task.id,
                number: attempt.number,
            };
            [
                DocumentKey::Outputs(attempt),
                DocumentKey::Checkpoint(attempt),
            ]
        });
        let keys = of_attempts.chain([DocumentKey::Spec(task.id)]);
        keys.map(|key| (key, store.document(key).unwrap()))
            .collect::<Vec<_>>()
    });
    format!(
        "{:#?}",
        (
            store.load(Timestamp(0)).unwrap(),
            documents.collect::<Vec<_>>(),
            store.events_after(0, usize::MAX).unwrap(),
            store.counts().unwrap(),
            store.env_digests_in_use().unwrap(),
            all,
        )
    )
}

fn ids(store: &dyn Subject, filter: &Filter) -> Vec<TaskId> {
    let page = store.list(filter, 1_000).unwrap();
    page.tasks.iter().map(|task| task.id).collect()
}

/// A batch of tasks with their dependencies.
fn depending(tasks: impl IntoIterator<Item = Task>) -> Batch {
    let batch = of_tasks(tasks);
    let edges = batch.tasks.iter();
    Batch {
        dependencies: edges
            .map(|task| (task.id, task.dependencies.clone()))
            .collect(),
        ..batch
    }
}

fn after(mut task: Task, upstream: &[(u64, Condition)]) -> Task {
    let edges = upstream.iter();
    task.dependencies = edges
        .map(|(number, condition)| Dependency {
            task: id(*number),
            condition: *condition,
        })
        .collect();
    task
}
