//! Claims a data directory for this host.

use std::{
    fs::{self, File},
    os::unix::fs::MetadataExt,
    path::Path,
    sync::Arc,
};

use super::{ServeError, io_error};
use crate::{
    fsx,
    identity::{HostProcess, Purpose},
    layout::Layout,
    store::sqlite::refuse_network_filesystem,
};

/// A data directory that this host has locked. The directory is created and locked before anything
/// in it is opened, so that a second host stops here.
pub(crate) struct Claimed {
    pub(crate) layout: Layout,
    /// The lock is held while this file is open.
    lock: File,
}

impl Claimed {
    /// Whether the lock file is still at its path. If the directory was removed or moved, another
    /// directory with its own host may be there now.
    pub(super) fn holds(&self) -> bool {
        let ours = self.lock.metadata().map(|it| (it.dev(), it.ino()));
        // A link is not this file, wherever it leads: no other process would lock it.
        let there = fs::symlink_metadata(self.layout.lock()).map(|it| (it.dev(), it.ino()));
        matches!((ours, there), (Ok(ours), Ok(there)) if ours == there)
    }

    /// Removes a file of this host, unless the data directory was removed or moved: then the file
    /// at this path may be of another host.
    pub(super) fn remove(&self, path: &Path) {
        if !self.holds() {
            return;
        }
        if let Err(error) = fsx::remove_file(path) {
            tracing::warn!(path = %path.display(), %error, "a file of the host cannot be removed");
        }
    }
}

/// Claims the data directory for this host, or for a restore by this process.
pub(crate) fn claim(data_dir: &Path, purpose: Purpose) -> Result<Arc<Claimed>, ServeError> {
    try_to_claim(data_dir, purpose)
        .map(Arc::new)
        .map_err(|error| error.in_dir(data_dir))
}

fn try_to_claim(data_dir: &Path, purpose: Purpose) -> Result<Claimed, ServeError> {
    let layout = Layout::new(data_dir);
    layout.create().map_err(io_error("cannot use", data_dir))?;
    refuse_network_filesystem(data_dir)?;
    let path = layout.lock();
    let mut lock = fsx::open_lock(&path).map_err(io_error("cannot open", &path))?;
    match lock.try_lock() {
        Ok(()) => {
            HostProcess::note(&mut lock, purpose).map_err(io_error("cannot write", &path))?;
            remove_left(&layout);
            Ok(Claimed { layout, lock })
        }
        Err(fs::TryLockError::WouldBlock) => Err(ServeError::Taken {
            data_dir: data_dir.to_owned(),
            by: HostProcess::of(&layout),
        }),
        Err(fs::TryLockError::Error(error)) => Err(io_error("cannot lock", &path)(error)),
    }
}

/// Removes what hosts have left that were killed while they replaced a file.
fn remove_left(layout: &Layout) {
    for dir in layout.dirs_with_replaced_files() {
        if let Err(error) = fsx::remove_left_in(&dir) {
            tracing::warn!(dir = %dir.display(), %error, "files of a killed host stay there");
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn the_files_of_another_host_at_the_old_path_are_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("data");
        let first = claim(&root, Purpose::Host).unwrap();
        let file = first.layout.host_file();
        fs::write(&file, "first").unwrap();
        fs::rename(&root, dir.path().join("moved")).unwrap();
        let second = claim(&root, Purpose::Host).unwrap();
        fs::write(&file, "second").unwrap();
        first.remove(&file);
        assert_eq!(fs::read(&file).unwrap(), b"second");
        second.remove(&file);
        assert!(!file.exists());
    }

    #[test]
    fn a_host_removes_the_new_files_of_killed_hosts() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        let dirs = layout.dirs_with_replaced_files();
        let left = dirs.map(|dir| dir.join(".new-aB3dE6"));
        for file in &left {
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            let made = File::create(file).unwrap();
            made.set_modified(std::time::UNIX_EPOCH).unwrap();
        }
        let _held = claim(dir.path(), Purpose::Host).unwrap();
        assert!(left.iter().all(|file| !file.exists()));
    }

    #[test]
    fn a_host_notices_that_a_link_is_in_place_of_its_lock() {
        let dir = tempfile::tempdir().unwrap();
        let claimed = claim(dir.path(), Purpose::Host).unwrap();
        assert!(claimed.holds());
        let (lock, moved) = (claimed.layout.lock(), dir.path().join("moved"));
        fs::rename(&lock, &moved).unwrap();
        std::os::unix::fs::symlink(&moved, &lock).unwrap();
        assert!(!claimed.holds());
    }

    #[test]
    fn a_refusal_names_the_process_that_uses_the_data_directory() {
        for (purpose, name, hint) in [
            (Purpose::Host, "another host", "claudine down"),
            (Purpose::Restore, "a restore", "until the restore has ended"),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let _held = claim(dir.path(), purpose).unwrap();
            let refused = claim(dir.path(), Purpose::Host).err().unwrap();
            let expected = format!("{name} (pid {}) uses", std::process::id());
            assert!(refused.to_string().starts_with(&expected), "{refused}");
            assert!(refused.hint().unwrap().contains(hint), "{refused}");
        }
    }
}
