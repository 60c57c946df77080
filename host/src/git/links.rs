//! Symbolic links in a repository. Git follows them when it writes refs, their logs and objects, so
//! a repository that somebody else has made could let git change or remove any file of the user.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{Git, GitError, spec::SHORT};
use crate::{aside, clock};

/// Entries of the directory that all checkouts share which may be links: git for a restrained
/// principal writes nothing there.
const MAY_BE_LINKS: [&str; 5] = ["description", "hooks", "info", "lfs", "rr-cache"];

/// Directories in which git writes below entries that a name decides.
const BY_NAME: [&str; 2] = ["logs", "refs"];

const WHY: &str = "it is a symbolic link, and git would change what it leads to; no task of an MCP \
                   client changes such a repository. Replace the link by what it leads to, or let \
                   the task work in a clone";

impl Git {
    /// Fails if git could follow a link when it changes this repository. Somebody could still make
    /// one in the moment before the command.
    pub(super) async fn refuse_links(&self) -> Result<(), GitError> {
        let repository = match &self.linked_to {
            Some(repository) => repository.clone(),
            None => Box::pin(self.common_dir()).await?,
        };
        let of = repository.clone();
        let looked = aside::run(move || first_link(&of));
        let looked = match clock::within(SHORT, looked).await {
            Some(looked) => looked.unwrap_or_else(|error| Err(io::Error::other(error))),
            None => Err(io::ErrorKind::TimedOut.into()),
        };
        match looked {
            Ok(None) => Ok(()),
            Ok(Some(path)) => Err(GitError::Read {
                path,
                source: io::Error::other(WHY),
            }),
            Err(source) => Err(GitError::Read {
                path: repository,
                source,
            }),
        }
    }
}

/// The first link in a repository that git could follow when it writes.
fn first_link(repository: &Path) -> io::Result<Option<PathBuf>> {
    for entry in fs::read_dir(repository)? {
        let entry = entry?;
        let may_be_one = MAY_BE_LINKS.iter().any(|name| entry.file_name() == *name);
        if !may_be_one && entry.file_type()?.is_symlink() {
            return Ok(Some(entry.path()));
        }
    }
    for (name, depth) in BY_NAME.map(|name| (name, usize::MAX)).into_iter().chain([
        // The directories of objects, which git makes and fills.
        ("objects", 1),
        // The directories of checkouts.
        ("worktrees", 1),
    ]) {
        let found = link_below(&repository.join(name), depth)?;
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

/// The first link in a directory, down to this depth. A directory that is missing has none.
fn link_below(dir: &Path, depth: usize) -> io::Result<Option<PathBuf>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_symlink() {
            return Ok(Some(entry.path()));
        }
        if kind.is_dir() && depth > 1 {
            let found = link_below(&entry.path(), depth - 1)?;
            if found.is_some() {
                return Ok(found);
            }
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_by_which_git_would_write_elsewhere_are_found() {
        let elsewhere = tempfile::tempdir().unwrap();
        for (link, is_refused) in [
            ("refs", true),
            ("logs", true),
            ("packed-refs", true),
            ("HEAD", true),
            ("objects", true),
            ("objects/pack", true),
            ("objects/ab", true),
            ("worktrees/a", true),
            ("refs/heads/a", true),
            ("refs/heads/a/b/c", true),
            ("logs/refs/heads/a", true),
            ("hooks", false),
            ("info", false),
            ("worktrees/a/locked", false),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let link = dir.path().join(link);
            assert_eq!(first_link(dir.path()).unwrap(), None);
            fs::create_dir_all(link.parent().unwrap()).unwrap();
            symlink(elsewhere.path(), &link).unwrap();
            let expected = is_refused.then(|| link.clone());
            assert_eq!(first_link(dir.path()).unwrap(), expected, "{link:?}");
        }
    }
}
