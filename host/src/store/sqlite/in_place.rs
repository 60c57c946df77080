//! Notices that the file of an open database, or its log, was removed or replaced. SQLite goes on
//! writing to a file without a name, and everything in it is lost once it is closed.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use super::{
    super::StoreError,
    fault::{beside, from_io},
};

/// The files of an open database, with the device and inode of each.
#[derive(Clone, Debug)]
pub(crate) struct InPlace {
    files: Vec<(PathBuf, Identity)>,
}

/// Device and inode of a file.
type Identity = (u64, u64);

fn identity_of(path: &Path) -> io::Result<Identity> {
    fs::metadata(path).map(|found| (found.dev(), found.ino()))
}

impl InPlace {
    /// The files of the database at `path`, which was just opened. SQLite keeps the log in place as
    /// long as a connection is open.
    pub(super) fn of(path: &Path) -> Result<Self, StoreError> {
        let mut files = Vec::new();
        for file in [path.to_owned(), beside(path, "-wal")] {
            match identity_of(&file) {
                Ok(identity) => files.push((file, identity)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(from_io(path, error)),
            }
        }
        Ok(Self { files })
    }

    /// Fails if one of the paths no longer names the file that is open.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        let gone = self
            .files
            .iter()
            .find(|(path, ours)| match identity_of(path) {
                Ok(there) => there != *ours,
                Err(error) => matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ),
            });
        match gone {
            Some((path, _)) => Err(StoreError::Gone { path: path.clone() }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::{
        super::{
            super::{Store, samples::batch},
            SqliteStore,
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
}
