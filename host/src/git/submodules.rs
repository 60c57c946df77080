//! Repositories within a repository. Each worktree has checkouts of its own of them, and their commits lie with it until they are pushed.

use super::{Git, GitError, LONG, SHORT};

/// Says each checkout of a submodule that has commits, or a stash, which no branch of its remotes has.
const NOWHERE_ELSE: &str = "test -z \"$(git rev-list --max-count=1 HEAD --branches $(git rev-parse --quiet --verify refs/stash) --not --remotes)\" || echo \"$displaypath\"";

impl Git {
    /// Whether what is checked out here names submodules.
    pub(crate) fn has_submodules(&self) -> bool {
        self.dir().join(".gitmodules").exists()
    }

    /// Checks all submodules out, and theirs, as far as git's own settings allow where they come from.
    pub(crate) async fn update_submodules(&self) -> Result<(), GitError> {
        let arguments = ["submodule", "--quiet", "update", "--init", "--recursive"];
        self.change(&arguments, LONG).await
    }

    /// Refuses where a forced removal of this checkout would lose something: git itself removes none with submodules by any other means, and
    /// looks at nothing then.
    pub(super) async fn nothing_to_lose(&self) -> Result<(), GitError> {
        let arguments = [
            "submodule",
            "--quiet",
            "foreach",
            "--recursive",
            NOWHERE_ELSE,
        ];
        let output = self.output(&arguments, SHORT).await?;
        let names = String::from_utf8_lossy(&output);
        if let Some(name) = names.lines().next() {
            return Err(GitError::WouldLose {
                what: format!("its submodule `{name}` has commits that are on no remote"),
            });
        }
        let arguments = [
            "status",
            "--porcelain",
            "--untracked-files=normal",
            "--ignore-submodules=none",
        ];
        if self.output(&arguments, LONG).await?.is_empty() {
            return Ok(());
        }
        Err(GitError::WouldLose {
            what: "it has changes that are not committed".to_owned(),
        })
    }
}
