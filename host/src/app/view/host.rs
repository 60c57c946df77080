//! The information that a host gives about itself.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{BudgetView, slots_json};

/// Tasks whose output cannot be written, as on a full disk.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct HeldBackView {
    /// Number of these tasks.
    pub(crate) tasks: usize,
    /// The reason for one of them.
    pub(crate) reason: String,
}

/// A supervisor that does nothing for its tasks.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct HaltView {
    pub(crate) kind: HaltKind,
    /// Pid of the supervisor, if the supervisor is known to be alive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) pid: Option<u32>,
    pub(crate) message: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum HaltKind {
    /// Its control group is frozen.
    Frozen,
    /// The host cannot reach it.
    Unreached,
    /// It does not answer.
    Unanswered,
    /// It is dead, and the processes that it has left cannot be ended yet.
    Unended,
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
    /// Time at which the queue was paused, if it is paused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub(crate) paused_since: Option<String>,
    /// Pids of the supervisors that hold attempts.
    pub(crate) supervisors: Vec<u32>,
    /// Pids of the supervisors that are stopped by a signal, so that their tasks do not end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) suspended_supervisors: Vec<u32>,
    /// The other supervisors whose tasks do not end. Each message is also among the warnings.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) halted_supervisors: Vec<HaltView>,
    /// What keeps plugins from being used at the moment, so that their tasks do not end. Each of
    /// these sentences is also among the warnings.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) plugins_without_code: Vec<String>,
    /// Running tasks whose output cannot be written at the moment, so that they do not end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) held_back: Option<HeldBackView>,
    /// Git commands of an earlier host that have not ended yet, and for which work on worktrees
    /// waits, one sentence for each of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) earlier_commands: Vec<String>,
    /// Free space on the disk of the data directory below which nothing starts.
    #[serde(default)]
    pub(crate) disk_reserve_bytes: u64,
    /// Number of reports since the host's start that were dropped because their attempts were over.
    #[serde(default)]
    pub(crate) dropped_reports: u64,
    /// Whether MCP clients may run commands. If so, the other limits for MCP clients have no
    /// effect.
    #[serde(default)]
    pub(crate) commands_over_mcp: bool,
    /// Whether MCP clients may set any variable that is not known as dangerous.
    #[serde(default)]
    pub(crate) any_variable_over_mcp: bool,
    /// Budget of agents for today (UTC), if `budget.daily_usd` is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) budget: Option<BudgetView>,
    /// Failures that keep the host from working: an engine that does not answer, a store that
    /// cannot be read.
    #[serde(default)]
    pub(crate) faults: Vec<String>,
    /// Problems: no built-in plugins, a full disk, accounts at a usage limit.
    pub(crate) warnings: Vec<String>,
}
