//! A task's own git worktree: what was asked for, and the result of merging its work.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::id::TaskId;

/// What happens to the branch when its task has succeeded.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MergeStrategy {
    /// Pushes it and opens a pull request.
    Pr,
    /// Merges it into its base.
    Auto,
    /// Leaves it as it is.
    #[default]
    Manual,
    /// Writes its changes to a patch file.
    Patch,
}

impl MergeStrategy {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pr => "pr",
            Self::Auto => "auto",
            Self::Manual => "manual",
            Self::Patch => "patch",
        }
    }
}

/// A requested worktree, with what git reported at the submission.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Worktree {
    /// The directory that the repository's checkouts share, usually its `.git`.
    pub repository: String,
    /// The repository's main checkout, if git cannot find it from there: its `.git` is a link, or
    /// names a directory elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkout: Option<String>,
    /// Directory within the checkout from which the task was submitted, and in which it works in
    /// the worktree; empty for the top.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub inside: String,
    /// Name of the branch, if given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// Branch that it starts from and is merged into; none if it starts from a commit on no branch
    /// of this repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// Commit that it starts from: that of its base at the submission.
    pub base_commit: String,
    #[serde(default)]
    pub merge: MergeStrategy,
    /// Keeps the worktree when its task has succeeded.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub keep: bool,
    /// Base of its branch name, below [`OWN_BRANCHES`], if no name was given. The actual branch may
    /// have a number at its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stem: Option<String>,
    /// Message of the commits made for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// First part of the branch names of tasks, followed by a slash, if no name was given.
pub const OWN_BRANCHES: &str = "claudine";

/// A task's branch named by its id alone: used by earlier versions, and if no other name is free.
pub fn branch_by_id(task: TaskId) -> String {
    let id = task.to_string();
    format!("{OWN_BRANCHES}/{}", id.strip_prefix("task_").unwrap_or(&id))
}

impl Worktree {
    /// The planned branch. The one actually made is [`Task::branch`].
    ///
    /// [`Task::branch`]: crate::task::Task::branch
    pub fn planned_branch(&self, task: TaskId) -> String {
        match (&self.branch, &self.stem) {
            (Some(named), _) => named.clone(),
            (None, Some(stem)) => format!("{OWN_BRANCHES}/{stem}"),
            (None, None) => branch_by_id(task),
        }
    }

    /// The base's name for people.
    pub fn base_name(&self) -> &str {
        self.base.as_deref().unwrap_or(&self.base_commit)
    }
}

/// Result for the work of a task that succeeded.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MergeState {
    /// It was merged into the base.
    Merged,
    /// A pull request is open.
    Opened,
    /// Its branch was pushed; this machine lacks a program to open a pull request.
    Pushed,
    /// It is on its branch, or uncommitted in the worktree.
    Left,
    /// It was written to a patch file.
    Written,
    /// Nothing was changed.
    Nothing,
    /// It and the base changed the same lines. Nothing was merged.
    Conflict,
    /// Merging failed for another reason.
    Refused,
}

impl MergeState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Merged => "merged",
            Self::Opened => "opened",
            Self::Pushed => "pushed",
            Self::Left => "left",
            Self::Written => "written",
            Self::Nothing => "nothing",
            Self::Conflict => "conflict",
            Self::Refused => "refused",
        }
    }

    /// Whether the request was not carried out. Then the task has failed, since its dependants rely
    /// on the merge.
    pub fn is_failure(self) -> bool {
        matches!(self, Self::Conflict | Self::Refused)
    }
}

/// The work of a task as commits: those in `to` that are not in `from`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Span {
    pub from: String,
    pub to: String,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Merge {
    pub strategy: MergeStrategy,
    pub state: MergeState,
    /// For a person: what was done, or why not and how to proceed.
    pub detail: String,
    /// Reason why it was not done, in a few words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub brief: Option<String>,
    /// The first files that conflict.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conflicts: Vec<String>,
    /// The commits that were merged or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub work: Option<Span>,
    /// The worktree was removed; the branch may remain.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub worktree_removed: bool,
}

impl Merge {
    /// A merge with nothing but its strategy, state and detail.
    pub fn new(strategy: MergeStrategy, state: MergeState, detail: impl Into<String>) -> Self {
        Self {
            strategy,
            state,
            detail: detail.into(),
            brief: None,
            conflicts: Vec::new(),
            work: None,
            worktree_removed: false,
        }
    }

    /// The result in a few words. Rows of earlier versions have only the long text.
    pub fn brief(&self) -> &str {
        self.brief.as_deref().unwrap_or(&self.detail)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::tests::stored;

    #[test]
    fn each_strategy_and_each_state_has_one_word() {
        use MergeState::{Conflict, Left, Merged, Nothing, Opened, Pushed, Refused, Written};
        use MergeStrategy::{Auto, Manual, Patch, Pr};
        for strategy in [Pr, Auto, Manual, Patch] {
            assert_eq!(stored(strategy), strategy.as_str());
        }
        for state in [
            Merged, Opened, Pushed, Left, Written, Nothing, Conflict, Refused,
        ] {
            assert_eq!(stored(state), state.as_str());
            assert_eq!(state.is_failure(), matches!(state, Conflict | Refused));
        }
    }

    #[test]
    fn branch_and_base_have_names() {
        let mut worktree = Worktree {
            repository: "/r/.git".to_owned(),
            checkout: None,
            inside: String::new(),
            branch: None,
            base: None,
            base_commit: "d7249d3".to_owned(),
            merge: MergeStrategy::default(),
            keep: false,
            stem: None,
            message: None,
        };
        let task = TaskId::new(0, 1);
        let branch = "claudine/00000000000000000000000001";
        assert_eq!(worktree.planned_branch(task), branch);
        worktree.stem = Some("fix-tests".to_owned());
        assert_eq!(worktree.planned_branch(task), "claudine/fix-tests");
        assert_eq!(worktree.base_name(), "d7249d3");
        worktree.branch = Some("fix".to_owned());
        worktree.base = Some("main".to_owned());
        assert_eq!(worktree.planned_branch(task), "fix");
        assert_eq!(worktree.base_name(), "main");
        let text = serde_json::to_string(&worktree).unwrap();
        assert_eq!(serde_json::from_str::<Worktree>(&text).unwrap(), worktree);
    }
}
