//! Suggests commands after a failed merge.

use claudine_domain::{
    task::{Class, Task},
    worktree::{Merge, MergeState},
};

use super::view::Step;
use crate::text::shell_word;

/// Maximum number of conflicting files that are named to an agent. The agent finds the others
/// itself.
const TOLD: usize = 3;

/// The suggestions; empty if the task did not fail because of its merge.
pub(super) fn steps(task: &Task) -> Vec<Step> {
    let Some(merge) = failed_merge(task) else {
        return Vec::new();
    };
    let id = format!("{:#}", task.id);
    let is_agent = task.request.class == Class::Agent;
    let again = if merge.state == MergeState::Conflict {
        step(
            format!("claudine worktree resolve {id}"),
            "resolve the conflict by hand",
        )
    } else {
        step(
            format!("claudine worktree merge {id}"),
            "merge the branch once the obstacle is removed",
        )
    };
    let other = if merge.state == MergeState::Conflict && is_agent {
        step(
            format!(
                "claudine resume {id} --context {}",
                shell_word(&told(task, merge))
            ),
            "let the agent resolve the conflict",
        )
    } else {
        step(
            format!("claudine enter {id}"),
            "look around in the worktree",
        )
    };
    let diff = step(
        format!("claudine diff {id}"),
        "see what the task has changed",
    );
    vec![again, other, diff]
}

/// The merge because of which a task failed.
pub(super) fn failed_merge(task: &Task) -> Option<&Merge> {
    let last = task.last_attempt().filter(|_| task.failed_by_its_merge());
    last?.ended.as_ref()?.merge.as_deref()
}

/// The merge of a task that succeeded, if there is something to say besides its success.
pub(super) fn remarked_merge(task: &Task) -> Option<&Merge> {
    let ended = task.last_attempt()?.ended.as_ref()?;
    ended.merge.as_deref().filter(|merge| merge.has_remark())
}

/// Instructions for an agent to resolve a conflict.
fn told(task: &Task, merge: &Merge) -> String {
    let worktree = task.request.worktree.as_ref();
    let base = worktree.map_or("", |worktree| worktree.base_name());
    let files: Vec<&str> = merge
        .conflicts
        .iter()
        .take(TOLD)
        .map(String::as_str)
        .collect();
    let places = if files.is_empty() {
        String::new()
    } else {
        format!(" in {}", files.join(", "))
    };
    format!("Merge {base} and resolve the conflict{places}")
}

fn step(command: String, purpose: &str) -> Step {
    Step {
        command,
        purpose: purpose.to_owned(),
    }
}
