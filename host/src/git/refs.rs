//! Finds, creates, moves and deletes branches, and finds commits.

use std::collections::BTreeSet;

use super::{
    BranchRef, Commit, Git, GitError,
    entries::{Entry, LINK},
    failed, names,
    reflog::KEPT_ELSEWHERE,
    spec::{LIST_BYTES, LONG, SHORT, Spec},
    whole, without_newline,
};
use crate::text::shell_word;

/// The beginning of git's warning about a branch that cannot be read.
const BROKEN: &str = "warning: ignoring broken ref ";

/// The commit, and possibly the branch, that a name denotes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Resolved {
    pub(crate) commit: Commit,
    /// The branch of this repository that the name denotes; `None` if it denotes no branch.
    pub(crate) branch: Option<BranchRef>,
}

/// A ref that git has listed.
pub(super) struct ListedRef {
    object: Commit,
    pub(super) name: String,
}

/// Whether a repository has commits that its remotes do not have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Tips {
    /// The remotes have all of the commits.
    Elsewhere,
    /// A branch, or the checked out commit, has commits that the remotes lack.
    Commits,
    /// The reflog of the checkout has other commits that the remotes lack, for example commits from
    /// before an amend.
    Abandoned,
    Stash,
}

impl Git {
    /// The commit that a name denotes; `None` if the name denotes no commit.
    pub(crate) async fn commit_of(&self, name: &str) -> Result<Option<Commit>, GitError> {
        let commit = format!("{name}^{{commit}}");
        let spec = Spec::reads([
            "rev-parse",
            "--verify",
            "--quiet",
            "--end-of-options",
            &commit,
        ]);
        match self.line_if(&spec).await? {
            // Such a name means all commits except those of this one.
            Some(line) if line.starts_with('^') => Ok(None),
            Some(line) => read_commit(&spec, &line).map(Some),
            None => Ok(None),
        }
    }

    /// The commit that a name denotes, and the branch of this name. A tag of the same name is
    /// ignored, although git would prefer it, because work can be merged only into a branch.
    pub(crate) async fn resolve(&self, name: &str) -> Result<Option<Resolved>, GitError> {
        // As in git, these names denote the checked out commit, even if a branch has such a name.
        if name == "HEAD" || name == "@" {
            return self.checked_out().await;
        }
        if name.ends_with("_HEAD") && !name.contains('/') {
            return self.resolve_as_git(name).await;
        }
        // A whole hash denotes the commit, even if a branch has this name.
        if Commit::parse(name).is_some() {
            let commit = self.commit_of(name).await?;
            return Ok(commit.map(|commit| Resolved {
                commit,
                branch: None,
            }));
        }
        // As in git, the name is tried as a full name first, even though another branch may have it
        // as its short name.
        let full = BranchRef::from_full(name);
        for branch in full.into_iter().chain([BranchRef::named(name)]) {
            if let Some(commit) = self.branch_commit(&branch).await? {
                let branch = Some(self.stands_for(branch).await?);
                return Ok(Some(Resolved { commit, branch }));
            }
        }
        self.resolve_as_git(name).await
    }

    /// Returns the branch itself or, if the branch is a symbolic ref, its target. A symbolic ref
    /// moves together with its target, and only the target can be checked out.
    async fn stands_for(&self, branch: BranchRef) -> Result<BranchRef, GitError> {
        let full = branch.full();
        let spec = Spec::reads(["symbolic-ref", "--quiet", &full]);
        let target = self.line_if(&spec).await?;
        let target = target.and_then(|full| BranchRef::from_full(&full));
        Ok(target.unwrap_or(branch))
    }

    /// The commit that is checked out here, and its branch.
    pub(crate) async fn checked_out(&self) -> Result<Option<Resolved>, GitError> {
        let Some(commit) = self.commit_of("HEAD").await? else {
            return Ok(None);
        };
        // `rev-parse` is not used, because it prints nothing if a branch is named `HEAD`.
        let branch = self.head_branch().await?;
        Ok(Some(Resolved { commit, branch }))
    }

    async fn resolve_as_git(&self, name: &str) -> Result<Option<Resolved>, GitError> {
        let Some(commit) = self.commit_of(name).await? else {
            return Ok(None);
        };
        let full = self.full_name(name).await?;
        let branch = full.and_then(|full| BranchRef::from_full(&full));
        Ok(Some(Resolved { commit, branch }))
    }

    /// The full name to which git resolves a name; `None` if the name is ambiguous or unknown.
    async fn full_name(&self, name: &str) -> Result<Option<String>, GitError> {
        let spec = Spec::reads([
            "rev-parse",
            "--verify",
            "--quiet",
            "--symbolic-full-name",
            "--end-of-options",
            name,
        ]);
        self.line_if(&spec).await
    }

    /// A branch, in the form in which the user should type it. This is the short name if git
    /// resolves the short name to the branch, or else the full name. It has quotes if a shell needs
    /// them.
    pub(crate) async fn typed(&self, branch: &BranchRef) -> Result<String, GitError> {
        let (name, full) = (branch.name(), branch.full());
        let is_clear = !name.starts_with('-')
            && Commit::parse(name).is_none()
            && self.full_name(name).await?.as_deref() == Some(full.as_str());
        Ok(shell_word(if is_clear { name } else { &full }))
    }

    pub(crate) async fn branch_commit(
        &self,
        branch: &BranchRef,
    ) -> Result<Option<Commit>, GitError> {
        let [commit] = self.commits_of([branch]).await?;
        Ok(commit)
    }

    /// The commits of two branches, read at the same time.
    pub(crate) async fn branch_commits(
        &self,
        branches: [&BranchRef; 2],
    ) -> Result<[Option<Commit>; 2], GitError> {
        self.commits_of(branches).await
    }

    async fn commits_of<const N: usize>(
        &self,
        branches: [&BranchRef; N],
    ) -> Result<[Option<Commit>; N], GitError> {
        self.targets_of(branches.map(BranchRef::full)).await
    }

    /// The objects, usually commits, of refs with these full names.
    async fn targets_of<const N: usize>(
        &self,
        names: [String; N],
    ) -> Result<[Option<Commit>; N], GitError> {
        let listed = self.refs_at(&names).await?;
        let mut commits = [const { None::<Commit> }; N];
        for (commit, name) in commits.iter_mut().zip(&names) {
            *commit = listed
                .iter()
                .find(|it| it.name == *name)
                .map(|it| it.object.clone());
        }
        Ok(commits)
    }

    /// The refs with these full names, and those below them. Fails if git cannot read one of the
    /// named refs.
    pub(super) async fn refs_at(&self, names: &[String]) -> Result<Vec<ListedRef>, GitError> {
        // `rev-parse` is not used, because it also accepts `main~1`, which names a commit but not a
        // branch. `show-ref` is not used, because for it a branch that cannot be read does not
        // exist.
        let spec = Spec::reads(["for-each-ref", "--format=%(objectname) %(refname)"]);
        let spec = names.iter().fold(spec, Spec::arg).kept_bytes(LIST_BYTES);
        let finished = self.run(&spec).await?;
        let is_broken = {
            let said = String::from_utf8_lossy(&finished.stderr);
            let mut broken = said.lines().filter_map(|line| line.strip_prefix(BROKEN));
            broken.any(|name| names.iter().any(|it| it == name))
        };
        if is_broken || !finished.status.success() {
            return Err(failed(&spec, &finished));
        }
        let output = whole(&spec, finished)?;
        let lines = String::from_utf8_lossy(&output);
        let entries = lines.lines().filter_map(|line| line.split_once(' '));
        let listed = entries.map(|(object, name)| {
            let name = name.to_owned();
            read_commit(&spec, object).map(|object| ListedRef { object, name })
        });
        listed.collect()
    }

    /// Whether git takes the name of a branch that does not exist for something else: for a tag, a
    /// branch of a remote, a part of a hash, or a name of its own. The branch would hide this other
    /// thing, or be hidden by it. All names below a remote count, because the remote's branches may
    /// not have been fetched yet.
    pub(crate) async fn means_something_else(&self, branch: &BranchRef) -> Result<bool, GitError> {
        if branch.is_reserved() {
            return Ok(true);
        }
        let name = branch.name();
        let is_of = |remote: &String| {
            let rest = name.strip_prefix(remote.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        if self.remotes().await?.iter().any(is_of) {
            return Ok(true);
        }
        let arguments = ["rev-parse", "--verify", "--quiet", "--end-of-options", name];
        let object = self.line_if(&Spec::reads(arguments)).await?;
        Ok(object.is_some())
    }

    pub(crate) async fn is_ancestor(
        &self,
        older: &Commit,
        newer: &Commit,
    ) -> Result<bool, GitError> {
        if older == newer {
            return Ok(true);
        }
        let arguments = ["merge-base", "--is-ancestor", older.hash(), newer.hash()];
        let spec = Spec::reads(arguments).of_true_history();
        let finished = self.run(&spec).await?;
        match finished.status.code() {
            Some(0) => Ok(true),
            Some(1) => Ok(false),
            _ => Err(failed(&spec, &finished)),
        }
    }

    /// The last common commit of two histories; `None` if there is none.
    pub(crate) async fn common_ancestor(
        &self,
        one: &Commit,
        other: &Commit,
    ) -> Result<Option<Commit>, GitError> {
        if one == other {
            return Ok(Some(one.clone()));
        }
        let spec = Spec::reads(["merge-base", one.hash(), other.hash()]).of_true_history();
        let finished = self.run(&spec).await?;
        match finished.status.code() {
            Some(0) => read_commit(&spec, &without_newline(finished.stdout)).map(Some),
            Some(1) => Ok(None),
            _ => Err(failed(&spec, &finished)),
        }
    }

    /// The number of commits that are on `tip` but not on `base`.
    pub(crate) async fn commits_between(
        &self,
        base: &Commit,
        tip: &Commit,
    ) -> Result<u64, GitError> {
        if base == tip {
            return Ok(0);
        }
        let range = format!("{}..{}", base.hash(), tip.hash());
        let spec = Spec::reads(["rev-list", "--count", &range]).of_true_history();
        let printed = self.line(&spec).await?;
        printed.parse().map_err(|_| GitError::Unreadable {
            called: spec.called(),
            printed,
        })
    }

    /// The commits that are on `tip` but not on `base`, by their hashes.
    pub(crate) async fn only_on(
        &self,
        tip: &Commit,
        base: &Commit,
    ) -> Result<BTreeSet<String>, GitError> {
        let range = format!("{}..{}", base.hash(), tip.hash());
        let spec = Spec::reads(["rev-list", &range]).of_true_history();
        let output = self
            .output(&spec.limit(LONG).kept_bytes(LIST_BYTES))
            .await?;
        let lines = String::from_utf8_lossy(&output);
        Ok(lines.lines().map(str::to_owned).collect())
    }

    /// The commits in the history of `older` whose changes are missing in the history of `newer`. A
    /// commit that was only rewritten, for example by a rebase, has the same change as before.
    pub(crate) async fn lost_changes(
        &self,
        older: &Commit,
        newer: &Commit,
    ) -> Result<Vec<Commit>, GitError> {
        let range = format!("{}...{}", newer.hash(), older.hash());
        let arguments = [
            "rev-list",
            "--no-merges",
            "--cherry-pick",
            "--right-only",
            &range,
        ];
        let spec = Spec::reads(arguments).of_true_history();
        let output = self
            .output(&spec.limit(LONG).kept_bytes(LIST_BYTES))
            .await?;
        let lines = String::from_utf8_lossy(&output);
        Ok(lines.lines().filter_map(Commit::parse).collect())
    }

    /// Whether a branch of a remote, in its state when it was last fetched, contains the commit.
    pub(crate) async fn is_on_a_remote(&self, commit: &Commit) -> Result<bool, GitError> {
        self.is_below(commit, &["refs/remotes"]).await
    }

    /// Whether a branch or a tag contains the commit. Git deletes all other commits after some
    /// time.
    pub(crate) async fn is_on_a_branch(&self, commit: &Commit) -> Result<bool, GitError> {
        let places = ["refs/heads", "refs/tags", "refs/remotes"];
        self.is_below(commit, &places).await
    }

    async fn is_below(&self, commit: &Commit, places: &[&str]) -> Result<bool, GitError> {
        let arguments = ["for-each-ref", "--count=1", "--contains", commit.hash()];
        let spec = Spec::reads(arguments.iter().chain(places)).of_true_history();
        Ok(!self.line(&spec).await?.is_empty())
    }

    /// The branch that is checked out here, even if it has no commit yet.
    pub(crate) async fn head_branch(&self) -> Result<Option<BranchRef>, GitError> {
        let spec = Spec::reads(["symbolic-ref", "--quiet", "HEAD"]);
        let full = self.line_if(&spec).await?;
        Ok(full.and_then(|full| BranchRef::from_full(&full)))
    }

    /// Does the same as [`Self::head_branch`], and also tells whether `branch` exists.
    pub(crate) async fn head_branch_and(
        &self,
        branch: &BranchRef,
    ) -> Result<(Option<BranchRef>, bool), GitError> {
        // Git marks the branch that is checked out, which mostly is this one, with a star.
        let spec = Spec::reads(["for-each-ref", "--format=%(HEAD)%(refname)"]).arg(branch.full());
        let output = self.output(&spec.kept_bytes(LIST_BYTES)).await?;
        let checked_out = format!("*{}", branch.full());
        let mut lines = output.split(|byte| *byte == b'\n');
        if lines.any(|line| line == checked_out.as_bytes()) {
            return Ok((Some(branch.clone()), true));
        }
        let head = self.head_branch().await?;
        Ok((head, self.branch_commit(branch).await?.is_some()))
    }

    /// Whether this repository has commits that no branch of its remotes has.
    pub(super) async fn tips(&self) -> Result<Tips, GitError> {
        if self.commit_of("refs/stash").await?.is_some() {
            return Ok(Tips::Stash);
        }
        let spec = Spec::reads([
            "rev-list",
            "--max-count=1",
            "HEAD",
            "--branches",
            "--not",
            "--remotes",
        ]);
        if !self.line(&spec.of_true_history()).await?.is_empty() {
            return Ok(Tips::Commits);
        }
        // Branches and tags are removed with the repository.
        Ok(if self.abandoned(&[], KEPT_ELSEWHERE).await?.is_empty() {
            Tips::Elsewhere
        } else {
            Tips::Abandoned
        })
    }

    /// Whether there are commits that only this checkout's own refs contain. These refs are deleted
    /// with the checkout.
    pub(super) async fn has_own_commits(&self) -> Result<bool, GitError> {
        if !self.may_have_own_refs().await? {
            return Ok(false);
        }
        let spec = Spec::reads([
            "rev-list",
            "--max-count=1",
            "--glob=refs/worktree",
            "--not",
            "--branches",
            "--tags",
            "--remotes",
        ]);
        Ok(!self.line(&spec.of_true_history()).await?.is_empty())
    }

    /// Creates a branch. Fails if a branch of this name exists. Git notes the reason `why` in the
    /// branch's reflog, even if it is configured to keep no reflogs.
    pub(crate) async fn make_branch(
        &self,
        branch: &BranchRef,
        commit: &Commit,
        why: &str,
    ) -> Result<(), GitError> {
        let full = branch.full();
        let arguments = [
            "update-ref",
            "--no-deref",
            "--create-reflog",
            "-m",
            why,
            &full,
        ];
        let spec = Spec::changes(arguments).arg(commit.hash()).arg("");
        self.change(&spec).await.map(drop)
    }

    /// Moves a branch from the commit `old` to the commit `new`. If the branch is no longer at
    /// `old`, it is left where it is, and this is not an error.
    pub(crate) async fn move_branch(
        &self,
        branch: &BranchRef,
        new: &Commit,
        old: &Commit,
    ) -> Result<(), GitError> {
        let full = branch.full();
        let arguments = [
            "update-ref",
            "-m",
            "claudine: merge",
            &full,
            new.hash(),
            old.hash(),
        ];
        match self.change(&Spec::changes(arguments)).await {
            Err(error) if self.branch_commit(branch).await?.as_ref() == Some(old) => Err(error),
            _ => Ok(()),
        }
    }

    /// Deletes a branch if it is at this commit and is not in use anywhere. If it is a symbolic ref
    /// to another branch, the other branch stays.
    pub(crate) async fn delete_branch(
        &self,
        branch: &BranchRef,
        old: &Commit,
    ) -> Result<(), GitError> {
        if let Some(checkout) = self.checkouts_of(branch, None).await?.into_iter().next() {
            return Err(GitError::InUse {
                branch: branch.clone(),
                checkout: Box::new(checkout),
            });
        }
        let full = branch.full();
        let arguments = ["update-ref", "--no-deref", "-d", &full, old.hash()];
        self.change(&Spec::changes(arguments)).await.map(drop)
    }

    /// The nested repositories in `links` that are new and are not submodules of `tip`. A clone
    /// cannot get the content of such a repository.
    pub(crate) async fn links_to_nowhere(
        &self,
        links: &[Link],
        tip: &Commit,
    ) -> Result<Vec<String>, GitError> {
        if links.iter().all(|link| !link.is_new) {
            return Ok(Vec::new());
        }
        let known = self.submodules_of(tip).await?;
        let new = links.iter().filter(|link| link.is_new);
        let paths = new.map(|link| link.path.clone());
        Ok(paths.filter(|path| !known.contains(path)).collect())
    }

    /// The nested repositories in `links` that are checked out here and whose commit is on none of
    /// their remotes. A clone could not check them out.
    pub(crate) async fn unpushed_submodules(
        &self,
        links: &[Link],
    ) -> Result<Vec<String>, GitError> {
        let mut unpushed = Vec::new();
        for link in links {
            // The task may have made this repository.
            let inner = self.in_dir(self.dir().join(&link.path)).without_fetch();
            if !inner.dir().join(".git").exists() {
                continue;
            }
            // A commit that is missing in the submodule's repository here was made elsewhere, and
            // does not count.
            if let Some(commit) = inner.commit_of(&link.hash).await?
                && !inner
                    .is_below(&commit, &["refs/remotes", "refs/tags"])
                    .await?
            {
                unpushed.push(link.path.clone());
            }
        }
        Ok(unpushed)
    }

    /// The nested repositories that `tip` contains at another commit than `base`, or that `base`
    /// does not contain.
    pub(crate) async fn changed_links(
        &self,
        base: &Commit,
        tip: &Commit,
    ) -> Result<Vec<Link>, GitError> {
        Ok(links(self.entries_between(base.hash(), tip.hash()).await?))
    }

    /// The paths that a commit lists as submodules.
    async fn submodules_of(&self, tip: &Commit) -> Result<Vec<String>, GitError> {
        let blob = format!("{}:.gitmodules", tip.hash());
        if self.commit_has(&blob).await? {
            let spec = Spec::reads([
                "config",
                "--blob",
                &blob,
                "-z",
                "--get-regexp",
                r"^submodule\..*\.path$",
            ]);
            let spec = spec.kept_bytes(LIST_BYTES);
            // Each entry is the name, a line end, and the value.
            let entries = names(&self.output_if(&spec).await?.unwrap_or_default());
            let paths = entries.iter().filter_map(|entry| entry.split_once('\n'));
            return Ok(paths.map(|(_, path)| path.to_owned()).collect());
        }
        Ok(Vec::new())
    }

    async fn commit_has(&self, object: &str) -> Result<bool, GitError> {
        let spec = Spec::reads(["rev-parse", "--verify", "--quiet", object]).limit(SHORT);
        Ok(self.line_if(&spec).await?.is_some())
    }
}

/// A nested repository, which a commit contains only as the hash of one of its commits.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Link {
    path: String,
    hash: String,
    /// Whether the older of the compared commits has no nested repository at this path.
    is_new: bool,
}

/// The nested repositories among these paths, as the newer commit has them.
fn links(entries: Vec<Entry>) -> Vec<Link> {
    let links = entries.into_iter().filter(|entry| entry.new == LINK);
    let links = links.map(|entry| Link {
        is_new: entry.old != LINK,
        path: entry.path,
        hash: entry.hash,
    });
    links.collect()
}

pub(super) fn read_commit(spec: &Spec, line: &str) -> Result<Commit, GitError> {
    Commit::parse(line).ok_or_else(|| GitError::Unreadable {
        called: spec.called(),
        printed: line.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git::entries::parse;

    #[test]
    fn committed_repositories_are_found_in_a_diff() {
        let output = b":000000 100644 00 ab A\0file\0:000000 160000 00 cd A\0nested\0\
            :160000 160000 ab ef M\0lib\0:100644 160000 ab cd T\0was a file\0\
            :160000 100644 ab cd T\0is a file\0:160000 000000 ab 00 D\0gone\0";
        let link = |path: &str, hash: &str, is_new| Link {
            path: path.to_owned(),
            hash: hash.to_owned(),
            is_new,
        };
        let expected = [
            link("nested", "cd", true),
            link("lib", "ef", false),
            link("was a file", "cd", true),
        ];
        assert_eq!(links(parse(output)), expected);
    }
}
