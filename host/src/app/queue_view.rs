//! The state of the whole queue.

use claudine_domain::queue::Pause;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::limit_view::LimitView;
use crate::clock::rfc3339;

/// Reasons why all queued tasks, or those of an account or of a plugin, do not start.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub(crate) struct QueueView {
    /// Time at which the queue was paused, if it is paused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub(crate) paused_since: Option<String>,
    /// Principal who paused the queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) paused_by: Option<String>,
    /// Whether the host is draining: it starts nothing and ends when nothing runs.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) draining: bool,
    /// Whether no host is running, so that this answer was read from the database.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) no_host: bool,
    /// Accounts at a usage limit, whose tasks wait.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) limits: Vec<LimitView>,
    /// Names of the plugins that cannot be used at the moment, whose tasks wait.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) plugins_without_code: Vec<String>,
}

impl QueueView {
    pub(super) fn of(paused: Option<&Pause>) -> Self {
        Self {
            paused_since: paused.map(|pause| rfc3339(pause.since)),
            paused_by: paused.map(|pause| pause.by.to_string()),
            ..Self::default()
        }
    }

    /// The reasons why nothing starts, one sentence each.
    pub(crate) fn reasons(&self) -> impl Iterator<Item = String> {
        let no_host = self.no_host.then(|| {
            "no host is running, and nothing starts without one; `claudine up` starts a host"
                .to_owned()
        });
        let paused = self.paused_since.as_deref().map(paused_text);
        let draining = self.draining.then(|| {
            "the host is draining and starts nothing new; `claudine up` lifts the drain".to_owned()
        });
        no_host.into_iter().chain(paused).chain(draining)
    }

    /// Whether nothing keeps the whole queue, or the queued tasks of an account or of a plugin,
    /// from starting.
    pub(crate) fn is_open(&self) -> bool {
        *self == Self::default()
    }
}

pub(super) fn paused_text(since: &str) -> String {
    format!("the queue is paused since {since}; lift the pause with `claudine unpause`")
}
