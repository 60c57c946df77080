//! Tasks and what waits for what: a graph as plain data, and its forms.
//!
//! The host gathers ([`gather`]) and measures ([`build`]); the forms are pure functions of the
//! data, and run where they are shown. Nothing here decides anything: that a task waits for another
//! is the domain's, and a form shows it.

#![allow(
    clippy::format_push_string,
    reason = "forms are put together from pieces, and `write!` would give each of them a result that cannot be an error"
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

use super::view::{ReasonView, STATES};

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
    /// When it was looked at: what runs had run so long by then.
    #[schemars(extend("format" = "date-time"))]
    pub(crate) at: String,
    pub(crate) nodes: Vec<Node>,
    pub(crate) edges: Vec<Edge>,
    /// One for each connected part that has an edge.
    pub(crate) critical_paths: Vec<CriticalPath>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Node {
    pub(crate) id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
    pub(crate) executor: String,
    /// The start of its prompt, script or command line.
    pub(crate) summary: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) group: Option<String>,
    /// `blocked`, `waiting`, `ready`, `held`, `running`, `done`.
    #[schemars(extend("enum" = STATES))]
    pub(crate) state: String,
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
    /// How long its last attempt ran, or has been running.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) elapsed_ms: Option<u64>,
    /// The median of what the like of it took before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) expected_ms: Option<u64>,
    /// On a critical path.
    pub(crate) critical: bool,
}

impl Node {
    fn shade(&self) -> Shade {
        Shade::of(self.outcome.as_deref(), &self.state)
    }
}

/// `to` waits for `from`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Edge {
    pub(crate) from: String,
    pub(crate) to: String,
    /// `succeeded`, `completed`, `any`.
    #[schemars(with = "Condition")]
    pub(crate) condition: String,
    pub(crate) critical: bool,
}

/// The chain of tasks that decides when the last of them ends: the longest by what they took, and
/// by what those that have not ended are expected to take.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct CriticalPath {
    pub(crate) tasks: Vec<String>,
    /// What is not known counts as nothing.
    pub(crate) total_ms: u64,
    /// What is still to come of it.
    pub(crate) remaining_ms: u64,
    /// Some of its tasks have not ended, and nothing is known of how long they take.
    pub(crate) is_partly_unknown: bool,
}
