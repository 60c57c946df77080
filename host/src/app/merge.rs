//! What becomes of the work of a finished task after all.

use std::sync::Arc;

use claudine_domain::{
    id::TaskId,
    principal::Principal,
    task::Task,
    worktree::{Merge, MergeStrategy},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    error::{AppError, ErrorKind},
    host::Host,
    may::{Verb, may},
    request::TaskRef,
};
use crate::worktree::{Again, Held};

/// What is to become of the work of a finished task after all.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MergeWorktree {
    /// What the task was submitted with, where it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) merge: Option<MergeStrategy>,
}

/// What became of it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct WorktreeMerged {
    pub(crate) task: String,
    pub(crate) merge: Merge,
    /// Of a task that had failed by its merge and has succeeded by this one: the attempt that it
    /// counts as.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) attempt: Option<u32>,
    /// How many tasks run now that could not because of it.
    #[serde(default)]
    pub(crate) downstream: usize,
}

impl Host {
    /// Asks once more for what becomes of a finished task's work. If it had failed by its merge,
    /// it has succeeded by this one.
    pub(crate) async fn merge_worktree(
        &self,
        by: &Arc<Principal>,
        reference: &TaskRef,
        asked: MergeWorktree,
    ) -> Result<WorktreeMerged, AppError> {
        let id = self.resolve(reference).await?;
        let (held, task) = self.hold_finished(id).await?;
        let strategy = self.strategy_for(id, task.as_ref(), asked.merge).await?;
        if strategy == MergeStrategy::Manual {
            let message = format!("--merge manual leaves the branch of {id:#} as it is");
            return Err(AppError::new(ErrorKind::Invalid, message)
                .hint("say what is to become of it by --merge auto, pr or patch"));
        }
        self.may_merge(by, id, task.as_ref(), strategy).await?;
        self.merge_held(by, &held, task.as_ref(), strategy).await
    }

    /// A worktree that nobody else changes meanwhile, of a task that has ended, or is forgotten.
    pub(super) async fn hold_finished(&self, id: TaskId) -> Result<(Held, Option<Task>), AppError> {
        let find = || self.read(move |reader| Ok(reader.store.task(id)?));
        let before = find().await?;
        let worktree = before
            .as_ref()
            .and_then(|it| it.request.worktree.as_deref());
        let held = self.worktrees.hold_all_that_is_left(id, worktree).await?;
        let task = find().await?;
        if let Some(task) = task.as_ref().filter(|task| !task.is_done()) {
            let message = format!("task {id:#} is {}, not done", task.state.as_str());
            return Err(AppError::new(ErrorKind::Conflict, message)
                .hint("what becomes of its work is decided when it ends"));
        }
        Ok((held, task))
    }

    /// What is asked for, else what the task was submitted with.
    pub(super) async fn strategy_for(
        &self,
        id: TaskId,
        task: Option<&Task>,
        asked: Option<MergeStrategy>,
    ) -> Result<MergeStrategy, AppError> {
        let worktree = task.and_then(|it| it.request.worktree.as_deref());
        let usual = if let Some(worktree) = worktree {
            Some(worktree.merge)
        } else {
            let last = self.worktrees.last_merge(id).await?;
            last.map(|merge| merge.strategy)
        };
        Ok(asked.or(usual).unwrap_or_default())
    }

    pub(super) async fn may_merge(
        &self,
        by: &Principal,
        id: TaskId,
        task: Option<&Task>,
        strategy: MergeStrategy,
    ) -> Result<(), AppError> {
        may(by, Verb::Merge(strategy), task, &self.settings.mcp)?;
        if task.is_some_and(Task::failed_by_its_merge) {
            self.may_end_by_hand(by, id).await?;
        }
        Ok(())
    }

    pub(super) async fn merge_held(
        &self,
        by: &Arc<Principal>,
        held: &Held,
        task: Option<&Task>,
        strategy: MergeStrategy,
    ) -> Result<WorktreeMerged, AppError> {
        let id = held.task();
        let again = Again {
            strategy,
            task,
            variables: self.variables_of(task).await?,
        };
        let merge = self
            .supervised(self.worktrees.merge_again(held, again))
            .await?;
        if merge.state.is_failure() {
            return Err(AppError::new(ErrorKind::Conflict, merge.detail));
        }
        // A host that dies before this finds the merge made when it is asked again.
        let by_hand = if task.is_some_and(Task::failed_by_its_merge) {
            self.end_by_hand(by, id, &merge).await?
        } else {
            None
        };
        Ok(WorktreeMerged {
            task: id.to_string(),
            merge,
            attempt: by_hand.map(|it| it.attempt),
            downstream: by_hand.map_or(0, |it| it.downstream),
        })
    }
}
