//! Turns SQLite's error codes into errors that say what a person can do about them.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use claudine_domain::{board::Unreadable, id::TaskId};
use rusqlite::{ErrorCode, ffi};
use rustix::fs::{Access, AtFlags, CWD};

use super::super::StoreError;
use crate::fsx;

/// The free space below which a failed write is attributed to a full disk. SQLite reports a full
/// disk for a write, but not for an `ftruncate` or an `fsync`.
const NO_SPACE_BYTES: u64 = 64 * 1024;
/// The maximum length of a database's path, in bytes. SQLite appends the 8 bytes of `-journal` to
/// this path, and opens no path of more than 512 bytes.
const LONGEST_PATH: usize = 504;

/// An error of a function that does not know the path of the database.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error(transparent)]
    Sql(#[from] rusqlite::Error),
    #[error("a stored {what} cannot be read")]
    Body {
        what: &'static str,
        source: serde_json::Error,
    },
    #[error("a stored {what} cannot be read")]
    Aside { what: &'static str },
    #[error("the columns of a stored {what} do not agree with its body")]
    Disagrees { what: &'static str },
    #[error("a {what} cannot be written as JSON")]
    Encode {
        what: &'static str,
        source: serde_json::Error,
    },
    #[error("the database of another program")]
    NotOurs,
    #[error("the schema is {found}")]
    Newer { found: u32, known: u32 },
    #[error("the journal mode remains `{0}`, but a write-ahead log is needed")]
    NoWal(String),
    #[error("a document in a backup is not hexadecimal")]
    NoHex,
    /// The database was written by an older version: a host could migrate the file, but a reader
    /// cannot.
    #[error("the schema is {found}")]
    Older { found: u32, known: u32 },
    #[error(transparent)]
    Refused(#[from] StoreError),
}

impl Fault {
    /// Returns the reason why one row cannot be read, if other rows may still be readable.
    pub(super) fn of_one_row(self) -> Result<String, Self> {
        match self {
            Self::Body { source, .. } => Ok(source.to_string()),
            Self::Aside { .. } | Self::Disagrees { .. } => Ok(self.to_string()),
            // The column has a type or size that no version writes.
            Self::Sql(error) if error.sqlite_error().is_none() => Ok(error.to_string()),
            other => Err(other),
        }
    }

    /// Whether the error may mean that a file of the database was cut or overwritten as a whole.
    pub(super) fn may_be_of_the_file(&self) -> bool {
        let Self::Sql(error) = self else {
            return false;
        };
        error.sqlite_error().is_some_and(|error| {
            matches!(
                error.code,
                ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase
            ) || error.extended_code == ffi::SQLITE_IOERR_SHORT_READ
        })
    }

    /// The row that cannot be read because of this fault, or the fault if it is not that of one
    /// row. `task` is set for the row of a task.
    pub(super) fn unreadable(
        self,
        what: &'static str,
        key: String,
        task: Option<TaskId>,
    ) -> Result<Unreadable, Self> {
        let reason = self.of_one_row()?;
        Ok(Unreadable {
            what,
            key,
            task,
            reason,
        })
    }

    pub(super) fn at(self, path: &Path) -> StoreError {
        let corrupt = |detail: String| StoreError::Corrupt {
            path: path.to_owned(),
            detail,
        };
        match self {
            Self::Sql(error) => from_sqlite(path, error),
            Self::Body { what, source } => {
                corrupt(format!("a stored {what} cannot be read: {source}"))
            }
            Self::Aside { .. } | Self::Disagrees { .. } => corrupt(self.to_string()),
            Self::NotOurs => corrupt("it is the database of another program".to_owned()),
            Self::Newer { found, known } => StoreError::Newer {
                path: path.to_owned(),
                found,
                known,
            },
            Self::Older { found, known } => StoreError::Older {
                path: path.to_owned(),
                found,
                known,
            },
            Self::Refused(error) => error,
            Self::Encode { .. } | Self::NoWal(_) | Self::NoHex => failed(path, self),
        }
    }
}

fn failed(path: &Path, cause: impl std::error::Error + Send + Sync + 'static) -> StoreError {
    StoreError::Failed {
        path: path.to_owned(),
        cause: Box::new(cause),
    }
}

fn from_sqlite(path: &Path, error: rusqlite::Error) -> StoreError {
    let detail = error.to_string();
    let path_buf = || path.to_owned();
    let Some(sqlite) = error.sqlite_error() else {
        // The column has a type or size that no version writes.
        return StoreError::Corrupt {
            path: path_buf(),
            detail,
        };
    };
    let is_damage = match sqlite.code {
        ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => true,
        // The statements themselves are correct, so the error means that a table is missing or that
        // a body is not JSON.
        ErrorCode::Unknown => sqlite.extended_code == ffi::SQLITE_ERROR,
        ErrorCode::SystemIoFailure => sqlite.extended_code == ffi::SQLITE_IOERR_CORRUPTFS,
        _ => false,
    };
    match sqlite.code {
        _ if is_damage => StoreError::Corrupt {
            path: path_buf(),
            detail,
        },
        ErrorCode::DiskFull => StoreError::Full { path: path_buf() },
        ErrorCode::SystemIoFailure if is_full(path) => StoreError::Full { path: path_buf() },
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => {
            StoreError::Busy { path: path_buf() }
        }
        ErrorCode::ReadOnly | ErrorCode::PermissionDenied => StoreError::ReadOnly {
            path: path_buf(),
            why: detail,
        },
        ErrorCode::CannotOpen => too_long(path)
            .or_else(|| unopened(path))
            .or_else(|| is_full(path).then(|| StoreError::Full { path: path_buf() }))
            .unwrap_or_else(|| failed(path, error)),
        _ => failed(path, error),
    }
}

/// The error for a path that is too long for SQLite; `None` for any other path.
fn too_long(path: &Path) -> Option<StoreError> {
    let bytes = fsx::real(path).as_os_str().len();
    (bytes > LONGEST_PATH).then(|| StoreError::LongPath {
        path: path.to_owned(),
        bytes,
        limit: LONGEST_PATH,
    })
}

/// Finds out which of the database's three files cannot be opened, and why. SQLite does not report
/// this.
fn unopened(path: &Path) -> Option<StoreError> {
    ["", "-wal", "-shm"].into_iter().find_map(|suffix| {
        let file = beside(path, suffix);
        match look_at(&file, Access::READ_OK) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                return Some(StoreError::Unreadable {
                    path: file,
                    why: error.to_string(),
                });
            }
            Err(error) => return Some(from_io(&file, error)),
        }
        let unwritable = look_at(&file, Access::WRITE_OK).err();
        unwritable.map(|error| from_io(&file, error))
    })
}

/// Finds out why the file cannot be opened. The file is not opened for this, because POSIX locks
/// belong to the process: closing any descriptor of the file would release the locks of all open
/// connections.
fn look_at(file: &Path, wanted: Access) -> io::Result<()> {
    if fs::metadata(file)?.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    Ok(rustix::fs::accessat(CWD, file, wanted, AtFlags::EACCESS)?)
}

pub(super) fn from_io(path: &Path, error: io::Error) -> StoreError {
    let path = path.to_owned();
    match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            StoreError::ReadOnly {
                path,
                why: error.to_string(),
            }
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::Full { path },
        _ => StoreError::Failed {
            path,
            cause: Box::new(error),
        },
    }
}

/// The path of a file beside a database, such as its log (`-wal`) or the log's index (`-shm`).
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Whether nothing more can be written, or no file can be created beside the database.
fn is_full(path: &Path) -> bool {
    !fsx::has_room(path, NO_SPACE_BYTES) || matches!(fsx::free_files(path), Ok(Some(0)))
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::panic,
        clippy::unwrap_used,
        reason = "a test fails by panicking"
    )]

    use std::{collections::BTreeSet, os::unix::fs::MetadataExt};

    use super::{
        super::{SqliteStore, open},
        *,
    };

    /// The inodes and ranges of the POSIX locks that this process has on a file. The kernel prints
    /// its list page by page. So if other processes lock something meanwhile, a lock may be missing
    /// or listed twice.
    fn locks_on(file: &Path) -> BTreeSet<String> {
        let inode = format!(":{}", fs::metadata(file).unwrap().ino());
        let pid = std::process::id().to_string();
        let locks = fs::read_to_string("/proc/locks").unwrap();
        let own = locks.lines().filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let is_own = fields.get(1) == Some(&"POSIX")
                && fields.get(4) == Some(&pid.as_str())
                && fields.get(5).is_some_and(|place| place.ends_with(&inode));
            is_own.then(|| fields[5..].join(" "))
        });
        own.collect()
    }

    #[test]
    fn looking_at_a_file_keeps_the_locks_of_open_connections() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("claudine.db");
        let writer = open::writer(&path).unwrap();
        writer.execute_batch("BEGIN IMMEDIATE").unwrap();
        let shared_memory = beside(&path, "-shm");
        let before = [locks_on(&path), locks_on(&shared_memory)];
        assert!(before.iter().all(|locks| !locks.is_empty()), "{before:?}");
        assert!(unopened(&path).is_none());
        // A second store in the same process makes this check before it opens the file.
        open::look_at_file(&path).unwrap();
        for (file, before) in [&path, &shared_memory].into_iter().zip(before) {
            let mut looks = (0..100).map(|_| locks_on(file));
            let are_kept = looks.any(|after| before.is_subset(&after));
            assert!(are_kept, "{before:?}, then {:?}", locks_on(file));
        }
    }

    #[test]
    fn the_reason_why_a_file_cannot_be_opened_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let check = |path: &Path, expected: Option<&str>| {
            let found = unopened(path).map(|error| format!("{error:?}"));
            let begins = expected.unwrap_or_default();
            assert_eq!(found.is_some(), expected.is_some(), "{found:?}");
            assert!(found.unwrap_or_default().starts_with(begins));
        };
        let database = dir.path().join("db");
        check(&database, None);
        fs::create_dir(beside(&database, "-wal")).unwrap();
        check(&database, Some("Failed"));
        // Root may open files even without permission.
        if !rustix::process::geteuid().is_root() {
            let closed = dir.path().join("closed");
            fs::write(&closed, "").unwrap();
            let mode = std::os::unix::fs::PermissionsExt::from_mode;
            fs::set_permissions(&closed, mode(0o000)).unwrap();
            check(&closed, Some("Unreadable"));
            fs::set_permissions(&closed, mode(0o400)).unwrap();
            check(&closed, Some("ReadOnly"));
        }
    }

    #[test]
    fn sqlite_codes_are_classified() {
        let check = |code: i32, expected: &str| {
            let error = rusqlite::Error::SqliteFailure(ffi::Error::new(code), None);
            let found = format!(
                "{:?}",
                Fault::from(error).at(Path::new("/proc/claudine.db"))
            );
            assert!(found.starts_with(expected), "{code}: {found}");
        };
        check(ffi::SQLITE_CORRUPT, "Corrupt");
        check(ffi::SQLITE_CORRUPT_INDEX, "Corrupt");
        check(ffi::SQLITE_NOTADB, "Corrupt");
        check(ffi::SQLITE_ERROR, "Corrupt");
        check(ffi::SQLITE_IOERR_CORRUPTFS, "Corrupt");
        check(ffi::SQLITE_FULL, "Full");
        check(ffi::SQLITE_BUSY, "Busy");
        check(ffi::SQLITE_BUSY_RECOVERY, "Busy");
        check(ffi::SQLITE_LOCKED, "Busy");
        check(ffi::SQLITE_READONLY, "ReadOnly");
        check(ffi::SQLITE_READONLY_DIRECTORY, "ReadOnly");
        check(ffi::SQLITE_PERM, "ReadOnly");
        check(ffi::SQLITE_NOMEM, "Failed");
        check(ffi::SQLITE_MISUSE, "Failed");
    }

    #[test]
    fn a_path_that_is_too_long_for_sqlite_is_named_as_the_cause() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().canonicalize().unwrap();
        let dir = dir.join("d".repeat(200)).join("d".repeat(200));
        fs::create_dir_all(&dir).unwrap();
        let opened = |bytes: usize| {
            let name = "f".repeat(bytes - dir.as_os_str().len() - 1);
            SqliteStore::open(&dir.join(name)).map(drop)
        };
        opened(LONGEST_PATH).unwrap();
        let refused = opened(LONGEST_PATH + 1).unwrap_err();
        let StoreError::LongPath { bytes, limit, .. } = refused else {
            panic!("{refused:?}")
        };
        assert_eq!((bytes, limit), (LONGEST_PATH + 1, LONGEST_PATH));
    }

    #[test]
    fn the_error_of_a_failed_database_names_the_cause() {
        let error = from_io(Path::new("db"), io::Error::other("worn out"));
        assert_eq!(error.to_string(), "the database db failed: worn out");
    }

    #[test]
    fn io_errors_are_classified() {
        let check = |kind: io::ErrorKind, expected: &str| {
            let found = format!("{:?}", from_io(Path::new("db"), kind.into()));
            assert!(found.starts_with(expected), "{kind}: {found}");
        };
        check(io::ErrorKind::PermissionDenied, "ReadOnly");
        check(io::ErrorKind::ReadOnlyFilesystem, "ReadOnly");
        check(io::ErrorKind::StorageFull, "Full");
        check(io::ErrorKind::QuotaExceeded, "Full");
        check(io::ErrorKind::IsADirectory, "Failed");
    }
}
