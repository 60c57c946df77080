//! Where a directory lies, in which checkout of which repository.

use std::{
    ffi::OsString,
    fs,
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
};

use super::{At, Git, GitError, spec::Spec};

/// A directory as it lies in a repository.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    /// What all checkouts of the repository share.
    pub(crate) repository: PathBuf,
    /// What this checkout alone has: its index, and what is under way in it.
    pub(crate) git_dir: PathBuf,
    /// The top of this checkout.
    pub(crate) top: PathBuf,
    /// The directory below the top.
    pub(crate) inside: PathBuf,
}

impl Place {
    /// The repository's first checkout, if git cannot find it from the repository: if `.git` is a
    /// link, or a file that names a directory elsewhere.
    pub(crate) fn hidden_main(&self) -> Option<&Path> {
        let is_main = self.git_dir == self.repository;
        (is_main && self.repository != self.top.join(".git")).then_some(&self.top)
    }
}

impl Git {
    /// Where the directory lies.
    pub(crate) async fn place(&self) -> Result<Place, GitError> {
        // One question for each: a path may have a line's end in it.
        Ok(Place {
            repository: self.path("--git-common-dir").await?,
            git_dir: self.path("--git-dir").await?,
            top: self.path("--show-toplevel").await?,
            inside: self.path("--show-prefix").await?,
        })
    }

    /// What all checkouts of the repository share.
    pub(super) async fn common_dir(&self) -> Result<PathBuf, GitError> {
        match &self.at {
            At::Repository(dir) => Ok(dir.clone()),
            At::Checkout(_) => self.path("--git-common-dir").await,
        }
    }

    async fn path(&self, which: &str) -> Result<PathBuf, GitError> {
        let spec = Spec::reads(["rev-parse", "--path-format=absolute", which]);
        let mut output = self.output(&spec).await?;
        if output.last() == Some(&b'\n') {
            output.pop();
        }
        if which == "--show-prefix" && output.last() == Some(&b'/') {
            output.pop();
        }
        Ok(OsString::from_vec(output).into())
    }

    /// The place of a directory that is to be a worktree of this repository. Refused if git takes
    /// it for something else: without its `.git` it may be a part of a repository that it happens
    /// to lie in; settings may lead git from it to another directory; and a task may have put a
    /// link in its place, or the `.git` of somebody's own checkout.
    pub(crate) async fn own_place(&self, repository: &Path) -> Result<Place, GitError> {
        let place = match self.place().await {
            Err(GitError::Failed { said, .. }) if said.contains("not a git repository") => {
                return Err(GitError::NotItsOwn {
                    dir: self.dir().to_owned(),
                    top: self.dir().to_owned(),
                });
            }
            place => place?,
        };
        let is_worktree =
            is_same(&place.repository, repository) && place.git_dir != place.repository;
        if is_worktree && is_top(&place, self.dir()) {
            return Ok(place);
        }
        Err(GitError::NotItsOwn {
            dir: self.dir().to_owned(),
            top: place.top,
        })
    }
}

/// Whether a directory, and not what a link in its place leads to, is the top of its checkout.
pub(super) fn is_top(place: &Place, dir: &Path) -> bool {
    let (Some(parent), Some(name)) = (dir.parent(), dir.file_name()) else {
        return place.top == dir;
    };
    fs::canonicalize(parent).is_ok_and(|parent| parent.join(name) == place.top)
}

/// Whether two paths lead to one directory. A path that leads nowhere is the same as none.
pub(super) fn is_same(one: &Path, other: &Path) -> bool {
    matches!((fs::canonicalize(one), fs::canonicalize(other)), (Ok(one), Ok(other)) if one == other)
}
