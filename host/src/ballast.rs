//! A file that is deleted when the disk is full, so that cancels, exits and `down` can still be
//! written and a host can start.

use std::{
    fs::{File, OpenOptions},
    os::unix::fs::OpenOptionsExt,
    path::PathBuf,
};

use crate::units::bytes_text;

/// Size of the file, enough for some thousand state changes.
const BALLAST_BYTES: u64 = 8 << 20;
/// If at least this much space is free, the file is created again and new tasks are accepted again.
const ROOM_BYTES: u64 = 4 * BALLAST_BYTES;
/// Space that a host needs in order to start, for a transaction, the store's index and the host
/// file. If less is free, the host uses the space of the ballast.
pub(crate) const START_BYTES: u64 = 1 << 20;

/// Text that says when new tasks are accepted again after the disk was full.
pub(crate) fn until_room() -> String {
    let room = bytes_text(ROOM_BYTES);
    format!("no new task is accepted until {room} are free")
}

pub(crate) struct Ballast {
    path: PathBuf,
    freed: bool,
}

impl Ballast {
    /// Creates the file if it is missing and there is enough space. The disk counts as full as long
    /// as the file is missing. An existing file is deleted if a host does not have enough space to
    /// start.
    pub(crate) fn open(path: PathBuf, disk_free_bytes: u64) -> Self {
        let mut ballast = Self { path, freed: false };
        let there = std::fs::metadata(&ballast.path).is_ok_and(|meta| meta.len() == BALLAST_BYTES);
        ballast.freed = !there;
        if disk_free_bytes < START_BYTES {
            ballast.free();
        }
        ballast.restore_if_room(disk_free_bytes);
        ballast
    }

    pub(crate) fn is_freed(&self) -> bool {
        self.freed
    }

    pub(crate) fn free(&mut self) {
        match std::fs::remove_file(&self.path) {
            Ok(()) => {
                tracing::warn!(
                    "the disk is full; the ballast is deleted and new tasks are refused"
                );
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => tracing::error!(%error, "the ballast cannot be deleted"),
        }
        self.freed = true;
    }

    /// Creates the file again if it was deleted and there is enough space.
    pub(crate) fn restore_if_room(&mut self, disk_free_bytes: u64) {
        if !self.freed || disk_free_bytes < ROOM_BYTES {
            return;
        }
        match self.fill() {
            Ok(()) => self.freed = false,
            Err(error) => {
                tracing::warn!(%error, "the ballast cannot be created");
                self.free();
            }
        }
    }

    /// Allocates the file's space, because a sparse file would reserve no space.
    fn fill(&self) -> std::io::Result<()> {
        let file: File = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(false)
            .mode(0o600)
            .open(&self.path)?;
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, BALLAST_BYTES)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn a_deleted_ballast_is_created_again_once_there_is_space() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ballast");
        let mut ballast = Ballast::open(path.clone(), u64::MAX);
        assert!(!ballast.is_freed());
        assert_eq!(std::fs::metadata(&path).unwrap().len(), BALLAST_BYTES);
        ballast.free();
        assert!(ballast.is_freed() && !path.exists());
        ballast.restore_if_room(ROOM_BYTES - 1);
        assert!(ballast.is_freed());
        ballast.restore_if_room(ROOM_BYTES);
        assert!(!ballast.is_freed() && path.exists());
    }

    #[test]
    fn a_host_that_starts_without_space_deletes_the_ballast() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ballast");
        let check = |free: u64, is_freed: bool| {
            drop(Ballast::open(path.clone(), u64::MAX));
            assert_eq!(Ballast::open(path.clone(), free).is_freed(), is_freed);
            assert_eq!(path.exists(), !is_freed, "{free}");
        };
        check(START_BYTES, false);
        check(START_BYTES - 1, true);
    }

    #[test]
    fn a_disk_without_space_counts_as_full_when_the_ballast_is_opened() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Ballast::open(dir.path().join("ballast"), 0).is_freed());
    }
}
