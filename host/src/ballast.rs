//! A file that is given up when the disk is full, so that cancels, exits and `down` can still be
//! written, and a host can start.

use std::{
    fs::{File, OpenOptions},
    os::unix::fs::OpenOptionsExt,
    path::PathBuf,
};

/// Room for some thousands of transitions.
const BALLAST_BYTES: u64 = 8 << 20;
/// The ballast is made again, and new tasks are taken again, once so much is free.
const ROOM_BYTES: u64 = 4 * BALLAST_BYTES;
/// What a start writes: a transaction, the store's index, who the host is. With less free it needs
/// what the ballast holds.
pub(crate) const START_BYTES: u64 = 1 << 20;

pub(crate) struct Ballast {
    path: PathBuf,
    freed: bool,
}

impl Ballast {
    /// Makes the file if there is room for it. A disk with less is treated as full. Where there is
    /// not even room to start, it is given up.
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
                    "the disk is full: the ballast is given up and no new task is taken"
                );
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => tracing::error!(%error, "the ballast cannot be given up"),
        }
        self.freed = true;
    }

    /// Space is back, or there was some from the start.
    pub(crate) fn restore_if_room(&mut self, disk_free_bytes: u64) {
        if !self.freed || disk_free_bytes < ROOM_BYTES {
            return;
        }
        match self.fill() {
            Ok(()) => self.freed = false,
            Err(error) => {
                tracing::warn!(%error, "the ballast cannot be made");
                self.free();
            }
        }
    }

    /// Allocated, not written: a sparse file would hold no space back.
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
    fn the_ballast_is_given_up_and_comes_back_with_space() {
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
    fn a_start_without_room_has_what_the_ballast_holds() {
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
    fn a_disk_without_room_is_full_from_the_start() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Ballast::open(dir.path().join("ballast"), 0).is_freed());
    }
}
