//! Pipes and devices among the files that git reads in each repository. Git would wait for a pipe,
//! and would fill its memory from `/dev/zero`. It reads these files before it can be asked where
//! they are. So if a client may have chosen the repository, they are looked for without git.
//!
//! Not all files are found that a hostile repository can let git read: it may name others in its
//! settings, in its alternates and in its refs.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{
    At, Git, GitError,
    links::is_endless,
    place::{common_dir_of, git_dir_of, is_pointer},
    spec::SHORT,
};
use crate::clock;

/// Files of a git directory, or of the directory that all checkouts share, that git reads whatever
/// it does.
const READ: [&str; 11] = [
    "HEAD",
    "commondir",
    "config",
    "config.worktree",
    "gitdir",
    "index",
    "info/attributes",
    "info/exclude",
    "objects/info/alternates",
    "packed-refs",
    "shallow",
];

/// Files of each checkout's git directory that git reads to list the checkouts.
const READ_TO_LIST: [&str; 4] = ["HEAD", "commondir", "gitdir", "locked"];

const WHY: &str = "it is a pipe or a device, and git could read it for ever; git does nothing \
                   there for an MCP client. Remove it, or name another directory";

impl Git {
    /// Fails if git works for a restrained principal and would read a pipe or a device here.
    /// Somebody could still make one in the moment before the command.
    pub(super) async fn refuse_endless(&self) -> Result<(), GitError> {
        if !self.is_restrained() {
            return Ok(());
        }
        let at = self.at.clone();
        let looked = self.look_at_files(move |_| first_endless(&at));
        let unread = |path, source| GitError::Read { path, source };
        match clock::within(SHORT, looked).await {
            Some(Ok(None)) => Ok(()),
            Some(Ok(Some(path))) => Err(unread(
                path,
                io::Error::new(io::ErrorKind::InvalidData, WHY),
            )),
            Some(Err(error)) => Err(error),
            None => Err(unread(
                self.dir().to_owned(),
                io::ErrorKind::TimedOut.into(),
            )),
        }
    }
}

/// The first pipe or device that git would read in a place.
fn first_endless(at: &At) -> Option<PathBuf> {
    let dir = match at {
        At::Repository(dir) => return endless_in(dir),
        At::Checkout(dir) => fs::canonicalize(dir).unwrap_or_else(|_| dir.clone()),
    };
    dir.ancestors().find_map(|dir| {
        // Git looks for a repository in `.git`, and whether the directory itself is one.
        let looked_at = [".git", "HEAD", "commondir"];
        first_of(dir, &looked_at).or_else(|| endless_in(&git_dir_at(dir)?))
    })
}

/// The git directory that the `.git` of a directory is, or names.
fn git_dir_at(dir: &Path) -> Option<PathBuf> {
    let real = fs::canonicalize(dir.join(".git")).ok()?;
    if real.is_dir() {
        return Some(real);
    }
    is_pointer(&real).then(|| git_dir_of(dir)).flatten()
}

/// The first pipe or device that git would read in a git directory, or in the one that all
/// checkouts share.
fn endless_in(git_dir: &Path) -> Option<PathBuf> {
    let own = first_of(git_dir, &READ);
    if own.is_some() {
        return own;
    }
    let note = fs::canonicalize(git_dir.join("commondir"));
    let common = match note {
        Ok(note) if is_pointer(&note) => common_dir_of(git_dir).ok()?,
        _ => git_dir.to_owned(),
    };
    first_of(&common, &READ).or_else(|| {
        let checkouts = fs::read_dir(common.join("worktrees")).ok()?;
        let mut dirs = checkouts.flatten().map(|checkout| checkout.path());
        dirs.find_map(|dir| first_of(&dir, &READ_TO_LIST))
    })
}

fn first_of(dir: &Path, names: &[&str]) -> Option<PathBuf> {
    let mut paths = names.iter().map(|name| dir.join(name));
    paths.find(|path| is_endless(path))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::os::unix::fs::symlink;

    use super::*;

    /// A repository in `main`, which has another checkout in `beside`. The `.git` of `named` names
    /// the git directory of `main`.
    fn repository() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(dir.path()).unwrap();
        let write = |path: &str, text: &str| {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        for name in READ.iter().filter(|name| **name != "commondir") {
            write(&format!("main/.git/{name}"), "");
        }
        write("main/sub/file", "");
        write("main/.git/worktrees/a/HEAD", "");
        write("main/.git/worktrees/a/commondir", "../..\n");
        write("beside/.git", "gitdir: ../main/.git/worktrees/a\n");
        write("named/.git", "gitdir: ../main/.git\n");
        (dir, root)
    }

    /// Replaces a file by a link to a device.
    fn make_endless(path: &Path) {
        if path.exists() {
            fs::remove_file(path).unwrap();
        }
        symlink("/dev/zero", path).unwrap();
    }

    #[test]
    fn files_that_git_reads_are_looked_at_from_each_place_in_a_repository() {
        for name in READ {
            let (_dir, root) = repository();
            let git_dir = root.join("main/.git");
            let checkout = |name: &str| At::Checkout(root.join(name));
            let places = [
                checkout("main"),
                checkout("main/sub"),
                checkout("beside"),
                checkout("named"),
                At::Repository(git_dir.clone()),
                At::Repository(git_dir.join("worktrees/a")),
            ];
            for place in &places {
                assert_eq!(first_endless(place), None, "{name} {place:?}");
            }
            make_endless(&git_dir.join(name));
            for place in &places {
                let found = first_endless(place).unwrap();
                let found = fs::canonicalize(found.parent().unwrap()).unwrap();
                let of = git_dir.join(name);
                assert_eq!(found, of.parent().unwrap(), "{name} {place:?}");
            }
        }
    }

    #[test]
    fn a_pipe_or_a_device_that_leads_git_to_a_repository_is_found() {
        for (path, from) in [
            ("beside/.git", "beside"),
            ("main/.git/worktrees/a/commondir", "beside"),
            ("main/.git/worktrees/a/HEAD", "beside"),
            ("main/.git/worktrees/a/gitdir", "main"),
            ("main/.git/worktrees/a/locked", "main/sub"),
            ("main/HEAD", "main/sub"),
            ("commondir", "main/sub"),
        ] {
            let (_dir, root) = repository();
            make_endless(&root.join(path));
            let found = first_endless(&At::Checkout(root.join(from))).unwrap();
            let found_in = fs::canonicalize(found.parent().unwrap()).unwrap();
            let expected = root.join(path);
            assert_eq!(found_in, expected.parent().unwrap(), "{path}");
            assert_eq!(found.file_name(), expected.file_name(), "{path}");
        }
        let (_dir, root) = repository();
        let pipe = root.join("main/.git/shallow");
        fs::remove_file(&pipe).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RWXU).unwrap();
        assert_eq!(first_endless(&At::Checkout(root.join("main"))), Some(pipe));
    }
}
