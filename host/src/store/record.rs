//! The content of a store as a sequence of records, for a backup. Each record is a line of JSON, in
//! the serde form of its row, so a new field of a row is included automatically.
//!
//! Counters come first, then tasks by their ids, then everything that belongs to tasks, then
//! events. The sequence may be cut into parts anywhere, and be imported part by part.

use claudine_domain::{
    account::Parked,
    batch::{BatchNumber, DocumentKey},
    budget::Scope,
    dependency::Dependency,
    event::Event,
    group::Group,
    id::AccountKey,
    profile::{Profile, ProfileKey},
    queue::Queue,
    task::Task,
};
use serde::{Deserialize, Serialize};

use super::Sequence;

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Record {
    Counters(Counters),
    /// A task. Its dependencies are a separate field, as in the store.
    Task {
        task: Box<Task>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        depends_on: Vec<Dependency>,
    },
    Document {
        key: DocumentKey,
        bytes: Bytes,
    },
    Group {
        name: String,
        group: Group,
    },
    Queue(Queue),
    Account {
        key: AccountKey,
        parked: Parked,
    },
    Profile {
        key: ProfileKey,
        profile: Box<Profile>,
    },
    Spent {
        scope: Scope,
        micro_usd: u64,
    },
    Event {
        sequence: Sequence,
        event: Box<Event>,
    },
}

/// The last numbers that a store has used.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Counters {
    pub(crate) epoch: u64,
    pub(crate) last_batch: BatchNumber,
    pub(crate) last_event: Sequence,
}

/// The bytes of a document. Most documents are text, and can be read in the backup.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Bytes {
    Text(String),
    Hex(String),
}

impl Bytes {
    pub(super) fn of(bytes: Vec<u8>) -> Self {
        match String::from_utf8(bytes) {
            Ok(text) => Self::Text(text),
            Err(binary) => {
                let digits = |byte: &u8| [byte >> 4, byte & 15].map(digit);
                Self::Hex(binary.as_bytes().iter().flat_map(digits).collect())
            }
        }
    }

    /// Returns the bytes, or `None` if the text is not hexadecimal.
    pub(super) fn into_vec(self) -> Option<Vec<u8>> {
        let digits = match self {
            Self::Text(text) => return Some(text.into_bytes()),
            Self::Hex(digits) => digits.into_bytes(),
        };
        let (pairs, rest) = digits.as_chunks::<2>();
        let value = |digit: u8| char::from(digit).to_digit(16);
        let byte = |[high, low]: &[u8; 2]| u8::try_from(value(*high)? * 16 + value(*low)?).ok();
        let bytes: Option<Vec<u8>> = pairs.iter().map(byte).collect();
        bytes.filter(|_| rest.is_empty())
    }
}

fn digit(value: u8) -> char {
    char::from_digit(value.into(), 16).unwrap_or('0')
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn documents_are_exported_as_text_if_possible() {
        let check = |bytes: &[u8], expected: &str| {
            let written = Bytes::of(bytes.to_vec());
            assert_eq!(serde_json::to_string(&written).unwrap(), expected);
            assert_eq!(written.into_vec().as_deref(), Some(bytes));
        };
        check(b"", r#"{"text":""}"#);
        check(br#"{"a":1}"#, r#"{"text":"{\"a\":1}"}"#);
        check(&[0, 255, 0x7f], r#"{"hex":"00ff7f"}"#);
        for not_hex in ["0", "0g", "zz"] {
            assert_eq!(Bytes::Hex(not_hex.to_owned()).into_vec(), None, "{not_hex}");
        }
    }
}
