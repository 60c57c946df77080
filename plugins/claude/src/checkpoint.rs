//! Checkpoints, for the new instance that continues an attempt.
//!
//! A missing or unreadable checkpoint only costs time, because the output is then read again from
//! its beginning.

use claudine_plugin_sdk::warn;
use serde::{Deserialize, Serialize};

use crate::transcript::Transcript;

#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Checkpoint {
    /// Index of the child, in the order in which children were started.
    pub(crate) child: usize,
    /// First byte of the child's standard output that is not in the transcript.
    pub(crate) offset: u64,
    pub(crate) transcript: Transcript,
}

impl Checkpoint {
    pub(crate) fn of_child(child: usize) -> Self {
        Self {
            child,
            ..Self::default()
        }
    }

    /// The stored checkpoint if it belongs to this child. Otherwise a checkpoint at the beginning
    /// of the child's output.
    pub(crate) fn read(state: &[u8], child: usize) -> Self {
        if state.is_empty() {
            return Self::of_child(child);
        }
        match serde_json::from_slice::<Self>(state) {
            Ok(checkpoint) if checkpoint.child == child => checkpoint,
            Ok(_) => Self::of_child(child),
            Err(error) => {
                warn!(
                    "the checkpoint cannot be read ({error}): reading the output from its beginning"
                );
                Self::of_child(child)
            }
        }
    }

    /// The bytes of the checkpoint, as `read` expects them.
    pub(crate) fn to_bytes(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(self)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::transcript::tests::{fixture, read};

    #[test]
    fn checkpoint_of_another_child_is_not_used() {
        let (transcript, _) = read(fixture!("text"));
        let bytes = Checkpoint {
            child: 1,
            offset: 77,
            transcript,
        }
        .to_bytes()
        .unwrap();
        assert_eq!(Checkpoint::read(&bytes, 1).offset, 77);
        assert!(Checkpoint::read(&bytes, 1).transcript.session_id.is_some());
        assert_eq!(Checkpoint::read(&bytes, 0).offset, 0);
        assert!(Checkpoint::read(&bytes, 0).transcript.session_id.is_none());
        assert_eq!(Checkpoint::read(b"", 0).offset, 0);
    }
}
