//! A file and some empty files that are deleted when the disk is full, so that cancels, exits and
//! `down` can still be written and a host can start. A disk without a free inode takes no new file,
//! however many bytes are free, and the empty files have inodes.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use crate::{fsx, units::bytes_text};

/// Size of the file, enough for some thousand state changes.
const BALLAST_BYTES: u64 = 8 << 20;
/// If at least this much space is free, the file is created again and new tasks are accepted again.
const ROOM_BYTES: u64 = 4 * BALLAST_BYTES;
/// Space that a host needs in order to start, for a transaction, the store's index and the host
/// file. If less is free, the host uses the space of the ballast.
pub(crate) const START_BYTES: u64 = 1 << 20;
/// Number of the empty files, enough for some starts of a host.
const BALLAST_INODES: usize = 64;
/// If at least this many inodes are free, the files are created again.
const ROOM_INODES: u64 = 256;
/// Inodes that a host needs in order to start, for its socket, its files and those of a supervisor,
/// with a margin. A disk with fewer free inodes counts as full.
pub(crate) const START_INODES: u64 = 32;

/// Text that says why no new task is accepted as long as the ballast is missing.
pub(crate) fn refusal() -> String {
    refusal_under(fsx::file_limit())
}

fn refusal_under(file_limit: Option<u64>) -> String {
    if let Some(limit) = too_small(file_limit) {
        let (limit, needed) = (bytes_text(limit), bytes_text(BALLAST_BYTES));
        return format!(
            "no new task is accepted: no file of the host can become larger than {limit} (`ulimit -Hf`), and the host needs a file of {needed}; start it from a shell without this limit"
        );
    }
    let room = bytes_text(ROOM_BYTES);
    format!(
        "the disk is full: no new task is accepted until {room} and {ROOM_INODES} inodes are free"
    )
}

/// The limit on the size of files, if the ballast is larger.
fn too_small(file_limit: Option<u64>) -> Option<u64> {
    file_limit.filter(|limit| *limit < BALLAST_BYTES)
}

/// The number of free inodes of a directory's disk if a host needs more; `None` if it does not, or
/// if the number is unknown.
pub(crate) fn too_few_inodes(dir: &Path) -> Option<u64> {
    match fsx::free_files(dir) {
        Ok(Some(free)) if free < START_INODES => Some(free),
        _ => None,
    }
}

pub(crate) struct Ballast {
    path: PathBuf,
    /// Directory of the empty files.
    spare: PathBuf,
    freed: bool,
}

impl Ballast {
    /// Creates the files that are missing if there is enough space. The disk counts as full as long
    /// as files are missing. Existing files are deleted if a host does not have enough space to
    /// start.
    pub(crate) fn open(path: PathBuf, disk_free_bytes: u64) -> Self {
        let spare = path.with_extension("d");
        let mut ballast = Self {
            path,
            spare,
            freed: false,
        };
        ballast.freed = !(ballast.has_bytes() && ballast.has_inodes());
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
        let mut is_deleted = false;
        for deleted in [fs::remove_file(&self.path), fs::remove_dir_all(&self.spare)] {
            match deleted {
                Ok(()) => is_deleted = true,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => tracing::error!(%error, "the ballast cannot be deleted"),
            }
        }
        if is_deleted {
            tracing::warn!("the disk is full; the ballast is deleted and new tasks are refused");
        }
        self.freed = true;
    }

    /// Creates the files again if they were deleted and there is enough space.
    pub(crate) fn restore_if_room(&mut self, disk_free_bytes: u64) {
        if !self.freed || !self.has_room(disk_free_bytes) {
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

    fn has_bytes(&self) -> bool {
        fs::metadata(&self.path).is_ok_and(|meta| meta.len() == BALLAST_BYTES)
    }

    fn has_inodes(&self) -> bool {
        fs::read_dir(&self.spare).is_ok_and(|files| files.count() == BALLAST_INODES)
    }

    /// Whether there is space for the files that are missing, and enough for the work of a host.
    fn has_room(&self, disk_free_bytes: u64) -> bool {
        let inodes = self.path.parent().map(fsx::free_files);
        let has_inodes =
            !matches!(inodes, Some(Ok(Some(free))) if free < ROOM_INODES) || self.has_inodes();
        // Under a limit on the size of files, each try would fail.
        let may_fit = disk_free_bytes >= ROOM_BYTES && too_small(fsx::file_limit()).is_none();
        has_inodes && (may_fit || self.has_bytes())
    }

    /// Allocates the file's space, because a sparse file would reserve no space.
    fn fill(&self) -> io::Result<()> {
        let file = create(&self.path)?;
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, BALLAST_BYTES)?;
        fsx::make_private_dir(&self.spare)?;
        (0..BALLAST_INODES)
            .try_for_each(|number| create(&self.spare.join(number.to_string())).map(drop))
    }
}

/// Opens a file, and creates it if it is missing.
fn create(path: &Path) -> io::Result<File> {
    let mut options = fsx::private();
    fsx::open_own(path, options.create(true).write(true).truncate(false))
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
        assert_eq!(fs::metadata(&path).unwrap().len(), BALLAST_BYTES);
        assert!(ballast.has_inodes());
        ballast.free();
        assert!(ballast.is_freed() && !path.exists() && !ballast.spare.exists());
        ballast.restore_if_room(ROOM_BYTES - 1);
        assert!(ballast.is_freed());
        ballast.restore_if_room(ROOM_BYTES);
        assert!(!ballast.is_freed() && path.exists() && ballast.has_inodes());
    }

    #[test]
    fn missing_empty_files_are_created_without_space_for_another_ballast() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ballast");
        let ballast = Ballast::open(path.clone(), u64::MAX);
        fs::remove_dir_all(&ballast.spare).unwrap();
        let ballast = Ballast::open(path, START_BYTES);
        assert!(!ballast.is_freed() && ballast.has_inodes());
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
    fn a_limit_on_the_size_of_files_is_not_called_a_full_disk() {
        let limited = refusal_under(Some(BALLAST_BYTES - 1));
        assert!(limited.contains("(`ulimit -Hf`)") && !limited.contains("disk"));
        for enough in [None, Some(BALLAST_BYTES)] {
            let full = refusal_under(enough);
            assert!(full.starts_with("the disk is full: no new task"), "{full}");
        }
    }

    #[test]
    fn a_disk_without_space_counts_as_full_when_the_ballast_is_opened() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Ballast::open(dir.path().join("ballast"), 0).is_freed());
    }
}
