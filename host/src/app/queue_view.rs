//! What is told of the queue as a whole.

use claudine_domain::queue::Pause;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::limit_view::LimitView;
use crate::clock::rfc3339;

/// What keeps queued tasks from being started, all of them or those of an account.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub(crate) struct QueueView {
    /// Since when the queue is paused, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub(crate) paused_since: Option<String>,
    /// Who has paused it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) paused_by: Option<String>,
    /// The host starts nothing new, and ends when nothing runs.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) draining: bool,
    /// No host runs: this was read from the database.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) no_host: bool,
    /// Accounts at a usage limit, whose tasks wait for its end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) limits: Vec<LimitView>,
}

impl QueueView {
    pub(super) fn of(paused: Option<&Pause>) -> Self {
        Self {
            paused_since: paused.map(|pause| rfc3339(pause.since)),
            paused_by: paused.map(|pause| pause.by.to_string()),
            ..Self::default()
        }
    }

    /// What keeps all of it, a sentence each.
    pub(crate) fn reasons(&self) -> impl Iterator<Item = String> {
        let no_host = self.no_host.then(|| {
            "no host is running, and nothing starts without one; `claudine up` starts it".to_owned()
        });
        let paused = self.paused_since.as_deref().map(paused_text);
        let draining = self.draining.then(|| {
            "the host is draining and starts nothing new; `claudine up` lifts that".to_owned()
        });
        no_host.into_iter().chain(paused).chain(draining)
    }

    /// Whether nothing keeps all of it.
    pub(crate) fn is_open(&self) -> bool {
        *self == Self::default()
    }
}

pub(super) fn paused_text(since: &str) -> String {
    format!("the queue is paused since {since}; lift that with `claudine unpause`")
}
