//! Directories for files that are not in their places while a checkout is updated (see `forward`).
//! They are in the directory that all checkouts of a repository share, because git removes the git
//! directory of a linked checkout together with the checkout.

use std::{
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
    time::Duration,
};

use tempfile::TempDir;

use super::place::common_dir_of;
use crate::{fsx, random};

/// The beginning of the names of directories for files that are not in their places.
const ASIDE: &str = "claudine.files.";
/// The directory for these files in such a directory. Temporary indexes are beside it.
pub(super) const FILES: &str = "files";
/// The copy of the index in such a directory. It gets the entries of the new commit.
pub(super) const INDEX: &str = "index";
/// The note of the replaced files in such a directory. It is empty until the first of them is
/// replaced.
pub(super) const NOTE: &str = "replaced.json";

/// The beginning of the names that such directories get if they have changes of a person. They are
/// never removed.
const KEPT: &str = "claudine.kept.";

/// The age at which a directory for files that are not in their places is removed if it was left.
/// If the host was killed in the very moment in which a person had saved a file, the directory has
/// that file.
const LEFT_AFTER: Duration = Duration::from_hours(30 * 24);

/// A new name of a directory for files that are not in their places.
pub(super) fn name() -> String {
    format!("{ASIDE}{}", random::hex_64())
}

/// Whether a file contains the name of such a directory, or may contain it because it cannot be
/// read. Then it is, or may be, the lock with which a host has locked an index (see `index_lock`).
pub(super) fn may_contain_name(file: &Path) -> bool {
    let mut start = [0; ASIDE.len()];
    match fs::File::open(file).and_then(|mut file| file.read_exact(&mut start)) {
        Ok(()) => start == *ASIDE.as_bytes(),
        // A shorter file has no room for a name.
        Err(error) => error.kind() != io::ErrorKind::UnexpectedEof,
    }
}

/// Keeps a directory for files that are not in their places. Returns its new path.
pub(super) fn keep(aside: PathBuf) -> PathBuf {
    let name = aside.file_name().unwrap_or_default().display().to_string();
    let number = name.strip_prefix(ASIDE).unwrap_or(&name);
    let kept = aside.with_file_name(format!("{KEPT}{number}"));
    match fs::rename(&aside, &kept) {
        Ok(()) => kept,
        Err(error) => {
            tracing::warn!(path = %aside.display(), %error, "a directory cannot be renamed");
            aside
        }
    }
}

/// Whether one of these files is not in its place in the checkout `top`, and a killed host has left
/// it in the directory with this name. `git_dir` is the git directory of the checkout.
pub(super) fn is_left_aside(
    git_dir: &Path,
    name: &str,
    top: &Path,
    files: &[String],
) -> io::Result<bool> {
    let dir = common_dir_of(git_dir)?.join(name).join(FILES);
    let is_aside =
        |file: &String| !fsx::is_taken(&top.join(file)) && fsx::is_taken(&dir.join(file));
    Ok(files.iter().any(is_aside))
}

/// Makes the directory with this name for files that are not in their places, and removes old ones
/// that killed hosts have left. `git_dir` is the git directory of the checkout.
pub(super) fn make_aside(git_dir: &Path, name: &str) -> io::Result<TempDir> {
    let repository = common_dir_of(git_dir)?;
    if let Err(error) = fsx::remove_older(&repository, ASIDE, LEFT_AFTER) {
        tracing::warn!(
            path = %repository.display(), %error,
            "old files that killed hosts have left cannot be removed"
        );
    }
    let mut builder = tempfile::Builder::new();
    let aside = builder.prefix(name).rand_bytes(0).tempdir_in(repository)?;
    fs::create_dir(aside.path().join(FILES))?;
    fs::write(aside.path().join(NOTE), "[]")?;
    Ok(aside)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    /// Otherwise the lock of a host could be removed, for example for lack of descriptors.
    #[test]
    fn a_file_that_cannot_be_read_may_contain_a_name() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("index.lock");
        let check = |text: &str, expected: bool| {
            fs::write(&file, text).unwrap();
            assert_eq!(may_contain_name(&file), expected, "{text:?}");
        };
        check("", false);
        check("claudine", false);
        check(&name(), true);
        check("DIRC, the index of a git that was killed", false);
        // A directory can be opened and not be read.
        assert!(may_contain_name(dir.path()));
    }

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
        let fresh = make_aside(dir.path(), &name()).unwrap();
        assert!(!left.exists() && used.exists());
        assert!(fresh.path().join(FILES).exists());
    }
}
