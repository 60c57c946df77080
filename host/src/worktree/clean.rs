//! Removes worktrees that nobody needs any more, and reports why other worktrees are kept.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use claudine_domain::worktree::MergeState;

use super::{WorktreeError, Worktrees, again::Held, list::Content, record::Record};
use crate::{
    fsx,
    git::{BranchRef, Git, GitError, shortened},
    text::shell_word,
};

/// The kinds of worktrees that are removed in addition to the worktrees that nobody needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Also {
    /// Whether worktrees whose work is only on their branch are removed.
    pub(crate) unmerged: bool,
    /// Whether worktrees with ignored files are removed.
    pub(crate) ignored: bool,
}

impl Worktrees {
    /// Removes a worktree if everything in it is also in its base or on a remote, or if `also`
    /// allows the removal nevertheless. A worktree with uncommitted changes is never removed.
    /// Returns why the worktree is kept; `None` if it was removed.
    pub(crate) async fn clean(
        &self,
        held: &Held,
        also: Also,
        variables: Arc<BTreeMap<String, String>>,
    ) -> Result<Option<String>, WorktreeError> {
        let mut record = self.known(held.task()).await?;
        let git = self.git_of(&record, variables);
        self.clean_one(&mut record, &git, also).await
    }

    async fn clean_one(
        &self,
        record: &mut Record,
        git: &Git,
        also: Also,
    ) -> Result<Option<String>, WorktreeError> {
        let repository = git.in_repository(&record.repository);
        let unfinished = self.put_right(record, git).await?;
        let is_there = self.is_there(git, record).await?;
        if !is_there && !record.repository.exists() {
            if is_removed(&record.repository) {
                self.remove_record(record.task).await?;
            }
            return Ok(None);
        }
        // Only the record shows how the checkout can be put back.
        if let Some(why) = unfinished {
            return Ok(Some(why));
        }
        if is_there {
            let content = record.content(git).await;
            let is_lost = matches!(
                &content,
                Err(WorktreeError::Git(GitError::NotItsOwn { .. }))
            );
            if is_lost && is_remains(git, &repository).await? {
                return Ok(Some(remains(git, record).await?));
            }
            let content = content?;
            if let Some(why) = reason_to_stay(&content, &record.branch, also) {
                return Ok(Some(why));
            }
            // Once the worktree is removed, only this commit shows which branch is the task's.
            record.tip = repository.branch_commit(&record.branch).await?;
            self.write_record(record).await?;
            let with_name = git.clone().with_identity().await?;
            record.keep_abandoned(&with_name).await?;
            repository.remove_worktree(git.dir(), &content.look).await?;
        } else {
            if let Some(to) = repository.moved_to(git.dir()).await? {
                return Ok(Some(format!("it was moved to {}", to.display())));
            }
            record.forget_missing(&repository, git.dir()).await?;
            match record.own_tip(&repository, None).await {
                Err(WorktreeError::BranchReplaced { .. }) => return Ok(None),
                tip => tip?,
            };
        }
        match self.drop_branch(record, &repository).await {
            // The branch is in use elsewhere and is kept, but the worktree is removed.
            Err(WorktreeError::Git(GitError::InUse { .. })) => {}
            dropped => dropped?,
        }
        // If the branch exists, the record is kept too, because a retry continues on the branch,
        // and a merge needs the base.
        let branch = repository.branch_commit(&record.branch).await?;
        if branch.is_some() && !record.is_dropped {
            return Ok(None);
        }
        // The ref of kept commits is found only through the record, so the record is kept as long
        // as the ref exists.
        if record.has_kept(&repository).await? {
            return Ok(None);
        }
        self.remove_record(record.task).await?;
        Ok(None)
    }
}

/// Whether git has forgotten the worktree in whose directory `git` runs. Then the directory has
/// files that git could not remove. It may even have all files, if somebody had removed the `.git`
/// before.
async fn is_remains(git: &Git, repository: &Git) -> Result<bool, GitError> {
    Ok(repository.git_dir_for(git.dir()).await?.is_none() && git.is_forgotten().await?)
}

/// A message about the remains of a worktree that git has forgotten.
async fn remains(git: &Git, record: &Record) -> Result<String, GitError> {
    let names = git.names_here().await?;
    let is_merged = record.last_merge().map(|merge| merge.state) == Some(MergeState::Merged);
    let merged = if is_merged {
        "; the work on its branch was merged"
    } else {
        ""
    };
    Ok(format!(
        "git no longer knows this worktree, which still has these files and directories: {}{merged}; if nothing in it is needed, `rm -r {}` removes the rest",
        shortened(&names),
        shell_word(&git.dir().display().to_string())
    ))
}

/// Whether somebody has removed the repository. If the directory around it is missing too, the
/// repository may be on a drive that is not mounted.
fn is_removed(repository: &Path) -> bool {
    fsx::is_missing(repository) && repository.parent().is_some_and(Path::is_dir)
}

fn reason_to_stay(content: &Content, branch: &BranchRef, also: Also) -> Option<String> {
    if let Some(loss) = content.look.loss() {
        return Some(loss);
    }
    if content.is_adrift {
        return Some("it has commits that are on no branch".to_owned());
    }
    let unmerged = content.unmerged;
    if unmerged > 0 && !also.unmerged {
        return Some(format!(
            "branch `{branch}` is not merged (commits: {unmerged}); --all removes the worktree and keeps the branch"
        ));
    }
    let ignored = content.look.ignored().filter(|_| !also.ignored)?;
    Some(format!("{ignored}; --ignored removes it with them"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git::Look;

    #[test]
    fn a_worktree_with_uncommitted_changes_is_kept_in_every_case() {
        let check = |dirty: u64, ignored: u64, unmerged: u64, expected: [bool; 4]| {
            check_adrift(dirty, ignored, unmerged, false, expected);
            check_adrift(dirty, ignored, unmerged, true, [true; 4]);
        };
        check(0, 0, 0, [false; 4]);
        check(0, 0, 2, [true, false, true, false]);
        check(0, 1, 0, [true, true, false, false]);
        check(0, 1, 2, [true, true, true, false]);
        check(1, 0, 0, [true; 4]);
        check(1, 1, 2, [true; 4]);
    }

    /// Checks whether a worktree with this content is kept in each of four cases: by default, with
    /// [`Also::unmerged`], with [`Also::ignored`], and with both.
    fn check_adrift(dirty: u64, ignored: u64, unmerged: u64, is_adrift: bool, stays: [bool; 4]) {
        let mut look = Look::default();
        look.state.dirty_count = dirty;
        look.ignored_count = ignored;
        let content = Content {
            dirty,
            ignored,
            unmerged,
            is_adrift,
            look,
        };
        let branch = BranchRef::named("b");
        let also = |unmerged, ignored| Also { unmerged, ignored };
        let asked = [
            also(false, false),
            also(true, false),
            also(false, true),
            also(true, true),
        ];
        let found = asked.map(|also| reason_to_stay(&content, &branch, also).is_some());
        assert_eq!(found, stays, "{dirty} {ignored} {unmerged} {is_adrift}");
    }
}
