//! Repeats the merge of a task that has ended. A user asks for this if the first merge was refused
//! and its obstacle no longer exists, or if the user wants another strategy. The second merge takes
//! the same steps as the first, and each step checks the present state.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use claudine_domain::{
    id::{AttemptId, TaskId},
    principal::Principal,
    task::Task,
    worktree::{Merge, MergeState, MergeStrategy, Worktree},
};

use tokio::sync::Mutex;

use super::{
    Turn, WorktreeError, Worktrees,
    message::Message,
    record, restraint,
    settle::{Work, unrecorded},
};
use crate::{
    fsx,
    git::{BranchRef, Commit, Git, Operation, Restraint},
};

/// A request to merge the work of a task that has ended.
pub(crate) struct Again<'a> {
    /// Who asks.
    pub(crate) by: &'a Principal,
    pub(crate) strategy: MergeStrategy,
    /// The task; `None` if it was removed from the store.
    pub(crate) task: Option<&'a Task>,
    pub(crate) variables: Arc<BTreeMap<String, String>>,
}

impl Again<'_> {
    pub(super) fn worktree(&self) -> Option<&Worktree> {
        self.task?.request.worktree.as_deref()
    }

    pub(super) fn message(&self, id: TaskId) -> Message {
        let asked = self.worktree().and_then(|it| it.message.as_deref());
        let summary = self.task.map(|task| task.request.summary.as_str());
        Message::new(id, asked, summary.unwrap_or("Work of a removed task"))
    }
}

/// A worktree that nobody else can change as long as this value exists.
pub(crate) struct Held {
    task: TaskId,
    _own: Turn,
    /// The turn in the repository. It is given to others while files are checked out.
    pub(super) turn: Mutex<Turn>,
}

impl Held {
    pub(crate) fn task(&self) -> TaskId {
        self.task
    }
}

impl Worktrees {
    /// The result of the last merge, from the worktree's record.
    pub(crate) async fn last_merge(&self, task: TaskId) -> Result<Option<Merge>, WorktreeError> {
        let record = self.record(task).await?;
        Ok(record.and_then(|record| record.last_merge().cloned()))
    }

    /// Whether a host has recorded how the work of an attempt was settled.
    pub(crate) async fn has_settled(&self, attempt: AttemptId) -> Result<bool, WorktreeError> {
        let record = self.record(attempt.task).await?;
        let settled = record.and_then(|record| record.settled);
        Ok(settled.is_some_and(|(number, _)| number == attempt.number))
    }

    /// The result of a repeated merge. Must be called on a thread that may block.
    pub(crate) fn merged_again(&self, task: TaskId) -> Result<Option<Merge>, WorktreeError> {
        Ok(record::read(&self.layout, task)?.and_then(|record| record.again))
    }

    /// Holds a worktree, so that no attempt of the task can enter it. An attempt that entered the
    /// worktree before this call may still work there, so the caller must check afterwards, in the
    /// store, that the task has ended.
    pub(crate) async fn hold(&self, task: TaskId) -> Result<Held, WorktreeError> {
        let repository = self.known(task).await?.repository;
        Ok(self.held(task, &repository).await)
    }

    /// Does the same as [`Self::hold`], but works even if the worktree was cleaned up and its
    /// record was removed.
    pub(crate) async fn hold_without_record(
        &self,
        task: TaskId,
        worktree: Option<&Worktree>,
    ) -> Result<Held, WorktreeError> {
        match (self.record(task).await?, worktree) {
            (Some(record), _) => Ok(self.held(task, &record.repository).await),
            (None, Some(worktree)) => Ok(self.held(task, Path::new(&worktree.repository)).await),
            (None, None) => Err(WorktreeError::NoWorktree { task }),
        }
    }

    async fn held(&self, task: TaskId, repository: &Path) -> Held {
        let [own, turn] = self.turns_of(task, repository).await;
        Held {
            task,
            _own: own,
            turn: Mutex::new(turn),
        }
    }

    pub(crate) async fn merge_again(
        &self,
        held: &Held,
        again: Again<'_>,
    ) -> Result<Merge, WorktreeError> {
        let id = held.task;
        let mut record = self.record(id).await?;
        let variables = again.variables.clone();
        let git = if let Some(record) = &record {
            self.git_of(record, variables)
        } else {
            let git = self.git(self.path(id), variables);
            let of_task = again.task.and_then(restraint);
            git.restrained(of_task.or(Restraint::of_request_by(again.by)))
        };
        let is_there = match &mut record {
            Some(record) => {
                record.refuse_moved_repository()?;
                self.put_right(record, &git).await?;
                self.is_there(&git, record).await?
            }
            None => false,
        };
        let own = match &record {
            // If the worktree exists, a later step checks that it is on the branch.
            Some(record) if is_there => Ok(record),
            Some(record) => {
                let repository = git.in_repository(&record.repository);
                match record.own_tip(&repository, again.task).await {
                    Ok(Some(_)) => Ok(record),
                    Ok(None) => Err(record.gone(&repository, again.task).await?),
                    Err(error) => Err(error),
                }
            }
            None => Err(WorktreeError::NoWorktree { task: id }),
        };
        let record = match own {
            Ok(record) => record.clone(),
            Err(error) => {
                let merge = merged_elsewhere(&git, &again).await?;
                return merge.ok_or(error);
            }
        };
        let message = again.message(id);
        let mut work = self.begin(git, record, again.strategy, message).await?;
        work.refuse_open(None).await?;
        let mut merge = self.carry_out(&mut work).await?;
        // The result is written before the worktree is removed. It is written again once the result
        // of the removal is known.
        work.record.again = Some(merge.clone());
        if let Err(error) = self.write_record(&work.record).await {
            tracing::warn!(task = %id, %error, "the result of a merge cannot be recorded");
            return Ok(unrecorded(merge, &error));
        }
        let keep = again.worktree().is_some_and(|worktree| worktree.keep);
        if !keep && !merge.state.is_failure() {
            merge = self.leave(&mut work, merge).await;
            work.record.again = Some(merge.clone());
            if let Err(error) = self.write_record(&work.record).await {
                tracing::warn!(task = %id, %error, "the result of a merge cannot be recorded");
            }
        }
        Ok(merge)
    }
}

impl Work {
    /// Refuses a worktree in which somebody has begun a merge, a rebase or the like and has not
    /// ended it. To commit the files there would end it half-way. `expected` is the operation that
    /// the caller completes.
    pub(super) async fn refuse_open(
        &self,
        expected: Option<Operation>,
    ) -> Result<(), WorktreeError> {
        // Without a worktree, git runs in the repository, whose main checkout does not matter.
        if fsx::is_missing(&self.path) {
            return Ok(());
        }
        match self.git.operation().await? {
            Some(operation) if Some(operation) != expected => Err(WorktreeError::Open {
                task: self.task,
                path: self.path.clone(),
                operation,
            }),
            _ => Ok(()),
        }
    }
}

/// Called if neither a worktree nor a branch of the task exists any more. Returns a result if the
/// task failed because of its merge, but the base has all of the task's work by now. The user may
/// have merged the branch with git and cleaned up, or a host may have died before it could store
/// the merge.
async fn merged_elsewhere(git: &Git, again: &Again<'_>) -> Result<Option<Merge>, WorktreeError> {
    let failed = again.task.filter(|task| task.failed_by_its_merge());
    let (Some(task), Some(worktree)) = (failed, again.worktree()) else {
        return Ok(None);
    };
    let ended = task.last_attempt().and_then(|last| last.ended.as_ref());
    let work = ended.and_then(|ended| ended.merge.as_ref()?.work.as_ref());
    let tip = work.and_then(|work| Commit::parse(&work.to));
    let (Some(work), Some(tip), Some(base)) = (work, tip, &worktree.base) else {
        return Ok(None);
    };
    let repository = git.in_repository(&worktree.repository);
    let has_it = match repository.branch_commit(&BranchRef::named(base)).await? {
        Some(base) if repository.commit_of(tip.hash()).await?.is_some() => {
            repository.is_ancestor(&tip, &base).await?
        }
        _ => false,
    };
    let branch = task.branch().unwrap_or_default();
    Ok(has_it.then(|| Merge {
        work: Some(work.clone()),
        worktree_removed: true,
        ..Merge::new(
            again.strategy,
            MergeState::Merged,
            format!("merged `{branch}` into `{base}`"),
        )
    }))
}
