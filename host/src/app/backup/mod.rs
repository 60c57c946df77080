//! Backups: writes the whole queue to one file, and restores it.
//!
//! A backup is a gzipped tar file that any tar can list. `manifest.json` comes first, then the
//! store as lines of JSON (`rows/`) from one point in time, then environments (`env/`) if
//! requested, then the output of attempts (`logs/`), each log up to its length at the moment it is
//! copied. After at most a thousand entries, an entry in `sums/` has their digests in the format of
//! `sha256sum`. `end.json` has a digest over all entries in `sums/`. So a damaged or incomplete
//! file is refused before a data directory is touched. A whole backup is never in memory.
//!
//! A backup is made without the host, which may or may not be running. This is possible because
//! SQLite gives every process a consistent snapshot, and logs only grow. Settings, plugins, their
//! grants and records of worktrees are not part of the queue, so a backup contains none of them.
//!
//! A restore builds everything in a directory inside the data directory, under the lock of a host.
//! Renaming that directory when it is complete commits the restore; the next holder of the lock
//! (the restore itself, or after a crash the next host) moves its contents into place. Before the
//! rename, running attempts are ended as lost, and unfinished tasks are held.

mod entry;
mod file;
mod place;
mod read;
mod restore;
mod take;
#[cfg(test)]
mod tests;
mod write;

use std::{io, path::Path};

use schemars::JsonSchema;
use serde::Serialize;

pub(crate) use self::{
    place::{place, refuse_incomplete},
    restore::{Restore, check, discard, refuse_used, restore},
    take::{to_file, to_stdout},
};
use super::error::{AppError, ErrorKind};

/// Result of a backup.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, JsonSchema)]
pub(crate) struct BackupTaken {
    /// The file; absent if the backup was written to standard output.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) file: Option<String>,
    #[schemars(extend("format" = "date-time"))]
    pub(crate) taken_at: String,
    pub(crate) tasks: u64,
    /// Number of unfinished tasks.
    pub(crate) unfinished: u64,
    pub(crate) events: u64,
    /// Number of output files; a long output has several files.
    pub(crate) logs: u64,
    /// Number of environments; absent if they were left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) environments: Option<u64>,
    /// Size of the backup.
    pub(crate) bytes: u64,
    /// Output that is missing or damaged, with the path or the attempt.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) warnings: Vec<String>,
}

/// Result of a restore.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, JsonSchema)]
pub(crate) struct QueueRestored {
    pub(crate) data_dir: String,
    /// Time of the backup.
    #[schemars(extend("format" = "date-time"))]
    pub(crate) taken_at: String,
    pub(crate) tasks: u64,
    /// Number of tasks held because they were restored.
    pub(crate) held: u64,
    /// Number of attempts that were running when the backup was taken.
    pub(crate) lost: u64,
    pub(crate) logs: u64,
    /// Number of environments in the backup.
    pub(crate) environments: u64,
    /// Whether a task's environment was not in the backup, so that the task runs in the environment
    /// of the restoring command.
    pub(crate) stands_in: bool,
}

/// An error of a file operation.
fn cannot(what: &str, path: &Path, error: &io::Error) -> AppError {
    let message = format!("cannot {what} {}: {error}", path.display());
    AppError::new(kind_of(error), message)
}

fn kind_of(error: &io::Error) -> ErrorKind {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::StoreFull,
        io::ErrorKind::NotFound => ErrorKind::NotFound,
        _ => ErrorKind::Unavailable,
    }
}
