//! The result of a task whose work could not be settled because of an error.

use claudine_domain::{
    id::TaskId,
    worktree::{Merge, MergeState, MergeStrategy},
};

use super::{WorktreeError, Worktrees};
use crate::{fsx, text::harmless};

impl Worktrees {
    /// The result of settling that has failed with this error. It names the place of the work,
    /// unless the error itself does so or the work is nowhere.
    pub(super) async fn unsettled(
        &self,
        task: TaskId,
        strategy: MergeStrategy,
        branch: &str,
        error: &WorktreeError,
    ) -> Merge {
        let path = self.path(task);
        // If the worktree exists, the work is perhaps not committed yet.
        let place = if fsx::is_missing(&path) {
            format!("on branch `{branch}`")
        } else {
            format!("in the worktree {} (branch `{branch}`)", path.display())
        };
        let detail = match error {
            WorktreeError::BranchGone { .. }
            | WorktreeError::BranchReplaced { .. }
            | WorktreeError::Moved { .. }
            | WorktreeError::HalfOpened { .. }
            | WorktreeError::GoneWithoutGit { .. } => error.to_string(),
            _ => format!("{error}; the work is {place}"),
        };
        let why = harmless(detail.split("; ").next().unwrap_or_default());
        // The user has to know what was left in a checkout, whether or not the work is merged.
        let late = match self.record(task).await {
            Ok(record) => record.map_or_else(String::new, |record| record.late),
            Err(error) => {
                tracing::warn!(%task, %error, "whether there is more to say is unknown");
                String::new()
            }
        };
        Merge {
            brief: Some(why),
            ..Merge::new(strategy, MergeState::Refused, detail + &late)
        }
    }
}
