//! What one transaction makes true, and what happens once it is.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{
    account::Parked,
    attempt::StopWhy,
    budget::Scope,
    dependency::Dependency,
    event::Event,
    group::Group,
    id::{AccountKey, AttemptId, TaskId},
    profile::{Profile, ProfileKey},
    queue::Queue,
    task::Task,
    time::Timestamp,
};

/// Batches are numbered from 1 in the order they are committed.
pub type BatchNumber = u64;

/// A document that is kept beside a row because it may be large and is seldom read.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DocumentKey {
    /// What was asked of the executor, JSON.
    Spec(TaskId),
    /// What the executor answered, JSON.
    Outputs(AttemptId),
    /// What `resume` is given.
    Checkpoint(AttemptId),
    /// What somebody said when an attempt was to go on from an earlier one, UTF-8.
    Context(TaskId),
}

/// What is forgotten for its age.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Pruned {
    /// Finished tasks, which go with all that belongs to them but their events.
    pub tasks: Vec<TaskId>,
    /// The events up to this number go; none at 0.
    pub events_to: u64,
    /// Sums of what began before this time go.
    pub spent_before: Option<Timestamp>,
}

impl Pruned {
    pub fn is_empty(&self) -> bool {
        self.tasks.is_empty() && self.events_to == 0 && self.spent_before.is_none()
    }
}

/// Everything one transaction writes: rows whole, documents, facts. What it forgets goes after all
/// that was written.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    pub number: BatchNumber,
    /// The tasks that changed, each once, as they stand at the end of the batch.
    pub tasks: Vec<Arc<Task>>,
    /// What new tasks depend on. It never changes afterwards.
    pub dependencies: Vec<(TaskId, Arc<[Dependency]>)>,
    /// Groups as somebody set them, `None` where nothing is set any more.
    pub groups: Vec<(String, Option<Group>)>,
    /// What is set for the whole queue, if that changed.
    pub queue: Option<Queue>,
    pub documents: Vec<(DocumentKey, Arc<[u8]>)>,
    /// Accounts at a usage limit, `None` where the limit is over.
    pub accounts: Vec<(AccountKey, Option<Parked>)>,
    /// What ends of attempts have taught, `None` where a class was forgotten.
    pub profiles: Vec<(ProfileKey, Option<Profile>)>,
    /// Sums of the ledger, in millionths of a US dollar.
    pub spent: Vec<(Scope, u64)>,
    pub events: Vec<Event>,
    pub pruned: Pruned,
}

/// Something to be done outside once it is durable that it shall be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    Start(AttemptId),
    /// An attempt that was prepared may start its first process.
    Spawn(AttemptId),
    /// How the attempt has ended is durable: its work is settled.
    Settle(AttemptId),
    /// Take up an attempt that an earlier host started.
    Resume(AttemptId),
    Stop {
        attempt: AttemptId,
        why: StopWhy,
    },
    /// The end of the attempt is durable: whoever kept its reports may forget them. A release is
    /// lost with its host, or with a batch that fails, so after each load of a board every end that
    /// was not released is told again, that of a finished task too.
    Release(AttemptId),
    /// The checkpoint of this number is durable: the guest that waits for it goes on.
    CheckpointStored {
        attempt: AttemptId,
        number: u64,
    },
}

/// An action, and the batch that has to be durable before it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Effect {
    pub after: BatchNumber,
    pub action: Action,
}
