//! A merge that somebody asks for once more, after its task has ended: it was refused and what was in its way is not any more, or another one is
//! wanted. It goes the way of the first one, and looks at what is there now.

use std::{collections::BTreeMap, sync::Arc};

use claudine_domain::{
    id::TaskId,
    worktree::{Merge, MergeStrategy},
};

use super::{WorktreeError, Worktrees};
use crate::git::Git;

/// What is to become of the work of a task that has ended.
pub(crate) struct Again<'a> {
    pub(crate) task: TaskId,
    pub(crate) strategy: MergeStrategy,
    /// The worktree stays, whatever comes of it.
    pub(crate) keep: bool,
    /// What the task was to do, for the messages of commits.
    pub(crate) title: &'a str,
    pub(crate) variables: Arc<BTreeMap<String, String>>,
}

impl Worktrees {
    /// What the last merge was to be, as it is noted beside the worktree.
    pub(crate) fn last_strategy(
        &self,
        task: TaskId,
    ) -> Result<Option<MergeStrategy>, WorktreeError> {
        let settled = self.record(task)?.and_then(|record| record.settled);
        Ok(settled.map(|(_, merge)| merge.strategy))
    }

    pub(crate) async fn merge_again(&self, again: Again<'_>) -> Result<Merge, WorktreeError> {
        let Again {
            task,
            strategy,
            keep,
            title,
            variables,
        } = again;
        let known = || self.record(task)?.ok_or(WorktreeError::NoWorktree { task });
        let _turn = self.turn(&known()?.repository).await;
        // Whoever had the turn before may have changed it.
        let record = known()?;
        let git = Git::at(&record.repository, variables.clone());
        if git.branch_commit(&record.branch).await?.is_none() {
            return Err(WorktreeError::BranchGone {
                branch: record.branch,
            });
        }
        let attempt = record.settled.as_ref().map_or(0, |(attempt, _)| *attempt);
        let mut work = self.begin(record, strategy, title, variables).await?;
        let merge = self.carry_out(&mut work, attempt).await?;
        if keep || merge.state.is_failure() {
            return Ok(merge);
        }
        Ok(self.leave(&work, merge).await)
    }
}
