//! Removing worktrees that nobody needs any more, and saying why the others stay.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
};

use claudine_domain::id::TaskId;

use super::{WorktreeError, Worktrees, list::Content, record::Record};
use crate::git::Git;

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Cleaned {
    pub(crate) removed: Vec<(TaskId, PathBuf)>,
    pub(crate) left: Vec<Left>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Left {
    pub(crate) task: TaskId,
    pub(crate) path: PathBuf,
    pub(crate) why: String,
}

impl Worktrees {
    /// Removes what has nothing in it that is not in its base or on a remote; with `all` also what is on its branch, which stays. Never what is
    /// not committed, nor what belongs to one of the unfinished tasks.
    pub(crate) async fn clean(
        &self,
        unfinished: &BTreeSet<TaskId>,
        all: bool,
        variables: Arc<BTreeMap<String, String>>,
    ) -> Result<Cleaned, WorktreeError> {
        let mut cleaned = Cleaned::default();
        for record in self.records()? {
            let path = self.path(record.task);
            let task = record.task;
            if unfinished.contains(&task) {
                let why = "its task has not ended".to_owned();
                cleaned.left.push(Left { task, path, why });
                continue;
            }
            let was_there = path.exists();
            let git = Git::at(&record.repository, variables.clone());
            let _turn = self.turn(&record.repository).await;
            match self.clean_one(&record, &path, &git, all).await {
                Ok(None) if was_there => cleaned.removed.push((task, path)),
                Ok(None) => {}
                Ok(Some(why)) => cleaned.left.push(Left { task, path, why }),
                Err(error) => cleaned.left.push(Left {
                    task,
                    path,
                    why: error.to_string(),
                }),
            }
        }
        Ok(cleaned)
    }

    /// Why it stays; none where it is gone.
    async fn clean_one(
        &self,
        record: &Record,
        path: &Path,
        git: &Git,
        all: bool,
    ) -> Result<Option<String>, WorktreeError> {
        if path.exists() {
            let content = record.content(&git.in_dir(path)).await?;
            if let Some(why) = reason_to_stay(content, &record.branch, all) {
                return Ok(Some(why));
            }
            git.remove_worktree(path).await?;
        } else if record.repository.exists() {
            git.prune_worktrees().await?;
        }
        if record.repository.exists() {
            record.drop_branch(git).await?;
        }
        self.remove_record(record.task)?;
        Ok(None)
    }
}

fn reason_to_stay(content: Content, branch: &str, all: bool) -> Option<String> {
    let Content { dirty, unmerged } = content;
    if dirty > 0 {
        return Some(format!(
            "it has changes that are not committed, in {dirty} of its files"
        ));
    }
    (unmerged > 0 && !all).then(|| {
        format!("branch `{branch}` is not merged (commits: {unmerged}); --all removes the worktree and keeps the branch")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_committed_stays_whatever_is_asked() {
        let check = |dirty: u64, unmerged: u64, all: bool, stays: bool| {
            let why = reason_to_stay(Content { dirty, unmerged }, "b", all);
            assert_eq!(why.is_some(), stays, "{dirty} {unmerged} {all}");
        };
        check(0, 0, false, false);
        check(0, 0, true, false);
        check(0, 2, false, true);
        check(0, 2, true, false);
        check(1, 0, false, true);
        check(1, 0, true, true);
        check(1, 2, true, true);
    }
}
