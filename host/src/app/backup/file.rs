//! The destination of a backup: a file that exists completely or not at all.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::{
    fs::{CWD, RenameFlags, renameat_with},
    io::Errno,
    process::geteuid,
};

use super::{
    super::error::{AppError, ErrorKind},
    cannot,
};
use crate::{clock, fsx};

/// End of the name of an incomplete backup.
const PARTIAL: &str = ".partial";
/// The age from which an incomplete backup that nobody has locked was left by a killed command. A
/// command locks the file as soon as it has made it.
const LEFT_AFTER: Duration = Duration::from_mins(1);

/// A file that gets its name once it is complete. Until then the name ends in `.partial`, and the
/// file is locked.
pub(super) struct Target {
    path: PathBuf,
    partial: PathBuf,
    /// Whether an existing file is replaced.
    force: bool,
}

impl Target {
    pub(super) fn create(path: &Path, force: bool) -> Result<(Self, File), AppError> {
        let path = &replaceable(path, force)?;
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{}{PARTIAL}", crate::random::hex_64()));
        let partial = PathBuf::from(name);
        remove_left(path);
        let file = fsx::private()
            .write(true)
            .create_new(true)
            .open(&partial)
            .and_then(|file| fsx::unmask(&file).map(|()| file))
            .map_err(|error| cannot("write the backup", path, &error))?;
        if let Err(error) = file.try_lock() {
            // Where files cannot be locked, nobody removes what may have been left.
            tracing::debug!(%error, "the incomplete backup is not locked");
        }
        let target = Self {
            path: path.to_owned(),
            partial,
            force,
        };
        Ok((target, file))
    }

    /// Syncs the complete file, and renames it to its final name.
    pub(super) fn name(self, file: &File) -> Result<(), AppError> {
        let named = file.sync_all().and_then(|()| self.take_name());
        match named {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let refused = is_there(&self.path);
                self.give_up();
                Err(refused)
            }
            Err(error) => {
                let failed = cannot("write the backup", &self.path, &error);
                self.give_up();
                Err(failed)
            }
        }
    }

    fn take_name(&self) -> io::Result<()> {
        if self.force {
            fs::rename(&self.partial, &self.path)?;
        } else {
            take_free_name(&self.partial, &self.path)?;
        }
        File::open(directory_of(&self.path))?.sync_all()
    }

    /// Removes the partial file.
    pub(super) fn give_up(self) {
        if let Err(error) = fsx::remove_file(&self.partial) {
            tracing::warn!(path = %self.partial.display(), %error, "the incomplete backup cannot be removed");
        }
    }
}

/// Removes the incomplete backups to the same file that killed commands have left. They may be as
/// large as a whole backup.
fn remove_left(path: &Path) {
    let removed = fsx::entries(directory_of(path)).and_then(|entries| {
        let mut left = entries.iter().filter(|entry| is_left(path, entry));
        left.try_for_each(|entry| fsx::remove_file(entry))
    });
    if let Err(error) = removed {
        tracing::warn!(path = %path.display(), %error, "incomplete backups stay beside the backup");
    }
}

fn is_left(path: &Path, entry: &Path) -> bool {
    let is_its_own = || {
        let name = path.file_name()?.to_str()?;
        let rest = entry.file_name()?.to_str()?.strip_prefix(name)?;
        let number = rest.strip_prefix('.')?.strip_suffix(PARTIAL)?;
        Some(number.len() == 16 && number.bytes().all(|byte| byte.is_ascii_hexdigit()))
    };
    is_its_own().unwrap_or(false) && is_old(entry) && is_unlocked(entry)
}

/// Whether a file of this user has not changed for [`LEFT_AFTER`].
fn is_old(entry: &Path) -> bool {
    let now = clock::wall().0 / 1_000;
    fs::symlink_metadata(entry).is_ok_and(|found| {
        let changed = u64::try_from(found.mtime()).unwrap_or(0);
        let is_ours = found.is_file() && found.uid() == geteuid().as_raw();
        is_ours && now.saturating_sub(changed) > LEFT_AFTER.as_secs()
    })
}

fn is_unlocked(entry: &Path) -> bool {
    fsx::open(entry).is_ok_and(|file| file.try_lock().is_ok())
}

fn directory_of(path: &Path) -> &Path {
    let directory = path.parent().filter(|path| *path != Path::new(""));
    directory.unwrap_or(Path::new("."))
}

/// The file to replace. For a symbolic link, this is the target of the link, so that a link to the
/// newest backup stays a link. Devices, pipes and directories are never replaced, because other
/// programs use them.
fn replaceable(path: &Path, force: bool) -> Result<PathBuf, AppError> {
    // A broken symbolic link counts as an existing file.
    let Ok(found) = fs::symlink_metadata(path) else {
        return Ok(path.to_owned());
    };
    if !force {
        return Err(is_there(path));
    }
    let found = if found.is_symlink() {
        fs::metadata(path).map_err(|error| cannot("follow the link", path, &error))?
    } else {
        found
    };
    if !found.is_file() {
        let message = format!(
            "{} is not a regular file and is not replaced",
            path.display()
        );
        return Err(AppError::new(ErrorKind::Conflict, message)
            .hint("name a file; `claudine backup -` writes to standard output"));
    }
    fs::canonicalize(path).map_err(|error| cannot("write the backup", path, &error))
}

/// Refuses a file in the data directory `root`: the backup could replace a file of Claudine, such
/// as the database, or be removed with old data. Files and directories are compared by device and
/// inode, so links and other mounts of the data directory are recognised too.
pub(super) fn refuse_own(root: &Path, path: &Path) -> Result<(), AppError> {
    let unknown = |error: io::Error| cannot("write the backup", path, &error);
    // What cannot be examined is not there, or not yet: an entry that was just removed, or the file
    // that is to be written.
    let identity = |path: &Path| {
        let found = fs::metadata(path).ok()?;
        Some((found.dev(), found.ino()))
    };
    let entries = fsx::entries(root).map_err(unknown)?;
    let own: BTreeSet<(u64, u64)> = entries
        .iter()
        .map(PathBuf::as_path)
        .chain([root])
        .filter_map(identity)
        .collect();
    let real = fsx::real(&std::path::absolute(path).map_err(unknown)?);
    let mut places = real.ancestors().filter_map(identity);
    if !places.any(|place| own.contains(&place)) {
        return Ok(());
    }
    let message = format!(
        "{} belongs to the data directory {}",
        path.display(),
        root.display()
    );
    Err(AppError::new(ErrorKind::Conflict, message)
        .hint("name a file outside of the data directory"))
}

/// Renames a file if the new name is free. Some file systems can do this with one rename, others
/// only with a hard link.
fn take_free_name(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
            fs::hard_link(from, to)?;
            fs::remove_file(from)
        }
        renamed => Ok(renamed?),
    }
}

fn is_there(path: &Path) -> AppError {
    AppError::new(
        ErrorKind::Conflict,
        format!("{} already exists", path.display()),
    )
    .hint("name another file, or replace it with --force")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn only_incomplete_backups_that_killed_commands_have_left_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("backup");
        let make_old = |file: &File| file.set_modified(std::time::UNIX_EPOCH).unwrap();
        let make = |name: &str| {
            let path = dir.path().join(name);
            make_old(&File::create(&path).unwrap());
            path
        };
        let left = make("backup.0123456789abcdef.partial");
        let others = [
            make("backup.0123456789abcdef"),
            make("backup.1.partial"),
            make("another.0123456789abcdef.partial"),
        ];
        // Another command, which writes nothing for long.
        let (other, in_progress) = Target::create(&path, false).unwrap();
        make_old(&in_progress);
        let (target, file) = Target::create(&path, false).unwrap();
        assert!(!left.exists());
        assert!(others.iter().all(|other| other.exists()));
        other.name(&in_progress).unwrap();
        assert!(path.exists());
        target.give_up();
        drop(file);
        // One that was just made may not be locked yet.
        let fresh = dir.path().join("backup.fedcba9876543210.partial");
        File::create(&fresh).unwrap();
        let (target, _file) = Target::create(&path, true).unwrap();
        assert!(fresh.exists());
        target.give_up();
    }
}
