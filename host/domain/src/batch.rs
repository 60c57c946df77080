//! The content of one transaction, and the effects that follow once it is durable.

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

/// A document that is stored beside a row, because it may be large and is rarely read.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DocumentKey {
    /// The request for the executor, JSON.
    Spec(TaskId),
    /// The executor's outputs, JSON.
    Outputs(AttemptId),
    /// State that is passed to the executor's `resume`.
    Checkpoint(AttemptId),
    /// Message for an attempt that continues an earlier one, UTF-8.
    Context(TaskId),
}

/// Rows removed because of their age.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Pruned {
    /// Finished tasks. Everything that belongs to them is removed too, except their events.
    pub tasks: Vec<TaskId>,
    /// Number of the last event to remove, with all earlier events; 0 if no event is removed.
    pub events_to: u64,
    /// Sums of the ledger are removed if their day ended or their graph began before this time.
    pub spent_before: Option<Timestamp>,
}

impl Pruned {
    pub fn is_empty(&self) -> bool {
        self.tasks.is_empty() && self.events_to == 0 && self.spent_before.is_none()
    }
}

/// Everything that one transaction writes: whole rows, documents, facts. Removals come after all
/// writes.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    pub number: BatchNumber,
    /// Changed tasks, each once, in their state at the end of the batch.
    pub tasks: Vec<Arc<Task>>,
    /// Dependencies of new tasks. A task's dependencies never change afterwards.
    pub dependencies: Vec<(TaskId, Arc<[Dependency]>)>,
    /// Groups whose settings changed, with `None` if a group has no settings any more.
    pub groups: Vec<(String, Option<Group>)>,
    /// Settings of the whole queue, if they changed.
    pub queue: Option<Queue>,
    pub documents: Vec<(DocumentKey, Arc<[u8]>)>,
    /// Accounts that met a usage limit, with `None` if an account's limit is over.
    pub accounts: Vec<(AccountKey, Option<Parked>)>,
    /// Profiles that changed, with `None` if a class was forgotten.
    pub profiles: Vec<(ProfileKey, Option<Profile>)>,
    /// Sums of the ledger, in millionths of a US dollar.
    pub spent: Vec<(Scope, u64)>,
    pub events: Vec<Event>,
    pub pruned: Pruned,
}

/// An action outside the board, carried out once the decision is durable.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    Start(AttemptId),
    /// Start the first process of an attempt that was prepared.
    Spawn(AttemptId),
    /// Settle the work of an attempt whose ending is durable.
    Settle(AttemptId),
    /// Take over an attempt that an earlier host started.
    Resume(AttemptId),
    Stop {
        attempt: AttemptId,
        why: StopWhy,
    },
    /// Release an attempt whose end is durable, so that the sender of its reports can forget them.
    /// The release is lost if the host dies or if the batch fails. Therefore, each time a board is
    /// loaded, the end of every attempt that was not released is reported again, even if the task
    /// of the attempt is finished.
    Release(AttemptId),
    /// Tell the waiting guest that its checkpoint with this number is durable, so that the guest
    /// goes on.
    CheckpointStored {
        attempt: AttemptId,
        number: u64,
    },
}

/// An action, and the batch that must be durable before the action is carried out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Effect {
    pub after: BatchNumber,
    pub action: Action,
}
