//! Facts, in the order in which they became true. Each is stored in the transaction that made it
//! true.

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

/// Something that happened to a task.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Fact {
    Submitted,
    /// An attempt's worktree and its executor's code are being made.
    AttemptPreparing {
        attempt: u32,
    },
    /// The work of an attempt that has ended is being committed, merged, pushed or written.
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
    /// Progress that the executor reported while it ran.
    Progress {
        attempt: u32,
        progress: String,
        data: String,
    },
    /// The task's account is at a usage limit until then.
    Parked {
        account: AccountKey,
        until: Timestamp,
    },
    /// A start that was never received was taken back, or a parked task may go on.
    BackToReady,
    AttemptEnded {
        attempt: u32,
        outcome: Outcome,
        reason: Option<Reason>,
    },
    /// A finished task gets another attempt, or its first.
    Retried,
    /// A finished task gets another attempt, which continues that one.
    Resumed {
        from: u32,
    },
    /// Somebody changed the task's request, from that attempt on.
    Revised {
        attempt: u32,
        differences: Vec<Difference>,
    },
    /// Somebody asked to start the task at once although it waited for a time.
    TriedNow,
    /// Somebody merged by hand the work of a task that had failed by its merge: a further attempt,
    /// which no executor ran.
    MergedByHand {
        attempt: u32,
    },
    /// A failed attempt is retried automatically.
    RetryScheduled {
        until: Timestamp,
    },
    /// All dependencies have met their conditions.
    Unblocked,
    /// A dependency runs again.
    Blocked,
    Held,
    Released,
    /// The task was unfinished in the backup of that time; it is held since its restoration.
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
    /// The principal whose request caused it; none if the host itself did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Arc<Principal>>,
    #[serde(flatten)]
    pub fact: Fact,
}
