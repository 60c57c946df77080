//! What becomes of the work of a task that has succeeded.
//!
//! It is decided by what is there and not by what was done, so it can be asked for again: after a crash the second time finds the first one's
//! commits, merges and pushes. Once it is settled, that is written into the worktree's record, before the worktree goes.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use claudine_domain::{
    id::TaskId,
    worktree::{Merge, MergeState, MergeStrategy, Worktree},
};

use super::{WorktreeError, Worktrees, error::io_error, record::Record};
use crate::{
    fsx::{self, Lasting},
    git::{Commit, Git, shortened},
    text::shell_word,
};

/// How much of a title is kept.
const TITLE_CHARS: usize = 72;

/// An attempt whose work is to be settled.
pub(crate) struct Settling<'a> {
    pub(crate) task: TaskId,
    pub(crate) attempt: u32,
    pub(crate) worktree: &'a Worktree,
    /// What the task was to do, for the messages of commits.
    pub(crate) title: &'a str,
    pub(crate) variables: Arc<BTreeMap<String, String>>,
}

/// What the steps share.
pub(super) struct Work {
    pub(super) task: TaskId,
    pub(super) record: Record,
    pub(super) strategy: MergeStrategy,
    pub(super) title: String,
    /// In the worktree, or, if that is gone, in the repository.
    pub(super) git: Git,
    pub(super) path: PathBuf,
}

/// What a step came to, in words.
pub(super) type Done = (MergeState, String);

impl Worktrees {
    /// Never fails: what goes wrong is the answer.
    pub(crate) async fn settle(&self, settling: Settling<'_>) -> Merge {
        let strategy = settling.worktree.merge;
        let branch = settling.worktree.branch_of(settling.task);
        let path = self.path(settling.task);
        let settled = self.try_to_settle(settling).await;
        settled.unwrap_or_else(|error| {
            // It may not even be committed.
            let place = if path.exists() {
                format!("in the worktree {} (branch `{branch}`)", path.display())
            } else {
                format!("on branch `{branch}`")
            };
            Merge {
                strategy,
                state: MergeState::Refused,
                detail: format!("{error}; the work is {place}"),
                worktree_removed: false,
            }
        })
    }

    async fn try_to_settle(&self, settling: Settling<'_>) -> Result<Merge, WorktreeError> {
        let Settling {
            task,
            attempt,
            worktree,
            title,
            variables,
        } = settling;
        let _turn = self.turn(Path::new(&worktree.repository)).await;
        let record = self.known(task).await?;
        let git = self.git(self.path(task), variables);
        let mut work = self.begin(git, record, worktree.merge, title).await?;
        let merge = match &work.record.settled {
            Some((settled, merge)) if *settled == attempt => merge.clone(),
            _ => {
                let merge = self.carry_out(&work).await?;
                work.record.settled = Some((attempt, merge.clone()));
                self.write_record(&work.record).await?;
                merge
            }
        };
        if worktree.keep || merge.state.is_failure() {
            return Ok(merge);
        }
        Ok(self.leave(&work, merge).await)
    }

    /// With git in the worktree, which may be gone.
    pub(super) async fn begin(
        &self,
        git: Git,
        record: Record,
        strategy: MergeStrategy,
        title: &str,
    ) -> Result<Work, WorktreeError> {
        let path = self.path(record.task);
        let git = if path.exists() {
            git.own_place(&record.repository).await?;
            git
        } else {
            git.in_repository(&record.repository)
        };
        Ok(Work {
            task: record.task,
            record,
            strategy,
            title: title_of(title),
            git: git.with_identity().await?,
            path,
        })
    }

    /// Does what the strategy says.
    pub(super) async fn carry_out(&self, work: &Work) -> Result<Merge, WorktreeError> {
        let (state, detail) = self.work(work).await?;
        Ok(Merge {
            strategy: work.strategy,
            state,
            detail,
            worktree_removed: false,
        })
    }

    async fn work(&self, work: &Work) -> Result<Done, WorktreeError> {
        let branch = &work.record.branch;
        // Without a worktree all of it is on the branch.
        if work.path.exists()
            && let Some(done) = work.commit_rest().await?
        {
            return Ok(done);
        }
        let Some(tip) = work.git.branch_commit(branch).await? else {
            let branch = branch.clone();
            return Err(WorktreeError::BranchGone { branch });
        };
        let base = &work.record.base_commit;
        let commits = work.git.commits_between(base, &tip).await?;
        if commits == 0 {
            return Ok((MergeState::Nothing, "the task changed nothing".to_owned()));
        }
        if work.strategy != MergeStrategy::Manual
            && let Some(done) = work.refuse_links(&tip).await?
        {
            return Ok(done);
        }
        match work.strategy {
            MergeStrategy::Manual => {
                let word = if commits == 1 { "commit" } else { "commits" };
                let typed = work.git.typed(branch).await?;
                let detail =
                    format!("{commits} {word} on branch `{branch}`; `git merge {typed}` merges it");
                Ok((MergeState::Left, detail))
            }
            MergeStrategy::Patch => self.patch(work, &tip).await,
            MergeStrategy::Pr => work.open_request().await,
            MergeStrategy::Auto => work.merge().await,
        }
    }

    async fn patch(&self, work: &Work, tip: &Commit) -> Result<Done, WorktreeError> {
        let branch = &work.record.branch;
        let file = self.layout.patch(work.task);
        let fresh = file.with_extension("patch.new");
        let base = &work.record.base_commit;
        work.git.write_patch(base, tip, &fresh).await?;
        let target = file.clone();
        let is_empty = self
            .blocking(move |_| {
                name_patch(&fresh, &target).map_err(io_error("cannot write", &target))
            })
            .await?;
        if is_empty {
            let detail = format!("the commits on branch `{branch}` change nothing together");
            return Ok((MergeState::Left, detail));
        }
        let detail = format!(
            "{} has it; `git apply` takes it (it is also on branch `{branch}`)",
            file.display()
        );
        Ok((MergeState::Written, detail))
    }

    /// Removes the worktree, if nothing in it would be lost by that, and a branch of our own making
    /// that nobody needs any more.
    pub(super) async fn leave(&self, work: &Work, mut merge: Merge) -> Merge {
        // The worktree's own directory is no place to remove it from.
        let repository = work.git.in_repository(&work.record.repository);
        if work.path.exists() {
            let why = match work.remove(&repository).await {
                Ok(Removal::Removed) => None,
                // The merge says why.
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
        }
        merge.worktree_removed = true;
        if matches!(merge.state, MergeState::Merged | MergeState::Nothing)
            && let Err(error) = work.record.drop_branch(&repository).await
        {
            merge.detail = format!(
                "{}; the branch `{}` stays: {error}",
                merge.detail, work.record.branch
            );
        }
        merge
    }
}

/// What became of a worktree that was to be removed.
enum Removal {
    Removed,
    /// What is not committed was to be left.
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
        repository.remove_worktree(&self.path, &look).await?;
        Ok(Removal::Removed)
    }

    /// Why nothing is done with a worktree that is not on its branch.
    async fn refuse_astray(&self) -> Result<Option<Done>, WorktreeError> {
        let branch = &self.record.branch;
        let place = self.path.display();
        let stands_on = self.git.head_branch().await?;
        if stands_on.as_ref() != Some(branch) {
            let instead =
                stands_on.map_or_else(|| "no branch".to_owned(), |branch| format!("`{branch}`"));
            let detail = format!(
                "the worktree {place} has {instead} checked out and not `{branch}`, so nothing was done with it"
            );
            return Ok(Some((MergeState::Refused, detail)));
        }
        // Without it the next commit would be one without a past, of all files.
        if self.git.branch_commit(branch).await?.is_some() {
            return Ok(None);
        }
        let way_back = self.git.last_commit().await?.map_or_else(String::new, |commit| {
            let full = shell_word(&branch.full());
            format!(
                "; `git update-ref {full} {}` brings it back, and `claudine worktree merge {}` asks again",
                commit.hash(),
                self.task
            )
        });
        let detail = format!(
            "branch `{branch}` was taken away while the worktree {place} was on it, so nothing was done with that{way_back}"
        );
        Ok(Some((MergeState::Refused, detail)))
    }

    /// Commits what the task has not, if that is to be done; or says why nothing is done with the
    /// worktree as it is.
    async fn commit_rest(&self) -> Result<Option<Done>, WorktreeError> {
        if let Some(done) = self.refuse_astray().await? {
            return Ok(Some(done));
        }
        let branch = &self.record.branch;
        let manual = self.strategy == MergeStrategy::Manual;
        let place = self.path.display();
        let state = self.git.status().await?;
        // A merge that was resolved to what was there before changes nothing, and yet is to be
        // committed.
        if state.dirty_count == 0 && (manual || !self.git.is_merging().await?) {
            return Ok(None);
        }
        if manual {
            let detail = format!(
                "{} not committed in the worktree {place}, which stays (branch `{branch}`)",
                text_of_changes(state.dirty_count)
            );
            return Ok(Some((MergeState::Left, detail)));
        }
        // Committed, they would be taken for resolved.
        let conflicts = self.git.conflicting_files().await?;
        if !conflicts.is_empty() {
            let detail = format!(
                "a merge is under way in the worktree {place}, and its conflicts are not resolved: {}",
                shortened(&conflicts)
            );
            return Ok(Some((MergeState::Refused, detail)));
        }
        let foreign = self.git.foreign_repositories().await?;
        if !foreign.is_empty() {
            let detail = format!(
                "there are repositories of their own in the worktree {place}, which cannot be committed: {}; move them elsewhere, or have git ignore them",
                shortened(&foreign)
            );
            return Ok(Some((MergeState::Refused, detail)));
        }
        let message = format!("claudine: work of {}\n\n{}", self.task, self.title);
        self.git.commit_all(&message).await?;
        let left = self.git.status().await?;
        if left.dirty_count == 0 {
            return Ok(None);
        }
        let detail = format!(
            "not all that was changed in the worktree {place} can be committed there; what is inside of a submodule is committed in that: {}",
            shortened(&left.dirty)
        );
        Ok(Some((MergeState::Refused, detail)))
    }

    /// Refuses repositories that were committed by their hash alone, and submodules at commits that
    /// are nowhere else: the commit would reach others without what is in them.
    async fn refuse_links(&self, tip: &Commit) -> Result<Option<Done>, WorktreeError> {
        let (base, branch) = (&self.record.base_commit, &self.record.branch);
        let links = self.git.links_to_nowhere(base, tip).await?;
        if !links.is_empty() {
            let detail = format!(
                "branch `{branch}` has repositories of their own in it that are no submodules, so nobody else would have their content: {}; `git rm --cached` takes them out",
                shortened(&links)
            );
            return Ok(Some((MergeState::Refused, detail)));
        }
        let unpushed = self.git.unpushed_submodules(base, tip).await?;
        if !unpushed.is_empty() {
            let detail = format!(
                "branch `{branch}` has submodules at commits that are on none of their remotes, so nobody else could check them out: {}; push them from the worktree {}, and `claudine worktree merge {}` asks again",
                shortened(&unpushed),
                self.path.display(),
                self.task
            );
            return Ok(Some((MergeState::Refused, detail)));
        }
        Ok(None)
    }
}

impl Record {
    /// Takes the branch away, if its name is our own and all that is on it is in its base.
    pub(super) async fn drop_branch(&self, git: &Git) -> Result<(), WorktreeError> {
        if self.is_named {
            return Ok(());
        }
        let Some(tip) = git.branch_commit(&self.branch).await? else {
            return Ok(());
        };
        if self.is_merged(git, &tip).await? {
            git.delete_branch(&self.branch, &tip).await?;
        }
        Ok(())
    }

    /// Whether all that is on the branch is in its base.
    pub(super) async fn is_merged(&self, git: &Git, tip: &Commit) -> Result<bool, WorktreeError> {
        if git.is_ancestor(tip, &self.base_commit).await? {
            return Ok(true);
        }
        let Some(base) = &self.base else {
            return Ok(false);
        };
        match git.branch_commit(base).await? {
            Some(base) => Ok(git.is_ancestor(tip, &base).await?),
            None => Ok(false),
        }
    }
}

/// Gives a patch its name, unless it is empty: none is to be applied then.
fn name_patch(fresh: &Path, file: &Path) -> io::Result<bool> {
    let is_empty = fs::metadata(fresh)?.len() == 0;
    if is_empty {
        fs::remove_file(fresh)?;
    } else {
        fsx::rename(fresh, file, Lasting::PowerCut)?;
    }
    Ok(is_empty)
}

fn title_of(summary: &str) -> String {
    summary.chars().take(TITLE_CHARS).collect()
}

fn text_of_changes(count: u64) -> String {
    if count == 1 {
        "1 file is".to_owned()
    } else {
        format!("{count} files are")
    }
}
