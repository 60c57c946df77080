//! A task's own git worktree: the request for it, and the result of merging the task's work.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::id::TaskId;

/// How the branch of a successful task is handed over.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MergeStrategy {
    /// The branch is pushed and a pull request is opened.
    Pr,
    /// The branch is merged into its base.
    Auto,
    /// The branch is left as it is.
    #[default]
    Manual,
    /// The changes are written to a patch file.
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

/// A requested worktree, with the facts that git reported at the submission.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Worktree {
    /// The directory that the repository's checkouts share, usually its `.git`.
    pub repository: String,
    /// The repository's main checkout, if git cannot find it from `repository` because the
    /// checkout's `.git` is a link or names another directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkout: Option<String>,
    /// Path of the directory from which the task was submitted, relative to the top of the
    /// checkout. The task works at the same path in its worktree. Empty for the top.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub inside: String,
    /// Name of the branch, if given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// Branch from which the task's branch starts and into which it is merged. None if the task's
    /// branch starts from a commit on no branch of this repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// Commit from which the task's branch starts: the base's commit at the submission.
    pub base_commit: String,
    #[serde(default)]
    pub merge: MergeStrategy,
    /// Whether the worktree is kept after its task has succeeded.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub keep: bool,
    /// Middle part of the branch's name, below [`OWN_BRANCHES`], if no name was given. The actual
    /// name may have a number at its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stem: Option<String>,
    /// Message of the commits that are made for the task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// First part of the names of tasks' branches if no name was given. A slash follows it.
pub const OWN_BRANCHES: &str = "claudine";

/// Name of a task's branch that contains only the task's id. Earlier versions used this name, and
/// it is still used if no other name is free.
pub fn branch_by_id(task: TaskId) -> String {
    let id = task.to_string();
    format!("{OWN_BRANCHES}/{}", id.strip_prefix("task_").unwrap_or(&id))
}

impl Worktree {
    /// The planned branch. The branch that was actually made is [`Task::branch`].
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

/// Result of settling the work of an attempt whose executor reported success.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MergeState {
    /// The work was merged into the base.
    Merged,
    /// A pull request is open.
    Opened,
    /// The task's branch was pushed. No pull request was opened, since this machine lacks a program
    /// for it.
    Pushed,
    /// The work is on its branch, or uncommitted in the worktree.
    Left,
    /// The work was written to a patch file.
    Written,
    /// Nothing was changed.
    Nothing,
    /// The work and the base changed the same lines. Nothing was merged.
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

    /// Whether the work was not merged as requested. If so, the task has failed, since its
    /// dependants rely on the merge.
    pub fn is_failure(self) -> bool {
        matches!(self, Self::Conflict | Self::Refused)
    }
}

/// The work of a task as commits: those that are in `to` but not in `from`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Span {
    pub from: String,
    pub to: String,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Merge {
    pub strategy: MergeStrategy,
    pub state: MergeState,
    /// Text for people: what was done, or why it was not done and how to proceed.
    pub detail: String,
    /// Reason why the work was not merged, in a few words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub brief: Option<String>,
    /// The first files with conflicts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conflicts: Vec<String>,
    /// The task's commits, whether they were merged or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub work: Option<Span>,
    /// Whether the worktree was removed. The branch may remain.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub worktree_removed: bool,
}

impl Merge {
    /// A result that has only a strategy, a state and a detail.
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

    /// Whether the work was merged and the detail has something to say besides that.
    pub fn has_remark(&self) -> bool {
        self.state == MergeState::Merged && self.detail.contains("; ")
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
    fn a_remark_follows_the_first_part_of_the_detail_of_a_merge() {
        let check = |state: MergeState, detail: &str, expected: bool| {
            let merge = Merge::new(MergeStrategy::Auto, state, detail);
            assert_eq!(merge.has_remark(), expected, "{detail}");
        };
        check(MergeState::Merged, "merged `a` into `b`", false);
        check(MergeState::Merged, "merged `a` into `b`; kept: file", true);
        check(MergeState::Refused, "refused; kept: file", false);
    }

    #[test]
    fn given_names_of_branch_and_base_are_preferred() {
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
