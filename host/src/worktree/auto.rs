//! Merges a branch into its base.
//!
//! The merge is made in memory, as a commit with both sides as parents. The base is then moved from
//! its old commit to the new commit, or not at all. If the base is checked out somewhere, git
//! updates this checkout too, but only if it has no changes.

use claudine_domain::worktree::MergeState;

use super::{
    WorktreeError,
    settle::{Done, Work},
};
use crate::{
    git::{BranchRef, Commit, Merged, PutBack, Standing, shortened},
    text::shell_word,
};

/// The maximum number of tries to move the base. A try has no effect if somebody else moves the base
/// meanwhile.
const TRIES: usize = 5;

impl Work {
    pub(super) async fn merge(&self) -> Result<Done, WorktreeError> {
        let branch = &self.record.branch;
        let Some(base) = self.record.base.clone() else {
            let why = format!("there is no branch to merge `{branch}` into");
            return Ok((MergeState::Refused, why).into());
        };
        let mut tries = 0;
        // Each round checks the present state. After the base was moved, the next round reports the
        // merge.
        loop {
            let [Some(old), Some(tip)] = self.git.branch_commits([&base, branch]).await? else {
                let why = format!("the base `{base}` no longer exists");
                return self.refused(&base, &why).await;
            };
            let common = self.git.common_ancestor(&old, &tip).await?;
            if common.as_ref() == Some(&tip) {
                let done = format!("merged `{branch}` into `{base}`");
                return Ok((MergeState::Merged, done).into());
            }
            if tries == TRIES {
                let why = format!("`{base}` was moved {TRIES} times during the merge");
                return self.refused(&base, &why).await;
            }
            tries += 1;
            let new = if common.as_ref() == Some(&old) {
                tip
            } else {
                match self.merged(&base, &old, &tip).await? {
                    Ok(new) => new,
                    Err((files, conflict)) => return Ok(Done::conflict(files, conflict)),
                }
            };
            if let Some(why) = self.advance(&base, &old, &new).await? {
                return self.refused(&base, &why).await;
            }
        }
    }

    async fn refused(&self, base: &BranchRef, why: &str) -> Result<Done, WorktreeError> {
        let branch = &self.record.branch;
        let typed = self.git.typed(branch).await?;
        let detail = format!(
            "{why}; the work is on branch `{branch}`: `claudine worktree merge {:#}` tries again, `git merge {typed}` on `{base}` merges it by hand",
            self.task
        );
        Ok((MergeState::Refused, detail).into())
    }

    /// Moves the base to a commit, together with its checkout. Returns the reason if this is not
    /// possible.
    async fn advance(
        &self,
        base: &BranchRef,
        old: &Commit,
        new: &Commit,
    ) -> Result<Option<String>, WorktreeError> {
        let main = self.record.checkout.as_deref();
        let repository = self.git.in_repository(&self.record.repository);
        let checkouts = repository.checkouts_of(base, main).await?;
        let checkout = match checkouts.as_slice() {
            [] => {
                self.git.move_branch(base, new, old).await?;
                return Ok(None);
            }
            [checkout] => checkout,
            several => {
                let missing = several.iter().find(|checkout| checkout.is_missing);
                let missing = missing.map_or(String::new(), |checkout| {
                    format!("; one of them is {}", checkout.shown())
                });
                let several = format!("`{base}` is checked out in several places{missing}");
                return Ok(Some(several));
            }
        };
        let place = format!(
            "`{base}` is {} in {}",
            checkout.standing.as_str(),
            checkout.shown()
        );
        if checkout.is_missing {
            return Ok(Some(place));
        }
        if checkout.is_hidden {
            return Ok(Some(format!(
                "{place}, and git cannot find the files of that checkout"
            )));
        }
        if checkout.standing != Standing::CheckedOut {
            return Ok(Some(format!(
                "{place}, and must not be moved until that ends"
            )));
        }
        let there = self.git.in_dir(&checkout.path);
        if there.has_lasting_changes().await? {
            return Ok(Some(format!(
                "{place}, which has changes that are not committed"
            )));
        }
        let step = there.step(old, new).await?;
        if !step.replaced.is_empty() {
            return Ok(Some(format!(
                "{place}, where git would remove these repositories with all their files: {}; move what is in them elsewhere first",
                shortened(&step.replaced)
            )));
        }
        let Err(error) = there.fast_forward(base, new).await else {
            return Ok(None);
        };
        // If the base has moved since, or its checkout is on another branch now, the next round
        // checks again.
        let is_as_it_was = self.git.branch_commit(base).await?.as_ref() == Some(old)
            && there.head_branch().await?.as_ref() == Some(base);
        if !is_as_it_was {
            return Ok(None);
        }
        let shown = shell_word(&checkout.path.display().to_string());
        let files = match there.put_back(&step).await {
            Ok(PutBack::Unchanged { other }) if other.is_empty() => String::new(),
            // A file that git could not write to its end looks like a file that a person changed,
            // so no message may advise to discard its changes.
            Ok(PutBack::Unchanged { other }) => format!(
                "; these files there are incomplete, or somebody has changed them just now: {}; `git -C {shown} status` shows them",
                shortened(&other)
            ),
            Ok(PutBack::Done) => "; its files were put back".to_owned(),
            Ok(PutBack::Left { changed, other }) => half_way(&shown, &changed, &other),
            Err(error) => format!(
                "; git may have stopped half-way, and the files there could not be put back: {error}; `git -C {shown} status` shows them"
            ),
        };
        Ok(Some(format!(
            "{place}, which cannot be updated: {error}{files}"
        )))
    }

    /// A commit that merges two diverging histories, or the conflicting files and advice.
    async fn merged(
        &self,
        base: &BranchRef,
        old: &Commit,
        tip: &Commit,
    ) -> Result<Result<Commit, (Vec<String>, String)>, WorktreeError> {
        let branch = &self.record.branch;
        match self.git.merge_trees(old, tip).await? {
            Merged::Tree(tree) => {
                let message = self.message.of_merge(&self.record);
                Ok(Ok(self
                    .git
                    .commit_tree(&tree, &[old, tip], &message)
                    .await?))
            }
            Merged::Conflict { files, .. } => {
                let (task, typed) = (self.task, self.git.typed(branch).await?);
                let detail = format!(
                    "`{branch}` conflicts with `{base}` in {}; nothing was merged: `claudine worktree resolve {task:#}` opens the merge in its worktree, or `git merge {typed}` on `{base}` merges it by hand and `claudine worktree merge {task:#}` then ends the task",
                    shortened(&files)
                );
                Ok(Err((files, detail)))
            }
        }
    }
}

/// Part of a message about a checkout that git has changed in part. The message advises to restore
/// only files that git has changed, because restoring any other file would discard somebody else's
/// changes.
fn half_way(checkout: &str, changed: &[String], other: &[String]) -> String {
    let changed = if changed.is_empty() {
        String::new()
    } else {
        format!(
            ", and these files there could not be put back: {}; `git -C {checkout} restore FILE` puts a file back",
            shortened(changed)
        )
    };
    let other = if other.is_empty() {
        String::new()
    } else {
        format!(
            "; these files there have other changes and were left as they are: {}",
            shortened(other)
        )
    };
    format!("; git has stopped half-way{changed}{other}; `git -C {checkout} status` shows all")
}
