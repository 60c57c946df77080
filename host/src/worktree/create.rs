//! Making a task's worktree, or finding the one that an attempt before this one left.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use claudine_domain::{task::Task, worktree::Worktree};

use super::{WorktreeError, Worktrees, record::Record};
use crate::git::Git;

impl Worktrees {
    /// The directory that this attempt works in. What is there already is as it was left.
    pub(crate) async fn enter(
        &self,
        task: &Task,
        worktree: &Worktree,
        attempt: u32,
        variables: Arc<BTreeMap<String, String>>,
    ) -> Result<PathBuf, WorktreeError> {
        let path = self.path(task.id);
        let repository = Path::new(&worktree.repository);
        let git = Git::at(repository, variables);
        let _turn = self.turn(repository).await;
        let known = self.record(task.id)?;
        let is_settled = known
            .as_ref()
            .and_then(|record| record.settled.as_ref())
            .is_some_and(|(settled, _)| *settled == attempt);
        let inside = if worktree.inside.is_empty() {
            path.clone()
        } else {
            path.join(&worktree.inside)
        };
        // A host that was killed after the merge takes the attempt up again, with nothing left to do but to say so.
        if !is_settled {
            match known {
                Some(record) if record.is_ready => self.find(&git, &path, record).await?,
                known => self.make(&git, &path, task, worktree, known).await?,
            }
            // A directory that nothing is committed in is in no worktree.
            fs::create_dir_all(&inside).map_err(|source| WorktreeError::Io {
                what: "cannot make",
                path: inside.clone(),
                source,
            })?;
        }
        Ok(inside)
    }

    async fn find(&self, git: &Git, path: &Path, mut record: Record) -> Result<(), WorktreeError> {
        let settled = record.settled.take().is_some();
        if record.again.take().is_some() || settled {
            self.write_record(&record)?;
        }
        if path.join(".git").exists() {
            return Ok(());
        }
        git.prune_worktrees().await?;
        if git.branch_commit(&record.branch).await?.is_some() {
            git.add_worktree_of(path, &record.branch).await?;
            return check_submodules_out(git, path).await;
        }
        // It was taken away because all that was on it is in its base, or by somebody.
        if let Some(tip) = tip(git, record.base.as_deref()).await? {
            record.base_commit = tip;
            self.write_record(&record)?;
        }
        git.add_worktree(path, &record.branch, &record.base_commit)
            .await?;
        check_submodules_out(git, path).await
    }

    async fn make(
        &self,
        git: &Git,
        path: &Path,
        task: &Task,
        worktree: &Worktree,
        half: Option<Record>,
    ) -> Result<(), WorktreeError> {
        if let Some(half) = half {
            self.take_back(git, path, &half).await?;
        }
        let branch = worktree.branch_of(task.id);
        if git.branch_commit(&branch).await?.is_some() {
            return Err(WorktreeError::BranchExists { branch });
        }
        let mut record = Record {
            task: task.id,
            repository: worktree.repository.clone().into(),
            branch,
            base: worktree.base.clone(),
            base_commit: start(git, task, worktree).await?,
            is_named: worktree.branch.is_some(),
            is_ready: false,
            settled: None,
            again: None,
        };
        self.write_record(&record)?;
        let made = async {
            git.add_worktree(path, &record.branch, &record.base_commit)
                .await?;
            check_submodules_out(git, path).await
        };
        if let Err(error) = made.await {
            if let Err(error) = self.take_back(git, path, &record).await {
                tracing::warn!(task = %task.id, %error, "a worktree that could not be made is left half made");
            }
            return Err(error);
        }
        record.is_ready = true;
        self.write_record(&record)
    }

    /// Takes away what a making that was broken off has left. Nothing was done in it.
    async fn take_back(&self, git: &Git, path: &Path, half: &Record) -> Result<(), WorktreeError> {
        match fs::remove_dir_all(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(WorktreeError::Io {
                    what: "cannot remove",
                    path: path.to_owned(),
                    source: error,
                });
            }
            _ => {}
        }
        git.forget_worktree(path).await?;
        if git.branch_commit(&half.branch).await?.as_ref() == Some(&half.base_commit) {
            git.delete_branch(&half.branch, &half.base_commit).await?;
        }
        self.remove_record(half.task)
    }
}

/// Fills the submodules of a worktree that was just made; without them it is taken away again, or the next attempt would find it so.
async fn check_submodules_out(git: &Git, path: &Path) -> Result<(), WorktreeError> {
    let there = git.in_dir(path);
    if !there.has_submodules() {
        return Ok(());
    }
    let Err(error) = there.update_submodules().await else {
        return Ok(());
    };
    if let Err(error) = git.forget_worktree(path).await {
        tracing::warn!(path = %path.display(), %error, "a worktree without its submodules cannot be taken away");
    }
    Err(WorktreeError::Submodules(error))
}

/// A task that waited for others goes out from what they have made of the base meanwhile.
async fn start(git: &Git, task: &Task, worktree: &Worktree) -> Result<String, WorktreeError> {
    let tip = if task.dependencies.is_empty() {
        None
    } else {
        tip(git, worktree.base.as_deref()).await?
    };
    Ok(tip.unwrap_or_else(|| worktree.base_commit.clone()))
}

async fn tip(git: &Git, branch: Option<&str>) -> Result<Option<String>, WorktreeError> {
    match branch {
        Some(branch) => Ok(git.branch_commit(branch).await?),
        None => Ok(None),
    }
}
