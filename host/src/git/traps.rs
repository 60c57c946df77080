//! Symbolic links in a repository. Git follows them when it writes refs, their logs and objects, so
//! a repository that somebody else has made could let git change or remove any file of the user. A
//! pipe or a device in it would let git wait or read for ever.

use std::{
    fs, io,
    os::unix::fs::FileTypeExt,
    path::{Path, PathBuf},
};

use super::{Git, GitError, spec::SHORT};
use crate::{aside, clock};

/// Entries of the directory that all checkouts share which may be links: git for a restrained
/// principal writes nothing there.
const MAY_BE_LINKS: [&str; 5] = ["description", "hooks", "info", "lfs", "rr-cache"];

/// Directories in which git writes below entries that a name decides.
const BY_NAME: [&str; 2] = ["logs", "refs"];

/// Directories with files that git reads whatever it does.
const READ: [&str; 2] = ["info", "objects/info"];

/// What git must not meet in a repository.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fault {
    Link,
    /// A pipe or a device.
    Endless,
}

impl Fault {
    fn why(self) -> &'static str {
        match self {
            Self::Link => {
                "it is a symbolic link, and git would change what it leads to; no task of an MCP \
                 client changes such a repository. Replace the link by what it leads to, or let \
                 the task work in a clone"
            }
            Self::Endless => {
                "it is a pipe or a device, and git could read it for ever; no task of an MCP \
                 client changes such a repository. Remove it, or let the task work in a clone"
            }
        }
    }
}

impl Git {
    /// Fails if git could follow a link when it changes this repository, or read something without
    /// an end. Somebody could still make either in the moment before the command.
    pub(super) async fn refuse_links(&self) -> Result<(), GitError> {
        let repository = match &self.linked_to {
            Some(repository) => repository.clone(),
            None => Box::pin(self.common_dir()).await?,
        };
        let of = repository.clone();
        let looked = aside::run(move || first_fault(&of));
        let looked = match clock::within(SHORT, looked).await {
            Some(looked) => looked.unwrap_or_else(|error| Err(io::Error::other(error))),
            None => Err(io::ErrorKind::TimedOut.into()),
        };
        match looked {
            Ok(None) => Ok(()),
            Ok(Some((path, fault))) => Err(GitError::Read {
                path,
                source: io::Error::other(fault.why()),
            }),
            Err(source) => Err(GitError::Read {
                path: repository,
                source,
            }),
        }
    }
}

/// The first entry of a repository that git must not meet when it changes something.
fn first_fault(repository: &Path) -> io::Result<Option<(PathBuf, Fault)>> {
    for entry in fs::read_dir(repository)? {
        let entry = entry?;
        let may_be_one = MAY_BE_LINKS.iter().any(|name| entry.file_name() == *name);
        if !may_be_one && entry.file_type()?.is_symlink() {
            return Ok(Some((entry.path(), Fault::Link)));
        }
        if is_endless(&entry.path()) {
            return Ok(Some((entry.path(), Fault::Endless)));
        }
    }
    for dir in READ.map(|name| repository.join(name)) {
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        let mut paths = entries.map(|entry| entry.path());
        if let Some(path) = paths.find(|path| is_endless(path)) {
            return Ok(Some((path, Fault::Endless)));
        }
    }
    for (name, depth) in BY_NAME.map(|name| (name, usize::MAX)).into_iter().chain([
        // The directories of objects, which git makes and fills.
        ("objects", 1),
        // The directories of checkouts.
        ("worktrees", 1),
    ]) {
        if let Some(link) = link_below(&repository.join(name), depth)? {
            return Ok(Some((link, Fault::Link)));
        }
    }
    Ok(None)
}

/// Whether a path leads to a pipe or a device. A socket cannot be opened.
fn is_endless(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| {
        let kind = found.file_type();
        kind.is_fifo() || kind.is_char_device() || kind.is_block_device()
    })
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
            assert_eq!(first_fault(dir.path()).unwrap(), None);
            fs::create_dir_all(link.parent().unwrap()).unwrap();
            symlink(elsewhere.path(), &link).unwrap();
            let expected = is_refused.then(|| (link.clone(), Fault::Link));
            assert_eq!(first_fault(dir.path()).unwrap(), expected, "{link:?}");
        }
    }

    #[test]
    fn pipes_and_devices_that_git_would_read_are_found() {
        for (name, target) in [
            ("info/attributes", "/dev/zero"),
            ("info/exclude", "/dev/null"),
            ("objects/info/alternates", "/dev/zero"),
            ("info", "/dev/zero"),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            symlink(target, &path).unwrap();
            let expected = Some((path, Fault::Endless));
            assert_eq!(first_fault(dir.path()).unwrap(), expected, "{name}");
        }
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("shallow");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RWXU).unwrap();
        let expected = Some((pipe, Fault::Endless));
        assert_eq!(first_fault(dir.path()).unwrap(), expected);
    }
}
