//! Commits, merges and pushes.

use std::{ffi::OsStr, time::Duration};

use super::{
    BranchRef, Commit, Git, GitError, LOCKED_PAUSE, Operation, Uncommitted, failed, names,
    refs::read_commit,
    spec::{Hooks, LONG, Spec},
};
use crate::{clock, fsx};

/// The maximum time for which another git process may write the files of a checkout. A lock that
/// exists longer than that was probably left by a git that was killed.
const WRITING_WITHIN: Duration = Duration::from_mins(2);

/// The time after which changes in a checkout count as lasting, and the pause between two looks at
/// them.
const LASTING_AFTER: Duration = Duration::from_secs(2);
const LASTING_PAUSE: Duration = Duration::from_millis(200);

/// The author and committer of commits if the user has configured no name.
const NOBODY: [(&str, &str); 4] = [
    ("GIT_AUTHOR_NAME", "Claudine"),
    ("GIT_AUTHOR_EMAIL", "claudine@localhost"),
    ("GIT_COMMITTER_NAME", "Claudine"),
    ("GIT_COMMITTER_EMAIL", "claudine@localhost"),
];

/// The name of a merge strategy that does not exist in git. It explains the failure, because git's
/// error message quotes it.
const NO_STRATEGY: &str = "for-another-branch";

/// The result of a merge in memory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Merged {
    Tree(String),
    /// The files with conflicts, and a tree in which these files contain conflict markers.
    Conflict {
        tree: String,
        files: Vec<String>,
    },
}

impl Git {
    /// Sets a default identity, if neither the configuration nor the environment has one.
    pub(crate) async fn with_identity(self) -> Result<Self, GitError> {
        let is_known = async |who: &str| {
            let asked = self.run(&Spec::reads(["var", who])).await?;
            Ok::<bool, GitError>(asked.status.success())
        };
        // The variables of a task may name a committer and no author. Otherwise git knows both or
        // neither.
        let is_of_committer = |(name, _): (&OsStr, &OsStr)| {
            name == "GIT_COMMITTER_NAME" || name == "GIT_COMMITTER_EMAIL"
        };
        let only_one = self.variables.iter().any(is_of_committer);
        if is_known("GIT_COMMITTER_IDENT").await?
            && (!only_one || is_known("GIT_AUTHOR_IDENT").await?)
        {
            return Ok(self);
        }
        Ok(Self {
            variables: self.variables.with_missing(&NOBODY),
            ..self
        })
    }

    /// Commits everything that is not ignored, except changes inside submodules, which belong to
    /// the submodules' own repositories. Does not sign the commit, because signatures are for the
    /// user's own commits.
    pub(crate) async fn commit_all(&self, message: &str) -> Result<(), GitError> {
        let add = Spec::changes(["add", "--all", "--sparse", "--", ":(top)"]).limit(LONG);
        self.change(&self.without_foreign(add).await?).await?;
        // If all changes are inside submodules, there is nothing to commit here. `git commit` would
        // find this out too, but would then look into the submodules, with the filters that their
        // own repositories name.
        if !self.has_staged().await? && !self.is_merging().await? {
            return Ok(());
        }
        self.commit_index(message).await
    }

    /// Whether the index has something that HEAD does not have.
    async fn has_staged(&self) -> Result<bool, GitError> {
        let arguments = [
            "diff",
            "--cached",
            "--quiet",
            "--no-ext-diff",
            "--ignore-submodules=none",
        ];
        let spec = Spec::reads(arguments).limit(LONG);
        Ok(!self.run(&spec).await?.status.success())
    }

    /// Commits the index, and nothing else.
    pub(crate) async fn commit_index(&self, message: &str) -> Result<(), GitError> {
        let arguments = [
            "commit",
            "--quiet",
            "--no-verify",
            "--no-gpg-sign",
            "--no-signoff",
            "--cleanup=whitespace",
            "-m",
            message,
        ];
        self.change(&Spec::changes(arguments).limit(LONG))
            .await
            .map(drop)
    }

    /// Merges in memory: no checkout, branch or index is changed. As in a person's own merge into
    /// `ours`, the attributes in `ours` decide how files are merged. Attributes that a task has
    /// written are ignored.
    pub(crate) async fn merge_trees(
        &self,
        ours: &Commit,
        theirs: &Commit,
    ) -> Result<Merged, GitError> {
        let spec = Spec::changes([
            "merge-tree",
            "--write-tree",
            "--name-only",
            "--no-messages",
            "-z",
            ours.hash(),
            theirs.hash(),
        ]);
        let spec = spec.limit(LONG);
        let finished = self.run_with_attributes_of(ours, &spec).await?;
        let mut parts = names(&finished.stdout).into_iter();
        match (finished.status.code(), parts.next()) {
            (Some(0), Some(tree)) => Ok(Merged::Tree(tree)),
            (Some(1), Some(tree)) => Ok(Merged::Conflict {
                tree,
                files: parts.collect(),
            }),
            _ => Err(failed(&spec, &finished)),
        }
    }

    /// Creates a commit with these parents. No ref points to it yet.
    pub(crate) async fn commit_tree(
        &self,
        tree: &str,
        parents: &[&Commit],
        message: &str,
    ) -> Result<Commit, GitError> {
        let spec = Spec::changes(["commit-tree", "--no-gpg-sign", "-m", message]);
        let parents = parents.iter();
        let spec = parents.fold(spec, |spec, parent| spec.arg("-p").arg(parent.hash()));
        let spec = spec.arg(tree);
        let output = self.change(&spec).await?;
        let line = String::from_utf8_lossy(&output);
        read_commit(&spec, line.trim_end())
    }

    /// Moves the checkout in this directory, in which `branch` is checked out, forward from `old`
    /// to the later commit `new`. Fails if another branch is checked out by now, since git would
    /// move the other branch instead, and if the branch is no longer at `old`. Also fails if an
    /// untracked or ignored file is in the way, because such a file exists nowhere else, and if an
    /// operation is open here that would move the branch back if it were aborted.
    pub(crate) async fn fast_forward(
        &self,
        branch: &BranchRef,
        old: &Commit,
        new: &Commit,
    ) -> Result<(), GitError> {
        let spec = Spec::changes([
            "merge",
            "--quiet",
            "--ff-only",
            "--no-overwrite-ignore",
            "--no-squash",
            "--commit",
            "--no-verify-signatures",
            "--no-autostash",
            "--no-stat",
            "--no-edit",
            new.hash(),
        ]);
        // A person may have begun a rebase, or applied patches, since the checkout was looked at.
        // Once files are replaced, git begins none of these.
        if let Some(operation @ (Operation::Rebase | Operation::Am | Operation::Series)) =
            self.operation().await?
        {
            return Err(GitError::OperationOpen {
                operation,
                checkout: self.dir().to_owned(),
            });
        }
        // A person may have removed commits from the branch since it was read, for example with
        // `git reset`. For git, the merge would still be a fast-forward, and bring them back. Once
        // files are replaced, a person's git cannot get the lock that it needs to reset a checkout.
        if self.branch_commit(branch).await?.as_ref() != Some(old) {
            return Err(GitError::BranchMoved {
                branch: branch.clone(),
            });
        }
        // These settings make git fail if another branch is checked out. Git reads the name of the
        // checked out branch once, and uses the merge options of this branch. Only the options of
        // the intended branch name a strategy that exists. For any other branch, git ends with an
        // error before it changes anything.
        let spec = spec.setting("pull.twohead", NO_STRATEGY).setting(
            format!("branch.{branch}.mergeOptions"),
            "--strategy=recursive",
        );
        self.change(&spec.limit(LONG)).await.map(drop)
    }

    /// Does the same as [`Self::has_changes`]. If another git process is writing the files here, as
    /// a merge of an earlier host or a person's `git pull` may do, waits for its end, because its
    /// unfinished work looks like changes. Changes that a person is about to commit do not count
    /// either, if they are committed within a moment.
    pub(crate) async fn has_lasting_changes(&self) -> Result<bool, GitError> {
        self.has_changes_after(WRITING_WITHIN).await
    }

    /// Does the same as [`Self::has_lasting_changes`], but waits at most this time for another git
    /// that writes the files. A git that holds the lock longer was probably killed, so the changes
    /// count as lasting.
    pub(super) async fn has_changes_after(&self, writing: Duration) -> Result<bool, GitError> {
        let mut since = None;
        while self.has_changes().await? {
            if !self.wait_while_locked(writing).await? {
                return Ok(true);
            }
            let now = clock::monotonic();
            if now.saturating_sub(*since.get_or_insert(now)) >= LASTING_AFTER {
                return Ok(true);
            }
            clock::sleep(LASTING_PAUSE).await;
        }
        Ok(false)
    }

    /// Waits while another git process holds the lock of the index here, but not longer than this.
    /// Git holds the lock as long as it writes files. Returns whether the lock is free.
    pub(crate) async fn wait_while_locked(&self, limit: Duration) -> Result<bool, GitError> {
        let lock = self.git_dir().await?.join("index.lock");
        let unlocked = async {
            loop {
                let path = lock.clone();
                if !self.look_at_files(move |_| fsx::is_taken(&path)).await? {
                    return Ok::<bool, GitError>(true);
                }
                clock::sleep(LOCKED_PAUSE).await;
            }
        };
        clock::within(limit, unlocked).await.unwrap_or(Ok(false))
    }

    /// Whether a merge was begun here but is not committed. A branch or tag may have the name of
    /// the file that shows this, so git is not asked.
    pub(crate) async fn is_merging(&self) -> Result<bool, GitError> {
        let file = self.git_dir().await?.join("MERGE_HEAD");
        self.look_at_files(move |_| !fsx::is_missing(&file)).await
    }

    /// The files of a merge in progress here that have unresolved conflicts.
    pub(crate) async fn conflicting_files(
        &self,
        here: &Uncommitted,
    ) -> Result<Vec<String>, GitError> {
        if !here.may_conflict {
            return Ok(Vec::new());
        }
        let arguments = [
            "diff",
            "--name-only",
            "--diff-filter=U",
            "--no-ext-diff",
            "--no-relative",
            // Git would compare the files in each submodule, with the programs that it names.
            "--ignore-submodules=dirty",
            "-z",
        ];
        let spec = Spec::reads(arguments).limit(LONG);
        Ok(names(&self.output(&spec).await?))
    }

    pub(crate) async fn remotes(&self) -> Result<Vec<String>, GitError> {
        let output = self.output(&Spec::reads(["remote"])).await?;
        let lines = String::from_utf8_lossy(&output);
        Ok(lines.lines().map(str::to_owned).collect())
    }

    /// The push address of a remote; `None` if `remote` is itself an address.
    pub(crate) async fn push_url(&self, remote: &str) -> Result<Option<String>, GitError> {
        let spec = Spec::reads(["remote", "get-url", "--push", "--", remote]);
        self.line_if(&spec).await
    }

    /// A setting of the repository or the user.
    pub(crate) async fn setting(&self, name: &str) -> Result<Option<String>, GitError> {
        self.line_if(&Spec::reads(["config", "--get", name])).await
    }

    /// The option by which a push looks into submodules, or not. Git would fetch missing commits
    /// there, with the programs that the repository of a submodule names. So it does not look if a
    /// task has made such a repository, or for a restrained principal, whose agent may have written
    /// the settings of one. [`Self::unpushed_submodules`], which fetches nothing, is asked before a
    /// push anyway.
    async fn look_of_push(&self) -> Result<&'static str, GitError> {
        Ok(if self.may_look_into_submodules().await? {
            "--recurse-submodules=check"
        } else {
            "--recurse-submodules=no"
        })
    }

    /// Whether a command may run git in the submodules here as it likes.
    pub(super) async fn may_look_into_submodules(&self) -> Result<bool, GitError> {
        Ok(!self.is_restrained() && self.foreign_links().await?.is_empty())
    }

    /// Pushes a branch and nothing else. Refused if a submodule has commits that the submodule's
    /// own remotes do not have, and git may look there.
    pub(crate) async fn push(&self, remote: &str, branch: &BranchRef) -> Result<(), GitError> {
        let refspec = format!("{0}:{0}", branch.full());
        let arguments = [
            "push",
            "--quiet",
            "--no-follow-tags",
            "--no-signed",
            self.look_of_push().await?,
            "--end-of-options",
            remote,
            &refspec,
        ];
        let spec = Spec::changes(arguments).hooks(Hooks::OfPush);
        // To a mirror, git would push all refs, and refuse to push only one.
        let spec = spec.setting(format!("remote.{remote}.mirror"), "false");
        self.change(&spec.limit(LONG)).await.map(drop)
    }
}
