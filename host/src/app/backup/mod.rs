//! Backups: all that the queue is in one file, and the way back from it.
//!
//! A backup is a gzipped tar file that any tar can list. `manifest.json` comes first, then the
//! store as lines of JSON (`rows/`), of one moment, then environments (`env/`) if they were asked
//! for, then the output of attempts (`logs/`), each as long as it is when it is copied. After at
//! most a thousand entries `sums/` has their digests, as `sha256sum` writes them, and `end.json`
//! has a digest over all of those: what is damaged or cut off anywhere is refused before a data
//! directory is touched. Nothing is ever in memory as a whole.
//!
//! It is made without the host, which may run or not: SQLite shows another process one moment as
//! well, and logs only grow. No secret and no grant is in it: neither settings nor plugins nor what
//! they were allowed nor records of worktrees are the queue's.
//!
//! A restore brings everything into a directory of its own inside the data directory, under the
//! lock of a host. Once that is whole it is renamed, which is the moment at which it counts; the
//! next holder of the lock (the restore itself, or after its death the next host) moves what is in
//! it to its place. What was under way has ended as lost by then, and what is unfinished is held.

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
    place::place,
    restore::{Restore, check, refuse_used, restore},
    take::{to_file, to_stdout},
};
use super::error::{AppError, ErrorKind};

/// What was put into a backup.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, JsonSchema)]
pub(crate) struct BackupTaken {
    /// Absent where it went to standard output.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) file: Option<String>,
    #[schemars(extend("format" = "date-time"))]
    pub(crate) taken_at: String,
    pub(crate) tasks: u64,
    /// How many of them have not ended.
    pub(crate) unfinished: u64,
    pub(crate) events: u64,
    /// Files of output; a long one has several.
    pub(crate) logs: u64,
    /// How many environments are in it; absent if they were left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) environments: Option<u64>,
    /// Its own length.
    pub(crate) bytes: u64,
}

/// What a restore brought back.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, JsonSchema)]
pub(crate) struct QueueRestored {
    pub(crate) data_dir: String,
    /// When the backup was taken.
    #[schemars(extend("format" = "date-time"))]
    pub(crate) taken_at: String,
    pub(crate) tasks: u64,
    /// How many are held because they were restored.
    pub(crate) held: u64,
    /// How many attempts were under way when the backup was taken.
    pub(crate) lost: u64,
    pub(crate) logs: u64,
    /// How many environments were in the backup.
    pub(crate) environments: u64,
    /// Some task's environment was not in the backup: it runs in the restorer's.
    pub(crate) stands_in: bool,
}

/// What went wrong with a file, for a person.
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
