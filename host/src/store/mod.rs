//! Where work outlives the host: a narrow port of domain verbs, and what can go wrong behind it.
//!
//! No SQL and no row type leaves a back end. All of it is synchronous: the engine commits from a
//! thread of its own, and readers call from blocking threads, so a back end needs no runtime and a
//! slow disk holds up nobody else. Two back ends pass one suite (`conformance`): `sqlite`, which
//! the host runs on, and `memory`, which the engine's tests run on.
//!
//! A store decides nothing. It refuses a batch only where the writer is not the leader any more, or
//! where the disk does.

mod error;
mod filter;
mod record;
mod reference;
pub(crate) mod sqlite;

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
    task::{State, Task},
    time::Timestamp,
};

pub(crate) use error::StoreError;
pub(crate) use filter::{Filter, Name, States, phase_word, words};
pub(crate) use record::{Bytes, Counters, Record};
pub(crate) use reference::{FEWEST_DIGITS, Intent, Resolved, SHOWN_AMBIGUOUS, is_word};

/// The fencing number of whoever may write. Each leadership has a higher one than the last.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Epoch(pub(crate) u64);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The place of an event among all events, from 1 upwards without gaps; never given twice, even
/// where events were pruned.
pub(crate) type Sequence = u64;

/// Durable tasks, documents, events and accounts.
pub(crate) trait Store: Send + Sync + 'static {
    /// Takes leadership: raises the epoch, after which whoever led before can commit no more.
    fn lead(&self) -> Result<Epoch, StoreError>;

    /// Reads all that a board is made of. Idempotency keys are those of tasks created at or after
    /// `remember_since`.
    fn load(&self, remember_since: Timestamp) -> Result<Stored, StoreError>;

    /// Makes a batch durable, whole or not at all. It is refused where `epoch` is not the current
    /// one, or where its number is not above that of the last batch; both are checked inside the
    /// transaction.
    fn commit(&self, epoch: Epoch, batch: &Batch) -> Result<(), StoreError>;

    /// The number of the last batch, 0 before the first. What is read after it is not older.
    fn last_batch(&self) -> Result<BatchNumber, StoreError>;

    fn task(&self, id: TaskId) -> Result<Option<Task>, StoreError>;

    /// Finds the task a person means by an id, by a part of one, or by a name: see [`reference`].
    fn resolve(&self, reference: &str, intent: Intent) -> Result<Resolved, StoreError>;

    /// Tasks that pass the filter, newest first. [`Filter`] says what each condition costs.
    fn list(&self, filter: &Filter, limit: usize) -> Result<Page, StoreError>;

    /// Those of the filter that have ended, the last end first.
    fn last_ended(&self, filter: &Filter, limit: usize) -> Result<Vec<Task>, StoreError>;

    /// The first tasks of the graphs that have this name, newest first.
    fn graphs_named(&self, name: &str, limit: usize) -> Result<Vec<TaskId>, StoreError>;

    /// How many tasks there are of each status. Statuses that no task has are left out.
    fn counts(&self) -> Result<Vec<(Status, u64)>, StoreError>;

    /// How these tasks have ended; `None` for one that has not. What is not there is left out.
    fn ends(&self, ids: &BTreeSet<TaskId>) -> Result<BTreeMap<TaskId, Option<End>>, StoreError>;

    /// How many unfinished tasks of each group there are in each status, sorted. Reads every
    /// unfinished task.
    fn group_counts(&self) -> Result<Vec<(String, Status, u64)>, StoreError>;

    /// What is set for the whole queue. Where that cannot be read it is paused.
    fn queue(&self) -> Result<Queue, StoreError>;

    /// Who depends on a task, finished or not.
    fn dependants(&self, id: TaskId) -> Result<Vec<TaskId>, StoreError>;

    /// What could not run because of how a task ended.
    fn spoilt_by(&self, culprit: TaskId) -> Result<Vec<Task>, StoreError>;

    /// What the ledger has of it, in millionths of a US dollar; 0 where nothing was spent.
    fn spent_on(&self, scope: Scope) -> Result<u64, StoreError>;

    fn document(&self, key: DocumentKey) -> Result<Option<Vec<u8>>, StoreError>;

    /// Events after `sequence`, oldest first.
    fn events_after(
        &self,
        sequence: Sequence,
        limit: usize,
    ) -> Result<Vec<(Sequence, Event)>, StoreError>;

    /// The number of the last event there was, 0 before the first.
    fn last_event(&self) -> Result<Sequence, StoreError>;

    /// The first event that is of this time or later. Reads every event before it: they are in the
    /// order in which they became true, and a clock may have been set back.
    fn first_event_since(&self, at: Timestamp) -> Result<Option<Sequence>, StoreError>;

    /// The digests of the environments that some task names, sorted. Reads every task: meant for
    /// after a prune.
    fn env_digests_in_use(&self) -> Result<Vec<String>, StoreError>;

    /// Shows each record of one moment, in the order of [`record`], for as long as `each` says so.
    /// Commits go on meanwhile.
    fn export(&self, each: &mut dyn FnMut(Record) -> bool) -> Result<(), StoreError>;

    /// Takes in a part of what an export gave, whole or not at all; parts are numbered from 0. For
    /// a store that has nothing but the parts before, and no leader.
    fn import(&self, part: u32, records: Vec<Record>) -> Result<(), StoreError>;

    /// Tasks that are old enough to go, the oldest first: at most `limit` of those after `after`.
    /// An unfinished task stays, and so do its parent and what it depends on; the first task of a
    /// graph stays as long as any of the others. It writes nothing: tasks are removed with a batch.
    fn prunable(
        &self,
        old: Old,
        after: Option<TaskId>,
        limit: usize,
    ) -> Result<Vec<Prunable>, StoreError>;

    /// The last of the oldest events that happened before that time, of no more than `limit`.
    fn last_old_event(
        &self,
        older_than: Timestamp,
        limit: usize,
    ) -> Result<Option<Sequence>, StoreError>;

    /// Which of these tasks are there.
    fn known(&self, ids: &BTreeSet<TaskId>) -> Result<BTreeSet<TaskId>, StoreError>;
}

/// The times that tell which tasks are old.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Old {
    /// An old task was created and has ended before this time.
    pub(crate) finished_before: Timestamp,
    /// An old task with an idempotency key was created before this time: as long as the key is
    /// remembered, a request that is repeated is answered with the task.
    pub(crate) keyed_before: Timestamp,
}

/// A task that may go, and what it may have left outside the store.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Prunable {
    pub(crate) task: TaskId,
    /// The numbers of its attempts, whose logs may go.
    pub(crate) attempts: Vec<u32>,
}

/// A part of a list.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Page {
    pub(crate) tasks: Vec<Task>,
    /// Goes into [`Filter::before`] for the next page; `None` on the last one.
    pub(crate) next: Option<TaskId>,
}

impl Page {
    /// Makes a page of up to `limit + 1` tasks: whether there is one too many tells whether there
    /// is a next page.
    pub(crate) fn cut(mut tasks: Vec<Task>, limit: usize) -> Self {
        let more = tasks.len() > limit;
        tasks.truncate(limit);
        let next = tasks.last().filter(|_| more).map(|task| task.id);
        Self { tasks, next }
    }
}

/// Where a task stands, without what belongs to it: what lists are filtered by and counts are
/// grouped by.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Status {
    Blocked,
    Waiting,
    Held,
    /// Also an attempt that is assigned but has not begun, as everywhere a person sees a state.
    Ready,
    Running,
    Done(Outcome),
}

/// Every way a task can end.
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

    /// Where it stands in that order.
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
