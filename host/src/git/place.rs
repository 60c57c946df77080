//! The repository and the checkout to which a directory belongs.

use std::{
    ffi::OsString,
    fs,
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
};

use super::{At, Git, GitError, spec::Spec};

/// The place of a directory in a repository.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    /// The directory that all checkouts of the repository share.
    pub(crate) repository: PathBuf,
    /// The git directory of this checkout: its index, and the state of operations in progress.
    pub(crate) git_dir: PathBuf,
    /// The top directory of this checkout.
    pub(crate) top: PathBuf,
    /// The directory itself, relative to the top.
    pub(crate) inside: PathBuf,
}

impl Place {
    /// The top directory, if this is the main checkout and git cannot find it from the repository.
    /// Git cannot find it if its `.git` is a link, or a file that names a directory elsewhere.
    pub(crate) fn hidden_main(&self) -> Option<&Path> {
        let is_main = self.git_dir == self.repository;
        (is_main && self.repository != self.top.join(".git")).then_some(&self.top)
    }
}

impl Git {
    /// Looks up the place of this directory.
    pub(crate) async fn place(&self) -> Result<Place, GitError> {
        // Git is asked separately for each path, because a path may contain a line end.
        Ok(Place {
            repository: self.path("--git-common-dir").await?,
            git_dir: self.path("--git-dir").await?,
            top: self.path("--show-toplevel").await?,
            inside: self.path("--show-prefix").await?,
        })
    }

    /// The directory that all checkouts of the repository share.
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

    /// The place of a directory that should be a worktree of this repository. Fails if git takes
    /// the directory for something else. There are several causes: if its `.git` is missing, the
    /// directory may count as a part of another repository around it. Settings may lead git to
    /// another directory. A task may have replaced the directory by a link, or its `.git` by the
    /// `.git` of another checkout.
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

/// Whether a directory itself is the top of its checkout, and is not a link to the top.
pub(super) fn is_top(place: &Place, dir: &Path) -> bool {
    let (Some(parent), Some(name)) = (dir.parent(), dir.file_name()) else {
        return place.top == dir;
    };
    fs::canonicalize(parent).is_ok_and(|parent| parent.join(name) == place.top)
}

/// Whether two paths lead to the same directory; `false` if a path does not exist.
pub(super) fn is_same(one: &Path, other: &Path) -> bool {
    matches!((fs::canonicalize(one), fs::canonicalize(other)), (Ok(one), Ok(other)) if one == other)
}
