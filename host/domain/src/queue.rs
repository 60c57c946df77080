//! What somebody has set for the whole queue. It is kept over hosts.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{capacity::Slots, principal::Principal, time::Timestamp};

/// Settings of the whole queue.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Queue {
    /// Nothing is started while it is set; what runs goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<Pause>,
    /// How many run at once, in place of what is configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slots: Option<Slots>,
}

/// Since when the queue is paused, and by whom.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Pause {
    pub since: Timestamp,
    #[serde(default)]
    pub by: Arc<Principal>,
}
