//! Notices that the file of an open database, or its log, was removed, replaced or overwritten.
//! SQLite goes on writing to a file without a name, and everything in it is lost once it is closed.
//! It also goes on writing behind a damaged place of the log, and nothing behind this place can be
//! read again.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use rustix::fs::{AtFlags, CWD, StatxFlags};
use tokio::sync::watch;

use super::{
    super::StoreError,
    fault::{beside, from_io},
    open,
};

/// The files of an open database, with the device and inode of each.
#[derive(Clone, Debug)]
pub(crate) struct InPlace(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    database: PathBuf,
    files: Vec<(PathBuf, Identity)>,
    log: PathBuf,
    /// The length of the log after the last commit.
    log_bytes: AtomicU64,
    /// Whether the file or its log was cut or overwritten.
    is_spoilt: watch::Sender<bool>,
}

/// Device, as its major and minor number, and inode of a file.
type Identity = (u32, u32, u64);

/// The facts about a file that each commit checks.
struct Found {
    identity: Identity,
    bytes: u64,
}

/// Looks at a file without asking for its times. From Linux 6.13 on, a file whose times were asked
/// for gets a new time with the next write, where it otherwise gets one with each tick of the
/// clock; a sync then writes the inode too, and a commit takes up to a fifth longer.
fn look_at(path: &Path) -> io::Result<Found> {
    let asked = StatxFlags::INO | StatxFlags::SIZE;
    let found = rustix::fs::statx(CWD, path, AtFlags::empty(), asked)?;
    Ok(Found {
        identity: (found.stx_dev_major, found.stx_dev_minor, found.stx_ino),
        bytes: found.stx_size,
    })
}

impl InPlace {
    /// The files of the database at `path`, which was just opened. SQLite keeps the log in place as
    /// long as a connection is open.
    pub(super) fn of(path: &Path) -> Result<Self, StoreError> {
        let mut files = Vec::new();
        let log = beside(path, "-wal");
        let mut log_bytes = 0;
        for file in [path, log.as_path()] {
            match look_at(file) {
                Ok(found) => {
                    log_bytes = found.bytes;
                    files.push((file.to_owned(), found.identity));
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => log_bytes = 0,
                Err(error) => return Err(from_io(path, error)),
            }
        }
        Ok(Self(Arc::new(Inner {
            database: path.to_owned(),
            files,
            log,
            log_bytes: log_bytes.into(),
            is_spoilt: watch::channel(false).0,
        })))
    }

    /// Fails if one of the paths no longer names the file that is open, or if it is known that the
    /// file or its log was overwritten.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        self.looked().map(drop)
    }

    /// Checks the files after a commit, and notes the length of the log. At another time, the log
    /// may have been cut already.
    pub(super) fn committed(&self) -> Result<(), StoreError> {
        // A log that cannot be looked at is noticed by the commit that cannot write to it.
        if let Some(log_bytes) = self.looked()? {
            self.note(log_bytes);
        }
        Ok(())
    }

    /// Checks the files. Returns the length of the log, if it can be looked at.
    fn looked(&self) -> Result<Option<u64>, StoreError> {
        let mut log_bytes = None;
        for (path, ours) in &self.0.files {
            match look_at(path) {
                Ok(there) if there.identity != *ours => return Err(gone(path)),
                Ok(there) if *path == self.0.log => log_bytes = Some(there.bytes),
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                    ) =>
                {
                    return Err(gone(path));
                }
                Ok(_) | Err(_) => {}
            }
        }
        self.spoilt().map_or(Ok(log_bytes), Err)
    }

    /// Whether the log is shorter than after the last commit. Then it was cut, or another program
    /// has copied it into the file of the database.
    pub(super) fn is_log_shorter(&self) -> bool {
        let now = look_at(&self.0.log);
        now.is_ok_and(|now| now.bytes < self.0.log_bytes.load(Ordering::Acquire))
    }

    /// Notes the length of the log. SQLite itself may cut what is longer than the limit.
    fn note(&self, log_bytes: u64) {
        let kept = log_bytes.min(open::LOG_LIMIT_BYTES);
        self.0.log_bytes.store(kept, Ordering::Release);
    }

    /// Marks that the file or its log was cut or overwritten.
    pub(super) fn spoil(&self) {
        self.0.is_spoilt.send_replace(true);
    }

    /// The error if the file or its log was cut or overwritten.
    pub(super) fn spoilt(&self) -> Option<StoreError> {
        let is_spoilt = *self.0.is_spoilt.borrow();
        is_spoilt.then(|| StoreError::Overwritten {
            path: self.0.database.clone(),
        })
    }

    /// Resolves once it is noticed that the file or its log was cut or overwritten.
    pub(crate) async fn overwritten(&self) -> StoreError {
        let mut is_spoilt = self.0.is_spoilt.subscribe();
        // The channel is open as long as `self` exists.
        if is_spoilt.wait_for(|is_spoilt| *is_spoilt).await.is_err() {
            return std::future::pending().await;
        }
        StoreError::Overwritten {
            path: self.0.database.clone(),
        }
    }
}

fn gone(path: &Path) -> StoreError {
    StoreError::Gone {
        path: path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::{fs, os::unix::fs::FileExt};

    use claudine_domain::batch::Batch;

    use super::{
        super::{
            super::{Epoch, Store, samples::batch},
            SqliteStore, commit,
        },
        *,
    };

    #[test]
    fn nothing_is_committed_to_a_database_that_was_removed_or_replaced() {
        let check = |suffix: &str, take: &dyn Fn(&Path)| {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("claudine.db");
            let store = SqliteStore::open(&path).unwrap();
            let epoch = store.lead().unwrap();
            assert!(store.in_place().is_some_and(|files| files.check().is_ok()));
            let file = beside(&path, suffix);
            take(&file);
            let refused = store.commit(epoch, &batch()).unwrap_err();
            assert!(
                matches!(&refused, StoreError::Gone { path } if *path == file),
                "{refused}"
            );
            assert!(store.in_place().is_some_and(|files| files.check().is_err()));
        };
        let removed = |path: &Path| fs::remove_file(path).unwrap();
        let replaced = |path: &Path| {
            let copy = path.with_extension("copy");
            fs::copy(path, &copy).unwrap();
            fs::rename(&copy, path).unwrap();
        };
        for suffix in ["", "-wal"] {
            check(suffix, &removed);
            check(suffix, &replaced);
        }
    }

    /// A store with a commit in its log.
    fn used(path: &Path) -> (SqliteStore, Epoch) {
        let store = SqliteStore::open(path).unwrap();
        let epoch = store.lead().unwrap();
        store.commit(epoch, &batch()).unwrap();
        (store, epoch)
    }

    fn next() -> Batch {
        Batch {
            number: batch().number + 1,
            ..Batch::default()
        }
    }

    #[test]
    fn nothing_is_committed_to_a_log_that_was_cut() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("claudine.db");
        let (store, epoch) = used(&path);
        let log = beside(&path, "-wal");
        let file = fs::OpenOptions::new().write(true).open(&log).unwrap();
        file.set_len(0).unwrap();
        // A host also checks its files between commits.
        assert!(store.in_place().is_some_and(|files| files.check().is_ok()));
        for _ in 0..2 {
            let refused = store.commit(epoch, &next()).unwrap_err();
            assert!(
                matches!(&refused, StoreError::Overwritten { path: it } if *it == path),
                "{refused}"
            );
        }
    }

    #[test]
    fn nothing_is_committed_once_a_read_has_shown_that_the_log_was_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("claudine.db");
        let (store, epoch) = used(&path);
        let log = beside(&path, "-wal");
        let bytes = fs::metadata(&log).unwrap().len();
        let junk = vec![b'J'; usize::try_from(bytes).unwrap()];
        let file = fs::OpenOptions::new().write(true).open(&log).unwrap();
        FileExt::write_all_at(&file, &junk, 0).unwrap();
        let before = fs::read(&path).unwrap();
        store.counts().unwrap_err();
        let refused = store.commit(epoch, &next()).unwrap_err();
        assert!(
            matches!(&refused, StoreError::Overwritten { .. }),
            "{refused}"
        );
        assert!(store.in_place().is_some_and(|files| files.check().is_err()));
        // The damaged log is not copied into the file when the store is closed.
        drop(store);
        assert_eq!(fs::read(&path).unwrap(), before);
    }

    /// `PRAGMA wal_checkpoint(TRUNCATE)` in a `sqlite3` shell.
    #[test]
    fn a_log_that_another_program_has_copied_into_the_file_was_not_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("claudine.db");
        let (store, epoch) = used(&path);
        let log = beside(&path, "-wal");
        let other = open::writer(&path).unwrap();
        commit::checkpoint_whole_log(&other).unwrap();
        assert_eq!(fs::metadata(&log).unwrap().len(), 0);
        store.commit(epoch, &next()).unwrap();
        assert!(store.in_place().is_some_and(|files| files.check().is_ok()));
    }
}
