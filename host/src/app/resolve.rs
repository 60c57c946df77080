//! A conflict that a person resolves in the task's worktree, from its beginning to the merge.

use std::{path::Path, sync::Arc};

use claudine_domain::{principal::Principal, worktree::MergeStrategy};
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
    worktree::{Again, Resolution},
};

/// What is to be done about a conflict.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ResolveStep {
    /// Merge the base into the branch in the worktree, and leave that open; or go on with one that
    /// is open.
    Begin,
    /// Commit what is resolved, and merge the branch.
    End,
    /// Take back what was begun.
    Abort,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ResolveWorktree {
    pub(crate) step: ResolveStep,
    /// What becomes of the branch then; what the task was submitted with, where it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) merge: Option<MergeStrategy>,
}

/// How a conflict stands: merged, or open with files that are not resolved, or neither, if all was
/// taken back or is left on the branch.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct WorktreeResolved {
    pub(crate) task: String,
    /// What became of it, once nothing is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) merged: Option<WorktreeMerged>,
    /// The worktree in which the merge is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) path: Option<String>,
    /// Files that are not resolved.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) unresolved: Vec<UnresolvedFile>,
    /// The merge that was begun was taken back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) aborted: bool,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct UnresolvedFile {
    /// As it lies in the worktree.
    pub(crate) file: String,
    pub(crate) why: String,
}

impl Host {
    pub(crate) async fn resolve_worktree(
        &self,
        by: &Arc<Principal>,
        reference: &TaskRef,
        asked: ResolveWorktree,
    ) -> Result<WorktreeResolved, AppError> {
        let id = self.resolve(reference).await?;
        let (held, task) = self.hold_finished(id).await?;
        let task = task.as_ref();
        let strategy = self.strategy_for(id, task, asked.merge).await?;
        self.may_merge(by, id, task, strategy).await?;
        let again = Again {
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
        };
        let resolution = match asked.step {
            ResolveStep::Abort => {
                let aborting = self.worktrees.abort_resolving(&held, &again);
                answer.aborted = self.supervised(aborting).await?;
                if answer.aborted {
                    return Ok(answer);
                }
                let message = format!("no merge is begun in the worktree of {id}");
                return Err(AppError::new(ErrorKind::Conflict, message));
            }
            ResolveStep::Begin => {
                let beginning = self.worktrees.begin_resolving(&held, &again);
                self.supervised(beginning).await?
            }
            ResolveStep::End => {
                let ending = self.worktrees.end_resolving(&held, &again);
                self.supervised(ending).await?
            }
        };
        match resolution {
            Resolution::Refused(why) => Err(AppError::new(ErrorKind::Conflict, why)),
            Resolution::Open { path, files } => {
                answer.path = Some(shown(&path));
                answer.unresolved = files.into_iter().map(file).collect();
                Ok(answer)
            }
            // Its branch is as it is to be.
            Resolution::Resolved if strategy == MergeStrategy::Manual => Ok(answer),
            Resolution::Resolved => {
                let merged = self.merge_held(by, &held, task, strategy).await?;
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
