//! What is answered: plain data, the same for every entry point. Times are RFC 3339 in UTC,
//! durations milliseconds.

mod amounts;
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
    plugin::{PermissionView, PluginDetail, PluginView},
};
use super::queue_view::QueueView;
pub(crate) use crate::transcript::{Item, LogChannel, Place};

/// The words for where a task stands.
pub(super) const STATES: [&str; 6] = ["blocked", "waiting", "ready", "held", "running", "done"];
/// The words for how far one is that runs; null for another one.
const PHASES: [Option<&str>; 7] = [
    Some("preparing"),
    Some("starting"),
    Some("live"),
    Some("stopping"),
    Some("finishing"),
    Some("settling"),
    None,
];

/// A task as lists show it: where it stands, without what is long. What is not set is left out.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct TaskRow {
    pub(crate) id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
    /// The start of its prompt, script or command line.
    pub(crate) summary: String,
    pub(crate) executor: String,
    /// `blocked`, `waiting`, `ready`, `held`, `running`, `done`.
    #[schemars(extend("enum" = STATES))]
    pub(crate) state: String,
    /// While it runs: `preparing`, `starting`, `live`, `stopping`, `finishing`, `settling`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = PHASES))]
    pub(crate) phase: Option<String>,
    /// What it is doing at the moment, in its executor's words, if that tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) doing: Option<String>,
    /// Once it is done: `succeeded`, `failed`, `timed_out`, `cancelled`, `skipped`,
    /// `upstream_failed`, `lost`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Outcome>")]
    pub(crate) outcome: Option<String>,
    /// Why it did not succeed, or why it waits for another attempt. Cut in lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<ReasonView>,
    /// Of one that could not run: the task whose end that follows from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) culprit: Option<String>,
    /// While it waits for a time: that time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub(crate) until: Option<String>,
    /// While it is held: by whom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) held_by: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) group: Option<String>,
    /// `P0`, `P1`, `P2`.
    #[schemars(with = "Priority")]
    pub(crate) priority: String,
    pub(crate) labels: BTreeMap<String, String>,
    /// Its working directory, as it was asked for.
    pub(crate) cwd: String,
    /// The task from whose attempt it was submitted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) parent: Option<String>,
    /// If it was submitted with others: the first of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) graph: Option<String>,
    /// Who submitted it.
    #[serde(default)]
    pub(crate) by: Principal,
    /// The number of its last attempt that has begun; 0 before the first.
    #[serde(default)]
    pub(crate) attempt: u32,
    /// How many more may begin without anybody asking for them, as far as its retries go.
    #[serde(default)]
    pub(crate) attempts_left: u32,
    /// It failed by its merge, and has succeeded since somebody merged its work.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) merged_by_hand: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) exit_code: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) signal: Option<i32>,
    /// What all its attempts have cost together, if any of them told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cost_usd: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) budget_usd: Option<f64>,
    /// How many calls of tools its agent was denied, by its last attempt.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) denied: u32,
    /// How many files of its worktree its agent has changed, once that was looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) files_changed: Option<u64>,
    #[schemars(extend("format" = "date-time"))]
    pub(crate) created_at: String,
    /// When its last attempt began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub(crate) started_at: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub(crate) finished_at: Option<String>,
    /// How long its last attempt ran; absent while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ran_ms: Option<u64>,
    /// How long the like of it took before, while it has not ended and somebody watches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) expected_ms: Option<u64>,
}

/// A task with all that is known of it: its row, and more.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct TaskView {
    #[serde(flatten)]
    pub(crate) row: TaskRow,
    /// What its executor said that it can do; absent if nobody asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) authority: Option<Authority>,
    pub(crate) dependencies: Vec<DependencyView>,
    /// While it waits: what keeps all of the queue.
    #[serde(default, skip_serializing_if = "QueueView::is_open")]
    pub(crate) queue: QueueView,
    /// The name of the graph that it was submitted with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) graph_name: Option<String>,
    /// Where it works, if that is a checkout of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) worktree: Option<WorktreeView>,
    /// What became of the work in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) merge: Option<Merge>,
    pub(crate) attempts: Vec<AttemptView>,
    /// An agent's result text, else the end of its transcript once it is done; of a command the
    /// last 64 KiB of stdout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) output: Option<String>,
    pub(crate) output_truncated: bool,
    /// Of its last attempt that has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) usage: Option<UsageView>,
    /// Once it is done: the command that lets it go on, if an option is what it lacked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) hint: Option<String>,
    /// Of one that failed by its merge: what can be done about that.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) steps: Vec<Step>,
    /// What the executor was asked, as given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) spec: Option<serde_json::Value>,
    /// What the executor answered beside its text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) outputs: Option<serde_json::Value>,
}

#[allow(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// What can be told of a row can be told of the whole.
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

/// Something that can be done, as a command to copy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Step {
    pub(crate) command: String,
    /// What it is good for.
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
    /// What somebody changed of the task for it and those after it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) revised: Vec<Difference>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) usage: Option<UsageView>,
    /// Where an agent worked in a repository: how it left it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) git: Option<GitView>,
    /// What became of its work, where it succeeded in a worktree.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) merge: Option<Merge>,
    /// No executor ran: somebody merged the work of the attempt before it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) by_hand: bool,
}

/// A checkout of a task's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct WorktreeView {
    /// Absent if it is not made yet or was removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) path: Option<String>,
    /// Where in it the task works; the top where it is not given.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) inside: String,
    pub(crate) branch: String,
    /// The branch that it goes out from and is merged into; a commit where there is none.
    pub(crate) base: String,
    pub(crate) base_commit: String,
    pub(crate) merge: MergeStrategy,
    pub(crate) keep: bool,
}

/// The working directory's repository after an attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct GitView {
    /// Absent if no branch is checked out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) branch: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) commit: Option<String>,
    /// The first of what is changed and not committed.
    pub(crate) dirty: Vec<String>,
    /// How many there are of these in all.
    pub(crate) dirty_count: u64,
    /// Why git could not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct UsageView {
    pub(crate) wall_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cpu_ms: Option<u64>,
    /// Absent if nothing ran that was larger than a few MiB or longer than half a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) peak_rss_bytes: Option<u64>,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct TaskList {
    pub(crate) tasks: Vec<TaskRow>,
    /// Pass it as `before` for the next page; none on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) next: Option<String>,
    /// What keeps all of the queue.
    #[serde(default, skip_serializing_if = "QueueView::is_open")]
    pub(crate) queue: QueueView,
}

/// A graph as it is named.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct GraphName {
    /// The first of its tasks.
    pub(crate) id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
}

/// The tasks of a request, in its order.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Submitted {
    /// The graph that they are of, if they are several, or it has a name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) graph: Option<GraphName>,
    pub(crate) tasks: Vec<Delegated>,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Delegated {
    pub(crate) id: String,
    #[serde(default = "command")]
    pub(crate) class: Class,
    /// The same request was submitted before under this idempotency key: this is its task.
    pub(crate) existing: bool,
    /// What may go wrong with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) warning: Option<String>,
}

/// What an older host, which does not tell, is taken to mean.
fn command() -> Class {
    Class::Command
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Cancelled {
    pub(crate) id: String,
    /// It was stopping already.
    pub(crate) already: bool,
    /// Where the task itself was over: how many that were submitted from within it had not ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) descendants: Option<usize>,
}

/// How many tasks were held or released.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Changed {
    pub(crate) tasks: usize,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct GroupView {
    pub(crate) name: String,
    /// How many of it may run at once; absent without a limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) limit: Option<u32>,
    pub(crate) paused: bool,
    pub(crate) running: u64,
    pub(crate) queued: u64,
    /// Some of its unfinished tasks, those that run first.
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
    /// How many others run after it again.
    #[serde(default)]
    pub(crate) downstream: usize,
    /// Somebody holds it still: it does not start before it is released.
    #[serde(default)]
    pub(crate) held: bool,
}

/// What a finished attempt left.
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
    /// An agent's result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) summary: Option<String>,
    /// The last 50 lines of both streams as they were read, at most 64 KiB: of an agent those of
    /// its transcript. They are without colours.
    pub(crate) last_lines: String,
    /// How it left the repository it worked in: of agents, and of tasks in worktrees.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) git: Option<GitView>,
}

/// A part of a task's output, as `logs` gives it piece by piece.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum LogPiece {
    /// What follows is of this attempt, and offsets count from its start. It comes first, and again
    /// where a follower goes on to the next attempt.
    Attempt(u32),
    Bytes {
        channel: LogChannel,
        /// Of the first byte, in the sequence that was asked for.
        offset: u64,
        bytes: Vec<u8>,
    },
    /// Of an agent, where its transcript was asked for: what was complete at once.
    Items {
        items: Vec<Item>,
        /// What is before it was given.
        place: Place,
    },
    /// So many bytes were left out here, because the output is over its cap.
    Gap { offset: u64, bytes: u64 },
}

/// The last lines of an attempt, for people.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct LogEnd {
    pub(crate) id: String,
    /// Of an agent: its items have times and kinds. The output of a command is given as it is.
    pub(crate) is_transcript: bool,
    pub(crate) items: Vec<Item>,
    /// How many lines there are before these; absent if there is too much to count them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) earlier_lines: Option<u64>,
    /// So many bytes before these lines were not read.
    pub(crate) unread_bytes: u64,
}

/// Something that happened to a task.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct EventView {
    /// Its place among all events. Numbers only rise, and none is given twice.
    pub(crate) sequence: u64,
    #[schemars(extend("format" = "date-time"))]
    pub(crate) at: String,
    pub(crate) task: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
    /// Who asked for what it follows from; absent if the host itself caused it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) by: Option<Principal>,
    /// What happened, as a person says it.
    pub(crate) words: String,
    /// Its `kind`, and what belongs to an event of that kind.
    #[serde(flatten)]
    pub(crate) fact: serde_json::Map<String, serde_json::Value>,
}

/// What a reader of events is given.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum EventPiece {
    Event(EventView),
    /// All up to this one have been looked at: where a reader that is cut off takes up again.
    Place(u64),
}

/// The last lines of both streams, as text without colours: what is not UTF-8 is replaced. Those of
/// an agent's standard output are of its transcript.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct LogLines {
    pub(crate) id: String,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    /// Lines in `stdout` and `stderr` as given here.
    pub(crate) stdout_lines: u64,
    pub(crate) stderr_lines: u64,
    /// What is missing of these lines before `stdout` and `stderr`: an answer has a limit.
    #[serde(default)]
    pub(crate) stdout_cut_bytes: u64,
    #[serde(default)]
    pub(crate) stderr_cut_bytes: u64,
}

/// What a task waits for, in words, one sentence a reason.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Why {
    pub(crate) id: String,
    #[schemars(extend("enum" = STATES))]
    pub(crate) state: String,
    /// Since when it is in this state.
    #[schemars(extend("format" = "date-time"))]
    pub(crate) since: String,
    pub(crate) reasons: Vec<String>,
    /// What it waits for in a few words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) brief: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct HostInfo {
    pub(crate) version: String,
    pub(crate) pid: u32,
    /// `unix:PATH`
    pub(crate) url: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) mcp_url: Option<String>,
    pub(crate) data_dir: String,
    #[schemars(extend("format" = "date-time"))]
    pub(crate) started_at: String,
    /// `auto` or a number.
    #[serde(with = "slots_json")]
    #[schemars(with = "slots_json::Slots")]
    pub(crate) slots: String,
    pub(crate) running: usize,
    pub(crate) queued: usize,
    pub(crate) draining: bool,
    /// Since when the queue is paused, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub(crate) paused_since: Option<String>,
    /// Pids of the supervisors that hold attempts.
    pub(crate) supervisors: Vec<u32>,
    /// How many reports came from attempts that were over and were dropped, since the host started.
    #[serde(default)]
    pub(crate) dropped_reports: u64,
    /// MCP clients may run commands, so that no other limit of theirs means anything.
    #[serde(default)]
    pub(crate) commands_over_mcp: bool,
    /// What agents may cost today (UTC), where `budget.daily_usd` is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) budget: Option<BudgetView>,
    /// What keeps the host from doing its work: an engine that does not answer, a store that cannot
    /// be read.
    #[serde(default)]
    pub(crate) faults: Vec<String>,
    /// What is not as it should be: no built-in plugins, a full disk, accounts at a limit.
    pub(crate) warnings: Vec<String>,
}
