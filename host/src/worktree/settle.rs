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
    /// In the worktree.
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
        let path = self.path(task);
        let record = self.record(task)?.ok_or_else(|| WorktreeError::Io {
            what: "there is no record of the worktree",
            path: path.clone(),
            source: std::io::ErrorKind::NotFound.into(),
        })?;
        let git = Git::at(&path, variables.clone())
            .with_identity(&worktree.repository)
            .await?;
        let mut work = Work {
            task,
            record,
            strategy: worktree.merge,
            title: title_of(title),
            git,
            path,
            variables,
        };
        let merge = match &work.record.settled {
            Some((settled, merge)) if *settled == attempt => merge.clone(),
            _ => {
                let (state, detail) = self.work(&work).await?;
                let merge = Merge {
                    strategy: worktree.merge,
                    state,
                    detail,
                    worktree_removed: false,
                };
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

    async fn work(&self, work: &Work) -> Result<Done, WorktreeError> {
        let branch = &work.record.branch;
        let state = work.git.status().await?;
        if state.branch.as_ref() != Some(branch) {
            let instead = state
                .branch
                .map_or_else(|| "no branch".to_owned(), |branch| format!("`{branch}`"));
            let detail = format!(
                "the worktree {} has {instead} checked out and not `{branch}`, so nothing was done with it",
                work.path.display()
            );
            return Ok((MergeState::Refused, detail));
        }
        if state.dirty_count > 0 {
            if work.strategy == MergeStrategy::Manual {
                let detail = format!(
                    "{} not committed in the worktree {}, which stays (branch `{branch}`)",
                    text_of_changes(state.dirty_count),
                    work.path.display()
                );
                return Ok((MergeState::Left, detail));
            }
            work.git
                .commit_all(&format!(
                    "claudine: work of {}\n\n{}",
                    work.task, work.title
                ))
                .await?;
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
    async fn leave(&self, work: &Work, mut merge: Merge) -> Merge {
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
