//! Named groups with a limit on how many of their tasks run at once.

use serde::{Deserialize, Serialize};

/// Change of a group's limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum NewLimit {
    #[default]
    Unchanged,
    Unlimited,
    Most(u32),
}

/// Settings of a group. A group without settings has no limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Group {
    /// Maximum number of the group's tasks that run at the same time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Whether no task of the group is started. Running tasks continue.
    #[serde(default)]
    pub paused: bool,
}
