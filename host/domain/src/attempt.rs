//! One execution of a task.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    outcome::{Outcome, Reason, ReasonClass},
    time::{MonotonicMs, Timestamp},
    worktree::Merge,
};

/// Who asked a running attempt to stop; it decides the outcome, not the exit code.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopWhy {
    Cancelled {
        reason: Option<String>,
    },
    /// It ran longer than its `timeout`.
    Timeout,
    /// What it needs was not made in time.
    PrepareTimeout,
    /// Its work was not settled in time.
    SettleTimeout,
    /// It gave no sign of life within its `start_timeout`.
    StartTimeout,
    /// It gave no output for its `idle_timeout`.
    IdleTimeout,
    /// There is no money left for it.
    Budget {
        message: String,
    },
}

/// How far a running attempt is. Each phase is durable before its effect.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Chosen ahead of a free slot, so that the commit is not between one exit and the next start.
    /// Shown as ready.
    Assigned,
    /// What it needs is made: its worktree, the code of its executor. Nothing of it has been
    /// started.
    Preparing,
    /// Its first process may be started, and has given no sign of life.
    Starting,
    Live,
    Stopping(StopWhy),
    /// Its executor has answered; output is drained and leftovers are ended.
    Finishing,
    /// Nothing of it is alive, and how it has ended is known: its work is committed, merged, pushed
    /// or written.
    Settling,
}

/// The process that leads an attempt: a pid alone is no identity.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Leader {
    pub pid: u32,
    /// In clock ticks since boot, as the kernel tells it.
    pub start_time: u64,
}

/// What an attempt used, over all of its processes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Usage {
    pub wall_ms: u64,
    pub cpu_ms: Option<u64>,
    /// The largest resident set seen: of one process as the kernel counted it, or of all of them as
    /// they were sampled twice a second. None where every process was too small (a few MiB) and too
    /// short for that.
    pub peak_rss_bytes: Option<u64>,
}

/// What an executor tells of an agent's conversation.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Session {
    pub id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
}

/// What git says of the directory that an attempt worked in, once nothing of the attempt is alive.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct GitState {
    /// None where no branch is checked out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// None where there is no commit yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// The first of what is changed and not committed, untracked files included, by their paths in
    /// the repository. A new directory is one path, with a slash at its end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dirty: Vec<String>,
    /// How many there are of these in all.
    #[serde(default)]
    pub dirty_count: u64,
    /// Why git could not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// What the executor and the supervisor say of an attempt's end.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Ending {
    pub cause: Cause,
    pub message: String,
    pub exit_code: Option<i32>,
    pub signal: Option<i32>,
    pub usage: Usage,
    pub cost_micro_usd: Option<u64>,
    /// The executor's results, JSON. In the store they are a document of their own.
    #[serde(skip)]
    pub outputs: Option<Arc<[u8]>>,
    /// Of the directory it worked in, where that was looked at.
    pub git: Option<Box<GitState>>,
    /// What became of its work, where it succeeded in a worktree. The cause says already what
    /// follows from it.
    pub merge: Option<Box<Merge>>,
    /// How many calls of tools were refused to an agent.
    #[serde(default)]
    pub denied: u32,
    /// How many files of its worktree it has changed.
    #[serde(default)]
    pub files: Option<u64>,
    /// For a usage limit: how long it lasts, where the service said so.
    pub retry_after: Option<Duration>,
    /// Which usage limit it met, in a word or two, where its executor said so.
    #[serde(default)]
    pub limit: Option<String>,
    /// What the supervisor stopped it for, with or without a host.
    pub stopped: Option<StopWhy>,
    /// Nobody ever received the start, nor can any more: nothing of the attempt has happened, and
    /// the task goes back to `ready`.
    pub never_received: bool,
    /// The machine had no room for its first process (descriptors, processes, memory): nothing of
    /// the attempt has happened, and later it may.
    #[serde(default)]
    pub no_room: bool,
}

impl Ending {
    /// An end of which nothing else is known.
    pub fn new(cause: Cause, message: impl Into<String>) -> Self {
        Self {
            cause,
            message: message.into(),
            exit_code: None,
            signal: None,
            usage: Usage::default(),
            cost_micro_usd: None,
            outputs: None,
            git: None,
            merge: None,
            denied: 0,
            files: None,
            retry_after: None,
            limit: None,
            stopped: None,
            never_received: false,
            no_room: false,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    Success,
    Class(ReasonClass),
}

/// The end of an attempt.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Ended {
    pub at: Timestamp,
    pub outcome: Outcome,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    pub usage: Usage,
    /// In millionths of a US dollar.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_micro_usd: Option<u64>,
    /// For an agent in a repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub git: Option<Box<GitState>>,
    /// What became of its work, where it succeeded in a worktree.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub merge: Option<Box<Merge>>,
    /// How many calls of tools were refused to an agent.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub denied: u32,
    /// How many files of its worktree it has changed, in a task with one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<u64>,
    /// Nobody ever received its start: it does not count as an attempt.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub never_began: bool,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Attempt {
    pub number: u32,
    pub assigned_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// The monotonic clock at the start, and which clock that is: deadlines are counted from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_monotonic: Option<(MonotonicMs, Arc<str>)>,
    /// Its first sign of life.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub live_at: Option<Timestamp>,
    /// What its executor last said it is doing; nothing once it has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doing: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<Leader>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<Session>,
    /// What it may cost, in millionths of a US dollar: what was left of its budgets when it was
    /// started. None without a budget.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub may_cost_micro_usd: Option<u64>,
    /// What it has cost up to now, while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_so_far_micro_usd: Option<u64>,
    /// How it has ended, while its work is being settled: a later host goes on with that, and no
    /// process is left to tell it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered: Option<Box<Ending>>,
    /// The branch of the worktree that it works in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<Box<str>>,
    /// No executor ran: somebody merged the work of the attempt before it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub by_hand: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Ended>,
}

impl Attempt {
    pub fn new(number: u32, assigned_at: Timestamp) -> Self {
        Self {
            number,
            assigned_at,
            started_at: None,
            started_monotonic: None,
            live_at: None,
            doing: None,
            leader: None,
            session: None,
            may_cost_micro_usd: None,
            cost_so_far_micro_usd: None,
            answered: None,
            branch: None,
            by_hand: false,
            ended: None,
        }
    }

    /// One of a task whose work somebody merged after all. It begins and ends at once.
    pub fn merged_by_hand(number: u32, at: Timestamp, merge: Merge) -> Self {
        Self {
            started_at: Some(at),
            by_hand: true,
            ended: Some(Ended {
                at,
                outcome: Outcome::Succeeded,
                reason: None,
                exit_code: None,
                signal: None,
                usage: Usage::default(),
                cost_micro_usd: None,
                git: None,
                merge: Some(Box::new(merge)),
                denied: 0,
                files: None,
                never_began: false,
            }),
            ..Self::new(number, at)
        }
    }

    /// What it has cost, in millionths of a US dollar, if its executor told.
    pub fn cost_micro_usd(&self) -> Option<u64> {
        let at_its_end = self.ended.as_ref().and_then(|ended| ended.cost_micro_usd);
        at_its_end.or(self.cost_so_far_micro_usd)
    }
}

#[allow(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_zero(count: &u32) -> bool {
    *count == 0
}
