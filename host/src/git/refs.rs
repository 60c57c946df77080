//! Branches and commits.

use super::{Git, GitError, SHORT};

/// What a name stands for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Resolved {
    pub(crate) commit: String,
    /// The branch of this repository that it is.
    pub(crate) branch: Option<String>,
}

const HEADS: &str = "refs/heads/";

pub(crate) fn reference(branch: &str) -> String {
    format!("{HEADS}{branch}")
}

impl Git {
    /// The commit of a name; none where there is no such commit.
    pub(crate) async fn commit_of(&self, name: &str) -> Result<Option<String>, GitError> {
        let commit = format!("{name}^{{commit}}");
        let arguments = [
            "rev-parse",
            "--verify",
            "--quiet",
            "--end-of-options",
            &commit,
        ];
        self.line_if(&arguments, SHORT).await
    }

    /// The commit of a name, and the branch that it is.
    pub(crate) async fn resolve(&self, name: &str) -> Result<Option<Resolved>, GitError> {
        let Some(commit) = self.commit_of(name).await? else {
            return Ok(None);
        };
        let arguments = [
            "rev-parse",
            "--verify",
            "--quiet",
            "--symbolic-full-name",
            "--end-of-options",
            name,
        ];
        let full = self.line_if(&arguments, SHORT).await?;
        let branch = full.and_then(|full| full.strip_prefix(HEADS).map(str::to_owned));
        Ok(Some(Resolved { commit, branch }))
    }

    pub(crate) async fn branch_commit(&self, branch: &str) -> Result<Option<String>, GitError> {
        self.commit_of(&reference(branch)).await
    }

    /// Whether git takes it for the name of a branch.
    pub(crate) async fn is_branch_name(&self, branch: &str) -> Result<bool, GitError> {
        let arguments = ["check-ref-format", "--branch", branch];
        // It also takes what stands for another branch, such as `@{-1}`.
        Ok(self.line_if(&arguments, SHORT).await?.as_deref() == Some(branch))
    }

    pub(crate) async fn is_ancestor(&self, older: &str, newer: &str) -> Result<bool, GitError> {
        let arguments = ["merge-base", "--is-ancestor", older, newer];
        let finished = self.run(&arguments, SHORT).await?;
        match finished.status.code() {
            Some(0) => Ok(true),
            Some(1) => Ok(false),
            _ => Err(super::failed(&arguments, &finished)),
        }
    }

    /// How many commits are on the one and not on the other.
    pub(crate) async fn commits_between(&self, base: &str, tip: &str) -> Result<u64, GitError> {
        let range = format!("{base}..{tip}");
        let arguments = ["rev-list", "--count", "--end-of-options", &range];
        let text = self.line(&arguments, SHORT).await?;
        text.parse().map_err(|_| GitError::Failed {
            verb: "rev-list".to_owned(),
            said: format!("`{text}` is no number"),
        })
    }

    /// Whether a branch of a remote, as it was last seen, has the commit.
    pub(crate) async fn is_on_a_remote(&self, commit: &str) -> Result<bool, GitError> {
        let arguments = [
            "for-each-ref",
            "--count=1",
            "--contains",
            commit,
            "refs/remotes",
        ];
        Ok(!self.line(&arguments, SHORT).await?.is_empty())
    }

    /// Moves a branch, if it is where it is said to be. If it is elsewhere meanwhile, it stays there, and that is no error.
    pub(crate) async fn move_branch(
        &self,
        branch: &str,
        new: &str,
        old: &str,
    ) -> Result<(), GitError> {
        let name = reference(branch);
        let arguments = ["update-ref", "-m", "claudine: merge", &name, new, old];
        match self.change(&arguments, SHORT).await {
            Err(error) if self.branch_commit(branch).await?.as_deref() == Some(old) => Err(error),
            _ => Ok(()),
        }
    }

    /// Takes a branch away, if it is where it is said to be.
    pub(crate) async fn delete_branch(&self, branch: &str, old: &str) -> Result<(), GitError> {
        let name = reference(branch);
        self.change(&["update-ref", "-d", &name, old], SHORT).await
    }
}
