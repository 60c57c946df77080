//! Finds git directories without git, whatever they are called.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::place::{common_dir_of, git_dir_of, is_pointer};
use crate::fsx;

/// What a directory is called, or what a file is called that leads to it, in a checkout.
const USUAL: &str = ".git";

/// What a git directory that belongs to no other has.
const PARTS: [&str; 3] = ["HEAD", "objects", "refs"];

/// Whether the directory, or a directory above it, has a `.git`. Does not use git, which need not
/// be installed for directories without a repository.
pub(crate) fn is_within_repository(dir: &Path) -> bool {
    dir.ancestors().any(|dir| dir.join(USUAL).exists())
}

/// The git directories to which this directory leads, or one of which it is: those of a checkout,
/// and the ones that checkouts share. Those that are called `.git`, or are in one, are left out.
pub(crate) fn unusual_git_dirs_at(dir: &Path) -> Vec<PathBuf> {
    let own = dir.join(USUAL);
    let real = fs::canonicalize(&own).ok();
    let pointed = match &real {
        Some(real) if real.is_dir() => Some(real.clone()),
        Some(real) if is_pointer(real) => git_dir_of(dir),
        _ => None,
    };
    let itself = PARTS.iter().all(|part| fsx::is_taken(&dir.join(part)));
    let itself = itself.then(|| dir.to_owned());
    let mut found = Vec::new();
    for git_dir in pointed.into_iter().chain(itself) {
        if !has_head(&git_dir) {
            continue;
        }
        let note = git_dir.join("commondir");
        let common = (fsx::is_missing(&note) || is_pointer(&note)).then(|| common_dir_of(&git_dir));
        let both = [fs::canonicalize(&git_dir).ok(), common.and_then(Result::ok)];
        let both = both.into_iter().flatten();
        found.extend(both.filter(|it| has_head(it) && !is_usual(it)));
    }
    found
}

fn has_head(git_dir: &Path) -> bool {
    fsx::is_taken(&git_dir.join("HEAD"))
}

fn is_usual(git_dir: &Path) -> bool {
    git_dir.iter().any(|name| name == USUAL)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::{collections::BTreeSet, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn git_directories_with_unusual_names_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let make = |git_dir: &str| {
            for part in ["objects", "refs", "worktrees/main"] {
                fs::create_dir_all(root.join(git_dir).join(part)).unwrap();
            }
            for head in ["HEAD", "worktrees/main/HEAD"] {
                fs::write(root.join(git_dir).join(head), "ref: refs/heads/main\n").unwrap();
            }
            let note = root.join(git_dir).join("worktrees/main/commondir");
            fs::write(note, "../..\n").unwrap();
        };
        make("p/.bare");
        make("usual/.git");
        make("own.git");
        for path in ["p/main", "linked", "p/plain", "usual/tree"] {
            fs::create_dir_all(root.join(path)).unwrap();
        }
        for (file, git_dir) in [
            ("p/.git", "./.bare"),
            ("p/main/.git", "../.bare/worktrees/main"),
            ("usual/tree/.git", "../.git/worktrees/main"),
            ("p/plain/.git", "../../p"),
        ] {
            fs::write(root.join(file), format!("gitdir: {git_dir}\n")).unwrap();
        }
        symlink("../own.git", root.join("linked/.git")).unwrap();
        let check = |dir: &str, expected: &[&str]| {
            let found = unusual_git_dirs_at(&root.join(dir)).into_iter();
            let found: BTreeSet<PathBuf> = found.collect();
            let expected = expected.iter().map(|path| root.join(path));
            assert_eq!(found, expected.collect(), "{dir}");
        };
        check("p", &["p/.bare"]);
        check("p/.bare", &["p/.bare"]);
        check("p/main", &["p/.bare", "p/.bare/worktrees/main"]);
        check("linked", &["own.git"]);
        check("own.git", &["own.git"]);
        for none in ["usual", "usual/.git", "usual/tree", "p/plain", "missing"] {
            check(none, &[]);
        }
    }
}
