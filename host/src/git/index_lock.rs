//! The lock of a checkout's index, taken by the host itself. Each git takes this lock before it
//! changes the index. As long as the host has it, no git of a person can stage or commit the files
//! that the host is replacing, and the new index takes the place of the old one in one step.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{CWD, RenameFlags, renameat_with},
    io::Errno,
};

use super::{diff::copy_with_its_time, index::lock_of};
use crate::fsx;

/// The lock of an index. The lock file contains the name of a directory for files that are not in
/// their places (see `aside`). So the next host recognises the lock of a killed one.
pub(super) struct IndexLock {
    index: PathBuf,
    name: String,
    /// Whether the lock stays if this value is dropped.
    stays: bool,
}

impl IndexLock {
    /// Takes the lock, and copies the index to `copy`. The lock file is first written in the
    /// directory `aside`, which has this name. Returns `None` if another git has the lock.
    pub(super) fn take(
        git_dir: &Path,
        aside: &Path,
        name: &str,
        copy: &Path,
    ) -> io::Result<Option<Self>> {
        let index = git_dir.join("index");
        // Git takes the lock beside the target of a link.
        if !fs::symlink_metadata(&index)?.is_file() {
            return Err(io::Error::other("the index is no file"));
        }
        let written = aside.join("lock");
        fs::write(&written, name)?;
        let flags = RenameFlags::NOREPLACE;
        match renameat_with(CWD, &written, CWD, lock_of(&index), flags) {
            Err(Errno::EXIST) => return Ok(None),
            taken => taken?,
        }
        let lock = Self {
            index,
            name: name.to_owned(),
            stays: false,
        };
        lock.copy_index(copy)?;
        Ok(Some(lock))
    }

    /// The lock that a killed host has left while it used the directory aside with this name.
    pub(super) fn left(git_dir: &Path, name: &str) -> io::Result<Option<Self>> {
        let lock = Self {
            index: git_dir.join("index"),
            name: name.to_owned(),
            stays: true,
        };
        // Older hosts have noted no name.
        Ok((!name.is_empty() && lock.is_own()?).then_some(lock))
    }

    /// Keeps the lock from now on, even if this host ends.
    pub(super) fn stay(&mut self) {
        self.stays = true;
    }

    /// Fails if the index cannot be replaced, for example because it is immutable or another file
    /// is mounted on it. Exchanges the index for `copy`, which has the same contents, and then the
    /// two back, because only a rename shows whether a rename is possible.
    pub(super) fn check_replaceable(&self, copy: &Path) -> io::Result<()> {
        for _ in 0..2 {
            renameat_with(CWD, copy, CWD, &self.index, RenameFlags::EXCHANGE)?;
        }
        Ok(())
    }

    pub(super) fn copy_index(&self, copy: &Path) -> io::Result<()> {
        copy_with_its_time(&self.index, copy)
    }

    /// Replaces the index by this file, and releases the lock. On an error, returns the lock. It is
    /// an error if somebody has removed the lock, because the index may have changed since.
    pub(super) fn finish(self, new: &Path) -> Result<(), (io::Error, Self)> {
        let replaced = match self.is_own() {
            Ok(true) => fs::rename(new, &self.index),
            Ok(false) => Err(io::Error::other(
                "somebody has removed the lock of the index",
            )),
            Err(error) => Err(error),
        };
        if let Err(error) = replaced {
            return Err((error, self));
        }
        self.release();
        Ok(())
    }

    pub(super) fn release(mut self) {
        self.stays = false;
    }

    /// Whether this is still the lock that was taken. A person may have removed it, and then
    /// another git may have taken its own.
    fn is_own(&self) -> io::Result<bool> {
        match fsx::read(&lock_of(&self.index)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            found => Ok(found? == self.name.as_bytes()),
        }
    }
}

impl Drop for IndexLock {
    fn drop(&mut self) {
        if self.stays {
            return;
        }
        let lock = lock_of(&self.index);
        let removed = match self.is_own() {
            Ok(true) => fsx::remove_file(&lock),
            Ok(false) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = removed {
            tracing::warn!(
                path = %lock.display(), %error,
                "the lock of an index cannot be removed"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn take(dir: &Path) -> io::Result<Option<IndexLock>> {
        IndexLock::take(dir, dir, "name", &dir.join("copy"))
    }

    #[test]
    fn the_index_is_replaced_under_its_lock() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let [index, lock, copy] = ["index", "index.lock", "copy"].map(|name| dir.join(name));
        fs::write(&index, "old").unwrap();
        let mut taken = take(dir).unwrap().unwrap();
        assert!(take(dir).unwrap().is_none());
        assert_eq!(fs::read(&copy).unwrap(), b"old");
        taken.stay();
        drop(taken);
        assert!(lock.exists());
        assert!(IndexLock::left(dir, "other").unwrap().is_none());
        assert!(IndexLock::left(dir, "").unwrap().is_none());
        let left = IndexLock::left(dir, "name").unwrap().unwrap();
        fs::write(&copy, "new").unwrap();
        assert!(left.finish(&copy).is_ok());
        assert_eq!(fs::read(&index).unwrap(), b"new");
        assert!(!lock.exists());
        assert!(IndexLock::left(dir, "name").unwrap().is_none());
    }

    #[test]
    fn the_check_whether_an_index_can_be_replaced_leaves_it_as_it_is() {
        use std::os::unix::fs::MetadataExt;

        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let [index, copy] = ["index", "copy"].map(|name| dir.join(name));
        fs::write(&index, "old").unwrap();
        let before = fs::metadata(&index).unwrap();
        let taken = take(dir).unwrap().unwrap();
        taken.check_replaceable(&copy).unwrap();
        let after = fs::metadata(&index).unwrap();
        assert_eq!(after.ino(), before.ino());
        assert_eq!(after.modified().unwrap(), before.modified().unwrap());
        assert_eq!(fs::read(&copy).unwrap(), b"old");
    }

    #[test]
    fn an_index_whose_lock_was_removed_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let [index, lock, copy] = ["index", "index.lock", "copy"].map(|name| dir.join(name));
        for other in [None, Some("other")] {
            fs::write(&index, "old").unwrap();
            let taken = take(dir).unwrap().unwrap();
            fs::remove_file(&lock).unwrap();
            if let Some(other) = other {
                fs::write(&lock, other).unwrap();
            }
            fs::write(&index, "staged").unwrap();
            let (_, taken) = taken.finish(&copy).unwrap_err();
            assert_eq!(fs::read(&index).unwrap(), b"staged");
            drop(taken);
            assert_eq!(lock.exists(), other.is_some());
        }
    }

    #[test]
    fn the_lock_of_another_git_is_not_removed() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let lock = dir.join("index.lock");
        fs::write(dir.join("index"), "").unwrap();
        let taken = take(dir).unwrap().unwrap();
        fs::write(&lock, "other").unwrap();
        drop(taken);
        assert_eq!(fs::read(&lock).unwrap(), b"other");
        fs::remove_file(&lock).unwrap();
        drop(take(dir).unwrap().unwrap());
        assert!(!lock.exists());
    }

    /// Git takes the lock elsewhere.
    #[test]
    fn an_index_that_is_a_link_is_not_locked() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        fs::write(dir.join("target"), "").unwrap();
        std::os::unix::fs::symlink("target", dir.join("index")).unwrap();
        assert!(take(dir).is_err());
        assert!(!dir.join("index.lock").exists());
    }
}
