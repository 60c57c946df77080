//! Settings of the whole queue. These settings outlive the host.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{capacity::Slots, principal::Principal, time::Timestamp};

/// Settings of the whole queue.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Queue {
    /// The pause, if the queue is paused: nothing is started, and running tasks continue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<Pause>,
    /// Number of slots, in place of the configured one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slots: Option<Slots>,
}

/// Time of a pause of the queue, and who paused it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Pause {
    pub since: Timestamp,
    #[serde(default)]
    pub by: Arc<Principal>,
}
