//! Graphs of tasks as plain data, and their output forms.
//!
//! The host reads the tasks ([`gather`]) and builds the graph ([`build`]); the output forms are
//! pure functions of the graph and run in the client. The domain decides when dependencies are met;
//! here they are only shown.

#![allow(
    clippy::format_push_string,
    reason = "forms are put together from pieces, and each `write!` would return a result that is never an error"
)]

mod build;
mod caption;
mod dot;
mod gather;
mod mermaid;
#[cfg(test)]
pub(super) mod samples;
mod shade;
mod shape;
mod svg;
mod text;

use claudine_domain::{dependency::Condition, outcome::Outcome};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::view::{ENDED_PHASE, PHASES, ReasonView, STATES};

pub(super) use self::gather::{past_of, planned};
pub(crate) use self::{
    dot::dot,
    mermaid::mermaid,
    shade::Shade,
    svg::svg,
    text::{TextLook, text},
};

/// Tasks, oldest first, and the edges between them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Graph {
    /// The time at which the graph was read, which run times refer to.
    #[schemars(extend("format" = "date-time"))]
    pub(crate) at: String,
    pub(crate) nodes: Vec<Node>,
    pub(crate) edges: Vec<Edge>,
    /// A critical path for each connected component that has an edge.
    pub(crate) critical_paths: Vec<CriticalPath>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Node {
    pub(crate) id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
    pub(crate) executor: String,
    /// The start of the prompt, script or command line.
    pub(crate) summary: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) group: Option<String>,
    /// `blocked`, `waiting`, `ready`, `held`, `running`, `done`.
    #[schemars(extend("enum" = STATES))]
    pub(crate) state: String,
    /// Phase of a running task, as in lists.
    #[schemars(extend("enum" = PHASES))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) phase: Option<String>,
    #[schemars(with = "Option<Outcome>")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) outcome: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<ReasonView>,
    #[schemars(extend("format" = "date-time"))]
    pub(crate) created_at: String,
    #[schemars(extend("format" = "date-time"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) started_at: Option<String>,
    #[schemars(extend("format" = "date-time"))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) finished_at: Option<String>,
    /// Run time of the last attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) elapsed_ms: Option<u64>,
    /// The median run time of similar tasks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) expected_ms: Option<u64>,
    /// Whether the task is on a critical path.
    pub(crate) critical: bool,
}

impl Node {
    /// Whether the task's process runs or is about to start.
    pub(crate) fn is_running(&self) -> bool {
        self.state == "running" && self.phase.as_deref() != Some(ENDED_PHASE)
    }

    fn shade(&self) -> Shade {
        Shade::of(self.outcome.as_deref(), &self.state, self.phase.as_deref())
    }
}

/// The task `to` depends on the task `from`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Edge {
    pub(crate) from: String,
    pub(crate) to: String,
    /// `succeeded`, `completed`, `any`.
    #[schemars(with = "Condition")]
    pub(crate) condition: String,
    pub(crate) critical: bool,
}

/// The chain of tasks that determines the end of the last task. It is the longest chain by run
/// time, with expected run times for unfinished tasks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct CriticalPath {
    pub(crate) tasks: Vec<String>,
    /// Total time; unknown times count as zero.
    pub(crate) total_ms: u64,
    /// Remaining time.
    pub(crate) remaining_ms: u64,
    /// Whether an unfinished task has an unknown run time.
    pub(crate) is_partly_unknown: bool,
}
