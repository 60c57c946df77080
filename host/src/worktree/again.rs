//! A merge that somebody asks for once more, after its task has ended: it was refused and what was in its way is not any more, or another one is
//! wanted. It goes the way of the first one, and looks at what is there now.

use std::{collections::BTreeMap, sync::Arc};

use claudine_domain::{
    id::TaskId,
    worktree::{Merge, MergeStrategy},
};

use tokio::sync::OwnedSemaphorePermit;

use super::{WorktreeError, Worktrees, record};

/// What is to become of the work of a task that has ended.
pub(crate) struct Again<'a> {
    pub(crate) strategy: MergeStrategy,
    /// The worktree stays, whatever comes of it.
    pub(crate) keep: bool,
    /// What the task was to do, for the messages of commits.
    pub(crate) title: &'a str,
    pub(crate) variables: Arc<BTreeMap<String, String>>,
    /// The task has failed by its merge, and no merge that succeeded has ended it since.
    pub(crate) failed_by_it: bool,
}

/// A worktree that nobody else changes meanwhile.
pub(crate) struct Held {
    task: TaskId,
    _turn: OwnedSemaphorePermit,
}

impl Held {
    pub(super) fn task(&self) -> TaskId {
        self.task
    }
}

impl Worktrees {
    /// What came of the last merge, as it is noted beside the worktree.
    pub(crate) async fn last_merge(&self, task: TaskId) -> Result<Option<Merge>, WorktreeError> {
        let record = self.record(task).await?;
        Ok(record.and_then(|record| record.last_merge().cloned()))
    }

    /// What came of it when it was asked for again. To be called on a thread that may block.
    pub(crate) fn merged_again(&self, task: TaskId) -> Result<Option<Merge>, WorktreeError> {
        Ok(record::read(&self.layout, task)?.and_then(|record| record.again))
    }

    /// As long as it is held no attempt of the task can enter its worktree: one that is in it has begun before, and the store shows it.
    pub(crate) async fn hold(&self, task: TaskId) -> Result<Held, WorktreeError> {
        let repository = self.known(task).await?.repository;
        Ok(Held {
            task,
            _turn: self.turn(&repository).await,
        })
    }

    pub(crate) async fn merge_again(
        &self,
        held: &Held,
        again: Again<'_>,
    ) -> Result<Merge, WorktreeError> {
        let Again {
            strategy,
            keep,
            title,
            variables,
            failed_by_it,
        } = again;
        let record = self.known(held.task).await?;
        let git = self.git(self.path(held.task), variables);
        let repository = git.in_repository(&record.repository);
        if repository.branch_commit(&record.branch).await?.is_none() {
            // It went with a merge of which its task has not heard.
            if failed_by_it && let Some(merge) = record.again.filter(|it| !it.state.is_failure()) {
                return Ok(merge);
            }
            return Err(WorktreeError::BranchGone {
                branch: record.branch,
            });
        }
        let mut work = self.begin(git, record, strategy, title).await?;
        let mut merge = self.carry_out(&work).await?;
        // Before the worktree goes, and with what became of that.
        work.record.again = Some(merge.clone());
        self.write_record(&work.record).await?;
        if !keep && !merge.state.is_failure() {
            merge = self.leave(&work, merge).await;
            work.record.again = Some(merge.clone());
            self.write_record(&work.record).await?;
        }
        Ok(merge)
    }
}
