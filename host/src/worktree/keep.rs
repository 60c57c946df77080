//! Commits that a worktree leaves on no branch: commits from before an amend, a rebase or a reset,
//! and commits that were made without a branch. As long as a checkout exists, git keeps them for a
//! while. When a worktree is removed, git forgets them. So they get a ref before the removal.

use std::time::Duration;

use claudine_domain::time::millis;

use super::{WorktreeError, record::Record};
use crate::{clock, git::Git};

/// Minimum time for which such commits are kept. It is as long as git itself keeps them for a
/// checkout.
const KEPT_FOR: Duration = Duration::from_hours(30 * 24);

impl Record {
    /// The ref that keeps the commits that this worktree left on no branch.
    pub(super) fn kept_ref(&self) -> String {
        format!("refs/claudine/{}", self.task)
    }

    /// Keeps the commits of the worktree in which `git` runs that are on no branch. Returns their
    /// ref if there are any.
    pub(super) async fn keep_abandoned(&self, git: &Git) -> Result<Option<String>, WorktreeError> {
        let name = self.kept_ref();
        let message = format!("Commits of {} that were on no branch", self.task);
        let known = [&self.base_commit];
        let is_kept = git.keep_abandoned(&name, &known, &message).await?;
        Ok(is_kept.then_some(name))
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
