//! Errors of a store, grouped by what a person or the engine must do about them.

use std::{error::Error, path::PathBuf};

use claudine_domain::batch::BatchNumber;

use super::Epoch;
use crate::units::bytes_text;

#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// Nothing of the batch was written; this host must stop writing.
    #[error("another host has taken over (epoch {current}; this one had {held})")]
    Fenced { held: Epoch, current: Epoch },
    #[error("batch {number} does not follow batch {last}")]
    OutOfOrder {
        number: BatchNumber,
        last: BatchNumber,
    },
    #[error(
        "{path} was written by a newer version: its schema is {found}, this program knows {known}"
    )]
    Newer {
        path: PathBuf,
        found: u32,
        known: u32,
    },
    /// Opened only to be read, which does not migrate it to this version's schema.
    #[error(
        "{path} was written by an older version: its schema is {found}, this program reads {known}"
    )]
    Older {
        path: PathBuf,
        found: u32,
        known: u32,
    },
    /// The schema is not changed without a copy of the database.
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
    /// Nothing is wiped or repaired: the remains of the file may be all that is left.
    #[error("the database {path} is damaged: {detail}")]
    Corrupt { path: PathBuf, detail: String },
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
    /// An error of the disk, or a bug of ours.
    #[error("the database {path} failed")]
    Failed {
        path: PathBuf,
        source: Box<dyn Error + Send + Sync>,
    },
}

impl StoreError {
    /// Advice for the user, if the user can do something about it.
    pub(crate) fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Newer { .. } => Some(
                "use the newer claudine, or another data directory (--data-dir); the database was left as it is",
            ),
            Self::Unreadable { .. } => Some(
                "its data directory belongs to another user, or may not be read; --data-dir chooses another one",
            ),
            Self::Older { .. } => Some(
                "`claudine down && claudine up` has a host of this version bring it up to date; running tasks go on",
            ),
            Self::NoRoom { .. } => Some(
                "free some space, or use the version that was there before; nothing was changed",
            ),
            Self::Corrupt { .. } => Some(
                "nothing was changed; keep a copy of the file with its -wal and -shm, then restore a backup or try `sqlite3 FILE .recover`, or move all three away to begin anew",
            ),
            Self::Full { .. } => Some("free some space; nothing that was accepted is lost"),
            Self::Busy { .. } => {
                Some("end the program that has it open, such as a sqlite3 shell or a backup")
            }
            Self::ReadOnly { .. } => Some(
                "the data directory and the files in it must belong to this user and be writable",
            ),
            Self::NetworkFilesystem { .. } => {
                Some("choose a data directory on a local disk with --data-dir or CLAUDINE_DATA_DIR")
            }
            Self::Fenced { .. } | Self::OutOfOrder { .. } | Self::Failed { .. } => None,
        }
    }
}
