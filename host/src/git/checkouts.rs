//! Where a repository is checked out: what there is, adding one, removing one.

use std::path::{Path, PathBuf};

use super::{Git, GitError, LONG, SHORT};

/// A directory as it lies in a repository.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    /// What all checkouts of the repository share.
    pub(crate) repository: PathBuf,
    /// The top of this checkout.
    pub(crate) top: PathBuf,
    /// The directory below the top.
    pub(crate) inside: String,
}

impl Git {
    /// Where the directory lies.
    pub(crate) async fn place(&self) -> Result<Place, GitError> {
        let arguments = [
            "rev-parse",
            "--path-format=absolute",
            "--git-common-dir",
            "--show-toplevel",
            "--show-prefix",
        ];
        let output = self.output(&arguments, SHORT).await?;
        let text = String::from_utf8_lossy(&output);
        let mut lines = text.lines();
        let mut next = || lines.next().unwrap_or_default();
        Ok(Place {
            repository: next().into(),
            top: next().into(),
            inside: next().trim_end_matches('/').to_owned(),
        })
    }

    /// The directories in which a branch is checked out.
    pub(crate) async fn checkouts_of(&self, branch: &str) -> Result<Vec<PathBuf>, GitError> {
        let output = self
            .output(&["worktree", "list", "--porcelain", "-z"], SHORT)
            .await?;
        Ok(checkouts(&String::from_utf8_lossy(&output), branch))
    }

    /// Makes a checkout of a new branch.
    pub(crate) async fn add_worktree(
        &self,
        path: &Path,
        branch: &str,
        commit: &str,
    ) -> Result<(), GitError> {
        let path = path.as_os_str();
        let arguments = ["worktree", "add", "--quiet", "--no-track", "-b", branch]
            .map(AsRef::as_ref)
            .into_iter()
            .chain([path, commit.as_ref()]);
        self.change(&arguments.collect::<Vec<_>>(), LONG).await
    }

    /// Makes a checkout of a branch that is there.
    pub(crate) async fn add_worktree_of(&self, path: &Path, branch: &str) -> Result<(), GitError> {
        let arguments = [
            "worktree".as_ref(),
            "add".as_ref(),
            "--quiet".as_ref(),
            path.as_os_str(),
            branch.as_ref(),
        ];
        self.change(&arguments, LONG).await
    }

    /// Removes a checkout; refused where something in it is not committed, or in a submodule of it nowhere else.
    pub(crate) async fn remove_worktree(&self, path: &Path) -> Result<(), GitError> {
        let remove: [&std::ffi::OsStr; 2] = ["worktree", "remove"].map(AsRef::as_ref);
        let there = self.in_dir(path);
        if !there.has_submodules() {
            return self
                .change(&[remove[0], remove[1], path.as_os_str()], LONG)
                .await;
        }
        there.nothing_to_lose().await?;
        let arguments = [remove[0], remove[1], "--force".as_ref(), path.as_os_str()];
        self.change(&arguments, LONG).await
    }

    /// Forgets a checkout whose directory was removed, also one that was not made to the end.
    pub(crate) async fn forget_worktree(&self, path: &Path) -> Result<(), GitError> {
        let force: [&std::ffi::OsStr; 4] =
            ["worktree", "remove", "--force", "--force"].map(AsRef::as_ref);
        let arguments = force.into_iter().chain([path.as_os_str()]);
        match self.change(&arguments.collect::<Vec<_>>(), SHORT).await {
            Err(GitError::Failed { said, .. }) if said.contains("is not a working tree") => Ok(()),
            done => done,
        }
    }

    /// Forgets checkouts whose directories are gone.
    pub(crate) async fn prune_worktrees(&self) -> Result<(), GitError> {
        self.change(&["worktree", "prune"], SHORT).await
    }
}

fn checkouts(list: &str, branch: &str) -> Vec<PathBuf> {
    let wanted = format!("branch {}", super::refs::reference(branch));
    // An entry is ended by an empty line, which here is two NULs in a row.
    list.split("\0\0")
        .filter(|entry| entry.split('\0').any(|line| line == wanted))
        .filter_map(|entry| {
            entry
                .split('\0')
                .find_map(|line| line.strip_prefix("worktree "))
        })
        .map(PathBuf::from)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_branch_is_found_where_it_is_checked_out() {
        let list = "worktree /a\0HEAD 1\0branch refs/heads/main\0\0worktree /b c\0HEAD 2\0branch refs/heads/x\0locked\0\0worktree /d\0HEAD 3\0detached\0\0";
        let check = |branch: &str, expected: &[&str]| {
            let expected: Vec<PathBuf> = expected.iter().map(PathBuf::from).collect();
            assert_eq!(checkouts(list, branch), expected, "{branch}");
        };
        check("main", &["/a"]);
        check("x", &["/b c"]);
        check("y", &[]);
    }
}
