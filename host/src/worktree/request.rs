//! Pushes a branch, and opens a pull request with `gh` if it is installed.

use claudine_domain::worktree::MergeState;

use super::{
    WorktreeError,
    settle::{Done, Work},
};
use crate::{
    git::{GitError, Opening, Owner},
    text::shell_word,
};

impl Work {
    pub(super) async fn open_request(&self) -> Result<Done, WorktreeError> {
        let branch = &self.record.branch;
        let follows = self.followed().await?;
        let chosen = self.git.setting("remote.pushDefault").await?;
        // `.` means the repository itself, to which nothing can be pushed.
        let chosen = chosen.filter(|remote| remote != ".");
        let Some(remote) = chosen.or_else(|| follows.clone()) else {
            let why = format!(
                "there is no remote to which `{branch}` can be pushed; the branch is kept here"
            );
            return Ok((MergeState::Refused, why).into());
        };
        self.git.push(&remote, branch).await?;
        let pushed = format!("branch `{branch}` is pushed to `{remote}`");
        let url = self.git.push_url(&remote).await?;
        let owner = owner_of(url.as_deref().unwrap_or(&remote));
        let (head, owner) = match owner {
            Some(owner) if follows.as_ref() != Some(&remote) => {
                (format!("{owner}:{branch}"), Owner::OfAFork(owner))
            }
            owner => (branch.name().to_owned(), Owner::OfTheBase(owner)),
        };
        let done = match self.request(&head, owner).await {
            Ok(url) => (MergeState::Opened, format!("{pushed} and {url} is open")),
            Err(GitError::NotInstalled { .. }) => (
                MergeState::Pushed,
                format!("{pushed}; `gh` is not installed, so open the pull request yourself"),
            ),
            Err(error) => (
                MergeState::Refused,
                format!(
                    "{pushed}, but the pull request could not be opened: {error}; `gh pr create --head {}` opens it",
                    shell_word(&head)
                ),
            ),
        };
        Ok(done.into())
    }

    /// The remote that the base follows, or else `origin`, or else the first remote.
    async fn followed(&self) -> Result<Option<String>, WorktreeError> {
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

    /// The address of the open pull request. If none is open, one is created.
    async fn request(&self, head: &str, owner: Owner<'_>) -> Result<String, GitError> {
        let (branch, base) = (&self.record.branch, self.record.base.as_ref());
        if let Some(url) = self.git.open_request(branch, owner, base).await? {
            return Ok(url);
        }
        let body = self.message.of_request();
        let opening = Opening {
            head,
            base,
            title: self.message.subject(),
            body: &body,
        };
        let url = self.git.create_request(opening).await?;
        Ok(url.unwrap_or_else(|| "the pull request".to_owned()))
    }
}

/// The owner of the repository at this address, which is the second last part of the address. `gh`
/// expects the head branch as `OWNER:BRANCH` if the branch is in another repository than the base.
fn owner_of(url: &str) -> Option<&str> {
    let owner = url.trim_end_matches('/').rsplit(['/', ':']).nth(1);
    owner.filter(|owner| !owner.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_owner_of_a_repository_is_read_from_its_address() {
        let check = |url: &str, expected: Option<&str>| {
            assert_eq!(owner_of(url), expected, "{url:?}");
        };
        check("git@github.com:me/repo.git", Some("me"));
        check("https://github.com/me/repo", Some("me"));
        check("ssh://git@github.com:22/me/repo.git/", Some("me"));
        check("repo.git", None);
        check("/repo.git", None);
        check("", None);
    }
}
