//! A git worktree of a task's own: what was asked for, and what became of the work in it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::id::TaskId;

/// What becomes of the branch when its task has succeeded.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MergeStrategy {
    /// It is pushed, and a request to merge it is opened.
    Pr,
    /// It is merged into its base.
    Auto,
    /// It stays as it is.
    #[default]
    Manual,
    /// Its changes are written to a patch file.
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

/// A worktree as it was asked for, with what git said of it at the submission.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Worktree {
    /// The directory that the repository's checkouts share, mostly its `.git`.
    pub repository: String,
    /// The repository's first checkout, if git cannot find it from there: if its `.git` is a link,
    /// or names a directory elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkout: Option<String>,
    /// Where in the checkout the task was submitted, and works in the worktree; empty for the top.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub inside: String,
    /// The branch, where it was named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// The branch that it goes out from and back to; none where it goes out from a commit that is
    /// on no branch of this repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// Where it goes out from: the commit that was its base at the submission.
    pub base_commit: String,
    #[serde(default)]
    pub merge: MergeStrategy,
    /// It stays when its task has succeeded.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub keep: bool,
    /// What its branch is called after, below [`OWN_BRANCHES`], if nobody has named it. The branch
    /// that is made may have a number at its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stem: Option<String>,
    /// What the commits say that are made for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// What branches of tasks begin with, if they were not named, and a slash after it.
pub const OWN_BRANCHES: &str = "claudine";

/// The branch of a task by its id alone: that of earlier versions, and where nothing else is free.
pub fn branch_by_id(task: TaskId) -> String {
    let id = task.to_string();
    format!("{OWN_BRANCHES}/{}", id.strip_prefix("task_").unwrap_or(&id))
}

impl Worktree {
    /// The branch as it was planned. Which one was made says the task: [`Task::branch`].
    ///
    /// [`Task::branch`]: crate::task::Task::branch
    pub fn planned_branch(&self, task: TaskId) -> String {
        match (&self.branch, &self.stem) {
            (Some(named), _) => named.clone(),
            (None, Some(stem)) => format!("{OWN_BRANCHES}/{stem}"),
            (None, None) => branch_by_id(task),
        }
    }

    /// The base as a person knows it.
    pub fn base_name(&self) -> &str {
        self.base.as_deref().unwrap_or(&self.base_commit)
    }
}

/// What became of the work of a task that succeeded.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MergeState {
    /// It is in the base.
    Merged,
    /// A request to merge it is open.
    Opened,
    /// Its branch is on the remote; there was nothing here to open a request with.
    Pushed,
    /// It is on its branch, or uncommitted in the worktree.
    Left,
    /// It is in a patch file.
    Written,
    /// Nothing was changed.
    Nothing,
    /// It and the base have changed the same places. Nothing was merged.
    Conflict,
    /// It could not be done for another reason.
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

    /// What was asked for was not done, so the task has not succeeded: who depends on it counts on
    /// the merge.
    pub fn is_failure(self) -> bool {
        matches!(self, Self::Conflict | Self::Refused)
    }
}

/// The work of a task as commits: what the one has that the other has not.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Span {
    pub from: String,
    pub to: String,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Merge {
    pub strategy: MergeStrategy,
    pub state: MergeState,
    /// For a person: what was done, or why not and what can be done about it.
    pub detail: String,
    /// Why it was not done, in a few words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub brief: Option<String>,
    /// The first of the files that conflict.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conflicts: Vec<String>,
    /// Which commits it was about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub work: Option<Span>,
    /// The worktree is gone; the branch may be there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub worktree_removed: bool,
}

impl Merge {
    /// One of which nothing else is known.
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

    /// What came of it in a few words; rows of earlier versions have the long ones alone.
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
