//! Branches and commits.

use super::{
    BranchRef, Commit, Git, GitError, failed, names,
    spec::{LIST_BYTES, LONG, SHORT, Spec},
};
use crate::text::shell_word;

/// What a name stands for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Resolved {
    pub(crate) commit: Commit,
    /// The branch of this repository that it is.
    pub(crate) branch: Option<BranchRef>,
}

/// What a repository has that its remotes do not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Tips {
    /// Its remotes have all of it.
    Elsewhere,
    /// On a branch, or on what is checked out.
    Commits,
    Stash,
}

/// Why a branch cannot be made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Unmakable {
    /// Git takes it for no name of a branch, or no file can have it.
    BadName,
    /// A branch is in its way: one of the two would have to be a directory and a file at once.
    InTheWay(BranchRef),
}

impl Git {
    /// The commit of a name; none if there is no such commit.
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
            Some(line) => read_commit(&spec, &line).map(Some),
            None => Ok(None),
        }
    }

    /// The commit of a name, and the branch that it is. A tag of the same name, which git would
    /// take, is not meant: a base is what is merged into.
    pub(crate) async fn resolve(&self, name: &str) -> Result<Option<Resolved>, GitError> {
        // A whole hash means that commit, even if a branch has it for a name.
        if Commit::parse(name).is_some() {
            let commit = self.commit_of(name).await?;
            return Ok(commit.map(|commit| Resolved {
                commit,
                branch: None,
            }));
        }
        // A full name first, as git does: another branch may have it for its short one.
        let full = BranchRef::from_full(name);
        for branch in full.into_iter().chain([BranchRef::named(name)]) {
            if let Some(commit) = self.branch_commit(&branch).await? {
                let branch = Some(self.stands_for(branch).await?);
                return Ok(Some(Resolved { commit, branch }));
            }
        }
        self.resolve_as_git(name).await
    }

    /// The branch itself, or the one that it is only another name of: both move at once, and only
    /// that one is ever checked out.
    async fn stands_for(&self, branch: BranchRef) -> Result<BranchRef, GitError> {
        let full = branch.full();
        let spec = Spec::reads(["symbolic-ref", "--quiet", &full]);
        let target = self.line_if(&spec).await?;
        let target = target.and_then(|full| BranchRef::from_full(&full));
        Ok(target.unwrap_or(branch))
    }

    /// What is checked out here.
    pub(crate) async fn checked_out(&self) -> Result<Option<Resolved>, GitError> {
        let Some(commit) = self.commit_of("HEAD").await? else {
            return Ok(None);
        };
        // `rev-parse` says nothing if a branch is called `HEAD`.
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

    /// What git takes a name for; none if it is ambiguous, or no name of anything.
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

    /// A branch as a person is told to type it: by its short name only if git takes that for this
    /// branch, and for a shell.
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
        // Not by `rev-parse`: `main~1` is no branch, and yet the name of a commit.
        let full = branch.full();
        let spec = Spec::reads(["show-ref", "--verify", "--hash", &full]);
        match self.line_if(&spec).await? {
            Some(line) => read_commit(&spec, &line).map(Some),
            None => Ok(None),
        }
    }

    /// Why no branch can have this name, if none can. One that is there already can.
    pub(crate) async fn unmakable(
        &self,
        branch: &BranchRef,
    ) -> Result<Option<Unmakable>, GitError> {
        let spec = Spec::reads(["check-ref-format", "--branch", branch.name()]);
        // It also takes what stands for another branch, such as `@{-1}`.
        let is_name = self.line_if(&spec).await?.as_deref() == Some(branch.name());
        if !is_name || !branch.fits() {
            return Ok(Some(Unmakable::BadName));
        }
        self.in_the_way_of(branch)
            .await
            .map(|found| found.map(Unmakable::InTheWay))
    }

    /// A branch that keeps this one from being made: `a` and `a/b` cannot both be.
    pub(crate) async fn in_the_way_of(
        &self,
        branch: &BranchRef,
    ) -> Result<Option<BranchRef>, GitError> {
        for above in branch.above() {
            if self.branch_commit(&above).await?.is_some() {
                return Ok(Some(above));
            }
        }
        let below = format!("{}/", branch.full());
        let arguments = ["for-each-ref", "--count=1", "--format=%(refname)", &below];
        let found = self.line(&Spec::reads(arguments)).await?;
        Ok(BranchRef::from_full(&found))
    }

    pub(crate) async fn is_ancestor(
        &self,
        older: &Commit,
        newer: &Commit,
    ) -> Result<bool, GitError> {
        let arguments = ["merge-base", "--is-ancestor", older.hash(), newer.hash()];
        let spec = Spec::reads(arguments).of_true_history();
        let finished = self.run(&spec).await?;
        match finished.status.code() {
            Some(0) => Ok(true),
            Some(1) => Ok(false),
            _ => Err(failed(&spec, &finished)),
        }
    }

    /// Where two histories part; none if they have nothing in common.
    pub(crate) async fn common_ancestor(
        &self,
        one: &Commit,
        other: &Commit,
    ) -> Result<Option<Commit>, GitError> {
        let spec = Spec::reads(["merge-base", one.hash(), other.hash()]);
        let line = self.line_if(&spec).await?;
        Ok(line.as_deref().and_then(Commit::parse))
    }

    /// How many commits are on the one and not on the other.
    pub(crate) async fn commits_between(
        &self,
        base: &Commit,
        tip: &Commit,
    ) -> Result<u64, GitError> {
        let range = format!("{}..{}", base.hash(), tip.hash());
        let spec = Spec::reads(["rev-list", "--count", &range]).of_true_history();
        let printed = self.line(&spec).await?;
        printed.parse().map_err(|_| GitError::Unreadable {
            called: spec.called(),
            printed,
        })
    }

    /// Whether a branch of a remote, as it was last seen, has the commit.
    pub(crate) async fn is_on_a_remote(&self, commit: &Commit) -> Result<bool, GitError> {
        self.is_below(commit, &["refs/remotes"]).await
    }

    /// Whether a branch or a tag has the commit. One that none has is forgotten in time.
    pub(crate) async fn is_on_a_branch(&self, commit: &Commit) -> Result<bool, GitError> {
        let places = ["refs/heads", "refs/tags", "refs/remotes"];
        self.is_below(commit, &places).await
    }

    async fn is_below(&self, commit: &Commit, places: &[&str]) -> Result<bool, GitError> {
        let arguments = ["for-each-ref", "--count=1", "--contains", commit.hash()];
        let spec = Spec::reads(arguments.iter().chain(places)).of_true_history();
        Ok(!self.line(&spec).await?.is_empty())
    }

    /// The branch that is checked out here, whether it has a commit or not.
    pub(crate) async fn head_branch(&self) -> Result<Option<BranchRef>, GitError> {
        let spec = Spec::reads(["symbolic-ref", "--quiet", "HEAD"]);
        let full = self.line_if(&spec).await?;
        Ok(full.and_then(|full| BranchRef::from_full(&full)))
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
        if self.line(&spec.of_true_history()).await?.is_empty() {
            Ok(Tips::Elsewhere)
        } else {
            Ok(Tips::Commits)
        }
    }

    /// Whether refs that this checkout has alone, and that go with it, have commits that nothing
    /// else has.
    pub(super) async fn has_own_commits(&self) -> Result<bool, GitError> {
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

    /// Makes a branch, unless there is one of this name.
    pub(crate) async fn make_branch(
        &self,
        branch: &BranchRef,
        commit: &Commit,
    ) -> Result<(), GitError> {
        let full = branch.full();
        let arguments = [
            "update-ref",
            "-m",
            "claudine: made",
            &full,
            commit.hash(),
            "",
        ];
        self.change(&Spec::changes(arguments)).await.map(drop)
    }

    /// Moves a branch, if it is where it is said to be. If it is elsewhere meanwhile, it stays
    /// there, and that is no error.
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

    /// Takes a branch away, if it is at that commit and in use nowhere.
    pub(crate) async fn delete_branch(
        &self,
        branch: &BranchRef,
        old: &Commit,
    ) -> Result<(), GitError> {
        if let Some(checkout) = self.checkouts_of(branch, None).await?.into_iter().next() {
            return Err(GitError::InUse {
                branch: branch.clone(),
                at: checkout.path,
            });
        }
        let full = branch.full();
        let arguments = ["update-ref", "-d", &full, old.hash()];
        self.change(&Spec::changes(arguments)).await.map(drop)
    }

    /// Repositories that are committed by their hash between two commits, and that are no
    /// submodules: a clone that has the commit cannot get them.
    pub(crate) async fn links_to_nowhere(
        &self,
        base: &Commit,
        tip: &Commit,
    ) -> Result<Vec<String>, GitError> {
        let links = self.changed_links(base, tip).await?;
        let new: Vec<Link> = links.into_iter().filter(|link| link.is_new).collect();
        if new.is_empty() {
            return Ok(Vec::new());
        }
        let known = self.submodules_of(tip).await?;
        let paths = new.into_iter().map(|link| link.path);
        Ok(paths.filter(|path| !known.contains(path)).collect())
    }

    /// Submodules of this checkout that are at a commit, between two of its own, that their remotes
    /// do not have: a clone that has the commit could not check them out.
    pub(crate) async fn unpushed_submodules(
        &self,
        base: &Commit,
        tip: &Commit,
    ) -> Result<Vec<String>, GitError> {
        let mut unpushed = Vec::new();
        for link in self.changed_links(base, tip).await? {
            let inner = self.in_dir(self.dir().join(&link.path));
            if !inner.dir().join(".git").exists() {
                continue;
            }
            // One that is not even here came from elsewhere.
            if let Some(commit) = inner.commit_of(&link.hash).await?
                && !inner
                    .is_below(&commit, &["refs/remotes", "refs/tags"])
                    .await?
            {
                unpushed.push(link.path);
            }
        }
        Ok(unpushed)
    }

    async fn changed_links(&self, base: &Commit, tip: &Commit) -> Result<Vec<Link>, GitError> {
        let spec = Spec::reads([
            "diff-tree",
            "-r",
            "-z",
            "--raw",
            "--no-abbrev",
            "--no-renames",
            "--ignore-submodules=none",
            base.hash(),
            tip.hash(),
        ]);
        let spec = spec.limit(LONG).kept_bytes(LIST_BYTES);
        Ok(links(&self.output(&spec).await?))
    }

    /// The paths that a commit names as submodules.
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
            // It fails if there is none.
            let finished = self.run(&spec).await?;
            // Each is its name, a line's end, and its value.
            let entries = names(&finished.stdout);
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

/// A repository that is committed by the hash of its commit.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Link {
    path: String,
    hash: String,
    /// There was none before.
    is_new: bool,
}

/// Entries are `:OLDMODE NEWMODE OLD NEW STATUS`, and the path is one more.
fn links(output: &[u8]) -> Vec<Link> {
    let entries = names(output);
    let links = entries.chunks_exact(2).filter_map(|pair| {
        let words: Vec<&str> = pair[0].trim_start_matches(':').split(' ').collect();
        let [old_mode, "160000", _, hash, _] = words.as_slice() else {
            return None;
        };
        Some(Link {
            path: pair[1].clone(),
            hash: (*hash).to_owned(),
            is_new: *old_mode != "160000",
        })
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

    #[test]
    fn repositories_are_found_among_what_a_branch_has_changed() {
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
        assert_eq!(links(output), expected);
    }
}
