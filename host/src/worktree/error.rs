//! Why a worktree cannot be had.

use std::{io, path::PathBuf};

use claudine_domain::id::TaskId;

use crate::git::GitError;

#[derive(Debug, thiserror::Error)]
pub(crate) enum WorktreeError {
    #[error(transparent)]
    Git(#[from] GitError),
    #[error("a worktree is made of a git repository, and {} is in none", dir.display())]
    NoRepository { dir: PathBuf },
    #[error("the repository of {} has no commit yet, so there is nothing to make a worktree of", dir.display())]
    NoCommit { dir: PathBuf },
    #[error("`{branch}` cannot be the name of a branch")]
    BadBranch { branch: String },
    #[error("branch `{branch}` exists already")]
    BranchExists { branch: String },
    #[error("base `{base}` does not exist in the repository")]
    NoBase { base: String },
    #[error("--merge auto needs a branch to merge into, and {base}")]
    NoBranchToMergeInto { base: String },
    #[error("--merge auto would change {}, where `{branch}` is checked out, and that has changes that are not committed: {files}", checkout.display())]
    Dirty {
        checkout: PathBuf,
        branch: String,
        files: String,
    },
    #[error("--merge pr needs a remote to push to, and the repository has none")]
    NoRemote,
    #[error("its submodules cannot be checked out: {0}")]
    Submodules(GitError),
    #[error("task {task} has no worktree")]
    NoWorktree { task: TaskId },
    #[error("branch `{branch}` is gone: all that was on it is merged, or somebody took it away")]
    BranchGone { branch: String },
    #[error("{what} {}: {source}", path.display())]
    Io {
        what: &'static str,
        path: PathBuf,
        source: io::Error,
    },
}

impl WorktreeError {
    pub(crate) fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NoRepository { .. } => Some(
                "`git init` makes one; without --worktree the task runs in the directory itself",
            ),
            Self::BranchExists { .. } => {
                Some("choose another name, or leave --branch out for one of the task's own")
            }
            Self::NoBranchToMergeInto { .. } => {
                Some("name a branch with --base, or choose --merge manual, pr or patch")
            }
            Self::Dirty { .. } => {
                Some("commit or stash them, or choose --merge manual, pr or patch")
            }
            Self::NoRemote => {
                Some("`git remote add origin URL` adds one; --merge manual leaves the branch here")
            }
            Self::Git(GitError::NotInstalled) => Some("install git, or leave --worktree out"),
            _ => None,
        }
    }

    /// Something that is there already is in the way.
    pub(crate) fn is_conflict(&self) -> bool {
        matches!(
            self,
            Self::BranchExists { .. }
                | Self::Dirty { .. }
                | Self::NoWorktree { .. }
                | Self::BranchGone { .. }
        )
    }

    /// It may go well the next time: nothing of it is wrong with what was asked.
    pub(crate) fn is_passing(&self) -> bool {
        matches!(
            self,
            Self::Io { .. }
                // They come from elsewhere, and that may not answer.
                | Self::Submodules(_)
                | Self::Git(GitError::Timeout { .. } | GitError::Spawn(_))
        )
    }
}
