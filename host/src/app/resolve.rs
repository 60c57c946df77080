//! Lets a person resolve a merge conflict in the worktree of a task.

use std::{path::Path, sync::Arc};

use claudine_domain::{principal::Principal, task::Task, worktree::MergeStrategy};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    error::{AppError, ErrorKind},
    host::Host,
    merge::WorktreeMerged,
    request::TaskRef,
};
use crate::{
    git::Unresolved,
    worktree::{Again, Held, Resolution},
};

/// A step of resolving a conflict.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ResolveStep {
    /// Merge the base into the branch in the worktree and leave the merge open, or continue an open
    /// merge.
    Begin,
    /// Commit the resolved merge, and merge the branch.
    End,
    /// Abort the merge.
    Abort,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ResolveWorktree {
    pub(crate) step: ResolveStep,
    /// Merge strategy; by default the strategy of the task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) merge: Option<MergeStrategy>,
}

/// State of the resolution: merged, or open with unresolved files. It is neither if the merge was
/// aborted or is only committed to the branch.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct WorktreeResolved {
    pub(crate) task: String,
    /// Result of the merge, if it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) merged: Option<WorktreeMerged>,
    /// Worktree with the open merge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) path: Option<String>,
    /// Unresolved files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) unresolved: Vec<UnresolvedFile>,
    /// Whether the merge was aborted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) aborted: bool,
    /// Ref that keeps what was changed in the aborted merge, if something was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) kept: Option<String>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct UnresolvedFile {
    /// Path in the worktree.
    pub(crate) file: String,
    pub(crate) why: String,
}

impl Host {
    pub(crate) async fn resolve_worktree(
        self: &Arc<Self>,
        by: &Arc<Principal>,
        reference: &TaskRef,
        asked: ResolveWorktree,
    ) -> Result<WorktreeResolved, AppError> {
        let (held, task, strategy) = self.hold_to_merge(by, reference, asked.merge).await?;
        let (host, by) = (self.clone(), by.clone());
        let resolving = async move {
            host.resolve_held(&by, &held, task.as_ref(), strategy, asked.step)
                .await
        };
        self.seen_to(resolving).await
    }

    async fn resolve_held(
        &self,
        by: &Arc<Principal>,
        held: &Held,
        task: Option<&Task>,
        strategy: MergeStrategy,
        step: ResolveStep,
    ) -> Result<WorktreeResolved, AppError> {
        let id = held.task();
        let again = Again {
            by,
            strategy,
            task,
            variables: self.variables_of(task).await?,
        };
        let mut answer = WorktreeResolved {
            task: id.to_string(),
            merged: None,
            path: None,
            unresolved: Vec::new(),
            aborted: false,
            kept: None,
        };
        let resolution = match step {
            ResolveStep::Abort => {
                let aborting = self.worktrees.abort_resolving(held, &again);
                if let Some(aborted) = self.supervised_for(by, aborting).await? {
                    answer.aborted = true;
                    answer.kept = aborted.kept;
                    return Ok(answer);
                }
                let message = format!("no merge is in progress in the worktree of {id:#}");
                return Err(AppError::new(ErrorKind::Conflict, message));
            }
            ResolveStep::Begin => {
                let beginning = self.worktrees.begin_resolving(held, &again);
                self.supervised_for(by, beginning).await?
            }
            ResolveStep::End => {
                let ending = self.worktrees.end_resolving(held, &again);
                self.supervised_for(by, ending).await?
            }
        };
        match resolution {
            Resolution::Refused(why) => Err(AppError::new(ErrorKind::Conflict, why)),
            Resolution::Open { path, files } => {
                answer.path = Some(shown(&path));
                answer.unresolved = files.into_iter().map(file).collect();
                Ok(answer)
            }
            // With this strategy the branch is not merged.
            Resolution::Resolved if strategy == MergeStrategy::Manual => Ok(answer),
            Resolution::Resolved => {
                let merged = self.merge_held(by, held, task, strategy).await?;
                answer.merged = Some(merged);
                Ok(answer)
            }
        }
    }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

fn file(unresolved: Unresolved) -> UnresolvedFile {
    UnresolvedFile {
        file: unresolved.path,
        why: unresolved.why.to_owned(),
    }
}
