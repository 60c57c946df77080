//! Facts, in the order in which they became true. Each fact is stored in the transaction that made
//! it true.

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
    /// An attempt's worktree is being made, and its executor's code is being loaded.
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
    /// Progress that the executor reported during the attempt.
    Progress {
        attempt: u32,
        progress: String,
        data: String,
    },
    /// The task's account is at a usage limit until the given time.
    Parked {
        account: AccountKey,
        until: Timestamp,
    },
    /// The task is ready again: its start was never received, or its wait is over.
    BackToReady,
    AttemptEnded {
        attempt: u32,
        outcome: Outcome,
        reason: Option<Reason>,
    },
    /// A finished task gets another attempt, or its first if it never ran.
    Retried,
    /// A finished task gets another attempt, which continues the given one.
    Resumed {
        from: u32,
    },
    /// Somebody changed the task's request for the given attempt and all later ones.
    Revised {
        attempt: u32,
        differences: Vec<Difference>,
    },
    /// Somebody asked to start the task at once, although it was waiting for a certain time.
    TriedNow,
    /// Somebody merged the work of a task by hand after the merge had failed. The merge counts as a
    /// further attempt, which no executor ran.
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
    /// The task was unfinished in the backup that was made at this time. The restore put it on
    /// hold.
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

/// A fact with its task and time. The store numbers the events.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Event {
    pub task: TaskId,
    pub at: Timestamp,
    /// Principal whose request caused the event; none if the host itself caused it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Arc<Principal>>,
    #[serde(flatten)]
    pub fact: Fact,
}
