//! The changes of a task: the difference between its branch and the base, with uncommitted changes.
//! After the merge, and if worktree and branch no longer exist, the commits in the record are
//! compared.

use std::{collections::BTreeMap, sync::Arc};

use claudine_domain::{id::TaskId, task::Task, worktree::Span};

use super::{WorktreeError, Worktrees, record::Record, restraint};
use crate::{
    fsx,
    git::{Commit, Diff, Git, Restraint, Wanted},
};

/// The changes of a task.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Changed {
    pub(crate) branch: String,
    pub(crate) from: String,
    /// Commit at the end of the diff; `None` if the diff includes the files in the worktree.
    pub(crate) to: Option<String>,
    pub(crate) diff: Diff,
}

impl Worktrees {
    /// The changes of a task, shown to a restrained principal or to somebody else.
    pub(crate) async fn diff(
        &self,
        id: TaskId,
        task: Option<&Task>,
        wanted: Wanted<'_>,
        shown_to: Option<Restraint>,
        variables: Arc<BTreeMap<String, String>>,
    ) -> Result<Changed, WorktreeError> {
        let record = self.record(id).await?;
        let git = if let Some(record) = &record {
            self.git_to_show(record, shown_to, variables).await?
        } else {
            let git = self.git(self.path(id), variables);
            git.restrained(shown_to.or(task.and_then(restraint)))
        };
        let noted = noted(record.as_ref(), task);
        if let Some(record) = &record {
            let git = if !fsx::is_missing(git.dir()) && !record.is_half_made {
                git.own_place(&record.repository).await?;
                git.clone()
            } else {
                git.in_repository(&record.repository)
            };
            if let Some(changed) = live(&git, record, task, noted.as_ref(), wanted).await? {
                return Ok(changed);
            }
        }
        let repository = match (&record, task.and_then(|it| it.request.worktree.as_ref())) {
            (Some(record), _) => record.repository.clone(),
            (None, Some(worktree)) => worktree.repository.clone().into(),
            (None, None) => return Err(WorktreeError::NoWorktree { task: id }),
        };
        let Some((from, to)) = noted else {
            return Err(WorktreeError::NothingMade { task: id });
        };
        let branch = record.map(|record| record.branch.name().to_owned());
        let branch = branch.or_else(|| task?.branch()).unwrap_or_default();
        let git = git.in_repository(repository);
        for commit in [&from, &to] {
            if git.commit_of(commit.hash()).await?.is_none() {
                return Err(WorktreeError::CommitGone {
                    commit: commit.hash().to_owned(),
                });
            }
        }
        Ok(Changed {
            branch,
            diff: git.diff(&from, &to, wanted).await?,
            from: from.into(),
            to: Some(to.into()),
        })
    }
}

/// The changes of the present branch, with the files in its worktree if the worktree exists.
async fn live(
    git: &Git,
    record: &Record,
    task: Option<&Task>,
    noted: Option<&(Commit, Commit)>,
    wanted: Wanted<'_>,
) -> Result<Option<Changed>, WorktreeError> {
    let is_there = git.dir() != record.repository;
    let tip = if is_there {
        git.commit_of("HEAD").await?
    } else {
        match record.own_tip(git, task).await {
            Err(WorktreeError::BranchReplaced { .. }) => None,
            tip => tip?,
        }
    };
    let Some(tip) = tip else { return Ok(None) };
    // After the merge, only the record shows where the branch diverged from its base.
    let from = match noted {
        Some((from, to)) if *to == tip => from.clone(),
        _ => record.parting(git, &tip).await?,
    };
    let diff = if is_there {
        git.diff_to_files(&from, &record.repository, wanted).await?
    } else {
        git.diff(&from, &tip, wanted).await?
    };
    Ok(Some(Changed {
        branch: record.branch.name().to_owned(),
        from: from.into(),
        to: (!is_there).then(|| tip.into()),
        diff,
    }))
}

/// The commits of the last merge.
fn noted(record: Option<&Record>, task: Option<&Task>) -> Option<(Commit, Commit)> {
    let in_record = record.and_then(|record| record.last_merge()?.work.as_ref());
    let work = in_record.or_else(|| task.and_then(noted_in_task))?;
    Some((Commit::parse(&work.from)?, Commit::parse(&work.to)?))
}

fn noted_in_task(task: &Task) -> Option<&Span> {
    let mut latest_first = task.attempts.iter().rev();
    latest_first.find_map(|it| it.ended.as_ref()?.merge.as_ref()?.work.as_ref())
}
