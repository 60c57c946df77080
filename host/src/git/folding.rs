//! Finds out whether a file system takes names that differ only in case for the same name.
//!
//! Git notes this in `core.ignoreCase` when it makes a repository. If the repository was made on
//! another machine, or copied, the note may be wrong, and git would overlook a file whose name
//! differs from that of a committed file only in case.

use std::{fs, os::unix::fs::MetadataExt, path::Path};

/// Whether names that differ only in case denote the same file in the checkout to which the
/// directory belongs; `false` if this is unknown, because git then overlooks no file.
pub(super) fn folds_case(dir: &Path) -> bool {
    let mut own = dir.ancestors().filter_map(|dir| {
        let own = fs::symlink_metadata(dir.join(".git")).ok()?;
        Some((own, fs::symlink_metadata(dir.join(".GIT"))))
    });
    own.next().is_some_and(|(own, other)| {
        // A file with several names may have both names.
        let has_one_name = own.is_dir() || own.nlink() == 1;
        has_one_name
            && other.is_ok_and(|other| (other.dev(), other.ino()) == (own.dev(), own.ino()))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn a_second_name_of_a_file_does_not_count_as_the_same_name() {
        let dir = tempfile::tempdir().unwrap();
        let [own, other] = [".git", ".GIT"].map(|name| dir.path().join(name));
        assert!(!folds_case(dir.path()));
        fs::write(&own, "gitdir: elsewhere\n").unwrap();
        assert!(!folds_case(dir.path()));
        fs::hard_link(&own, &other).unwrap();
        assert!(!folds_case(dir.path()));
    }
}
