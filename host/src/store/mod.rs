//! The durable store of the queue: a narrow interface in terms of the domain.
//!
//! No SQL and no row type leaves a back end. All methods are synchronous: the engine commits from a
//! separate thread, and readers call from blocking threads, so a back end needs no async runtime,
//! and a slow disk delays only the caller. Two back ends pass the same tests (`conformance`):
//! `sqlite`, which the host uses, and `memory`, which the engine's tests use.
//!
//! A store makes no decisions. It refuses a batch only if the writer is no longer the leader, if
//! the batch's number is not above that of the last batch, or if the disk is full or fails.

mod error;
mod filter;
mod record;
mod reference;
pub(crate) mod sqlite;
pub(crate) mod unrecorded;

#[cfg(test)]
mod conformance;
#[cfg(test)]
pub(crate) mod memory;
#[cfg(test)]
mod samples;
#[cfg(test)]
pub(crate) use samples::{batch as sample_batch, ready as sample_task};

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use claudine_domain::{
    attempt::Phase,
    batch::{Batch, BatchNumber, DocumentKey},
    board::Stored,
    budget::Scope,
    dependency::End,
    event::Event,
    id::TaskId,
    outcome::Outcome,
    queue::Queue,
    task::{Class, State, Task},
    time::Timestamp,
};

pub(crate) use error::StoreError;
pub(crate) use filter::{ENDED_PHASE, Filter, Name, States, phase_word, words};
pub(crate) use record::{Bytes, Counters, Record};
pub(crate) use reference::{
    Intent, Resolved, SHOWN_AMBIGUOUS, is_word, may_be_of_an_id, unrestrained_of_word,
};

/// The fencing number of the host that may write. Each new leader gets a higher number than the
/// last leader.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Epoch(pub(crate) u64);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The number of an event, counted from 1 without gaps. A number is never reused, even after events
/// were pruned.
pub(crate) type Sequence = u64;

/// A task of a group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct InGroup {
    pub(crate) group: String,
    pub(crate) id: TaskId,
    pub(crate) name: Option<String>,
}

/// Durable tasks, documents, events and accounts.
pub(crate) trait Store: Send + Sync + 'static {
    /// Takes leadership: raises the epoch above all earlier epochs of this store and above `led`,
    /// so that earlier leaders can no longer commit.
    fn lead_after(&self, led: u64) -> Result<Epoch, StoreError>;

    #[cfg(test)]
    fn lead(&self) -> Result<Epoch, StoreError> {
        self.lead_after(0)
    }

    /// Reads everything from which a board is made. The idempotency keys are only those of tasks
    /// that were created at or after `remember_since`.
    fn load(&self, remember_since: Timestamp) -> Result<Stored, StoreError>;

    /// Makes a batch durable, as a whole or not at all. The batch is refused if `epoch` is not the
    /// current epoch, or if the batch's number is not above that of the last batch. Both conditions
    /// are checked inside the transaction.
    fn commit(&self, epoch: Epoch, batch: &Batch) -> Result<(), StoreError>;

    /// The number of the last batch; 0 if there is none. All data that is read after this call
    /// includes that batch.
    fn last_batch(&self) -> Result<BatchNumber, StoreError>;

    fn task(&self, id: TaskId) -> Result<Option<Task>, StoreError>;

    /// The newest task with this idempotency key that was created at or after `since`. Looks at
    /// every task that has a key and was created since then.
    fn task_of_key(&self, key: &str, since: Timestamp) -> Result<Option<Task>, StoreError>;

    /// Finds the task that a person means by an id, by a part of an id, or by a name: see
    /// [`reference`].
    fn resolve(&self, reference: &str, intent: Intent) -> Result<Resolved, StoreError>;

    /// Finds the task whose id is this text, or begins or ends with it, whatever its name is.
    fn resolve_part(&self, part: &str, intent: Intent) -> Result<Resolved, StoreError>;

    /// For each text, whether [`Store::resolve_part`] would find tasks. Passes over the ids at most
    /// once, however many texts there are.
    fn are_parts(&self, texts: &[&str], intent: Intent) -> Result<Vec<bool>, StoreError>;

    /// The tasks that pass the filter, newest first. [`Filter`] describes the cost of each
    /// condition.
    fn list(&self, filter: &Filter, limit: usize) -> Result<Page, StoreError>;

    /// The ended tasks that pass the filter. The task that ended last is the first.
    fn last_ended(&self, filter: &Filter, limit: usize) -> Result<Vec<Task>, StoreError>;

    /// The first tasks of the graphs that have this name, newest first. If an unrestrained
    /// principal has submitted such a graph, only the graphs of unrestrained principals.
    fn graphs_named(&self, name: &str, limit: usize) -> Result<Vec<TaskId>, StoreError>;

    /// The number of tasks of each status. Statuses that no task has are left out.
    fn counts(&self) -> Result<Vec<(Status, u64)>, StoreError>;

    /// How these tasks ended; `None` for a task that has not ended. Unknown ids are left out.
    fn ends(&self, ids: &BTreeSet<TaskId>) -> Result<BTreeMap<TaskId, Option<End>>, StoreError>;

    /// The number of unfinished tasks of each status in each group, sorted. Reads every unfinished
    /// task.
    fn group_counts(&self) -> Result<Vec<(String, Status, u64)>, StoreError>;

    /// The first `most` unfinished tasks of each group, with their names, sorted by group. In a
    /// group, running tasks come first, and newer tasks before older ones. Reads every unfinished
    /// task.
    fn group_tasks(&self, most: usize) -> Result<Vec<InGroup>, StoreError>;

    /// The settings of the whole queue. If they cannot be read, the queue counts as paused.
    fn queue(&self) -> Result<Queue, StoreError>;

    /// The finished and unfinished tasks that depend on a task.
    fn dependants(&self, id: TaskId) -> Result<Vec<TaskId>, StoreError>;

    /// The tasks that could not run because of the way in which `culprit` ended.
    fn spoilt_by(&self, culprit: TaskId) -> Result<Vec<Task>, StoreError>;

    /// The sum in the ledger for this scope, in millionths of a US dollar; 0 if nothing was spent.
    fn spent_on(&self, scope: Scope) -> Result<u64, StoreError>;

    fn document(&self, key: DocumentKey) -> Result<Option<Vec<u8>>, StoreError>;

    /// The events after `sequence`, oldest first.
    fn events_after(
        &self,
        sequence: Sequence,
        limit: usize,
    ) -> Result<Vec<(Sequence, Event)>, StoreError>;

    /// The number of the latest event; 0 if there is none.
    fn last_event(&self) -> Result<Sequence, StoreError>;

    /// The number of the first event at or after this time. Reads every event before it: events are
    /// stored in the order in which they became true, which is not always the order of their times,
    /// because a clock may have been set back.
    fn first_event_since(&self, at: Timestamp) -> Result<Option<Sequence>, StoreError>;

    /// The digests of the environments that tasks name, sorted. Reads every task, so this method is
    /// called only after a prune.
    fn env_digests_in_use(&self) -> Result<Vec<String>, StoreError>;

    /// Passes each record to `each`, in the order of [`record`], until `each` returns `false`. All
    /// records are from one moment, even if commits continue during the export.
    fn export(&self, each: &mut dyn FnMut(Record) -> bool) -> Result<(), StoreError>;

    /// Imports a part of an export, as a whole or not at all. Parts are numbered from 0. The store
    /// may contain only the earlier parts, and no leader may write.
    fn import(&self, part: u32, records: Vec<Record>) -> Result<(), StoreError>;

    /// The tasks that are old enough to be removed, the oldest first: at most `limit` tasks whose
    /// ids are above `after`. An unfinished task is kept, and so are its parent and its
    /// dependencies. The first task of a graph is kept as long as any other task of the graph. This
    /// method only reads: tasks are removed with a batch.
    fn prunable(
        &self,
        old: Old,
        after: Option<TaskId>,
        limit: usize,
    ) -> Result<Vec<Prunable>, StoreError>;

    /// The last event that may be removed. This event and all earlier events happened before the
    /// given time, and their number is at most `limit`.
    fn last_old_event(
        &self,
        older_than: Timestamp,
        limit: usize,
    ) -> Result<Option<Sequence>, StoreError>;

    /// The ids for which a task exists.
    fn known(&self, ids: &BTreeSet<TaskId>) -> Result<BTreeSet<TaskId>, StoreError>;
}

/// The times that decide which tasks are old.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Old {
    /// A task is old only if it was created and has ended before this time.
    pub(crate) finished_before: Timestamp,
    /// A task with an idempotency key is old only if it was created before this time. As long as
    /// the key is remembered, a repeated request is answered with the task.
    pub(crate) keyed_before: Timestamp,
}

/// A task that may be removed, and its attempts, which may have logs outside the store.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Prunable {
    pub(crate) task: TaskId,
    /// The numbers of the task's attempts, whose logs may be removed.
    pub(crate) attempts: Vec<u32>,
    /// The end of the task, if somebody may have used a session of an agent in it.
    pub(crate) session_to: Option<Timestamp>,
    /// Whether that may have been an unrestrained principal.
    pub(crate) is_unrestrained: bool,
}

impl Prunable {
    fn of(task: &Task) -> Self {
        let has_run = task.request.class == Class::Agent && !task.attempts.is_empty();
        let mut numbers = task.attempts.iter().map(|attempt| attempt.number);
        let is_unrestrained = !task.request.by.restrained
            || numbers.any(|number| !task.requester_of(number).restrained);
        let ended = match &task.state {
            State::Done { at, .. } => Some(*at),
            _ => None,
        };
        Self {
            task: task.id,
            attempts: task.attempts.iter().map(|attempt| attempt.number).collect(),
            session_to: ended.filter(|_| has_run),
            is_unrestrained,
        }
    }
}

/// A part of a list.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Page {
    pub(crate) tasks: Vec<Task>,
    /// The value of [`Filter::before`] for the next page; `None` on the last page.
    pub(crate) next: Option<TaskId>,
}

impl Page {
    /// Makes a page from up to `limit + 1` tasks. If there is one task more than `limit`, there is
    /// a next page.
    pub(crate) fn cut(mut tasks: Vec<Task>, limit: usize) -> Self {
        let more = tasks.len() > limit;
        tasks.truncate(limit);
        let next = tasks.last().filter(|_| more).map(|task| task.id);
        Self { tasks, next }
    }
}

/// The state of a task without details. Lists can be filtered by status, and counts are grouped by
/// status.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Status {
    Blocked,
    Waiting,
    Held,
    /// A task that is ready. A task whose attempt is assigned but has not begun also counts as
    /// ready, because users see it as `ready` everywhere.
    Ready,
    Running,
    Done(Outcome),
}

/// All outcomes.
const OUTCOMES: [Outcome; 7] = [
    Outcome::Succeeded,
    Outcome::Failed,
    Outcome::TimedOut,
    Outcome::Cancelled,
    Outcome::Skipped,
    Outcome::UpstreamFailed,
    Outcome::Lost,
];

impl Status {
    /// Every status, in the order in which counts are given.
    fn all() -> impl Iterator<Item = Self> {
        let unfinished = [
            Self::Blocked,
            Self::Waiting,
            Self::Held,
            Self::Ready,
            Self::Running,
        ];
        unfinished
            .into_iter()
            .chain(OUTCOMES.into_iter().map(Self::Done))
    }

    /// The position of the status in the order of [`Status::all`].
    fn place(self) -> Option<usize> {
        Self::all().position(|status| status == self)
    }

    pub(crate) fn is_done(self) -> bool {
        matches!(self, Self::Done(_))
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Blocked => "blocked",
            Self::Waiting => "waiting",
            Self::Held => "held",
            Self::Ready => "ready",
            Self::Running => "running",
            Self::Done(outcome) => outcome.as_str(),
        }
    }

    pub(crate) fn of(task: &Task) -> Self {
        match &task.state {
            State::Done { outcome, .. } => Self::Done(*outcome),
            State::Blocked { .. } => Self::Blocked,
            State::Waiting { .. } => Self::Waiting,
            State::Held { .. } => Self::Held,
            State::Ready { .. }
            | State::Running {
                phase: Phase::Assigned,
                ..
            } => Self::Ready,
            State::Running { .. } => Self::Running,
        }
    }
}
