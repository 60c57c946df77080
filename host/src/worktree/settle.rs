//! What becomes of the work of a task that has succeeded.
//!
//! It is decided by what is there and not by what was done, so it can be asked for again: after a crash the second time finds the first one's
//! commits, merges and pushes. Once it is settled, that is written into the worktree's record, before the worktree goes.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use claudine_domain::{
    id::TaskId,
    worktree::{Merge, MergeState, MergeStrategy, Worktree},
};

use super::{WorktreeError, Worktrees, record::Record};
use crate::git::Git;

/// How many files are named.
const NAMED: usize = 5;
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
    /// In the worktree, or, where that is gone, in the repository.
    pub(super) git: Git,
    pub(super) path: PathBuf,
    pub(super) variables: Arc<BTreeMap<String, String>>,
}

/// What a step came to, in words.
pub(super) type Done = (MergeState, String);

impl Worktrees {
    /// Never fails: what goes wrong is the answer.
    pub(crate) async fn settle(&self, settling: Settling<'_>) -> Merge {
        let strategy = settling.worktree.merge;
        let branch = settling.worktree.branch_of(settling.task);
        self.try_to_settle(settling)
            .await
            .unwrap_or_else(|error| Merge {
                strategy,
                state: MergeState::Refused,
                detail: format!("{error}; the work is on branch `{branch}`"),
                worktree_removed: false,
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
        let record = self.known(task)?;
        let mut work = self.begin(record, worktree.merge, title, variables).await?;
        let merge = match &work.record.settled {
            Some((settled, merge)) if *settled == attempt => merge.clone(),
            _ => {
                let merge = self.carry_out(&work).await?;
                work.record.settled = Some((attempt, merge.clone()));
                self.write_record(&work.record)?;
                merge
            }
        };
        if worktree.keep || merge.state.is_failure() {
            return Ok(merge);
        }
        Ok(self.leave(&work, merge).await)
    }

    pub(super) async fn begin(
        &self,
        record: Record,
        strategy: MergeStrategy,
        title: &str,
        variables: Arc<BTreeMap<String, String>>,
    ) -> Result<Work, WorktreeError> {
        let path = self.path(record.task);
        let dir = if path.exists() {
            &path
        } else {
            &record.repository
        };
        let git = Git::at(dir, variables.clone())
            .with_identity(&record.repository)
            .await?;
        Ok(Work {
            task: record.task,
            record,
            strategy,
            title: title_of(title),
            git,
            path,
            variables,
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
            && let Some(done) = commit_rest(work).await?
        {
            return Ok(done);
        }
        let commits = work
            .git
            .commits_between(&work.record.base_commit, branch)
            .await?;
        if commits == 0 {
            return Ok((MergeState::Nothing, "the task changed nothing".to_owned()));
        }
        match work.strategy {
            MergeStrategy::Manual => {
                let word = if commits == 1 { "commit" } else { "commits" };
                Ok((
                    MergeState::Left,
                    format!(
                        "{commits} {word} on branch `{branch}`; `git merge {branch}` merges it"
                    ),
                ))
            }
            MergeStrategy::Patch => self.patch(work).await,
            MergeStrategy::Pr => work.open_request().await,
            MergeStrategy::Auto => work.merge().await,
        }
    }

    async fn patch(&self, work: &Work) -> Result<Done, WorktreeError> {
        let file = self.layout.patch(work.task);
        let fresh = file.with_extension("patch.new");
        let Record {
            base_commit,
            branch,
            ..
        } = &work.record;
        work.git.write_patch(base_commit, branch, &fresh).await?;
        std::fs::rename(&fresh, &file).map_err(|source| WorktreeError::Io {
            what: "cannot write",
            path: file.clone(),
            source,
        })?;
        let detail = format!(
            "{} has it; `git apply` takes it (it is also on branch `{branch}`)",
            file.display()
        );
        Ok((MergeState::Written, detail))
    }

    /// Removes the worktree, where nothing in it would be lost by that, and a branch of our own making that nobody needs any more.
    pub(super) async fn leave(&self, work: &Work, mut merge: Merge) -> Merge {
        // The worktree's own directory is no place to remove it from.
        let git = work.git.in_dir(&work.record.repository);
        if work.path.exists() {
            let is_clean = work
                .git
                .status()
                .await
                .is_ok_and(|state| state.dirty_count == 0);
            if !is_clean {
                return merge;
            }
            if let Err(error) = git.remove_worktree(&work.path).await {
                merge.detail = format!(
                    "{}; the worktree {} stays: {error}",
                    merge.detail,
                    work.path.display()
                );
                return merge;
            }
        }
        merge.worktree_removed = true;
        if matches!(merge.state, MergeState::Merged | MergeState::Nothing)
            && let Err(error) = work.record.drop_branch(&git).await
        {
            merge.detail = format!(
                "{}; the branch `{}` stays: {error}",
                merge.detail, work.record.branch
            );
        }
        merge
    }
}

/// Commits what the task has not, where that is to be done; or says why nothing is done with the worktree as it is.
async fn commit_rest(work: &Work) -> Result<Option<Done>, WorktreeError> {
    let branch = &work.record.branch;
    let manual = work.strategy == MergeStrategy::Manual;
    let state = work.git.status().await?;
    if state.branch.as_ref() != Some(branch) {
        let instead = state
            .branch
            .map_or_else(|| "no branch".to_owned(), |branch| format!("`{branch}`"));
        let detail = format!(
            "the worktree {} has {instead} checked out and not `{branch}`, so nothing was done with it",
            work.path.display()
        );
        return Ok(Some((MergeState::Refused, detail)));
    }
    // A merge that was resolved to what was there before changes nothing, and yet is to be committed.
    if state.dirty_count == 0 && (manual || !work.git.is_merging().await?) {
        return Ok(None);
    }
    if manual {
        let detail = format!(
            "{} not committed in the worktree {}, which stays (branch `{branch}`)",
            text_of_changes(state.dirty_count),
            work.path.display()
        );
        return Ok(Some((MergeState::Left, detail)));
    }
    // Committed, they would be taken for resolved.
    let conflicts = work.git.conflicting_files().await?;
    if !conflicts.is_empty() {
        let detail = format!(
            "a merge is under way in the worktree {}, and its conflicts are not resolved: {}",
            work.path.display(),
            shortened(conflicts)
        );
        return Ok(Some((MergeState::Refused, detail)));
    }
    let message = format!("claudine: work of {}\n\n{}", work.task, work.title);
    work.git.commit_all(&message).await?;
    let left = work.git.status().await?;
    if left.dirty_count == 0 {
        return Ok(None);
    }
    let detail = format!(
        "not all that was changed in the worktree {} can be committed there; what is inside of a submodule is committed in that: {}",
        work.path.display(),
        shortened(left.dirty)
    );
    Ok(Some((MergeState::Refused, detail)))
}

impl Record {
    /// Takes the branch away, where its name is our own and all that is on it is in its base.
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
    pub(super) async fn is_merged(&self, git: &Git, tip: &str) -> Result<bool, WorktreeError> {
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

/// The first of some files, and that there are more.
pub(super) fn shortened(mut files: Vec<String>) -> String {
    let more = files.len() > NAMED;
    files.truncate(NAMED);
    if more {
        files.push("…".to_owned());
    }
    files.join(", ")
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
