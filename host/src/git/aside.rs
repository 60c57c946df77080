//! Directories, in the git directory of a checkout, for files that are not in their places while
//! the checkout is updated (see `forward`).

use std::{
    ffi::OsStr,
    fs, io,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    time::Duration,
};

use tempfile::TempDir;

use crate::fsx;

/// The beginning of the names of directories, in the git directory of a checkout, for files that
/// are not in their places.
const ASIDE: &str = "claudine.files.";
/// The directory for these files in such a directory. Two temporary indexes are beside it.
pub(super) const FILES: &str = "files";

/// The beginning of the names that such directories get if they have changes of a person. They are
/// never removed.
const KEPT: &str = "claudine.kept.";

/// The age at which a directory for files that are not in their places is removed if it was left.
/// If the host was killed in the very moment in which a person had saved a file, the directory has
/// that file.
const LEFT_AFTER: Duration = Duration::from_hours(30 * 24);

/// Whether a directory with this name, in a git directory, has files of a checkout.
pub(super) fn has_files_of_checkout(name: &[u8]) -> bool {
    [ASIDE, KEPT]
        .iter()
        .any(|it| name.starts_with(it.as_bytes()))
}

/// Keeps a directory for files that are not in their places. Returns its new path.
pub(super) fn keep(aside: TempDir) -> PathBuf {
    let left = aside.keep();
    let name = left.file_name().and_then(OsStr::to_str).unwrap_or_default();
    let number = name.strip_prefix(ASIDE).unwrap_or(name);
    let kept = left.with_file_name(format!("{KEPT}{number}"));
    match fs::rename(&left, &kept) {
        Ok(()) => kept,
        Err(error) => {
            tracing::warn!(path = %left.display(), %error, "a directory cannot be renamed");
            left
        }
    }
}

/// The directories for files that are not in their places. Killed hosts have left those that are
/// not in use.
fn dirs_aside(git_dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = fsx::entries(git_dir)?;
    paths.retain(|path| {
        let name = path.file_name().unwrap_or_default().as_bytes();
        name.starts_with(ASIDE.as_bytes())
    });
    Ok(paths)
}

/// Whether one of these files is not in its place in the checkout `top`, and a killed host has left
/// it aside.
pub(super) fn is_left_aside(git_dir: &Path, top: &Path, files: &[String]) -> io::Result<bool> {
    let dirs = dirs_aside(git_dir)?;
    let is_aside = |file: &String| {
        let mut places = dirs.iter().map(|dir| dir.join(FILES).join(file));
        !fsx::is_taken(&top.join(file)) && places.any(|place| fsx::is_taken(&place))
    };
    Ok(files.iter().any(is_aside))
}

/// Makes a directory for files that are not in their places, and removes old ones that killed hosts
/// have left.
pub(super) fn make_aside(git_dir: &Path) -> io::Result<TempDir> {
    if let Err(error) = fsx::remove_older(git_dir, ASIDE, LEFT_AFTER) {
        tracing::warn!(
            path = %git_dir.display(), %error,
            "old files that killed hosts have left cannot be removed"
        );
    }
    let aside = tempfile::Builder::new().prefix(ASIDE).tempdir_in(git_dir)?;
    fs::create_dir(aside.path().join(FILES))?;
    Ok(aside)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn only_old_directories_of_killed_hosts_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let make = |name: &str| {
            let path = dir.path().join(name);
            fs::create_dir(&path).unwrap();
            path
        };
        let (left, used) = (make("claudine.files.1"), make("claudine.files.2"));
        let opened = fs::File::open(&left).unwrap();
        opened.set_modified(std::time::UNIX_EPOCH).unwrap();
        let fresh = make_aside(dir.path()).unwrap();
        assert!(!left.exists() && used.exists());
        assert!(fresh.path().join(FILES).exists());
    }
}
