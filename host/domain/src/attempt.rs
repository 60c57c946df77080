//! One execution of a task.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    outcome::{Outcome, Reason, ReasonClass},
    session::{self, Session},
    time::{MonotonicMs, Timestamp},
    worktree::Merge,
};

/// Reason to stop a running attempt. This reason decides the outcome; the exit code does not.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopWhy {
    Cancelled {
        reason: Option<String>,
    },
    /// The attempt ran longer than its `timeout`.
    Timeout,
    /// The attempt's worktree or executor was not ready in time.
    PrepareTimeout,
    /// The attempt's work was not settled in time.
    SettleTimeout,
    /// The attempt gave no sign of life within its `start_timeout`.
    StartTimeout,
    /// The attempt wrote no output for its `idle_timeout`.
    IdleTimeout,
    /// The attempt's budget is spent.
    Budget {
        message: String,
    },
}

/// State of a running attempt. Each phase is durable before the action that follows from it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The attempt is *reserved*: it was stored before a slot was free, so that it can start as
    /// soon as another attempt ends, without a commit in between. Its task is shown as ready.
    Assigned,
    /// The attempt's worktree and the executor's code are being made. No process was started yet.
    Preparing,
    /// The attempt's first process may have been started, but has given no sign of life.
    Starting,
    Live,
    Stopping(StopWhy),
    /// The executor has answered. The attempt's output is being drained and its leftover processes
    /// are being ended. Or no process of the attempt is alive, and the executor has still to say
    /// how it ended ([`Attempt::is_over`]).
    Finishing,
    /// No process of the attempt is alive, and its ending is known. Its work is being committed,
    /// merged, pushed or written.
    Settling,
}

/// The process that leads an attempt. The start time is needed since pids are reused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Leader {
    pub pid: u32,
    /// Start time in clock ticks since boot, as the kernel reports it.
    pub start_time: u64,
}

/// Resources that an attempt used, over all its processes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Usage {
    pub wall_ms: u64,
    pub cpu_ms: Option<u64>,
    /// Peak of resident memory: the larger of the largest process, as counted by the kernel, and
    /// the sum of all processes, as sampled twice a second. None if every process was too small (a
    /// few MiB) and too short to be measured.
    pub peak_rss_bytes: Option<u64>,
}

/// State of the attempt's working directory as git reports it, once no process of the attempt is
/// alive.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct GitState {
    /// None if no branch is checked out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// None if there is no commit yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// Paths in the repository of the first uncommitted changes, including untracked files. A new
    /// directory is one path that ends with a slash.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dirty: Vec<String>,
    /// Number of all uncommitted changes.
    #[serde(default)]
    pub dirty_count: u64,
    /// Reason why git could not report the directory's state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// End of an attempt, as reported by executor and supervisor.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Ending {
    pub cause: Cause,
    pub message: String,
    pub exit_code: Option<i32>,
    pub signal: Option<i32>,
    pub usage: Usage,
    pub cost_micro_usd: Option<u64>,
    /// Upper bound of a cost that the executor does not know, if it knows a bound.
    #[serde(default)]
    pub cost_at_most_micro_usd: Option<u64>,
    /// The executor's results, JSON. The store keeps them as a separate document.
    #[serde(skip)]
    pub outputs: Option<Arc<[u8]>>,
    /// State of the attempt's working directory, if it was read.
    pub git: Option<Box<GitState>>,
    /// Result of merging the attempt's work, if the attempt succeeded in a worktree. `cause`
    /// already takes this result into account.
    pub merge: Option<Box<Merge>>,
    /// Number of tool calls that were denied to an agent.
    #[serde(default)]
    pub denied: u32,
    /// Number of bytes of output that the attempt's log must have at least: those that its
    /// processes had written when they ended.
    #[serde(default)]
    pub output_bytes: u64,
    /// Whether the log must have exactly these bytes, because nothing could write more.
    #[serde(default)]
    pub is_all_output: bool,
    /// Number of files changed in the attempt's worktree.
    #[serde(default)]
    pub files: Option<u64>,
    /// Time until a usage limit ends, if the service said so.
    pub retry_after: Option<Duration>,
    /// Name of the usage limit that the attempt met, in a word or two, if the executor gave one.
    #[serde(default)]
    pub limit: Option<String>,
    /// Reason for which the supervisor stopped the attempt, whether or not a host was running.
    pub stopped: Option<StopWhy>,
    /// Whether the attempt failed because of its last process, which had ended before any stop
    /// reached it, and was not told of a stop in another way either.
    #[serde(default)]
    pub failed_by_itself: bool,
    /// Whether no supervisor has received the order to start the attempt, and none ever will. If
    /// so, nothing of the attempt has run, and the task goes back to `ready`.
    pub never_received: bool,
    /// Whether the attempt's first process could not be started because the machine had run out of
    /// descriptors, processes or memory. If so, nothing of the attempt has run, and a later start
    /// may succeed.
    #[serde(default)]
    pub no_room: bool,
    /// Whether the code of the attempt's executor could not be had at the moment, and nothing of
    /// the attempt has run. The task then waits until the code can be had.
    #[serde(default)]
    pub no_code: bool,
}

impl Ending {
    /// An ending that has only a cause and a message.
    pub fn new(cause: Cause, message: impl Into<String>) -> Self {
        Self {
            cause,
            message: message.into(),
            exit_code: None,
            signal: None,
            usage: Usage::default(),
            cost_micro_usd: None,
            cost_at_most_micro_usd: None,
            outputs: None,
            git: None,
            merge: None,
            denied: 0,
            output_bytes: 0,
            is_all_output: false,
            files: None,
            retry_after: None,
            limit: None,
            stopped: None,
            failed_by_itself: false,
            never_received: false,
            no_room: false,
            no_code: false,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    Success,
    Class(ReasonClass),
}

/// End of an attempt, as stored.
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
    /// Whether the executor reported no cost at the end, and the cost is the most that the attempt
    /// may have cost.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cost_is_assumed: bool,
    /// Whether the executor reported no cost at the end, and nothing is assumed. The attempt may
    /// have cost more than it has reported.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cost_is_unknown: bool,
    /// State of the working directory after the attempt. `None` if the directory is in no
    /// repository, or if the task is a command without a worktree.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub git: Option<Box<GitState>>,
    /// Result of merging the attempt's work, if the attempt succeeded in a worktree.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub merge: Option<Box<Merge>>,
    /// Number of tool calls that were denied to an agent.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub denied: u32,
    /// Number of bytes of output that the attempt's log must have at least; 0 if this is unknown.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub output_bytes: u64,
    /// Whether the log must have exactly `output_bytes`, because nothing could write more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_all_output: bool,
    /// Number of files changed in the attempt's worktree, if the attempt had one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<u64>,
    /// Whether nothing of the attempt has run, because its start was never received or because the
    /// machine had no room for its process. Such an attempt uses up no retry.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub never_began: bool,
}

impl Ended {
    /// An end of which only the time and the outcome are known.
    pub fn new(at: Timestamp, outcome: Outcome) -> Self {
        Self {
            at,
            outcome,
            reason: None,
            exit_code: None,
            signal: None,
            usage: Usage::default(),
            cost_micro_usd: None,
            cost_is_assumed: false,
            cost_is_unknown: false,
            git: None,
            merge: None,
            denied: 0,
            output_bytes: 0,
            is_all_output: false,
            files: None,
            never_began: false,
        }
    }
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Attempt {
    pub number: u32,
    pub assigned_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// Monotonic time of the start, and the name of the clock from which this time was read.
    /// Deadlines count from the start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_monotonic: Option<(MonotonicMs, Arc<str>)>,
    /// Time of the attempt's first sign of life.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub live_at: Option<Timestamp>,
    /// Current activity as the executor last reported it; none once the attempt has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doing: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<Leader>,
    #[serde(
        default,
        deserialize_with = "session::stored",
        skip_serializing_if = "Option::is_none"
    )]
    pub session: Option<Session>,
    /// Amount that the attempt may spend, in millionths of a US dollar: the smallest amount that
    /// was left of any of its budgets when it started. None without a budget.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub may_cost_micro_usd: Option<u64>,
    /// Cost so far, while the attempt runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_so_far_micro_usd: Option<u64>,
    /// The attempt's ending, while its work is being settled. A later host continues from this
    /// ending, since no process is left to report it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered: Option<Box<Ending>>,
    /// Whether no process of the attempt is alive, although its executor has not said yet how it
    /// ended, for example because the executor's code cannot be had.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_over: bool,
    /// Branch of the attempt's worktree.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<Box<str>>,
    /// Whether this attempt only records that somebody merged the previous attempt's work by hand.
    /// No executor ran for such an attempt.
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
            is_over: false,
            branch: None,
            by_hand: false,
            ended: None,
        }
    }

    /// How long the attempt has run, once it has ended. Its end may be recorded later than its
    /// processes have ended, and is all that is known if these were not measured.
    pub fn ran_ms(&self) -> Option<u64> {
        let ended = self.ended.as_ref()?;
        let until_recorded = ended.at.0.saturating_sub(self.started_at?.0);
        let measured = ended.usage.wall_ms;
        Some(if measured > 0 {
            measured
        } else {
            until_recorded
        })
    }

    /// Makes the attempt that records that somebody merged the task's work by hand. This attempt
    /// begins and ends at the same moment.
    pub fn merged_by_hand(number: u32, at: Timestamp, merge: Merge) -> Self {
        Self {
            started_at: Some(at),
            by_hand: true,
            ended: Some(Ended {
                merge: Some(Box::new(merge)),
                ..Ended::new(at, Outcome::Succeeded)
            }),
            ..Self::new(number, at)
        }
    }

    /// Cost in millionths of a US dollar, if the executor reported it or if it is assumed.
    pub fn cost_micro_usd(&self) -> Option<u64> {
        let at_its_end = self.ended.as_ref().and_then(|ended| ended.cost_micro_usd);
        at_its_end.or(self.cost_so_far_micro_usd)
    }

    /// The cost, if it is assumed because the executor reported none at the end.
    pub fn assumed_micro_usd(&self) -> Option<u64> {
        let ended = self.ended.as_ref().filter(|ended| ended.cost_is_assumed)?;
        ended.cost_micro_usd
    }

    /// Whether the attempt may have cost more than [`Self::cost_micro_usd`].
    pub fn cost_is_unknown(&self) -> bool {
        let ended = self.ended.as_ref();
        ended.is_some_and(|ended| ended.cost_is_unknown)
    }

    /// What an attempt with a budget counts as if it ends now without a reported cost: at most the
    /// amount that it was allowed to spend, or the executor's own upper bound if that is less.
    /// `may_be_unknown` if nothing is to be assumed without such a bound.
    pub(crate) fn unreported(
        &self,
        at_most_micro_usd: Option<u64>,
        may_be_unknown: bool,
    ) -> Unreported {
        let has_begun = self.leader.is_some() || self.live_at.is_some();
        let Some(allowed) = self.may_cost_micro_usd.filter(|_| has_begun) else {
            return Unreported::Nothing;
        };
        let most = at_most_micro_usd.map_or(allowed, |most| most.min(allowed));
        if most <= self.cost_so_far_micro_usd.unwrap_or(0) {
            Unreported::Nothing
        } else if may_be_unknown && most == allowed {
            Unreported::Unknown
        } else {
            Unreported::Assumed(most)
        }
    }
}

/// What an attempt counts as that ends without a reported cost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Unreported {
    /// The attempt has cost no more than it has reported so far, or had no budget.
    Nothing,
    /// This cost is charged: the most that the attempt may have cost.
    Assumed(u64),
    /// Only the cost reported so far is charged. The attempt may have cost more.
    Unknown,
}

fn is_zero<T: Default + PartialEq>(count: &T) -> bool {
    *count == T::default()
}
