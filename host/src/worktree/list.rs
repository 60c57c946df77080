//! Which worktrees there are, and what is in them that is nowhere else.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
};

use claudine_domain::{id::TaskId, worktree::Merge};

use super::{WorktreeError, Worktrees, record::Record};
use crate::git::Git;

/// A worktree that is there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Found {
    pub(crate) task: TaskId,
    pub(crate) path: PathBuf,
    pub(crate) repository: PathBuf,
    pub(crate) branch: String,
    pub(crate) base: Option<String>,
    pub(crate) merge: Option<Merge>,
    /// What is in it, or why git cannot say.
    pub(crate) content: Result<Content, String>,
}

/// What would be lost, or only be on a branch, without the worktree.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Content {
    /// Files that are changed or new.
    pub(crate) dirty: u64,
    /// Commits that are neither in the base nor on a remote.
    pub(crate) unmerged: u64,
}

impl Worktrees {
    pub(crate) async fn list(
        &self,
        variables: Arc<BTreeMap<String, String>>,
    ) -> Result<Vec<Found>, WorktreeError> {
        let mut list = Vec::new();
        for record in self.records()? {
            let path = self.path(record.task);
            if !path.exists() {
                continue;
            }
            let git = Git::at(&path, variables.clone());
            let content = record
                .content(&git)
                .await
                .map_err(|error| error.to_string());
            list.push(Found {
                task: record.task,
                path,
                merge: record.last_merge().cloned(),
                repository: record.repository,
                branch: record.branch,
                base: record.base,
                content,
            });
        }
        Ok(list)
    }

    /// The tasks that have or had one.
    pub(crate) fn tasks(&self) -> Result<BTreeSet<TaskId>, WorktreeError> {
        Ok(self
            .records()?
            .into_iter()
            .map(|record| record.task)
            .collect())
    }

    /// The task whose branch it is.
    pub(crate) fn owner(
        &self,
        repository: &Path,
        branch: &str,
    ) -> Result<Option<TaskId>, WorktreeError> {
        let records = self.records()?;
        let own = records
            .into_iter()
            .find(|record| record.repository == repository && record.branch == branch);
        Ok(own.map(|record| record.task))
    }
}

impl Record {
    /// What became of the work in it.
    pub(super) fn last_merge(&self) -> Option<&Merge> {
        let settled = self.settled.as_ref().map(|(_, merge)| merge);
        self.again.as_ref().or(settled)
    }

    /// To be asked in the worktree: what is checked out there counts, whatever branch that is.
    pub(super) async fn content(&self, git: &Git) -> Result<Content, WorktreeError> {
        let dirty = git.status().await?.dirty_count;
        let Some(tip) = git.commit_of("HEAD").await? else {
            return Ok(Content { dirty, unmerged: 0 });
        };
        let unmerged = if self.is_merged(git, &tip).await? || git.is_on_a_remote(&tip).await? {
            0
        } else {
            git.commits_between(&self.base_commit, &tip).await?.max(1)
        };
        Ok(Content { dirty, unmerged })
    }
}
