//! Commits, merges, pushes and patches.

use std::path::Path;

use super::{Git, GitError, LONG, SHORT, failed};

/// Who commits where the person has not said who they are.
const NOBODY: [(&str, &str); 4] = [
    ("GIT_AUTHOR_NAME", "Claudine"),
    ("GIT_AUTHOR_EMAIL", "claudine@localhost"),
    ("GIT_COMMITTER_NAME", "Claudine"),
    ("GIT_COMMITTER_EMAIL", "claudine@localhost"),
];

/// Two commits merged, or what both have changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Merged {
    Tree(String),
    Conflict(Vec<String>),
}

impl Git {
    /// The same with an identity, where neither configuration nor environment has one.
    pub(crate) async fn with_identity(&self, repository: &Path) -> Result<Self, GitError> {
        let known = self
            .in_dir(repository)
            .run(&["var", "GIT_COMMITTER_IDENT"], SHORT)
            .await?;
        if known.status.success() {
            return Ok(self.clone());
        }
        let mut variables = (*self.variables).clone();
        for (name, value) in NOBODY {
            variables
                .entry(name.to_owned())
                .or_insert_with(|| value.to_owned());
        }
        Ok(Self::at(&self.dir, variables.into()))
    }

    /// Commits everything that is there and not ignored, without what is changed inside of submodules: that is theirs to commit. Hooks and signatures are for what a person commits.
    pub(crate) async fn commit_all(&self, message: &str) -> Result<(), GitError> {
        self.change(&["add", "--all"], LONG).await?;
        let staged = ["diff", "--cached", "--quiet", "--ignore-submodules=none"];
        // All that is changed may be inside of submodules.
        if self.run(&staged, LONG).await?.status.success() && !self.is_merging().await? {
            return Ok(());
        }
        let arguments = [
            "commit",
            "--quiet",
            "--no-verify",
            "--no-gpg-sign",
            "-m",
            message,
        ];
        self.change(&arguments, LONG).await
    }

    /// Merges in memory: no checkout, no branch and no index changes.
    pub(crate) async fn merge_trees(&self, ours: &str, theirs: &str) -> Result<Merged, GitError> {
        let arguments = [
            "merge-tree",
            "--write-tree",
            "--name-only",
            "--no-messages",
            "-z",
            ours,
            theirs,
        ];
        let finished = self.run(&arguments, LONG).await?;
        let text = String::from_utf8_lossy(&finished.stdout);
        let mut parts = text
            .split('\0')
            .filter(|part| !part.is_empty())
            .map(str::to_owned);
        match (finished.status.code(), parts.next()) {
            (Some(0), Some(tree)) => Ok(Merged::Tree(tree)),
            (Some(1), Some(_)) => Ok(Merged::Conflict(parts.collect())),
            _ => Err(failed(&arguments, &finished)),
        }
    }

    /// Makes the commit of a merge; nothing refers to it yet.
    pub(crate) async fn commit_tree(
        &self,
        tree: &str,
        parents: [&str; 2],
        message: &str,
    ) -> Result<String, GitError> {
        let arguments = [
            "commit-tree",
            "--no-gpg-sign",
            "-p",
            parents[0],
            "-p",
            parents[1],
            "-m",
            message,
            tree,
        ];
        self.line(&arguments, SHORT).await
    }

    /// Has the checkout in this directory follow its branch to a commit that comes after it.
    pub(crate) async fn fast_forward(&self, commit: &str) -> Result<(), GitError> {
        self.change(&["merge", "--quiet", "--ff-only", commit], LONG)
            .await
    }

    /// Whether files that git knows are changed here. What it does not know stays where it is in a fast-forward, or git refuses it.
    pub(crate) async fn has_changes(&self) -> Result<bool, GitError> {
        let arguments = ["status", "--porcelain", "--untracked-files=no"];
        Ok(!self.output(&arguments, LONG).await?.is_empty())
    }

    /// Whether a merge was begun here and is not committed.
    pub(crate) async fn is_merging(&self) -> Result<bool, GitError> {
        Ok(self.commit_of("MERGE_HEAD").await?.is_some())
    }

    /// Files of a merge under way here whose conflicts nobody has resolved.
    pub(crate) async fn conflicting_files(&self) -> Result<Vec<String>, GitError> {
        let arguments = ["diff", "--name-only", "--diff-filter=U", "-z"];
        let output = self.output(&arguments, LONG).await?;
        let text = String::from_utf8_lossy(&output);
        let names = text.split('\0').filter(|name| !name.is_empty());
        Ok(names.map(str::to_owned).collect())
    }

    pub(crate) async fn remotes(&self) -> Result<Vec<String>, GitError> {
        let output = self.output(&["remote"], SHORT).await?;
        Ok(String::from_utf8_lossy(&output)
            .lines()
            .map(str::to_owned)
            .collect())
    }

    /// A setting of the repository or the person.
    pub(crate) async fn setting(&self, name: &str) -> Result<Option<String>, GitError> {
        self.line_if(&["config", "--get", name], SHORT).await
    }

    pub(crate) async fn push(&self, remote: &str, branch: &str) -> Result<(), GitError> {
        let name = super::refs::reference(branch);
        let refspec = format!("{name}:{name}");
        self.change(
            &["push", "--quiet", "--end-of-options", remote, &refspec],
            LONG,
        )
        .await
    }

    /// Writes what a branch has changed since it left its base.
    pub(crate) async fn write_patch(
        &self,
        base: &str,
        branch: &str,
        file: &Path,
    ) -> Result<(), GitError> {
        let range = format!("{base}...{branch}");
        let mut output = std::ffi::OsString::from("--output=");
        output.push(file);
        let arguments = [
            "diff".as_ref(),
            "--binary".as_ref(),
            "--no-ext-diff".as_ref(),
            "--no-color".as_ref(),
            output.as_os_str(),
            range.as_ref(),
        ];
        self.change(&arguments, LONG).await
    }
}
