//! Pushing a branch, and opening a request to merge it, with `gh` where that is installed.

use std::{
    io,
    process::{Command, Stdio},
    time::Duration,
};

use claudine_domain::worktree::MergeState;

use super::{
    WorktreeError,
    settle::{Done, Work},
};
use crate::{
    clock,
    command::{Abandoned, Finished, finish},
    git,
};

const LIMIT: Duration = Duration::from_mins(2);
const OUTPUT_BYTES: usize = 64 << 10;
/// How much of what `gh` complains is told.
const SAID_CHARS: usize = 300;

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
        match self.request().await {
            Ok(Some(url)) => Ok((MergeState::Opened, format!("{pushed} and {url} is open"))),
            Ok(None) => Ok((
                MergeState::Pushed,
                format!("{pushed}; `gh` is not installed, so the request is yours to open"),
            )),
            Err(why) => Ok((
                MergeState::Refused,
                format!(
                    "{pushed}, but the request could not be opened: {why}; `gh pr create --head {branch}` opens it"
                ),
            )),
        }
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

    /// The address of the open request, an earlier one or a new one; none without `gh`.
    async fn request(&self) -> Result<Option<String>, String> {
        let branch = &self.record.branch;
        let open = [
            "pr",
            "view",
            branch,
            "--json",
            "url,state",
            "--jq",
            "select(.state == \"OPEN\") | .url",
        ];
        let Some(found) = self.gh(&open).await? else {
            return Ok(None);
        };
        if found.status.success()
            && let Some(url) = last_line(&found)
        {
            return Ok(Some(url));
        }
        let body = format!("{}\n\nMade by claudine, {}.", self.title, self.task);
        let mut create = vec![
            "pr",
            "create",
            "--head",
            branch,
            "--title",
            &self.title,
            "--body",
            &body,
        ];
        if let Some(base) = &self.record.base {
            create.extend(["--base", base]);
        }
        let Some(created) = self.gh(&create).await? else {
            return Ok(None);
        };
        if created.status.success() {
            return Ok(last_line(&created).or_else(|| Some("the request".to_owned())));
        }
        let said = String::from_utf8_lossy(&created.stderr);
        Err(said
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
            .chars()
            .take(SAID_CHARS)
            .collect())
    }

    async fn gh(&self, arguments: &[&str]) -> Result<Option<Finished>, String> {
        let mut command = Command::new("gh");
        command
            .env_clear()
            .envs(self.variables.iter())
            .env("GH_PROMPT_DISABLED", "1")
            .args(arguments)
            .current_dir(self.git.dir())
            .stdin(Stdio::null());
        for name in git::ELSEWHERE {
            command.env_remove(name);
        }
        match clock::within(LIMIT, finish(command, OUTPUT_BYTES, Abandoned::Killed)).await {
            Some(Ok(finished)) => Ok(Some(finished)),
            Some(Err(error)) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Some(Err(error)) => Err(format!("`gh` cannot be run: {error}")),
            None => Err(format!("`gh` did not end within {} s", LIMIT.as_secs())),
        }
    }
}

fn last_line(finished: &Finished) -> Option<String> {
    let text = String::from_utf8_lossy(&finished.stdout);
    let line = text.lines().rev().find(|line| !line.trim().is_empty())?;
    Some(line.trim().to_owned())
}
