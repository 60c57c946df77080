//! Lists the worktrees that exist, and the data that exists only in them.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
};

use claudine_domain::{id::TaskId, worktree::Merge};

use super::{WorktreeError, Worktrees, record::Record};
use crate::{
    fsx,
    git::{Git, Look, Restraint},
};

/// An existing worktree.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Found {
    pub(crate) task: TaskId,
    pub(crate) path: PathBuf,
    /// The repository; `None` if the worktree's record cannot be read.
    pub(crate) repository: Option<PathBuf>,
    pub(crate) branch: Option<String>,
    pub(crate) base: Option<String>,
    pub(crate) merge: Option<Merge>,
    /// The content of the worktree, or the reason why git could not report it.
    pub(crate) content: Result<Content, String>,
}

/// Everything that would be lost, or would be only on a branch, if the worktree were removed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Content {
    /// The number of changed and new files.
    pub(crate) dirty: u64,
    /// The number of ignored files, and of directories with only ignored files, that did not exist
    /// when the worktree was made.
    pub(crate) ignored: u64,
    /// The number of commits that are neither in the base nor on a remote.
    pub(crate) unmerged: u64,
    /// Whether some of these unmerged commits are on no branch.
    pub(super) is_adrift: bool,
    pub(super) look: Look,
}

impl Worktrees {
    /// The existing worktrees, for a restrained principal or for somebody else. If tasks are given,
    /// only the worktrees of these tasks.
    pub(crate) async fn list(
        &self,
        meant: Option<&BTreeSet<TaskId>>,
        shown_to: Option<Restraint>,
        variables: Arc<BTreeMap<String, String>>,
    ) -> Result<Vec<Found>, WorktreeError> {
        let mut list = Vec::new();
        for (task, record) in self.records().await? {
            if meant.is_some_and(|tasks| !tasks.contains(&task)) {
                continue;
            }
            let path = self.path(task);
            match record {
                Ok(record) if fsx::is_missing(&path) || self.is_being_made(&record) => {}
                Ok(record) => {
                    let git = self.git_to_show(&record, shown_to, variables.clone());
                    let content = match git.await {
                        Ok(git) => record.content(&git).await,
                        Err(error) => Err(error),
                    };
                    list.push(Found {
                        task,
                        path,
                        merge: record.last_merge().cloned(),
                        repository: Some(record.repository),
                        branch: Some(record.branch.name().to_owned()),
                        base: record.base.map(|base| base.name().to_owned()),
                        content: content.map_err(|error| error.to_string()),
                    });
                }
                Err(error) => list.push(Found {
                    task,
                    path,
                    repository: None,
                    branch: None,
                    base: None,
                    merge: None,
                    content: Err(error.to_string()),
                }),
            }
        }
        Ok(list)
    }

    /// Whether a worktree is being made, or was not made again completely. Nobody has worked in it,
    /// and it may have any number of files.
    fn is_being_made(&self, record: &Record) -> bool {
        record.is_half_made || !record.is_ready && self.is_in_use(record.task)
    }

    /// The tasks that have a worktree or had one.
    pub(crate) async fn tasks(&self) -> Result<BTreeSet<TaskId>, WorktreeError> {
        let records = self.records().await?.into_iter();
        Ok(records.map(|(task, _)| task).collect())
    }

    /// The task that owns a branch.
    pub(crate) async fn owner(
        &self,
        repository: &Path,
        branch: &str,
    ) -> Result<Option<TaskId>, WorktreeError> {
        let mut records = self.readable_records().await?.into_iter();
        let own = records
            .find(|record| record.repository == repository && record.branch.name() == branch);
        Ok(own.map(|record| record.task))
    }
}

impl Record {
    /// The result of the last merge.
    pub(super) fn last_merge(&self) -> Option<&Merge> {
        let settled = self.settled.as_ref().map(|(_, merge)| merge);
        self.again.as_ref().or(settled)
    }

    /// The content of the worktree in which `git` runs, for the commit that is checked out there,
    /// even if this commit is not on the task's branch.
    pub(super) async fn content(&self, git: &Git) -> Result<Content, WorktreeError> {
        let look = git.look(&self.repository, &self.ignored).await?;
        let tip = git.commit_of("HEAD").await?;
        let (mut unmerged, mut is_adrift) = (0, false);
        if let Some(tip) = tip
            && !self.is_merged(git, &tip).await?
            && !git.is_on_a_remote(&tip).await?
        {
            unmerged = git.commits_between(&self.base_commit, &tip).await?.max(1);
            is_adrift = !git.is_on_a_branch(&tip).await?;
        }
        Ok(Content {
            dirty: look.dirty_count(),
            ignored: look.ignored_count,
            unmerged,
            is_adrift,
            look,
        })
    }
}
