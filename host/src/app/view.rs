//! Answers as plain data, the same for every entry point. Times are RFC 3339 in UTC, durations are
//! in milliseconds.

mod amounts;
mod cancelled;
mod host;
mod plugin;

use std::{
    collections::BTreeMap,
    ops::{Deref, DerefMut},
};

use claudine_domain::{
    dependency::Condition,
    outcome::{Outcome, ReasonClass},
    principal::{Authority, Principal},
    revision::Difference,
    task::{Class, Priority},
    worktree::{Merge, MergeStrategy},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(crate) use self::{
    amounts::{BudgetView, slots_json},
    cancelled::{Cancelled, Still},
    host::{HaltKind, HaltView, HeldBackView, HostInfo},
    plugin::{PermissionView, PluginDetail, PluginView},
};
use super::queue_view::QueueView;
pub(crate) use crate::{
    store::ENDED_PHASE,
    supervise::log::gap_text,
    transcript::{Item, LogChannel, Place},
};

/// Words for the states of tasks.
pub(super) const STATES: [&str; 6] = ["blocked", "waiting", "ready", "held", "running", "done"];
/// Words for the phases of running tasks; null for other tasks.
pub(super) const PHASES: [Option<&str>; 8] = [
    Some("preparing"),
    Some("starting"),
    Some("live"),
    Some("stopping"),
    Some("finishing"),
    Some("settling"),
    Some(ENDED_PHASE),
    None,
];

impl TaskRow {
    /// Whether the task's process has ended and this is not recorded yet.
    pub(crate) fn has_ended(&self) -> bool {
        self.phase.as_deref() == Some(ENDED_PHASE)
    }

    /// Whether the host ends the task's processes.
    pub(crate) fn is_being_ended(&self) -> bool {
        matches!(self.phase.as_deref(), Some("stopping" | "finishing"))
    }
}

/// A task in a list, without long fields. Unset fields are left out.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct TaskRow {
    pub(crate) id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
    /// The start of the prompt, script or command line.
    pub(crate) summary: String,
    pub(crate) executor: String,
    /// `blocked`, `waiting`, `ready`, `held`, `running`, `done`.
    #[schemars(extend("enum" = STATES))]
    pub(crate) state: String,
    /// Phase of a running task: `preparing`, `starting`, `live`, `stopping`, `finishing`,
    /// `settling`; `ended` if the task's process has ended and this is not recorded yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = PHASES))]
    pub(crate) phase: Option<String>,
    /// The current action, if the executor reports it; or what keeps the task from its start or
    /// its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) doing: Option<String>,
    /// Outcome of a finished task: `succeeded`, `failed`, `timed_out`, `cancelled`, `skipped`,
    /// `upstream_failed`, `lost`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Outcome>")]
    pub(crate) outcome: Option<String>,
    /// Reason of a failure, or of the wait for another attempt. Shortened in lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<ReasonView>,
    /// The task because of which this task could not run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) culprit: Option<String>,
    /// The time that the task waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub(crate) until: Option<String>,
    /// Holders of the task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) held_by: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) group: Option<String>,
    /// `P0`, `P1`, `P2`.
    #[schemars(with = "Priority")]
    pub(crate) priority: String,
    pub(crate) labels: BTreeMap<String, String>,
    /// Working directory as requested.
    pub(crate) cwd: String,
    /// The task inside which this task was submitted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) parent: Option<String>,
    /// The first task of the task's graph.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) graph: Option<String>,
    /// Principal who submitted the task.
    #[serde(default)]
    pub(crate) by: Principal,
    /// Number of the last attempt that has begun; 0 before the first.
    #[serde(default)]
    pub(crate) attempt: u32,
    /// Number of automatic retries left.
    #[serde(default)]
    pub(crate) attempts_left: u32,
    /// Whether the task failed because of its merge and has succeeded by a merge by hand.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) merged_by_hand: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) exit_code: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) signal: Option<i32>,
    /// Total cost of the attempts; absent if it is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cost_usd: Option<f64>,
    /// Part of the cost that is assumed, because attempts with a budget reported no cost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) assumed_usd: Option<f64>,
    /// Whether the attempts may have cost more, because one of them reported no cost.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) cost_is_unknown: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) budget_usd: Option<f64>,
    /// Number of tool calls denied to the agent in the last attempt.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) denied: u32,
    /// Number of files that the agent has changed in its worktree, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) files_changed: Option<u64>,
    #[schemars(extend("format" = "date-time"))]
    pub(crate) created_at: String,
    /// Start of the last attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub(crate) started_at: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub(crate) finished_at: Option<String>,
    /// Run time of the last attempt; absent while it is running.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ran_ms: Option<u64>,
    /// Expected run time from earlier runs of similar tasks; only for unfinished tasks in live
    /// views.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) expected_ms: Option<u64>,
}

/// A task with all details.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct TaskView {
    #[serde(flatten)]
    pub(crate) row: TaskRow,
    /// Authority stated by the executor; absent if the executor was not asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) authority: Option<Authority>,
    pub(crate) dependencies: Vec<DependencyView>,
    /// While the task waits: reasons why nothing in the queue starts.
    #[serde(default, skip_serializing_if = "QueueView::is_open")]
    pub(crate) queue: QueueView,
    /// Name of the task's graph.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) graph_name: Option<String>,
    /// The worktree, if the task has its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) worktree: Option<WorktreeView>,
    /// Result of merging the worktree.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) merge: Option<Merge>,
    pub(crate) attempts: Vec<AttemptView>,
    /// For an agent, its result, or the last lines of its transcript once it is done. For a
    /// command, the last 64 KiB of standard output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) output: Option<String>,
    pub(crate) output_truncated: bool,
    /// For a command, the number of bytes that it has written to standard output so far, including
    /// those that the output limit has removed. `claudine logs --stream stdout --offset` continues
    /// there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) output_bytes: Option<u64>,
    /// What is wrong with the log of the last attempt that began, as far as a quick look shows it.
    /// Output may be missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) log_fault: Option<String>,
    /// Usage of the last finished attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) usage: Option<UsageView>,
    /// Command that continues the finished task, if the task lacked only an option.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) hint: Option<String>,
    /// If the task failed because of its merge: commands that may help.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) steps: Vec<Step>,
    /// The request to the executor, as given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) spec: Option<serde_json::Value>,
    /// Results of the executor besides text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) outputs: Option<serde_json::Value>,
}

pub(super) fn is_zero<T: Default + PartialEq>(count: &T) -> bool {
    *count == T::default()
}

/// Gives access to the fields of the row.
impl Deref for TaskView {
    type Target = TaskRow;

    fn deref(&self) -> &TaskRow {
        &self.row
    }
}

impl DerefMut for TaskView {
    fn deref_mut(&mut self) -> &mut TaskRow {
        &mut self.row
    }
}

/// A suggested command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Step {
    pub(crate) command: String,
    /// Purpose of the command.
    pub(crate) purpose: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct DependencyView {
    pub(crate) task: String,
    pub(crate) condition: Condition,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct ReasonView {
    #[schemars(with = "ReasonClass")]
    pub(crate) class: String,
    pub(crate) message: String,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct AttemptView {
    pub(crate) number: u32,
    /// Principal who requested the attempt; absent if this is the principal who submitted the task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) by: Option<Principal>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) pid: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub(crate) started_at: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub(crate) finished_at: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Outcome>")]
    pub(crate) outcome: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<ReasonView>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) exit_code: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) signal: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) session_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) model: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cost_usd: Option<f64>,
    /// Whether the cost is assumed, because the attempt reported none: it is the most that the
    /// attempt was allowed to spend.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) cost_is_assumed: bool,
    /// Whether the attempt may have cost more, because it reported no cost at its end and nothing
    /// is assumed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) cost_is_unknown: bool,
    /// Changes of the request that hold from this attempt on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) revised: Vec<Difference>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) usage: Option<UsageView>,
    /// State of the repository that an agent worked in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) git: Option<GitView>,
    /// Result of merging the worktree after a success.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) merge: Option<Merge>,
    /// Whether this attempt ran no executor, and stands for a merge by hand of the previous
    /// attempt's work.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) by_hand: bool,
}

/// A task's own worktree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct WorktreeView {
    /// Path of the worktree; absent if the worktree does not exist yet or was removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) path: Option<String>,
    /// Directory of the worktree in which the task runs; empty for the top directory.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) inside: String,
    pub(crate) branch: String,
    /// Branch from which the worktree starts and into which it is merged, or else a commit.
    pub(crate) base: String,
    pub(crate) base_commit: String,
    pub(crate) merge: MergeStrategy,
    pub(crate) keep: bool,
}

/// State of the repository in the working directory after an attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct GitView {
    /// Name of the branch; absent if no branch is checked out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) branch: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) commit: Option<String>,
    /// The first uncommitted files.
    pub(crate) dirty: Vec<String>,
    /// Number of uncommitted files.
    pub(crate) dirty_count: u64,
    /// Error of git, if the state is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct UsageView {
    pub(crate) wall_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cpu_ms: Option<u64>,
    /// Highest memory usage; absent if no process used more than a few MiB or ran longer than half
    /// a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) peak_rss_bytes: Option<u64>,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct TaskList {
    pub(crate) tasks: Vec<TaskRow>,
    /// Value of `before` for the next page; absent on the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) next: Option<String>,
    /// Reasons why nothing in the queue starts.
    #[serde(default, skip_serializing_if = "QueueView::is_open")]
    pub(crate) queue: QueueView,
}

/// Identification of a graph.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct GraphName {
    /// Id of the first task of the graph.
    pub(crate) id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
}

/// The submitted tasks, in the order of the request.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Submitted {
    /// The graph, if there are several tasks or it has a name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) graph: Option<GraphName>,
    pub(crate) tasks: Vec<Delegated>,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Delegated {
    pub(crate) id: String,
    #[serde(default = "command")]
    pub(crate) class: Class,
    /// Whether this is the task of an earlier equal request with the same idempotency key.
    pub(crate) existing: bool,
    /// A possible problem of the task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) warning: Option<String>,
}

/// Default for the answers of older hosts, which lack this field.
fn command() -> Class {
    Class::Command
}

/// Number of tasks that were held or released.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Changed {
    pub(crate) tasks: usize,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct GroupView {
    pub(crate) name: String,
    /// Limit of the group's running tasks; absent if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) limit: Option<u32>,
    pub(crate) paused: bool,
    pub(crate) running: u64,
    pub(crate) queued: u64,
    /// Some of the group's unfinished tasks, running ones first.
    #[serde(default)]
    pub(crate) tasks: Vec<GroupTask>,
}

/// A task of a group.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct GroupTask {
    pub(crate) id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Retried {
    pub(crate) id: String,
    pub(crate) attempt: u32,
    /// Number of dependants that will run again.
    #[serde(default)]
    pub(crate) downstream: usize,
    /// Whether the task is held and must be released before it starts.
    #[serde(default)]
    pub(crate) held: bool,
    /// Why the attempt does not start yet, even if there is room for it, and when it starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) waits: Option<String>,
    /// A possible problem of the next attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) warning: Option<String>,
}

/// The checkpoint of a finished attempt.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct CheckpointView {
    pub(crate) id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
    pub(crate) attempt: u32,
    #[schemars(with = "Outcome")]
    pub(crate) outcome: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<ReasonView>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) exit_code: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) signal: Option<i32>,
    /// Result of an agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) summary: Option<String>,
    /// The last 50 lines of both streams, in the order in which they were read and without colours,
    /// at most 64 KiB. For an agent, the last lines of its transcript.
    pub(crate) last_lines: String,
    /// State of the repository in which the attempt worked, for agents and for tasks in worktrees.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) git: Option<GitView>,
}

/// A piece of a task's output in `logs`.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum LogPiece {
    /// Number of the attempt whose output follows; offsets count from the start of this output.
    /// This piece comes first, and again if a follower continues with the next attempt.
    Attempt(u32),
    Bytes {
        channel: LogChannel,
        /// Offset of the first byte in the selected output.
        offset: u64,
        bytes: Vec<u8>,
    },
    /// Items of an agent's transcript, if one was requested.
    Items {
        items: Vec<Item>,
        /// Everything before this place has been sent.
        place: Place,
    },
    /// This many bytes were left out here, because the output is over its limit, or somebody cut
    /// the log short.
    Gap { offset: u64, bytes: u64 },
}

/// The last lines of an attempt, for people.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct LogEnd {
    pub(crate) id: String,
    /// Whether the items are an agent's transcript with times and kinds, and not plain output.
    pub(crate) is_transcript: bool,
    pub(crate) items: Vec<Item>,
    /// Number of lines before these lines; absent if there are too many bytes to count the lines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) earlier_lines: Option<u64>,
    /// Number of bytes before these lines that were not read.
    pub(crate) unread_bytes: u64,
}

/// An event of a task.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct EventView {
    /// Number of the event. Numbers only increase, and none is used twice.
    pub(crate) sequence: u64,
    #[schemars(extend("format" = "date-time"))]
    pub(crate) at: String,
    pub(crate) task: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
    /// Principal who requested the cause of the event; absent if the host itself caused the event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) by: Option<Principal>,
    /// Description for people.
    pub(crate) words: String,
    /// The event's `kind`, and the fields of that kind.
    #[serde(flatten)]
    pub(crate) fact: serde_json::Map<String, serde_json::Value>,
}

/// An item for a reader of events.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum EventPiece {
    Event(EventView),
    /// All events up to this number were checked; a reader that is cut off continues after it.
    Place(u64),
}

/// The last lines of both streams as text without colours. For an agent, the lines of its
/// transcript are in place of its standard output. Invalid UTF-8 is replaced.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct LogLines {
    pub(crate) id: String,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    /// Number of lines in `stdout` and `stderr`.
    pub(crate) stdout_lines: u64,
    pub(crate) stderr_lines: u64,
    /// Number of bytes missing at the beginning of `stdout` and `stderr` because of the size limit.
    #[serde(default)]
    pub(crate) stdout_cut_bytes: u64,
    #[serde(default)]
    pub(crate) stderr_cut_bytes: u64,
}

/// The reasons why a task waits, one sentence each.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Why {
    pub(crate) id: String,
    #[schemars(extend("enum" = STATES))]
    pub(crate) state: String,
    /// Phase of a running task, as in lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = PHASES))]
    pub(crate) phase: Option<String>,
    /// Time since which the task is in this state.
    #[schemars(extend("format" = "date-time"))]
    pub(crate) since: String,
    pub(crate) reasons: Vec<String>,
    /// The reason why a running task cannot end, if its supervisor does nothing or cannot be
    /// reached, or why it cannot end and a queued one cannot start, if its plugin cannot be used
    /// at the moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) halted: Option<String>,
    /// A short form of the reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) brief: Option<String>,
}
