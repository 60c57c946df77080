//! Names and owners of tasks' branches.
//!
//! The name of a branch shows the subject of a task, but does not prove to which task the branch
//! belongs. The owner of a branch is named by the record of its worktree or, if there is no record,
//! by the task itself.

use std::path::Path;

use claudine_domain::{
    id::TaskId,
    task::Task,
    worktree::{Worktree, branch_by_id},
};

use super::{WorktreeError, Worktrees, error::Last, record::Record};
use crate::git::{BranchRef, Commit, Git};

/// Maximum length of the part of a branch's name that is made from the task's name or prompt.
const STEM_CHARS: usize = 40;
/// Maximum number of words of a prompt in a name.
const STEM_WORDS: usize = 6;
/// Maximum number of branches with the same name and different numbers. Further branches are named
/// by task id.
const MOST_ALIKE: usize = 1_000;
/// Maximum number of names that are tried if other gits take each of them at the same moment.
const NAMES_TRIED: usize = 20;

/// The beginning of the note in git's reflog that a branch was made for a task. The id of the task
/// follows, except in notes of earlier versions.
const MADE: &str = "claudine: made";

impl Worktrees {
    /// A free name for a task's new branch, which no tag, no branch of a remote and no checked out
    /// branch without a commit has either. Used if the user has named no branch. If the name that
    /// the branch had before is free, it is used again. Otherwise the planned name is used, with a
    /// number if necessary.
    pub(super) async fn free_branch(
        &self,
        repository: &Git,
        task: TaskId,
        worktree: &Worktree,
        had: Option<&BranchRef>,
    ) -> Result<BranchRef, WorktreeError> {
        let claims = self.claims().await?;
        let planned = worktree.planned_branch(task);
        let numbered = (2..=MOST_ALIKE).map(|number| format!("{planned}-{number}"));
        let names = std::iter::once(planned.clone()).chain(numbered);
        let candidates = had.cloned().into_iter().chain(names.map(BranchRef::named));
        for branch in candidates {
            let is_claimed = claims.is_of_another(task, Path::new(&worktree.repository), &branch);
            if is_claimed {
                continue;
            }
            let others = repository.others_named(&branch).await?;
            if !others.have_name
                && repository
                    .checked_out_in_the_way_of(&branch, Some(&self.path(task)))
                    .await?
                    .is_none()
            {
                // If git cannot make a branch with this name, it cannot make the numbered branches
                // either.
                if others.unmakable.is_some() {
                    break;
                }
                return Ok(branch);
            }
        }
        let branch = BranchRef::named(branch_by_id(task));
        match repository.in_the_way_of(&branch).await? {
            Some(there) => Err(WorktreeError::BranchInTheWay { branch, there }),
            None => Ok(branch),
        }
    }

    /// Makes the new branch that a record names, at the commit `base_commit`. If a branch has
    /// appeared since the name was chosen, because of which this one cannot be made, another name
    /// is chosen and recorded, unless the user has named the branch.
    pub(super) async fn make_branch(
        &self,
        repository: &Git,
        record: &mut Record,
        worktree: &Worktree,
    ) -> Result<(), WorktreeError> {
        let mut tries = 1;
        loop {
            let (branch, start) = (record.branch.clone(), &record.base_commit);
            let made = repository.make_branch(&branch, start, &record.made()).await;
            let Err(error) = made else {
                return Ok(());
            };
            let Some(taken) = record.taken_meanwhile(repository).await? else {
                return Err(error.into());
            };
            if record.is_named || tries >= NAMES_TRIED {
                return Err(taken);
            }
            tries += 1;
            tracing::info!(task = %record.task, %branch, "another git has just taken a name");
            record.branch = self
                .free_branch(repository, record.task, worktree, None)
                .await?;
            self.write_record(record).await?;
        }
    }

    /// The branch on which a task has worked, and the commit of the branch. Used if the record of
    /// the task's worktree is lost, as after a restore, because backups have no records. The name
    /// of the branch proves nothing, since another task's branch may have this name by now.
    pub(super) async fn own_branch(
        &self,
        repository: &Git,
        task: &Task,
        worktree: &Worktree,
    ) -> Result<Option<(BranchRef, Commit)>, WorktreeError> {
        let by_id = BranchRef::named(branch_by_id(task.id));
        let made = task.made_branch().map(BranchRef::named);
        let branch = made.unwrap_or_else(|| by_id.clone());
        let Some(tip) = repository.branch_commit(&branch).await? else {
            return Ok(None);
        };
        if branch == by_id {
            return Ok(Some((branch, tip)));
        }
        let Some(last) = last_commit(task, &branch) else {
            return Ok(None);
        };
        if repository.commit_of(last.hash()).await?.is_none()
            || !repository.is_ancestor(&last, &tip).await?
        {
            return Ok(None);
        }
        // If the work was merged, the branch is not returned: it is no longer needed, and a later
        // branch of the same name would contain the merged commits too.
        let base = worktree.base.as_ref().map(BranchRef::named);
        let base = match base {
            Some(base) => repository.branch_commit(&base).await?,
            None => None,
        };
        let is_merged = match base {
            Some(base) => repository.is_ancestor(&last, &base).await?,
            None => false,
        };
        Ok((!is_merged).then_some((branch, tip)))
    }
}

impl Record {
    /// The commit of the task's branch; `None` if the branch no longer exists. Used if no worktree
    /// is on the branch. In this case somebody else may have made another branch of the same name.
    /// Such a branch is refused.
    pub(super) async fn own_tip(
        &self,
        git: &Git,
        task: Option<&Task>,
    ) -> Result<Option<Commit>, WorktreeError> {
        if self.is_dropped {
            return Ok(None);
        }
        let Some(tip) = git.branch_commit(&self.branch).await? else {
            return Ok(None);
        };
        let noted = self.noted(task);
        if self.is_its_own(git, &tip, &noted).await? {
            return Ok(Some(tip));
        }
        Err(WorktreeError::BranchReplaced {
            branch: self.branch.clone(),
            last: noted.into_iter().next(),
        })
    }

    /// The error that the task's branch no longer exists.
    pub(super) async fn gone(
        &self,
        git: &Git,
        task: Option<&Task>,
    ) -> Result<WorktreeError, WorktreeError> {
        let noted = self.noted(task).into_iter();
        let mut last = Last::NotNeeded;
        for commit in noted.filter(|_| !self.is_dropped) {
            if git.commit_of(commit.hash()).await?.is_none() {
                if last == Last::NotNeeded {
                    last = Last::Deleted(commit);
                }
            } else if !self.is_merged(git, &commit).await? {
                last = Last::Left(commit);
                break;
            }
        }
        Ok(WorktreeError::BranchGone {
            task: self.task,
            branch: self.branch.clone(),
            last,
        })
    }

    /// Notes the commit at which an attempt has left the branch, unless a later one is noted. `git`
    /// is that of the worktree, whether or not the worktree exists.
    pub(super) async fn note_last(
        &mut self,
        git: &Git,
        last: Option<Commit>,
    ) -> Result<(), WorktreeError> {
        let Some(last) = last else {
            return Ok(());
        };
        let repository = git.in_repository(&self.repository);
        let is_older = match &self.tip {
            None => false,
            Some(tip) if repository.commit_of(tip.hash()).await?.is_none() => true,
            Some(tip) => {
                repository.commit_of(last.hash()).await?.is_some()
                    && repository.is_ancestor(&last, tip).await?
            }
        };
        if !is_older {
            self.tip = Some(last);
        }
        Ok(())
    }

    /// The last commits of the branch that were noted, the latest first.
    fn noted(&self, task: Option<&Task>) -> Vec<Commit> {
        let noted = [
            self.merged_tip(),
            self.tip.clone(),
            task.and_then(|task| last_commit(task, &self.branch)),
        ];
        noted.into_iter().flatten().collect()
    }

    /// Whether the branch at `tip` belongs to the task. This is so if one of the commits in `noted`
    /// was on the branch. Commits that the base has prove nothing, since every new branch has them.
    async fn is_its_own(
        &self,
        git: &Git,
        tip: &Commit,
        noted: &[Commit],
    ) -> Result<bool, WorktreeError> {
        let mut has_work = false;
        for commit in noted {
            if git.commit_of(commit.hash()).await?.is_none() {
                has_work = true;
            } else if !self.is_merged(git, commit).await? {
                has_work = true;
                if git.is_ancestor(commit, tip).await? {
                    return Ok(true);
                }
            }
        }
        // A person may have rebased the branch, so its earlier commits are looked up in the reflog.
        let moves = git.moves(&self.branch).await?;
        if moves.is_empty() && !has_work {
            return Ok(git.is_ancestor(&self.base_commit, tip).await?);
        }
        let made = self.made();
        Ok(moves.iter().any(|it| {
            let is_old = !has_work && it.why == MADE;
            it.why == made || is_old || has_work && noted.contains(&it.to)
        }))
    }

    /// The error that a branch cannot be made because of another one, if there is such a branch
    /// and this task has not made it.
    async fn taken_meanwhile(&self, git: &Git) -> Result<Option<WorktreeError>, WorktreeError> {
        let branch = self.branch.clone();
        if git.branch_commit(&branch).await?.is_some() {
            let is_own = self.has_made_its_branch(git).await?;
            return Ok((!is_own).then_some(WorktreeError::BranchExists { branch }));
        }
        let there = git.in_the_way_of(&branch).await?;
        Ok(there.map(|there| WorktreeError::BranchInTheWay { branch, there }))
    }

    /// Whether this task has made the branch that now has the recorded name.
    pub(super) async fn has_made_its_branch(&self, git: &Git) -> Result<bool, WorktreeError> {
        let made = self.made();
        let moves = git.moves(&self.branch).await?;
        Ok(moves.iter().any(|it| it.why == made))
    }

    /// The note that git made when the branch was created.
    pub(super) fn made(&self) -> String {
        format!("{MADE} for {}", self.task)
    }

    /// The commit of the branch at the last merge.
    pub(super) fn merged_tip(&self) -> Option<Commit> {
        let work = self.last_merge()?.work.as_ref()?;
        Commit::parse(&work.to)
    }
}

/// The last commit of the task's work on this branch, if it is known.
fn last_commit(task: &Task, branch: &BranchRef) -> Option<Commit> {
    let ended = task
        .attempts
        .iter()
        .rev()
        .filter_map(|it| it.ended.as_ref());
    let mut commits = ended.filter_map(|ended| {
        let work = ended.merge.as_ref().and_then(|merge| merge.work.as_ref());
        let git = ended.git.as_ref();
        let git = git.filter(|git| git.branch.as_deref() == Some(branch.name()));
        let left = || git?.commit.as_deref();
        Commit::parse(work.map(|work| work.to.as_str()).or_else(left)?)
    });
    commits.next()
}

/// The part of a branch's name that shows the subject. It is made from the task's name, or else
/// from the first words of the prompt. `None` if neither contains a usable character.
pub(crate) fn stem_of(name: Option<&str>, summary: &str) -> Option<String> {
    name.and_then(stem).or_else(|| stem(summary))
}

/// Lower-case letters and digits, with dashes between words.
fn stem(text: &str) -> Option<String> {
    let small: String = text.chars().flat_map(char::to_lowercase).collect();
    let words = small.split(|c: char| !c.is_alphanumeric());
    let mut stem = String::new();
    for word in words.filter(|word| !word.is_empty()).take(STEM_WORDS) {
        let length = stem.chars().count() + word.chars().count();
        if !stem.is_empty() && length >= STEM_CHARS {
            break;
        }
        if !stem.is_empty() {
            stem.push('-');
        }
        stem.extend(word.chars().take(STEM_CHARS));
    }
    (!stem.is_empty()).then_some(stem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_branch_is_named_after_its_task() {
        let check = |name: Option<&str>, summary: &str, expected: Option<&str>| {
            assert_eq!(
                stem_of(name, summary).as_deref(),
                expected,
                "{name:?} {summary:?}"
            );
        };
        check(Some("fix-tests"), "Make them pass", Some("fix-tests"));
        check(
            None,
            "Make the failing test in cart.py pass.",
            Some("make-the-failing-test-in-cart"),
        );
        check(Some("Grün & Blau"), "x", Some("grün-blau"));
        check(
            None,
            "Mach die Größe 漢字 fest",
            Some("mach-die-größe-漢字-fest"),
        );
        check(Some("../../etc/passwd"), "x", Some("etc-passwd"));
        check(Some("a..b.lock"), "x", Some("a-b-lock"));
        check(Some("-rf /"), "x", Some("rf"));
        check(Some("a\nb\u{1b}[31m"), "x", Some("a-b-31m"));
        check(Some("\u{202e}evil@{-1}~^:?*["), "x", Some("evil-1"));
        check(Some("HEAD"), "x", Some("head"));
        check(Some("…"), "do it", Some("do-it"));
        check(Some(""), "🙂 !!", None);
        let long = "antidisestablishmentarianism and more words";
        check(None, long, Some("antidisestablishmentarianism-and-more"));
        let one_word = "x".repeat(300);
        check(None, &one_word, Some(&"x".repeat(STEM_CHARS)));
    }
}
