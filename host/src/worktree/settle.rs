//! Settles the work of a task that has succeeded: merges it, pushes it, writes it to a patch or
//! leaves it, as the user asked.
//!
//! Each step checks the present state instead of remembering what was done. So settling can be
//! repeated: after a crash, the second run finds the commits, merges and pushes of the first run.
//! When the work is settled, the result is written into the worktree's record, before the worktree
//! is removed.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use claudine_domain::{
    id::TaskId,
    worktree::{Merge, MergeState, MergeStrategy, Span, Worktree},
};

use super::{
    WorktreeError, Worktrees,
    message::Message,
    record::{Record, Sides},
};
use crate::{
    fsx,
    git::{Commit, Git, Uncommitted, shortened},
    text::{harmless, shell_word},
};

/// Maximum number of conflicting files that are stored in the row of a task, and their maximum
/// total length.
const CONFLICTS_NAMED: usize = 50;
const CONFLICTS_BYTES: usize = 4 << 10;

/// An attempt whose work must be settled.
pub(crate) struct Settling<'a> {
    pub(crate) task: TaskId,
    pub(crate) attempt: u32,
    pub(crate) worktree: &'a Worktree,
    /// The branch that is stored with the task.
    pub(crate) branch: String,
    /// The commit that was checked out in the worktree at the end of the attempt, if it is known.
    pub(crate) last: Option<Commit>,
    /// The summary of the task, for commit messages.
    pub(crate) title: &'a str,
    pub(crate) variables: Arc<BTreeMap<String, String>>,
}

/// The data that all steps share.
pub(super) struct Work {
    pub(super) task: TaskId,
    pub(super) record: Record,
    pub(super) strategy: MergeStrategy,
    pub(super) message: Message,
    /// Git, which runs in the worktree or, if the worktree no longer exists, in the repository.
    pub(super) git: Git,
    pub(super) path: PathBuf,
}

/// The result of a step, as text.
pub(super) struct Done {
    state: MergeState,
    pub(super) detail: String,
    /// The short reason for a failure; `None` if the first part of the detail is short enough.
    brief: Option<String>,
    conflicts: Vec<String>,
    work: Option<Span>,
}

impl Done {
    /// The result if base and branch have changed the same lines.
    pub(super) fn conflict(files: Vec<String>, detail: String) -> Self {
        Self {
            brief: Some(format!("merge conflict in {}", shortened(&files))),
            conflicts: first_of(files),
            ..Self::from((MergeState::Conflict, detail))
        }
    }
}

impl From<(MergeState, String)> for Done {
    fn from((state, detail): (MergeState, String)) -> Self {
        Self {
            state,
            detail,
            brief: None,
            conflicts: Vec::new(),
            work: None,
        }
    }
}

impl Worktrees {
    /// The number of files that a task has changed in its worktree; `None` if the worktree does not
    /// exist or git fails.
    pub(crate) async fn changed_files(
        &self,
        task: TaskId,
        variables: Arc<BTreeMap<String, String>>,
    ) -> Option<u64> {
        let record = self.known(task).await.ok()?;
        let git = self.git_of(&record, variables);
        git.own_place(&record.repository).await.ok()?;
        git.changed_since(&record.base_commit).await.ok()
    }

    /// Settles the work of an attempt. Never fails: an error becomes a part of the result.
    pub(crate) async fn settle(&self, settling: Settling<'_>) -> Merge {
        let (task, strategy) = (settling.task, settling.worktree.merge);
        let branch = settling.branch.clone();
        match self.try_to_settle(settling).await {
            Ok(merge) => merge,
            Err(error) => self.unsettled(task, strategy, &branch, &error).await,
        }
    }

    async fn try_to_settle(&self, settling: Settling<'_>) -> Result<Merge, WorktreeError> {
        let Settling {
            task,
            attempt,
            worktree,
            last,
            title,
            variables,
            ..
        } = settling;
        let _turns = self.turns_of(task, Path::new(&worktree.repository)).await;
        let mut record = self.known(task).await?;
        let git = self.git_of(&record, variables);
        record.refuse_moved_repository()?;
        self.put_right(&mut record, &git).await?;
        record.note_last(&git, last).await?;
        if !fsx::is_taken(git.dir()) {
            let repository = git.in_repository(&record.repository);
            record.own_tip(&repository, None).await?;
        }
        let message = Message::new(task, worktree.message.as_deref(), title);
        let mut work = self.begin(git, record, worktree.merge, message).await?;
        let merge = match &work.record.settled {
            Some((settled, merge)) if *settled == attempt => merge.clone(),
            _ => {
                let merge = self.carry_out(&mut work).await?;
                work.record.settled = Some((attempt, merge.clone()));
                // Without the record, the next host would only settle the work again, with the same
                // result. So merged work does not count as failed, but its worktree stays.
                if let Err(error) = self.write_record(&work.record).await {
                    tracing::warn!(%task, %error, "how work was settled cannot be recorded");
                    return Ok(unrecorded(merge, &error));
                }
                merge
            }
        };
        if worktree.keep || merge.state.is_failure() {
            return Ok(merge);
        }
        Ok(self.leave(&mut work, merge).await)
    }

    /// Prepares the steps. `git` runs in the worktree. If the worktree no longer exists, the steps
    /// run in the repository instead.
    pub(super) async fn begin(
        &self,
        git: Git,
        mut record: Record,
        strategy: MergeStrategy,
        message: Message,
    ) -> Result<Work, WorktreeError> {
        let path = self.path(record.task);
        // A path that cannot be examined does not count as missing, because the worktree may have
        // changes that are not committed.
        let git = if fsx::is_missing(&path) {
            let repository = git.in_repository(&record.repository);
            refuse_moved(&repository, record.task, &path).await?;
            repository
        } else {
            git.own_place(&record.repository).await?;
            self.refuse_half_opened(&git, &mut record).await?;
            git
        };
        Ok(Work {
            task: record.task,
            record,
            strategy,
            message,
            git: git.with_identity().await?,
            path,
        })
    }

    /// Carries out the strategy.
    pub(super) async fn carry_out(&self, work: &mut Work) -> Result<Merge, WorktreeError> {
        work.refuse_gone().await?;
        let Done {
            state,
            detail,
            brief,
            conflicts,
            work: span,
        } = self.work(work).await?;
        // The first part of the detail is the reason. The following parts are advice.
        let why = || detail.split("; ").next().unwrap_or_default().to_owned();
        let brief = state.is_failure().then(|| brief.unwrap_or_else(why));
        let late = std::mem::take(&mut work.record.late);
        Ok(Merge {
            brief: brief.map(|brief| harmless(&brief)),
            conflicts,
            work: span,
            ..Merge::new(work.strategy, state, detail + &late)
        })
    }

    async fn work(&self, work: &mut Work) -> Result<Done, WorktreeError> {
        // If git has removed the worktree, everything is on the branch.
        if !fsx::is_missing(&work.path)
            && let Some(done) = work.commit_rest().await?
        {
            return Ok(done);
        }
        // The sides are compared before the merge, because they no longer diverge after the merge.
        let Some(sides) = work.record.sides(&work.git).await? else {
            return Err(work.record.gone(&work.git, None).await?);
        };
        let tip = sides.tip.clone();
        // If somebody deletes the branch later, only this shows where the work is.
        work.record.tip = Some(tip.clone());
        let from = work.record.parted_at(&sides);
        let start = work.record.start(&work.git, &from).await?;
        let done = self.hand_over(work, &start, sides).await?;
        Ok(Done {
            work: Some(Span {
                from: from.into(),
                to: tip.into(),
            }),
            ..done
        })
    }

    /// Hands over the commits of the branch from `start` on.
    async fn hand_over(
        &self,
        work: &mut Work,
        start: &Commit,
        sides: Sides,
    ) -> Result<Done, WorktreeError> {
        let (branch, tip) = (&work.record.branch, &sides.tip);
        // The task may only have brought its branch up to date. With `auto`, an interrupted merge
        // may have brought the work into the base, which must be reported as merged.
        let is_for_others = matches!(work.strategy, MergeStrategy::Patch | MergeStrategy::Pr);
        if !sides.has_work(&work.git, start).await? || sides.is_in_base() && is_for_others {
            return Ok((MergeState::Nothing, "no changes".to_owned()).into());
        }
        if work.strategy != MergeStrategy::Manual
            && let Some(done) = work.refuse_links(start, tip).await?
        {
            return Ok(done);
        }
        match work.strategy {
            MergeStrategy::Manual => {
                let commits = work.git.commits_between(start, tip).await?;
                let word = if commits == 1 { "commit" } else { "commits" };
                let typed = work.git.typed(branch).await?;
                let detail =
                    format!("{commits} {word} on branch `{branch}`; `git merge {typed}` merges it");
                Ok((MergeState::Left, detail).into())
            }
            MergeStrategy::Patch => self.patch(work, start, tip).await,
            MergeStrategy::Pr => work.open_request().await,
            // Boxed to keep the futures of the callers small.
            MergeStrategy::Auto => {
                let merged = Box::pin(self.merge(work, sides)).await;
                if merged.is_err() {
                    work.record.refuse_moved_repository()?;
                }
                merged
            }
        }
    }

    /// Removes the worktree if nothing would be lost. Removes its branch too, if Claudine chose the
    /// name of the branch and nobody needs the branch any more.
    pub(super) async fn leave(&self, work: &mut Work, mut merge: Merge) -> Merge {
        // A directory cannot be removed while git runs in it.
        let repository = work.git.in_repository(&work.record.repository);
        let removal = if fsx::is_missing(&work.path) {
            // An earlier removal of the worktree may have been interrupted.
            let forgotten = work.record.forget_missing(&repository, &work.path).await;
            forgotten.map(Removal::Removed)
        } else {
            work.remove(&repository).await
        };
        let why = match removal {
            Ok(Removal::Removed(kept)) => {
                if let Some(kept) = kept {
                    merge.detail = format!(
                        "{}; commits of the worktree that are on no branch are kept: `git log {kept}`",
                        merge.detail
                    );
                }
                None
            }
            // The text of the merge already gives the reason.
            Ok(Removal::LeftUncommitted) => return merge,
            Ok(Removal::Refused(why)) => Some(why),
            Err(error) => Some(error.to_string()),
        };
        if let Some(why) = why {
            merge.detail = format!(
                "{}; the worktree {} stays: {why}",
                merge.detail,
                work.path.display()
            );
            return merge;
        }
        merge.worktree_removed = true;
        if matches!(merge.state, MergeState::Merged | MergeState::Nothing)
            && let Err(error) = self.drop_branch(&mut work.record, &repository).await
        {
            merge.detail = format!(
                "{}; the branch `{}` stays: {error}",
                merge.detail, work.record.branch
            );
        }
        merge
    }

    /// Deletes the branch if Claudine chose its name and its base has everything that is on the
    /// branch.
    pub(super) async fn drop_branch(
        &self,
        record: &mut Record,
        git: &Git,
    ) -> Result<(), WorktreeError> {
        if record.is_named || record.is_dropped {
            return Ok(());
        }
        let [Some(tip), base] = record.tips(git).await? else {
            return Ok(());
        };
        if record.is_merged_into(base.as_ref(), git, &tip).await? {
            git.delete_branch(&record.branch, &tip).await?;
            record.is_dropped = true;
            self.write_record(record).await?;
        }
        Ok(())
    }
}

/// The result of removing a worktree.
enum Removal {
    /// The worktree was removed. If it had commits that are on no branch, this is the ref that
    /// keeps them.
    Removed(Option<String>),
    /// The worktree has uncommitted changes, so it was not removed.
    LeftUncommitted,
    Refused(String),
}

impl Work {
    async fn remove(&self, repository: &Git) -> Result<Removal, WorktreeError> {
        let look = self.git.look(&self.record.repository, &self.record.ignored);
        let look = look.await?;
        if look.state.dirty_count > 0 && self.strategy == MergeStrategy::Manual {
            return Ok(Removal::LeftUncommitted);
        }
        if let Some(loss) = look.loss() {
            return Ok(Removal::Refused(loss));
        }
        if let Some(ignored) = look.ignored() {
            return Ok(Removal::Refused(format!(
                "{ignored}; `claudine worktree clean --ignored` removes it with them"
            )));
        }
        let kept = self.record.keep_abandoned(&self.git).await?;
        repository.remove_worktree(&self.path, &look).await?;
        Ok(Removal::Removed(kept))
    }

    /// Refuses a worktree whose directory was moved or removed without git. The directory may have
    /// had changes that are on no branch, and may still exist elsewhere. A worktree that git itself
    /// has removed is accepted, because git no longer knows it, and everything is on the branch.
    async fn refuse_gone(&self) -> Result<(), WorktreeError> {
        if !fsx::is_missing(&self.path) || self.git.git_dir_for(&self.path).await?.is_none() {
            return Ok(());
        }
        Err(WorktreeError::GoneWithoutGit {
            task: self.task,
            path: self.path.clone(),
        })
    }

    /// Refuses a worktree in which another branch or commit is checked out, or whose branch was
    /// deleted. Returns the reason.
    pub(super) async fn refuse_astray(&self) -> Result<Option<Done>, WorktreeError> {
        let branch = &self.record.branch;
        let place = self.path.display();
        let (stands_on, exists) = self.git.head_branch_and(branch).await?;
        if stands_on.as_ref() != Some(branch) {
            let instead =
                stands_on.map_or_else(|| "no branch".to_owned(), |branch| format!("`{branch}`"));
            let detail = format!(
                "the worktree {place} has {instead} checked out instead of `{branch}`, so nothing was done with it"
            );
            return Ok(Some((MergeState::Refused, detail).into()));
        }
        // If the branch is missing, the next commit would have no history, and would contain all
        // files.
        if exists {
            return Ok(None);
        }
        let way_back = self.git.last_commit().await?.map_or_else(String::new, |commit| {
            let full = shell_word(&branch.full());
            format!(
                "; `git update-ref {full} {}` restores it, and `claudine worktree merge {:#}` tries again",
                commit.hash(),
                self.task
            )
        });
        let detail = format!(
            "branch `{branch}` was deleted while the worktree {place} was on it, so nothing was done with the worktree{way_back}"
        );
        Ok(Some((MergeState::Refused, detail).into()))
    }

    /// Commits the changes that the task has not committed, if the strategy requires this. Returns
    /// a reason if the worktree must be left as it is.
    pub(super) async fn commit_rest(&self) -> Result<Option<Done>, WorktreeError> {
        if let Some(done) = self.refuse_astray().await? {
            return Ok(Some(done));
        }
        let place = self.path.display();
        let manual = self.strategy == MergeStrategy::Manual;
        let mut left = self.git.uncommitted().await?;
        // The second round is needed after `git merge --autostash`: when git commits the merge, it
        // restores the changes that were set aside for the merge.
        for is_first in [true, false] {
            // A merge whose resolution equals the branch changes no file, but must still be
            // committed.
            if left.state.dirty_count == 0
                && (!is_first || manual || !self.git.is_merging().await?)
            {
                return Ok(None);
            }
            if let Some(done) = self.refuse_to_commit(&left).await? {
                return Ok(Some(done));
            }
            let message = if self.git.is_merging().await? {
                self.message.of_base_merged(&self.record)
            } else {
                self.message.of_work()
            };
            if left.may_be_staged {
                Box::pin(self.record.keep_staged(&self.git)).await?;
            }
            self.git.commit_all(&message).await?;
            left = self.git.uncommitted().await?;
        }
        let left = left.state;
        if left.dirty_count == 0 {
            return Ok(None);
        }
        let submodules = self.git.submodules().await?;
        let foreign = self.git.foreign_links().await?;
        let files = shortened(&left.dirty);
        let detail = if let Some(link) = left.dirty.iter().find(|path| foreign.contains(path)) {
            format!(
                "the repository of the submodule `{link}` in the worktree {place} is not one that git has made there, so nothing of it is committed; once its work is saved elsewhere and its directory is removed, `git -C {} -c submodule.active=. submodule update -- {}` makes it again",
                shell_word(&place.to_string()),
                shell_word(link)
            )
        } else if left.dirty.iter().all(|path| submodules.contains(path)) {
            format!(
                "some changes in the worktree {place} cannot be committed there; changes inside a submodule must be committed in the submodule: {files}"
            )
        } else {
            format!(
                "some files in the worktree {place} are changed again after all changes were committed: {files}; something still writes to them, or a filter never gives the same content"
            )
        };
        Ok(Some((MergeState::Refused, detail).into()))
    }

    /// Returns why these changes must not be committed; `None` if they may be.
    async fn refuse_to_commit(&self, left: &Uncommitted) -> Result<Option<Done>, WorktreeError> {
        let branch = &self.record.branch;
        let place = self.path.display();
        if self.strategy == MergeStrategy::Manual {
            let detail = format!(
                "{} not committed in the worktree {place}, which stays (branch `{branch}`)",
                text_of_changes(left.state.dirty_count)
            );
            return Ok(Some((MergeState::Left, detail).into()));
        }
        // To commit files with conflicts would mark the conflicts as resolved.
        let mut conflicts = self.git.conflicting_files(left).await?;
        let is_merging = self.git.is_merging().await?;
        if !conflicts.is_empty() && is_merging {
            // The task may have resolved the conflicts without `git add`.
            let open = self.git.take_resolved().await?.into_iter();
            conflicts = open.map(|file| file.path).collect();
        }
        if !conflicts.is_empty() {
            let way_out = if is_merging {
                format!(
                    "`claudine worktree resolve {:#}` opens the merge there",
                    self.task
                )
            } else {
                format!(
                    "`git add` or `git rm` them there, and `claudine worktree merge {:#}` tries again",
                    self.task
                )
            };
            let detail = format!(
                "conflicts in the worktree {place} are not resolved: {}; {way_out}",
                shortened(&conflicts)
            );
            return Ok(Some(Done::conflict(conflicts, detail)));
        }
        let foreign = self.git.foreign_repositories(left).await?;
        if foreign.is_empty() {
            return Ok(None);
        }
        let detail = format!(
            "the worktree {place} contains other repositories, which cannot be committed: {}; move them elsewhere, or let git ignore them",
            shortened(&foreign)
        );
        Ok(Some((MergeState::Refused, detail).into()))
    }

    /// Refuses nested repositories that were committed only as a hash, and submodules at commits
    /// that exist nowhere else. Other people would get the task's commit, but not the content of
    /// these directories.
    async fn refuse_links(
        &self,
        start: &Commit,
        tip: &Commit,
    ) -> Result<Option<Done>, WorktreeError> {
        let branch = &self.record.branch;
        let changed = self.git.changed_links(start, tip).await?;
        let links = self.git.links_to_nowhere(&changed, tip).await?;
        if !links.is_empty() {
            let detail = format!(
                "branch `{branch}` contains repositories that are not submodules, so nobody else could get their content: {}; `git rm --cached` removes them",
                shortened(&links)
            );
            return Ok(Some((MergeState::Refused, detail).into()));
        }
        let unpushed = self.git.unpushed_submodules(&changed).await?;
        if !unpushed.is_empty() {
            let detail = format!(
                "branch `{branch}` has submodules at commits that are on none of their remotes, so nobody else could check them out: {}; push them from the worktree {}, then `claudine worktree merge {:#}` tries again",
                shortened(&unpushed),
                self.path.display(),
                self.task
            );
            return Ok(Some((MergeState::Refused, detail).into()));
        }
        Ok(None)
    }
}

/// Refuses a worktree that somebody (perhaps its task) has moved elsewhere with git, because it may
/// have uncommitted changes there.
pub(super) async fn refuse_moved(
    repository: &Git,
    task: TaskId,
    path: &Path,
) -> Result<(), WorktreeError> {
    let from = path.to_owned();
    match repository.moved_to(path).await? {
        Some(to) => Err(WorktreeError::Moved { task, from, to }),
        None => Ok(()),
    }
}

/// Adds to a result that it could not be recorded, and that the worktree therefore stays.
pub(super) fn unrecorded(mut merge: Merge, error: &WorktreeError) -> Merge {
    merge.detail = format!("{}; the worktree stays: {error}", merge.detail);
    merge
}

/// The first names, as many as are stored in a row.
fn first_of(mut files: Vec<String>) -> Vec<String> {
    let mut bytes = 0;
    files.truncate(CONFLICTS_NAMED);
    files.retain(|file| {
        bytes += file.len();
        bytes <= CONFLICTS_BYTES
    });
    files
}

fn text_of_changes(count: u64) -> String {
    if count == 1 {
        "1 file is".to_owned()
    } else {
        format!("{count} files are")
    }
}
