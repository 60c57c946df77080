//! Commits that a worktree leaves on no branch: those before an amend, a rebase or a reset, or made
//! without a branch. In a checkout git keeps them for a while; with a worktree it forgets them. So
//! they get a ref before the worktree is removed.

use std::time::Duration;

use claudine_domain::time::millis;

use super::{WorktreeError, record::Record};
use crate::{clock, git::Git};

/// The time for which they are kept at least: as long as git keeps such commits of a checkout.
const KEPT_FOR: Duration = Duration::from_hours(30 * 24);

impl Record {
    /// The ref that keeps the commits that this worktree left on no branch.
    pub(super) fn kept_ref(&self) -> String {
        format!("refs/claudine/{}", self.task)
    }

    /// Keeps such commits of the worktree in which `git` runs. Returns their ref if there are any.
    pub(super) async fn keep_abandoned(&self, git: &Git) -> Result<Option<String>, WorktreeError> {
        let name = self.kept_ref();
        let message = format!("Commits of {} that were on no branch", self.task);
        let known = [&self.base_commit];
        let is_kept = git.keep_abandoned(&name, &known, &message).await?;
        Ok(is_kept.then_some(name))
    }

    /// Gives up such commits after their time. Returns whether there are any that are kept on.
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
