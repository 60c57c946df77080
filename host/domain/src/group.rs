//! Named lines with a limit on how many of their tasks run at once.

use serde::{Deserialize, Serialize};

/// What a change makes of a group's limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum NewLimit {
    #[default]
    Unchanged,
    Unlimited,
    Most(u32),
}

/// A group as somebody set it. One that nobody set has no limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Group {
    /// How many of its tasks may run at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Nothing of it is started; what runs goes on.
    #[serde(default)]
    pub paused: bool,
}
