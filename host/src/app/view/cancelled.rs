//! What a cancellation did.

use claudine_domain::step::Cancelling;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Cancelled {
    pub(crate) id: String,
    /// Whether the task was already stopping.
    pub(crate) already: bool,
    /// What the task still does, if it has not ended at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) still: Option<Still>,
    /// If the task had already ended: number of its unfinished descendants.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) descendants: Option<usize>,
    /// If the task was already stopping: what keeps it from ending, such as its processes that
    /// cannot be ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) warning: Option<String>,
}

/// What a task still does after it was cancelled.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Still {
    /// It stops, and ends as cancelled unless it had succeeded before that.
    Stopping,
    /// Its process has succeeded, and its work is being settled: merged, pushed or written. The
    /// task succeeds if git completes this, with at most a minute for each command (or the limit of
    /// settling, if that is shorter), and ends as cancelled if not.
    Settling,
}

impl Still {
    /// What [`Self::Settling`] means, for a sentence that begins with the task.
    pub(crate) const SETTLES: &str = "has ended, and its work is being settled: it succeeds if git \
         completes this, with at most a minute for each command, and ends as cancelled if not";

    /// What a person is told if this number of cancelled tasks is being settled.
    pub(crate) fn may_succeed(settling: usize) -> Option<String> {
        (settling > 0).then(|| {
            format!("{settling} of them may still succeed, because their work is being settled")
        })
    }

    /// `None` if the task has ended, or was already stopping.
    pub(in crate::app) fn of(how: Cancelling) -> Option<Self> {
        match how {
            Cancelling::Ended | Cancelling::Already => None,
            Cancelling::Stopping => Some(Self::Stopping),
            Cancelling::Settling => Some(Self::Settling),
        }
    }
}
