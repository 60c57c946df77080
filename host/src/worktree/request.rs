//! Pushing a branch, and opening a request to merge it, with `gh` where that is installed.

use claudine_domain::worktree::MergeState;

use super::{
    WorktreeError,
    settle::{Done, Work},
};
use crate::{
    git::{GitError, Opening},
    text::shell_word,
};

impl Work {
    pub(super) async fn open_request(&self) -> Result<Done, WorktreeError> {
        let branch = &self.record.branch;
        let Some(remote) = self.remote().await? else {
            return Ok((
                MergeState::Refused,
                format!("there is no remote to push `{branch}` to; it stays here"),
            ));
        };
        self.git.push(&remote, branch).await?;
        let pushed = format!("branch `{branch}` is pushed to `{remote}`");
        Ok(match self.request().await {
            Ok(url) => (MergeState::Opened, format!("{pushed} and {url} is open")),
            Err(GitError::NotInstalled { .. }) => (
                MergeState::Pushed,
                format!("{pushed}; `gh` is not installed, so the request is yours to open"),
            ),
            Err(error) => (
                MergeState::Refused,
                format!(
                    "{pushed}, but the request could not be opened: {error}; `gh pr create --head {}` opens it",
                    shell_word(branch.name())
                ),
            ),
        })
    }

    /// The one that the base follows, else `origin`, else the first.
    async fn remote(&self) -> Result<Option<String>, WorktreeError> {
        let remotes = self.git.remotes().await?;
        let followed = match &self.record.base {
            Some(base) => self.git.setting(&format!("branch.{base}.remote")).await?,
            None => None,
        };
        let known = |name: &str| remotes.iter().find(|remote| *remote == name).cloned();
        Ok(followed
            .and_then(|name| known(&name))
            .or_else(|| known("origin"))
            .or_else(|| remotes.first().cloned()))
    }

    /// The address of the open request, an earlier one or a new one.
    async fn request(&self) -> Result<String, GitError> {
        let branch = &self.record.branch;
        if let Some(url) = self.git.open_request(branch).await? {
            return Ok(url);
        }
        let body = format!("{}\n\nMade by claudine, {}.", self.title, self.task);
        let opening = Opening {
            branch,
            base: self.record.base.as_ref(),
            title: &self.title,
            body: &body,
        };
        let url = self.git.create_request(opening).await?;
        Ok(url.unwrap_or_else(|| "the request".to_owned()))
    }
}
