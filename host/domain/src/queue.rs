//! Settings of the whole queue, and what has to be known about it. They outlive the host.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{capacity::Slots, principal::Principal, time::Timestamp};

/// Settings of the whole queue, and what has to be known about it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Queue {
    /// The pause, if the queue is paused: nothing is started, and running tasks continue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<Pause>,
    /// Number of slots, in place of the configured one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slots: Option<Slots>,
    /// Time up to which unrestrained principals may have used sessions of agents in tasks that are
    /// not stored any more, because they were removed or are not in the restored backup. `None` if
    /// there are no such tasks. Earlier versions did not store the time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sessions_forgotten_to: Option<Timestamp>,
    /// The same time for tasks in which anybody may have used sessions of agents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub all_sessions_forgotten_to: Option<Timestamp>,
}

/// Time of a pause of the queue, and who paused it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Pause {
    pub since: Timestamp,
    #[serde(default)]
    pub by: Arc<Principal>,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn queue_of_an_earlier_version_is_read_and_a_queue_is_stored_unchanged() {
        let earlier: Queue = serde_json::from_str(r#"{"slots":{"fixed":3}}"#).unwrap();
        assert_eq!(earlier.slots, Some(Slots::Fixed(3)));
        assert_eq!(earlier.sessions_forgotten_to, None);
        assert_eq!(earlier.all_sessions_forgotten_to, None);
        let queue = Queue {
            sessions_forgotten_to: Some(Timestamp(7)),
            all_sessions_forgotten_to: Some(Timestamp(8)),
            ..earlier
        };
        let text = serde_json::to_string(&queue).unwrap();
        assert_eq!(serde_json::from_str::<Queue>(&text).unwrap(), queue);
    }
}
