//! Merges the worktree of a finished task by request.

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
use crate::{
    ceiling::may_interrupt,
    worktree::{Again, Held},
};

/// Request to merge the worktree of a finished task.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MergeWorktree {
    /// Merge strategy; by default the strategy of the task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) merge: Option<MergeStrategy>,
}

/// Result of the merge.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct WorktreeMerged {
    pub(crate) task: String,
    pub(crate) merge: Merge,
    /// Number of the attempt that was added for this merge, if the merge succeeded and the task had
    /// failed because of an earlier merge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) attempt: Option<u32>,
    /// Number of dependants that can run now.
    #[serde(default)]
    pub(crate) downstream: usize,
}

impl Host {
    /// Merges the worktree of a finished task. If the task had failed because of an earlier merge,
    /// a successful merge makes it succeed.
    pub(crate) async fn merge_worktree(
        self: &Arc<Self>,
        by: &Arc<Principal>,
        reference: &TaskRef,
        asked: MergeWorktree,
    ) -> Result<WorktreeMerged, AppError> {
        let (held, task, strategy) = self.hold_to_merge(by, reference, asked.merge).await?;
        if strategy == MergeStrategy::Manual {
            let id = held.task();
            let message = format!("--merge manual leaves the branch of {id:#} unchanged");
            return Err(
                AppError::new(ErrorKind::Invalid, message).hint("choose --merge auto, pr or patch")
            );
        }
        let (host, by) = (self.clone(), by.clone());
        let merging = async move { host.merge_held(&by, &held, task.as_ref(), strategy).await };
        self.seen_to(merging).await
    }

    /// Locks the worktree of a finished task. Returns the lock, the task, and the strategy with
    /// which this principal may merge the worktree.
    pub(super) async fn hold_to_merge(
        &self,
        by: &Principal,
        reference: &TaskRef,
        asked: Option<MergeStrategy>,
    ) -> Result<(Held, Option<Task>, MergeStrategy), AppError> {
        let id = self.resolve(reference).await?;
        let (held, task) = self.hold_finished(id).await?;
        let strategy = self.strategy_for(id, task.as_ref(), asked).await?;
        self.may_merge(by, id, task.as_ref(), strategy).await?;
        Ok((held, task, strategy))
    }

    /// Locks the worktree of a task that has ended or is no longer stored.
    async fn hold_finished(&self, id: TaskId) -> Result<(Held, Option<Task>), AppError> {
        let find = || self.read(move |reader| Ok(reader.store.task(id)?));
        let before = find().await?;
        let worktree = before
            .as_ref()
            .and_then(|it| it.request.worktree.as_deref());
        let held = self.worktrees.hold_without_record(id, worktree).await?;
        let task = find().await?;
        if let Some(task) = task.as_ref().filter(|task| !task.is_done()) {
            let message = format!("task {id:#} is {}, not done", task.state.as_str());
            return Err(AppError::new(ErrorKind::Conflict, message)
                .hint("the worktree can be merged once the task has ended"));
        }
        Ok((held, task))
    }

    /// The requested strategy, or the strategy of the task.
    async fn strategy_for(
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

    async fn may_merge(
        &self,
        by: &Principal,
        id: TaskId,
        task: Option<&Task>,
        strategy: MergeStrategy,
    ) -> Result<(), AppError> {
        may(by, Verb::Merge(strategy), task, &self.settings.mcp)?;
        self.may_interrupt_resolving(by, id).await?;
        if task.is_some_and(Task::failed_by_its_merge) {
            self.may_end_by_hand(by, id).await?;
        }
        Ok(())
    }

    /// Decides whether a principal may commit in the worktree of a task in which somebody perhaps
    /// resolves conflicts at the moment.
    pub(super) async fn may_interrupt_resolving(
        &self,
        by: &Principal,
        id: TaskId,
    ) -> Result<(), AppError> {
        if !by.restrained {
            return Ok(());
        }
        let resolver = self.supervised_for(by, self.worktrees.resolver(id)).await?;
        Ok(may_interrupt(by, id, resolver.as_ref())?)
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
            by,
            strategy,
            task,
            variables: self.variables_of(task).await?,
        };
        let merge = self
            .supervised_for(by, self.worktrees.merge_again(held, again))
            .await?;
        if merge.state.is_failure() {
            return Err(AppError::new(ErrorKind::Conflict, merge.detail));
        }
        // If the host crashes before the next step, repeating the request finds the finished merge.
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
