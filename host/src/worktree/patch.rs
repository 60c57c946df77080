//! Writes the work of a task to a patch file.

use std::{fs, io, path::Path};

use claudine_domain::worktree::MergeState;

use super::{
    WorktreeError, Worktrees,
    error::io_error,
    settle::{Done, Work},
};
use crate::{
    fsx::{self, Lasting},
    git::Commit,
};

impl Worktrees {
    /// Writes the commits from `start` to `tip` to a file.
    pub(super) async fn patch(
        &self,
        work: &Work,
        start: &Commit,
        tip: &Commit,
    ) -> Result<Done, WorktreeError> {
        let branch = &work.record.branch;
        let file = self.layout.patch(work.task);
        let fresh = file.with_extension("patch.new");
        work.git.write_patch(start, tip, &fresh).await?;
        let target = file.clone();
        let is_empty = self
            .blocking(move |_| {
                name_patch(&fresh, &target).map_err(io_error("cannot write", &target))
            })
            .await?;
        if is_empty {
            let detail = format!("the commits on branch `{branch}` change nothing together");
            return Ok((MergeState::Left, detail).into());
        }
        let detail = format!(
            "{} is the patch; `git apply` applies it (the work is also on branch `{branch}`)",
            file.display()
        );
        Ok((MergeState::Written, detail).into())
    }
}

/// Gives a patch its final name. Removes an empty patch, since `git apply` refuses it. Returns
/// whether the patch is empty.
fn name_patch(fresh: &Path, file: &Path) -> io::Result<bool> {
    let is_empty = fs::metadata(fresh)?.len() == 0;
    if is_empty {
        fs::remove_file(fresh)?;
    } else {
        fsx::rename(fresh, file, Lasting::PowerCut)?;
    }
    Ok(is_empty)
}
