//! Errors of a store, grouped by what a person or the engine must do about them.

use std::{error::Error, path::PathBuf};

use claudine_domain::batch::BatchNumber;

use super::Epoch;
use crate::{text::chain, units::bytes_text};

#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// Another host leads. Nothing of the batch was written, and this host must stop writing.
    #[error("another host has taken over (epoch {current}; this one had {held})")]
    Fenced { held: Epoch, current: Epoch },
    #[error("batch {number} does not follow batch {last}")]
    OutOfOrder {
        number: BatchNumber,
        last: BatchNumber,
    },
    #[error(
        "{path} was written by a newer version: its schema is {found}, but this program knows only schemas up to {known}"
    )]
    Newer {
        path: PathBuf,
        found: u32,
        known: u32,
    },
    /// The database has an older schema. It was opened only for reading, which does not migrate it
    /// to this version's schema.
    #[error(
        "{path} was written by an older version: its schema is {found}, but this program reads only schema {known}"
    )]
    Older {
        path: PathBuf,
        found: u32,
        known: u32,
    },
    /// There is no room for a copy of the database. The schema of a database is changed only after
    /// the database was copied.
    #[error(
        "no room for a copy of {path} before its schema changes: {} are needed, {} are free",
        bytes_text(*needed_bytes),
        bytes_text(*free_bytes)
    )]
    NoRoom {
        path: PathBuf,
        needed_bytes: u64,
        free_bytes: u64,
    },
    /// The database is damaged. Nothing is removed or repaired, since the damaged file may be all
    /// that is left of the queue.
    #[error("the database {path} is damaged: {detail}")]
    Corrupt { path: PathBuf, detail: String },
    /// The path no longer names the file that is open, so a commit stores nothing.
    #[error("{path} was removed or replaced while the host had it open")]
    Gone { path: PathBuf },
    /// The content of an open file is no longer what this host has written, so a commit would store
    /// nothing that can be read again.
    #[error("{path} or its log (-wal) was cut or overwritten while the host had it open")]
    Overwritten { path: PathBuf },
    /// There is no database, but there are logs of its tasks. An empty queue would hide the loss.
    #[error(
        "the database {path} is missing or empty, but {} has logs of its tasks",
        logs.display()
    )]
    Missing { path: PathBuf, logs: PathBuf },
    #[error("no space is left for the database {path}")]
    Full { path: PathBuf },
    #[error("another process keeps the database {path} locked")]
    Busy { path: PathBuf },
    #[error("the database {path} cannot be written: {why}")]
    ReadOnly { path: PathBuf, why: String },
    #[error("the database {path} cannot be read: {why}")]
    Unreadable { path: PathBuf, why: String },
    #[error("{path} is on a network filesystem ({filesystem})")]
    NetworkFilesystem { path: PathBuf, filesystem: String },
    #[error(
        "the path of the database is too long: {path} has {bytes} bytes, at most {limit} are possible"
    )]
    LongPath {
        path: PathBuf,
        bytes: usize,
        limit: usize,
    },
    /// An error of the disk, or an error in Claudine.
    #[error("the database {path} failed: {}", chain(&**cause))]
    Failed {
        path: PathBuf,
        cause: Box<dyn Error + Send + Sync>,
    },
}

impl StoreError {
    /// Advice for the user, if the user can do something about it.
    pub(crate) fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Newer { .. } => Some(
                "use the newer claudine, or another data directory (--data-dir); the database was not changed",
            ),
            Self::Unreadable { .. } => Some(
                "the data directory belongs to another user, or this user may not read it; --data-dir chooses another one",
            ),
            Self::Older { .. } => Some(
                "`claudine down && claudine up` updates the database with a host of this version; running tasks continue",
            ),
            Self::NoRoom { .. } => {
                Some("free some space, or use the previous version; nothing was changed")
            }
            Self::Corrupt { .. } => Some(
                "nothing was changed; keep a copy of the file and of its -wal and -shm files, then restore a backup or try `sqlite3 FILE .recover`, or move all three files and `logs` away to start with an empty queue",
            ),
            Self::Gone { .. } => Some(
                "if it was moved, move it back with its -wal file while no host runs; otherwise restore a backup (`claudine restore FILE`)",
            ),
            Self::Overwritten { .. } => Some(
                "keep a copy of the database and of its -wal and -shm files, then restore a backup (`claudine restore FILE`), or start a host, which shows what is left of the queue",
            ),
            Self::Missing { .. } => Some(
                "put the file back, or restore a backup (`claudine restore FILE`); to begin with an empty queue, move the directory of the logs away",
            ),
            Self::Full { .. } => Some(
                "free some space, or inodes (`df -i`) if none is free; nothing that was accepted is lost",
            ),
            Self::Busy { .. } => Some(
                "end the program that has the database open, such as a sqlite3 shell or a backup",
            ),
            Self::ReadOnly { .. } => Some(
                "the data directory and the files in it must belong to this user and be writable",
            ),
            Self::NetworkFilesystem { .. } => {
                Some("choose a data directory on a local disk with --data-dir or CLAUDINE_DATA_DIR")
            }
            Self::LongPath { .. } => {
                Some("--data-dir chooses a data directory with a shorter path")
            }
            Self::Fenced { .. } | Self::OutOfOrder { .. } | Self::Failed { .. } => None,
        }
    }
}
