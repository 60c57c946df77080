//! Branches of tasks' own: what they are called, and whose a name is.
//!
//! A name says what the task is about and is no proof of anything: whose branch it is says the
//! record of its worktree, or, without one, the task itself.

use std::path::Path;

use claudine_domain::{
    id::TaskId,
    task::Task,
    worktree::{Worktree, branch_by_id},
};

use super::{WorktreeError, Worktrees};
use crate::git::{BranchRef, Commit, Git};

/// How long a name is made of a task's own name or words.
const STEM_CHARS: usize = 40;
/// How many words of a prompt it is made of.
const STEM_WORDS: usize = 6;
/// How many tasks of one name have it with a number at its end; the rest are called by their ids.
const MOST_ALIKE: usize = 1_000;

impl Worktrees {
    /// A branch for a task that nobody has named one for, and that is to be made: the one that it
    /// had, if that is free, else the one that is planned, with a number at its end if need be.
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
            if !is_claimed && repository.branch_commit(&branch).await?.is_none() {
                // Whatever is in its way is in the way of all that are called alike.
                if repository.unmakable(&branch).await?.is_some() {
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

    /// The branch that a task has worked on, and where that is, if no record of its worktree is
    /// left: records are not in a backup. By its name alone it may be another task's meanwhile.
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
        let Some(last) = last_commit(task) else {
            return Ok(None);
        };
        if repository.commit_of(last.hash()).await?.is_none()
            || !repository.is_ancestor(&last, &tip).await?
        {
            return Ok(None);
        }
        // What is merged needs no branch any more, and the next one of that name has it too.
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

/// The commit that the task's work ended with, as far as it is known.
fn last_commit(task: &Task) -> Option<Commit> {
    let ended = task
        .attempts
        .iter()
        .rev()
        .filter_map(|it| it.ended.as_ref());
    let mut commits = ended.filter_map(|ended| {
        let work = ended.merge.as_ref().and_then(|merge| merge.work.as_ref());
        let left = || ended.git.as_ref()?.commit.as_deref();
        Commit::parse(work.map(|work| work.to.as_str()).or_else(left)?)
    });
    commits.next()
}

/// What a branch is called after: the task's name, else the first words of what it is to do. None
/// if there is nothing in them that a name could be made of.
pub(crate) fn stem_of(name: Option<&str>, summary: &str) -> Option<String> {
    name.and_then(stem).or_else(|| stem(summary))
}

/// Letters and digits, in small letters, with dashes between words.
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
    fn a_branch_is_called_after_its_task() {
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
