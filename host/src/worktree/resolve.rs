//! Lets a person resolve conflicts. The base is merged into the task's branch in the task's
//! worktree. The merge stays open for the person, and is committed once all files are resolved.
//!
//! The whole state is in the worktree. So a later command finds the merge as the person left it,
//! even after a restart, and can complete or abort it.

use std::{path::PathBuf, sync::Arc};

use claudine_domain::{
    id::TaskId,
    principal::Principal,
    worktree::{MergeState, MergeStrategy},
};

use super::{
    WorktreeError, Worktrees,
    again::{Again, Held},
    record::{Opening, Record},
    settle::{Done, Work, refuse_moved},
};
use crate::{
    fsx,
    git::{BranchRef, Commit, Git, Merged, Operation, Unresolved, shortened},
};

/// A part of the message with which git refuses a merge before it has changed anything.
const IN_THE_WAY: &str = "would be overwritten by merge";

/// The state of a resolution.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Resolution {
    /// Nothing conflicts any more: the branch can be merged.
    Resolved,
    /// A merge was begun in the worktree, and these files are not resolved.
    Open {
        path: PathBuf,
        files: Vec<Unresolved>,
    },
    Refused(String),
}

/// A merge that was aborted.
pub(crate) struct Aborted {
    /// The ref that keeps what was changed in the merge, if something was.
    pub(crate) kept: Option<String>,
}

impl From<Done> for Resolution {
    fn from(done: Done) -> Self {
        Self::Refused(done.detail)
    }
}

impl Worktrees {
    /// Begins to merge the base into the branch, or finds a merge that was begun before. If the
    /// worktree was removed, it is made again.
    pub(crate) async fn begin_resolving(
        &self,
        held: &Held,
        again: &Again<'_>,
    ) -> Result<Resolution, WorktreeError> {
        let mut work = self.work_to_resolve(held, again).await?;
        if let Some(done) = work.refuse_astray().await? {
            return Ok(done.into());
        }
        if work.git.is_merging().await? {
            work.record.resolver = Some(again.by.clone());
            self.write_record(&work.record).await?;
            return self.open(&mut work).await;
        }
        if let Some(done) = work.refuse_or_commit_rest().await? {
            return Ok(done.into());
        }
        let (branch, base) = (&work.record.branch, work.record.base.clone());
        let Some(base) = base else {
            let why = format!("`{branch}` has no base that it could conflict with");
            return Ok(Resolution::Refused(why));
        };
        let (old, tip) = match work.git.branch_commits([&base, branch]).await? {
            [Some(old), Some(tip)] => (old, tip),
            [_, None] => return Err(work.record.gone(&work.git, again.task).await?),
            [None, Some(_)] => {
                let why = format!("the base `{base}` no longer exists");
                return Ok(Resolution::Refused(why));
            }
        };
        if let Some(why) = work.refuse_rewritten(&base, &old, &tip).await? {
            return Ok(Resolution::Refused(why));
        }
        if work.git.is_ancestor(&old, &tip).await? {
            return Ok(Resolution::Resolved);
        }
        let Merged::Conflict { tree, files } = work.git.merge_trees(&old, &tip).await? else {
            return Ok(Resolution::Resolved);
        };
        if let Some(why) = work.refuse_to_begin(&tip, &tree).await? {
            return Ok(Resolution::Refused(why));
        }
        work.record.resolver = Some(again.by.clone());
        let merged = self.begin_merge(&mut work, &base, &tip, &tree).await?;
        let obstacle = if merged == old {
            work.adopt(&base, &tree, &files).await
        } else {
            let moved = format!("`{base}` was moved while the merge was begun; try again");
            Ok(Some(moved))
        };
        if !matches!(obstacle, Ok(None)) {
            work.git.abort_merge().await?;
            work.record.resolver = None;
            self.write_record(&work.record).await?;
        }
        match obstacle? {
            Some(why) => Ok(Resolution::Refused(why)),
            None => self.open(&mut work).await,
        }
    }

    /// Begins to merge the base into the commit `tip` of the branch. `tree` is the result of the
    /// merge. Returns the merged commit. If git fails half-way, the files are put back.
    async fn begin_merge(
        &self,
        work: &mut Work,
        base: &BranchRef,
        tip: &Commit,
        tree: &str,
    ) -> Result<Commit, WorktreeError> {
        let message = work.message.of_base_merged(&work.record);
        // As long as git has not noted the merge, only the record shows that the changes in the
        // worktree are not the task's.
        work.record.opening = Some(Opening {
            tip: tip.clone(),
            tree: tree.to_owned(),
        });
        self.write_record(&work.record).await?;
        let begun = work.git.begin_merge(&work.record.branch, base, &message);
        let merged = match begun.await {
            Ok(merged) => merged,
            // Git has changed nothing, because somebody has just made a file that is in the way.
            Err(error) if error.says(IN_THE_WAY) => {
                work.record.opening = None;
                self.write_record(&work.record).await?;
                return Err(error.into());
            }
            Err(error) => {
                let undone = self.put_back_half_opened(&work.git, &mut work.record);
                if let Err(error) = undone.await {
                    tracing::warn!(
                        task = %work.task, %error,
                        "the files of a failed merge cannot be put back"
                    );
                }
                return Err(error.into());
            }
        };
        work.record.opening = None;
        self.write_record(&work.record).await?;
        Ok(merged)
    }

    /// Refuses a worktree in which git has begun a merge and failed half-way. If git has noted the
    /// merge, or if nothing is changed, the record is corrected instead.
    pub(super) async fn refuse_half_opened(
        &self,
        git: &Git,
        record: &mut Record,
    ) -> Result<(), WorktreeError> {
        if record.opening.is_none() {
            return Ok(());
        }
        if !git.is_merging().await? && git.status().await?.dirty_count > 0 {
            return Err(WorktreeError::HalfOpened {
                task: record.task,
                path: git.dir().to_owned(),
                kept: record.kept_ref(),
            });
        }
        record.opening = None;
        self.write_record(record).await
    }

    /// Puts back the files of a merge that git has begun and not noted.
    async fn put_back_half_opened(
        &self,
        git: &Git,
        record: &mut Record,
    ) -> Result<(), WorktreeError> {
        if let Some(Opening { tip, tree }) = &record.opening {
            git.undo_unnoted_merge(tip, tree).await?;
        }
        self.refuse_half_opened(git, record).await
    }

    /// Commits a merge that was begun, if all files are resolved.
    pub(crate) async fn end_resolving(
        &self,
        held: &Held,
        again: &Again<'_>,
    ) -> Result<Resolution, WorktreeError> {
        let mut work = self.work_to_resolve(held, again).await?;
        if let Some(done) = work.refuse_astray().await? {
            return Ok(done.into());
        }
        if !work.git.is_merging().await? {
            // Somebody has committed or aborted the merge. The next merge of the branch shows which
            // of the two has happened.
            return Ok(Resolution::Resolved);
        }
        self.open(&mut work).await
    }

    /// The principal who has opened a merge in the worktree of a task to resolve its conflicts.
    /// `None` if no merge is open there, or if the task itself has begun it.
    pub(crate) async fn resolver(&self, task: TaskId) -> Result<Option<Principal>, WorktreeError> {
        let record = self.record(task).await?;
        let resolved = record.and_then(|record| {
            let git = self.git_of(&record, Arc::default());
            Some((git, record.resolver?))
        });
        let Some((git, resolver)) = resolved else {
            return Ok(None);
        };
        let is_open =
            !fsx::is_missing(git.dir()) && git.operation().await? == Some(Operation::Merge);
        Ok(is_open.then_some(resolver))
    }

    /// Corrects the record if somebody has ended, with git, the merge that was opened to resolve
    /// conflicts. The next merge in the worktree may be the task's own.
    pub(super) async fn forget_resolver(
        &self,
        git: &Git,
        record: &mut Record,
    ) -> Result<(), WorktreeError> {
        if record.resolver.is_none() || git.is_merging().await? {
            return Ok(());
        }
        record.resolver = None;
        self.write_record(record).await
    }

    /// Aborts a merge that was begun, even if git has failed half-way. Returns `None` if there was
    /// none.
    pub(crate) async fn abort_resolving(
        &self,
        held: &Held,
        again: &Again<'_>,
    ) -> Result<Option<Aborted>, WorktreeError> {
        let mut record = self.known(held.task()).await?;
        let git = self.git_of(&record, again.variables.clone());
        self.put_right(&mut record, &git).await?;
        if !self.is_there(&git, &record).await? {
            return Ok(None);
        }
        git.own_place(&record.repository).await?;
        let is_merging = git.is_merging().await?;
        if !is_merging && record.opening.is_none() {
            return Ok(None);
        }
        // A later attempt, or a person, may have worked in the merge, or may have changed files
        // since git has failed to begin it.
        let kept = record.keep_changes(&git).await?;
        if is_merging {
            git.abort_changed_merge().await?;
        } else {
            self.put_back_half_opened(&git, &mut record).await?;
        }
        record.resolver = None;
        self.write_record(&record).await?;
        Ok(Some(Aborted { kept }))
    }

    /// Returns the unresolved files of a merge in progress. If there are none, the merge is
    /// committed.
    async fn open(&self, work: &mut Work) -> Result<Resolution, WorktreeError> {
        let files = work.git.take_resolved().await?;
        if files.is_empty() {
            let message = work.message.of_base_merged(&work.record);
            work.git.commit_index(&message).await?;
            work.record.resolver = None;
            self.write_record(&work.record).await?;
            return Ok(Resolution::Resolved);
        }
        Ok(Resolution::Open {
            path: work.path.clone(),
            files,
        })
    }

    /// The worktree whose merge with the base is to be resolved. A worktree that was removed is
    /// made again. One in which somebody has begun something other than a merge is refused.
    async fn work_to_resolve(&self, held: &Held, again: &Again<'_>) -> Result<Work, WorktreeError> {
        let task = held.task();
        let mut record = self.known(task).await?;
        let git = self.git_of(&record, again.variables.clone());
        self.put_right(&mut record, &git).await?;
        if !self.is_there(&git, &record).await? {
            let repository = git.in_repository(&record.repository);
            let Some(tip) = record.own_tip(&repository, again.task).await? else {
                return Err(record.gone(&repository, again.task).await?);
            };
            refuse_moved(&repository, task, git.dir()).await?;
            // To make the worktree again would remove its index and the repositories of its
            // submodules, and somebody may still have the directory elsewhere.
            if repository.git_dir_for(git.dir()).await?.is_some() {
                return Err(WorktreeError::GoneWithoutGit {
                    task,
                    path: git.dir().to_owned(),
                });
            }
            let mut turn = held.turn.lock().await;
            self.refill(&git, &mut record, &tip, &mut turn).await?;
            // The merge concerns more than the worktree.
            turn.wait().await;
        }
        let message = again.message(task);
        let work = self.begin(git, record, again.strategy, message).await?;
        work.refuse_open(Some(Operation::Merge)).await?;
        Ok(work)
    }
}

impl Work {
    /// Changes the result of a merge of the base that was just begun in the worktree: the merge
    /// gets the result that it would have in a checkout of the base, because this result is for the
    /// base. Returns the reason if this is not possible. The attributes of the branch, which the
    /// task has written, must not decide.
    async fn adopt(
        &self,
        base: &BranchRef,
        tree: &str,
        files: &[String],
    ) -> Result<Option<String>, WorktreeError> {
        let left = self.git.adopt(tree, files).await?;
        if left.is_empty() {
            return Ok(None);
        }
        let branch = &self.record.branch;
        let typed = self.git.typed(branch).await?;
        Ok(Some(format!(
            "merging `{branch}` into `{base}` gives another result in a checkout of `{base}` than in the worktree, because of different attributes or a merge driver: {}; `git merge {typed}` on `{base}` merges by hand",
            shortened(&left)
        )))
    }

    /// Returns why the merge of the base into the commit `tip` must not begin here, although all
    /// changes are committed. `tree` is the result of the merge.
    async fn refuse_to_begin(
        &self,
        tip: &Commit,
        tree: &str,
    ) -> Result<Option<String>, WorktreeError> {
        let place = self.path.display();
        let in_the_way = self.git.in_the_way_of_merge(tip, tree).await?;
        if !in_the_way.is_empty() {
            return Ok(Some(format!(
                "the merge would overwrite files in the worktree {place} that are in no commit: {}; move them elsewhere first",
                shortened(&in_the_way)
            )));
        }
        // If git refuses the merge, it restores the files of HEAD, and with them those whose
        // changes it was told to ignore.
        let unwatched = self.git.changed_and_unwatched(&self.record.repository);
        let unwatched = unwatched.await?;
        Ok((!unwatched.is_empty()).then(|| {
            format!(
                "the worktree {place} has changes in files that git was told not to check: {}; `git update-index --no-assume-unchanged --no-skip-worktree FILE` lets git see them",
                shortened(&unwatched)
            )
        }))
    }

    /// Refuses to begin a merge over uncommitted changes. If the strategy would commit the changes
    /// anyway, they are committed first.
    async fn refuse_or_commit_rest(&self) -> Result<Option<Done>, WorktreeError> {
        if self.strategy != MergeStrategy::Manual {
            return self.commit_rest().await;
        }
        let state = self.git.whole_status().await?;
        Ok((state.dirty_count > 0).then(|| {
            let detail = format!(
                "the worktree {} has changes that are not committed; commit or stash them there",
                self.path.display()
            );
            (MergeState::Refused, detail).into()
        }))
    }
}
