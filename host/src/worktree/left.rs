//! Puts right what a killed host or a killed git has left: locks in places that only the task uses,
//! and a checkout of the base whose update was interrupted. As long as the killed host's lock of
//! the index is there, a person cannot commit in that checkout. So this is done at the start of a
//! host, and before each other work on the worktree.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use claudine_domain::id::TaskId;

use super::{
    Held, WorktreeError, Worktrees,
    auto::{half_way, is_over, text_of_not_put_back},
    error::io_error,
    record::{Record, Updating},
};
use crate::{
    command, fsx,
    git::{BranchRef, Commit, Git, GitError, Late, PutBack, StepNote, shortened},
    text::shell_word,
};

impl Worktrees {
    /// The tasks for which an earlier host has begun to update a checkout.
    pub(crate) async fn updating(&self) -> Result<Vec<TaskId>, WorktreeError> {
        let records = self.readable_records().await?.into_iter();
        let is_updating = |record: &Record| record.updating.is_some() && record.base.is_some();
        let noted = records.filter(is_updating);
        Ok(noted.map(|record| record.task).collect())
    }

    /// Puts the checkout back that an earlier host has begun to update for this task. Returns the
    /// reason if this is not possible.
    pub(crate) async fn put_back(
        &self,
        held: &Held,
        variables: Arc<BTreeMap<String, String>>,
    ) -> Result<Option<String>, WorktreeError> {
        let Some(mut record) = self.record(held.task()).await? else {
            return Ok(None);
        };
        let git = self.git_of(&record, variables);
        Ok(self.put_back_noted(&mut record, &git).await)
    }

    /// Does the same as [`Record::remove_left_locks`] and [`Self::put_back_noted`].
    pub(super) async fn put_right(
        &self,
        record: &mut Record,
        git: &Git,
    ) -> Result<Option<String>, WorktreeError> {
        record.remove_left_locks(git).await?;
        Ok(self.put_back_noted(record, git).await)
    }

    /// Puts the files of a checkout back if an earlier host has noted that it updated the checkout
    /// and git has failed half-way. Returns the reason if this is not possible. `git` is that of
    /// the worktree, whether or not the worktree exists.
    pub(super) async fn put_back_noted(&self, record: &mut Record, git: &Git) -> Option<String> {
        record.updating.as_ref()?;
        // Boxed to keep the futures of the callers small, because there is seldom something to do.
        let why = Box::pin(command::restoring(record.put_back_noted(self, git))).await;
        self.note_end_of_update(record).await;
        why
    }

    /// Notes in the record that an update of a checkout has failed and that its files are being put
    /// back, because this host may be killed meanwhile.
    pub(super) async fn note_failed_update(&self, record: &mut Record) {
        let Some(updating) = &mut record.updating else {
            return;
        };
        updating.step.has_failed = true;
        if let Err(error) = self.write_record(record).await {
            tracing::warn!(
                task = %record.task, %error,
                "a failed update of a checkout cannot be recorded"
            );
        }
    }

    /// Notes in the record that a checkout is no longer being updated, if this is so. If the note
    /// stayed, later changes of a person could look like those of the update.
    pub(super) async fn note_end_of_update(&self, record: &Record) {
        if record.updating.is_none()
            && let Err(error) = self.write_record(record).await
        {
            tracing::warn!(
                task = %record.task, %error,
                "the end of an update of a checkout cannot be recorded"
            );
        }
    }
}

impl Record {
    /// Fails if the repository was moved or removed while a checkout was being updated. Every git
    /// command fails then, and none of their messages names the lock that was left.
    pub(super) fn refuse_moved_repository(&self) -> Result<(), WorktreeError> {
        match &self.updating {
            Some(Updating { checkout, step }) if fsx::is_missing(&self.repository) => {
                Err(WorktreeError::RepositoryMoved {
                    task: self.task,
                    repository: self.repository.clone(),
                    checkout: checkout.clone(),
                    lock: step.lock_text().to_owned(),
                })
            }
            _ => Ok(()),
        }
    }

    async fn put_back_noted(&mut self, worktrees: &Worktrees, git: &Git) -> Option<String> {
        let Updating { checkout, step } = self.updating.clone()?;
        let base = self.base.clone()?;
        let place = format!(
            "an update of {} to a later commit of `{base}` was interrupted",
            checkout.display()
        );
        let back = self.try_to_put_back(worktrees, git, &base, &checkout, &step);
        let back = match back.await {
            Ok(back) => back,
            Err(error) => {
                return Some(format!(
                    "{place}, and the files there could not be put back: {error}"
                ));
            }
        };
        let is_done = is_over(&back);
        if is_done {
            self.updating = None;
        }
        let PutBack::Left { changed, other } = back else {
            return None;
        };
        let shown = shell_word(&checkout.display().to_string());
        let why = format!("{place}{}", half_way(&shown, &changed, &other));
        if !is_done {
            return Some(why);
        }
        self.late.push_str("; ");
        self.late.push_str(&why);
        None
    }

    async fn try_to_put_back(
        &mut self,
        worktrees: &Worktrees,
        git: &Git,
        base: &BranchRef,
        checkout: &Path,
        step: &StepNote,
    ) -> Result<PutBack, WorktreeError> {
        self.refuse_moved_repository()?;
        let over = command::earlier_over().await;
        over.map_err(io_error("cannot put back files in", checkout))?;
        let there = git.in_users_checkout(checkout);
        let repository = git.in_repository(&self.repository);
        if let Some(missing) = repository.missing_checkout(checkout).await? {
            let (branch, checkout) = (base.clone(), Box::new(missing));
            return Err(GitError::InUse { branch, checkout }.into());
        }
        let has_lock = there.has_lock_of(step).await?;
        let is_as_before = has_lock
            || self.is_at(base, &step.old, &there).await? && there.is_half_way(step).await?;
        let back = if is_as_before {
            if !has_lock {
                self.note_half_way(worktrees).await;
            }
            let step = self.updating.as_ref().map_or(step, |noted| &noted.step);
            there.put_back_noted(step).await?
        } else if self.is_at(base, &step.new, &there).await? {
            there.finish_noted(step).await?;
            None
        } else if self.has_checkout(&there).await? {
            // Boxed to keep the future small, because this seldom happens.
            Box::pin(self.undo(worktrees, base, &there, step)).await?
        } else {
            None
        };
        let back = back.unwrap_or(PutBack::Done);
        if is_over(&back) {
            self.drop_left_aside(&there, step).await;
        }
        Ok(back)
    }

    /// Puts back what is left of an interrupted update although somebody has gone on in the
    /// checkout. Returns `None` if nothing is left, or if what is left is unknown.
    async fn undo(
        &mut self,
        worktrees: &Worktrees,
        base: &BranchRef,
        there: &Git,
        step: &StepNote,
    ) -> Result<Option<PutBack>, WorktreeError> {
        if let Some(half) = there.half_way(step).await? {
            self.note_half_way(worktrees).await;
            return Ok(Some(there.put_back_each(&half).await?));
        }
        if there.commit_of(step.new.hash()).await?.is_some() {
            return Ok(None);
        }
        let back = there.put_back_without_new(step).await?;
        if back.is_some() {
            return Ok(back);
        }
        let changes = there.changes().await?;
        if changes.known > 0 {
            let late = text_of_unknown(there.dir(), base, step, &changes.files);
            self.late.push_str(&late);
        }
        Ok(None)
    }

    /// Notes that an update of a checkout is known to have stopped half-way, because this host may
    /// be killed after it has put only some of the files back.
    async fn note_half_way(&mut self, worktrees: &Worktrees) {
        if self.updating.as_ref().is_some_and(|it| !it.step.has_failed) {
            worktrees.note_failed_update(self).await;
        }
    }

    /// Whether the directory is still a checkout of the repository.
    async fn has_checkout(&self, there: &Git) -> Result<bool, WorktreeError> {
        let place = match there.place().await {
            Ok(place) => place,
            // A person may have removed the checkout.
            Err(_) if there.is_forgotten().await? => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        Ok(place.repository == self.repository && place.top == there.dir())
    }

    /// Whether the base is at this commit, and so is a checkout of the repository. A person may
    /// have gone to another branch there.
    async fn is_at(
        &self,
        base: &BranchRef,
        commit: &Commit,
        there: &Git,
    ) -> Result<bool, WorktreeError> {
        let repository = there.in_repository(&self.repository);
        if repository.branch_commit(base).await?.as_ref() != Some(commit) {
            return Ok(false);
        }
        if !self.has_checkout(there).await? {
            return Ok(false);
        }
        Ok(there.commit_of("HEAD").await?.as_ref() == Some(commit))
    }

    /// Removes the files that a killed host was replacing. The next result of a merge gets a
    /// message about those that somebody has changed meanwhile.
    async fn drop_left_aside(&mut self, there: &Git, step: &StepNote) {
        let repository = there.in_repository(&self.repository);
        match repository.drop_left_aside(step).await {
            Ok(Some(Late { files, kept })) => {
                let late = text_of_not_put_back(there.dir(), &files, &kept);
                self.late.push_str(&late);
            }
            Ok(None) => {}
            // They are removed after some time.
            Err(error) => tracing::warn!(
                checkout = %there.dir().display(), %error,
                "files that a killed host has left cannot be removed"
            ),
        }
    }
}

/// Part of a message about an interrupted update of a checkout whose files cannot be told from
/// those that a person has changed, because the commit that has them no longer exists.
fn text_of_unknown(checkout: &Path, base: &BranchRef, step: &StepNote, files: &[String]) -> String {
    let place = checkout.display();
    let shown = shell_word(&place.to_string());
    format!(
        "; an update of {place} to a later commit of `{base}` was interrupted, and that commit ({}) no longer exists, so some of the changes there may be those of the update: {}; `git -C {shown} status` shows all",
        step.new.hash(),
        shortened(files)
    )
}
