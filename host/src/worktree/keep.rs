//! Keeps the commits that a worktree leaves on no branch: commits from before an amend, a rebase or
//! a reset, and commits that were made without a branch. As long as a checkout exists, git keeps
//! such commits for a while. When a worktree is removed, git forgets them, so they get a ref before
//! the removal.

use std::{path::Path, time::Duration};

use claudine_domain::{id::TaskId, time::millis};

use super::{WorktreeError, record::Record};
use crate::{
    clock,
    git::{Commit, Git, Keeping},
};

/// Minimum time for which the ref keeps the commits. Git itself keeps such commits of a checkout
/// for the same time.
const KEPT_FOR: Duration = Duration::from_hours(30 * 24);

impl Record {
    /// The ref that keeps the commits that this worktree left on no branch.
    pub(super) fn kept_ref(&self) -> String {
        kept_ref(self.task)
    }

    fn keeping(&self) -> Keeping {
        keeping(self.task, vec![self.base_commit.clone()])
    }

    /// Keeps the worktree's commits that are on no branch. `git` must run in the worktree. Returns
    /// the ref of these commits if there are any.
    pub(super) async fn keep_abandoned(&self, git: &Git) -> Result<Option<String>, WorktreeError> {
        let is_kept = git.keep_abandoned(&self.keeping()).await?;
        Ok(is_kept.then(|| self.kept_ref()))
    }

    /// Keeps a commit of what is only in the index of the worktree. `git` must run in the worktree,
    /// and have an identity. In an open merge, the index has what git has merged, so nothing of it
    /// is kept.
    pub(super) async fn keep_staged(&self, git: &Git) -> Result<(), WorktreeError> {
        if git.is_merging().await? {
            return Ok(());
        }
        Ok(git.keep_staged(&self.keeping()).await?)
    }

    /// Keeps a commit of the changes in the worktree that are not committed. `git` must run in the
    /// worktree. Returns the ref of this commit if there are changes.
    pub(super) async fn keep_changes(&self, git: &Git) -> Result<Option<String>, WorktreeError> {
        let git = git.clone().with_identity().await?;
        let is_kept = git.keep_changes(&self.keeping()).await?;
        Ok(is_kept.then(|| self.kept_ref()))
    }

    /// Makes git forget the worktree at `path` if its directory is missing, and keeps the commits
    /// of the worktree that are on no branch. Returns the ref of these commits if there are any.
    pub(super) async fn forget_missing(
        &self,
        repository: &Git,
        path: &Path,
    ) -> Result<Option<String>, WorktreeError> {
        let is_kept = repository.forget_missing(path, &self.keeping()).await?;
        Ok(is_kept.then(|| self.kept_ref()))
    }

    /// Deletes the ref once its commits have been kept long enough. Returns whether the ref still
    /// exists.
    pub(super) async fn has_kept(&self, repository: &Git) -> Result<bool, WorktreeError> {
        let name = self.kept_ref();
        let Some(kept) = repository.kept_commits(&name).await? else {
            return Ok(false);
        };
        let age = clock::wall().0.saturating_sub(kept.since.0);
        if age < millis(KEPT_FOR) {
            return Ok(true);
        }
        repository.forget_commits(&name, &kept).await?;
        Ok(false)
    }
}

/// Does the same as [`Record::forget_missing`] for a task whose record is lost.
pub(super) async fn forget_missing(
    repository: &Git,
    task: TaskId,
    path: &Path,
) -> Result<(), WorktreeError> {
    let keeping = keeping(task, Vec::new());
    repository.forget_missing(path, &keeping).await?;
    Ok(())
}

fn kept_ref(task: TaskId) -> String {
    format!("refs/claudine/{task}")
}

fn keeping(task: TaskId, known: Vec<Commit>) -> Keeping {
    Keeping {
        name: kept_ref(task),
        known,
        message: format!("Commits of {task} that were on no branch"),
    }
}
