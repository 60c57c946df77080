//! Facts, in the order they became true. They are stored in the transaction that made them true.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{
    attempt::{Leader, StopWhy},
    id::{AccountKey, TaskId},
    outcome::{Outcome, Reason},
    principal::Principal,
    revision::Difference,
    time::Timestamp,
};

/// What happened to a task.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Fact {
    Submitted,
    /// What an attempt needs before its first process is being made.
    AttemptPreparing {
        attempt: u32,
    },
    /// The work of an attempt that has ended is committed, merged, pushed or written.
    AttemptSettling {
        attempt: u32,
    },
    /// An attempt's process runs, or its executor gave the first sign of life.
    AttemptStarted {
        attempt: u32,
        leader: Option<Leader>,
    },
    StopRequested {
        attempt: u32,
        why: StopWhy,
    },
    /// What the executor told while it ran.
    Progress {
        attempt: u32,
        progress: String,
        data: String,
    },
    /// The account of the task is at a usage limit until then.
    Parked {
        account: AccountKey,
        until: Timestamp,
    },
    /// A start that nobody received was taken back, or a parked task may go on.
    BackToReady,
    AttemptEnded {
        attempt: u32,
        outcome: Outcome,
        reason: Option<Reason>,
    },
    /// A finished task gets a new attempt, or gets the one it never had.
    Retried,
    /// The same, and the attempt goes on from that one.
    Resumed {
        from: u32,
    },
    /// Somebody has changed what was asked of it, for the attempts from that one on.
    Revised {
        attempt: u32,
        differences: Vec<Difference>,
    },
    /// It waited for a time, and somebody asked that it is tried at once.
    TriedNow,
    /// Somebody merged the work of a task that had failed by its merge: a further attempt, which
    /// no executor ran.
    MergedByHand {
        attempt: u32,
    },
    /// Another attempt follows a failed one by itself.
    RetryScheduled {
        until: Timestamp,
    },
    /// What it depends on has ended as it has to.
    Unblocked,
    /// What it depends on runs again.
    Blocked,
    Held,
    Released,
    /// It was not finished in the backup of that time, and is held since it was restored from it.
    Restored {
        taken_at: Timestamp,
    },
    Done {
        outcome: Outcome,
        reason: Option<Reason>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        culprit: Option<TaskId>,
    },
}

/// A fact with its task and time. The store numbers them.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Event {
    pub task: TaskId,
    pub at: Timestamp,
    /// Who asked for what it follows from; the host itself causes what has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Arc<Principal>>,
    #[serde(flatten)]
    pub fact: Fact,
}
