//! Entries of a backup and their names.

use std::{fmt, str::FromStr};

use claudine_domain::{id::AttemptId, time::Timestamp};
use serde::{Deserialize, Serialize};

use crate::{digest, layout::Layout};

/// Version of the format. It is increased whenever earlier versions of Claudine cannot read what a
/// newer version writes.
pub(super) const FORMAT: u32 = 1;

/// Number of entries whose digests are written together.
const SUMMED_AT_ONCE: u64 = 1_000;

/// The first entry, with properties of the backup.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Manifest {
    pub(super) format: u32,
    /// Version of the schema of the stored rows.
    pub(super) schema: u32,
    /// Version of Claudine that made the backup.
    pub(super) version: String,
    pub(super) taken_at: Timestamp,
    /// Whether the backup contains the environments of tasks.
    pub(super) environments: bool,
}

/// The fields that manifests of all formats have.
#[derive(Deserialize)]
pub(super) struct Version {
    pub(super) format: u32,
    pub(super) version: Option<String>,
}

/// The last entry, with totals of all other entries.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct End {
    pub(super) entries: u64,
    /// Total size of the entries.
    pub(super) bytes: u64,
    /// Digest over all lists of digests, in order.
    pub(super) sha256: String,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Name {
    Manifest,
    Rows(u32),
    Environment(String),
    Log(AttemptId, u32),
    Sums(u32),
    End,
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Manifest => f.write_str("manifest.json"),
            Self::Rows(number) => write!(f, "rows/{number:06}.jsonl"),
            Self::Environment(digest) => write!(f, "env/{digest}"),
            Self::Log(attempt, 0) => write!(f, "logs/{attempt}.log"),
            Self::Log(attempt, segment) => write!(f, "logs/{attempt}.log.{segment}"),
            Self::Sums(number) => write!(f, "sums/{number:06}"),
            Self::End => f.write_str("end.json"),
        }
    }
}

/// Error for a name that this format does not have.
#[derive(Debug)]
pub(super) struct Unknown;

impl FromStr for Name {
    type Err = Unknown;

    /// Parses a name; a path that leads out of the backup is never valid.
    fn from_str(text: &str) -> Result<Self, Unknown> {
        let number = |text: &str| text.parse().ok();
        let found = match text.split_once('/') {
            None if text == "manifest.json" => Some(Self::Manifest),
            None if text == "end.json" => Some(Self::End),
            Some(("rows", rest)) => rest.strip_suffix(".jsonl").and_then(number).map(Self::Rows),
            Some(("sums", rest)) => number(rest).map(Self::Sums),
            Some(("env", digest)) => is_digest(digest).then(|| Self::Environment(digest.into())),
            Some(("logs", name)) => {
                Layout::attempt_of_log(name).map(|(attempt, segment)| Self::Log(attempt, segment))
            }
            _ => None,
        };
        found.filter(|name| name.to_string() == text).ok_or(Unknown)
    }
}

/// Whether the text can be the name of an environment.
pub(super) fn is_digest(text: &str) -> bool {
    let hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    text.len() == 64 && text.bytes().all(hex)
}

/// Collects the digests of entries, in the same way for writing and reading.
#[derive(Default)]
pub(super) struct Sums {
    text: String,
    in_text: u64,
    lists: u32,
    entries: u64,
    bytes: u64,
    all: digest::Running,
}

impl Sums {
    pub(super) fn add(&mut self, name: &Name, bytes: u64, sha256: &str) {
        self.text.extend([sha256, "  ", &name.to_string(), "\n"]);
        self.in_text += 1;
        self.entries += 1;
        self.bytes += bytes;
    }

    pub(super) fn is_due(&self) -> bool {
        self.in_text >= SUMMED_AT_ONCE
    }

    pub(super) fn is_empty(&self) -> bool {
        self.in_text == 0
    }

    /// A list of the digests that are not yet in a list, and the name of this list.
    pub(super) fn list(&mut self) -> (Name, String) {
        self.lists += 1;
        self.in_text = 0;
        let text = std::mem::take(&mut self.text);
        self.all.update(text.as_bytes());
        (Name::Sums(self.lists), text)
    }

    /// The last entry, to be written once all digests are in lists.
    pub(super) fn end(self) -> End {
        End {
            entries: self.entries,
            bytes: self.bytes,
            sha256: self.all.hex(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_entries_are_parsed() {
        let attempt = "task_01kb2m8r4zq8w3v5x7y9abcdef.2";
        let digest = "0f".repeat(32);
        let names = [
            "manifest.json",
            "end.json",
            "rows/000001.jsonl",
            "rows/1000000.jsonl",
            "sums/000017",
            &format!("env/{digest}"),
            &format!("logs/{attempt}.log"),
            &format!("logs/{attempt}.log.3"),
        ];
        for name in names {
            let read: Option<Name> = name.parse().ok();
            assert_eq!(read.map(|read| read.to_string()).as_deref(), Some(name));
        }
        let others = [
            "",
            "other.json",
            "/manifest.json",
            "./manifest.json",
            "rows/1.jsonl",
            "rows/+00001.jsonl",
            "env/../config.toml",
            "env/0F",
            "logs/../../x.log",
            "logs/a/b.log",
            "grants/shell",
        ];
        for other in others {
            assert!(other.parse::<Name>().is_err(), "{other}");
        }
    }
}
