//! Merges a branch into its base.
//!
//! The merge is made in memory, as a commit with both sides as parents. The base is then moved from
//! its old commit to the new commit, or not at all. If the base is checked out somewhere, git
//! updates this checkout too, but only if it has no changes.

use std::{path::Path, time::Duration};

use claudine_domain::worktree::MergeState;

use super::{
    WorktreeError, Worktrees,
    record::{Sides, Updating},
    settle::{Done, Work},
};
use crate::{
    clock,
    command::restoring,
    git::{
        After, BranchRef, Commit, Git, GitError, Late, Merged, PutBack, Standing, Step, Updated,
        shortened,
    },
    text::shell_word,
};

/// The minimum number of tries to move the base, and the minimum time, before the merge is refused.
/// A try has no effect if somebody else moves the base meanwhile, or changes its checkout.
const TRIES: usize = 5;
const TRIED_FOR: Duration = Duration::from_secs(5);

/// Part of a message about a checkout that was changed and is as before.
const PUT_BACK: &str = "; its files were put back";
/// Part of a message about a checkout in which files could not be replaced.
const CHANGED_MEANWHILE: &str = "somebody has changed files there at the same moment";

impl Worktrees {
    /// Merges the work. `sides` are the commits of branch and base, which were just read. The
    /// record gets messages about files of a checkout that somebody has changed while they were
    /// being replaced.
    pub(super) async fn merge(&self, work: &mut Work, sides: Sides) -> Result<Done, WorktreeError> {
        let branch = work.record.branch.clone();
        let Some(base) = work.record.base.clone() else {
            let why = format!("there is no branch to merge `{branch}` into");
            return Ok((MergeState::Refused, why).into());
        };
        // Putting a checkout back may take long.
        let mut just_read = work.record.updating.is_none().then_some(sides);
        if let Some(why) = self.put_back_noted(&mut work.record, &work.git).await {
            return work.refused(&base, &why).await;
        }
        let (mut tries, begun) = (0, clock::monotonic());
        // Each round checks the present state. After the base was moved, the next round reports the
        // merge. The base is moved only from the commit that was read.
        loop {
            let sides = match just_read.take() {
                Some(sides) => Some(sides),
                None => work.record.sides(&work.git).await?,
            };
            let Some(Sides {
                tip,
                base: old,
                common,
            }) = sides
            else {
                return Err(work.record.gone(&work.git, None).await?);
            };
            let Some(old) = old else {
                let why = format!("the base `{base}` no longer exists");
                return work.refused(&base, &why).await;
            };
            if common.as_ref() == Some(&tip) {
                let done = format!("merged `{branch}` into `{base}`");
                return Ok((MergeState::Merged, done).into());
            }
            if let Some(why) = work.refuse_rewritten(&base, &old, &tip).await? {
                return work.refused(&base, &why).await;
            }
            let tried_for = clock::monotonic().saturating_sub(begun);
            if tries >= TRIES && tried_for >= TRIED_FOR {
                let why =
                    format!("`{base}` or its checkout was changed during each of {tries} tries");
                return work.refused(&base, &why).await;
            }
            tries += 1;
            let new = if common.as_ref() == Some(&old) {
                tip
            } else {
                match work.merged(&base, &old, &tip).await? {
                    Ok(new) => new,
                    Err((files, conflict)) => return Ok(Done::conflict(files, conflict)),
                }
            };
            if let Some(why) = self.advance(work, &base, &old, &new).await? {
                return work.refused(&base, &why).await;
            }
        }
    }

    /// Moves the base to a commit, together with its checkout. Returns the reason if this is not
    /// possible.
    async fn advance(
        &self,
        work: &mut Work,
        base: &BranchRef,
        old: &Commit,
        new: &Commit,
    ) -> Result<Option<String>, WorktreeError> {
        let main = work.record.checkout.as_deref();
        let repository = work.git.in_repository(&work.record.repository);
        let checkouts = repository.checkouts_of(base, main).await?;
        let checkout = match checkouts.as_slice() {
            [] => {
                work.git.move_branch(base, new, old).await?;
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
        if let Some(top) = &checkout.led_to {
            return Ok(Some(format!(
                "{place}, but `core.worktree` leads git from there to {}, whose files would stay those of the commit before",
                top.display()
            )));
        }
        if checkout.standing != Standing::CheckedOut {
            return Ok(Some(format!(
                "{place}, and must not be moved until that ends: {} ends it",
                checkout.standing.ended_by()
            )));
        }
        let there = work.git.in_users_checkout(&checkout.path);
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
        // This host may be killed after git has failed half-way.
        work.record.updating = Some(Updating {
            checkout: checkout.path.clone(),
            step: step.note.clone(),
        });
        self.write_record(&work.record).await?;
        // Boxed to keep the futures of the callers small.
        let updated = Box::pin(there.update_checkout(base, &step)).await;
        let Updated {
            result,
            after,
            aside,
        } = updated;
        let Err(error) = result else {
            if let Some(aside) = aside
                && let Some(found) = there.drop_aside(aside).await?
            {
                let late = text_of_late(&checkout.path, &found);
                work.record.late.push_str(&late);
            }
            work.record.updating = None;
            return Ok(None);
        };
        if let GitError::NotPutBack { files, kept } = &error {
            let late = text_of_not_put_back(&checkout.path, files, kept);
            work.record.late.push_str(&late);
        }
        let may_be_half_way = matches!(after, After::LeftToGit | After::Replaced);
        if may_be_half_way && !matches!(error, GitError::IndexBehind { .. }) {
            self.note_failed_update(&mut work.record).await;
        }
        let back = work.put_back(&there, base, &step, &error, after);
        let failed = Box::pin(restoring(back)).await?;
        // A program may have opened the new files before they were taken back.
        if let Some(aside) = aside
            && let Some(Late { files, kept }) = there.drop_aside(aside).await?
        {
            let late = text_of_not_put_back(&checkout.path, &files, &kept);
            work.record.late.push_str(&late);
        }
        // The next git command may fail.
        self.note_end_of_update(&work.record).await;
        Ok(failed.map(|failed| format!("{place}, which cannot be updated: {failed}")))
    }
}

impl Work {
    /// Puts a checkout back after its update has failed. Returns why it has failed; `None` if it
    /// may be tried again.
    async fn put_back(
        &mut self,
        there: &Git,
        base: &BranchRef,
        step: &Step,
        error: &GitError,
        after: After,
    ) -> Result<Option<String>, WorktreeError> {
        // A look at the files would need room, filters and another git.
        if after == After::Untouched {
            self.record.updating = None;
            return Ok(Some(error.to_string()));
        }
        // The note of the update stays, so that the next try or the next host puts the index right.
        if matches!(error, GitError::IndexBehind { .. }) {
            return Ok(Some(error.to_string()));
        }
        // The note of the update stays, because nothing else shows whose the lock and the files
        // aside are.
        if there.has_lock_of(&step.note).await? {
            return Ok(Some(format!(
                "{error}; the files there could not be put back yet, and the index there stays locked until the merge is tried again or the host starts again"
            )));
        }
        // If the base has moved since, or its checkout is on another branch now, the next round
        // checks again.
        let is_as_it_was = self.git.branch_commit(base).await?.as_ref() == Some(&step.note.old)
            && there.head_branch().await?.as_ref() == Some(base);
        if !is_as_it_was {
            self.record.updating = None;
            return Ok(None);
        }
        // Git would run filters to compare the files, and a filter may hang.
        if after == After::AsBefore {
            self.record.updating = None;
            return Ok(Some(format!("{error}{PUT_BACK}")));
        }
        let shown = shell_word(&there.dir().display().to_string());
        let back = there.put_back(step).await;
        if back.as_ref().is_ok_and(is_over) {
            self.record.updating = None;
        }
        let files = match back {
            Ok(PutBack::Unchanged { other }) if other.is_empty() && after == After::LeftToGit => {
                String::new()
            }
            Ok(PutBack::Unchanged { other }) if other.is_empty() => PUT_BACK.to_owned(),
            // A file that git could not write to its end looks like a file that a person changed,
            // so no message may advise to discard its changes.
            Ok(PutBack::Unchanged { other }) if there.has_lasting_changes().await? => format!(
                "; these files there are incomplete, or somebody has changed them just now: {}; `git -C {shown} status` shows them",
                shortened(&other)
            ),
            // The lock may have been the only obstacle.
            Ok(PutBack::Unchanged { .. }) if matches!(error, GitError::Locked { .. }) => {
                PUT_BACK.to_owned()
            }
            // A person was about to commit the changes.
            Ok(PutBack::Unchanged { .. }) => return Ok(None),
            Ok(PutBack::Done) => PUT_BACK.to_owned(),
            Ok(PutBack::Left { changed, other }) => half_way(&shown, &changed, &other),
            Err(error) => format!(
                "; git may have stopped half-way, and the files there could not be put back: {error}; `git -C {shown} status` shows them"
            ),
        };
        let error = if matches!(error, GitError::NotPutBack { .. }) {
            CHANGED_MEANWHILE.to_owned()
        } else {
            error.to_string()
        };
        Ok(Some(format!("{error}{files}")))
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

    /// Returns why the branch at `tip` must not be merged into its base at `old`: somebody has
    /// removed commits from the base since the branch was made, for example with `git reset`, and
    /// the branch would bring them back, because it was made from them or has merged them.
    pub(super) async fn refuse_rewritten(
        &self,
        base: &BranchRef,
        old: &Commit,
        tip: &Commit,
    ) -> Result<Option<String>, WorktreeError> {
        let start = &self.record.base_commit;
        let repository = self.git.in_repository(&self.record.repository);
        let moves = repository.moves(base).await?;
        let earlier = moves.iter().rposition(|it| it.to == *start);
        let since = moves[..earlier.unwrap_or(moves.len())].iter();
        let mut past: Vec<&Commit> = since.map(|it| &it.to).chain([start]).collect();
        past.retain(|it| *it != old);
        if past.is_empty() {
            return Ok(None);
        }
        let brought = self.git.only_on(tip, old).await?;
        past.retain(|it| brought.contains(it.hash()));
        if past.is_empty() {
            return Ok(None);
        }
        // The base may have had the task's own commits for a while.
        let moves = repository.moves(&self.record.branch).await?;
        let made = moves.iter().filter(|it| it.has_made_commit());
        let own: Vec<&Commit> = made.map(|it| &it.to).collect();
        for commit in past {
            let lost = self.git.lost_changes(commit, old).await?;
            if lost.iter().all(|it| own.contains(&it)) {
                continue;
            }
            let typed = self.git.typed(base).await?;
            return Ok(Some(format!(
                "`{base}` was rewritten while the task ran, and the merge would bring back what was removed; `git rebase --onto {typed} {}` in the worktree {} leaves it out",
                commit.hash(),
                self.path.display()
            )));
        }
        Ok(None)
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

/// Part of a message about files that a program has changed after they were replaced.
fn text_of_late(checkout: &Path, Late { files, kept }: &Late) -> String {
    format!(
        "; a program has written to these files in {} after the merge had replaced them: {}; {} has what was written",
        checkout.display(),
        shortened(files),
        kept.display()
    )
}

/// Part of a message about changed files that could not be put back.
pub(super) fn text_of_not_put_back(checkout: &Path, files: &[String], kept: &Path) -> String {
    format!(
        "; these files in {} were changed while they were being replaced, and could not be put back: {}; {} has them",
        checkout.display(),
        shortened(files),
        kept.display()
    )
}

/// Whether another try to put the files of a checkout back would restore nothing more.
pub(super) fn is_over(back: &PutBack) -> bool {
    match back {
        PutBack::Left { changed, .. } => changed.is_empty(),
        PutBack::Done | PutBack::Unchanged { .. } => true,
    }
}

/// Part of a message about a checkout that git has changed in part. The message advises to restore
/// only files that git has changed, because restoring any other file would discard somebody else's
/// changes.
pub(super) fn half_way(checkout: &str, changed: &[String], other: &[String]) -> String {
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
