//! Git, by its command line: the one place that runs it.
//!
//! It runs in the environment of the task that it is for, so that it finds what the person's own git finds (identity, keys, helpers), less
//! what would lead it to another repository than the directory's. It never waits for a person: nothing to read, no prompt, and an end to its
//! time. What a repository may have configured to run at each look at it (`core.fsmonitor`) stays off.

mod checkouts;
mod refs;
mod status;
mod submodules;
mod work;

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

pub(crate) use self::{checkouts::Place, refs::Resolved, work::Merged};
use crate::{
    clock,
    command::{Abandoned, Finished, finish},
};

/// For what is a look: at refs, or at the files of a large repository with a cold cache.
const SHORT: Duration = Duration::from_secs(20);
/// For what reads or writes a whole checkout, or asks a remote.
const LONG: Duration = Duration::from_mins(10);
/// How often, and how far apart, it is tried again while somebody else's git holds a lock of the repository: git itself does not wait.
const LOCKED_TRIES: u32 = 50;
const LOCKED_PAUSE: Duration = Duration::from_millis(100);

/// Of each channel. What git is asked for is mostly a line; the status of a directory with a hundred thousand changes is a few MiB.
const OUTPUT_BYTES: usize = 4 << 20;
/// How much of what git complains is told.
const SAID_CHARS: usize = 300;

/// Variables that lead git away from the repository of the directory it is run in. Hooks have them set.
pub(crate) const ELSEWHERE: &[&str] = &[
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_DIR",
    "GIT_IMPLICIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_NAMESPACE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
    "GIT_WORK_TREE",
];

#[derive(Debug, thiserror::Error)]
pub(crate) enum GitError {
    #[error("git is not installed: `git` was not found on the task's PATH")]
    NotInstalled,
    #[error("git cannot be run: {0}")]
    Spawn(io::Error),
    #[error("`git {verb}` did not end within {} s", .limit.as_secs())]
    Timeout { verb: String, limit: Duration },
    #[error("`git {verb}` failed: {said}")]
    Failed { verb: String, said: String },
    #[error("{what}")]
    WouldLose { what: String },
}

/// Whether the directory, or one above it, has a `.git`. Looked at without git: whoever has none, and needs none, is not told so.
pub(crate) fn is_within_repository(dir: &Path) -> bool {
    dir.ancestors().any(|dir| dir.join(".git").exists())
}

/// Git in one directory.
#[derive(Clone, Debug)]
pub(crate) struct Git {
    dir: PathBuf,
    variables: Arc<BTreeMap<String, String>>,
}

impl Git {
    pub(crate) fn at(dir: impl Into<PathBuf>, variables: Arc<BTreeMap<String, String>>) -> Self {
        Self {
            dir: dir.into(),
            variables,
        }
    }

    /// The same in another directory.
    pub(crate) fn in_dir(&self, dir: impl Into<PathBuf>) -> Self {
        Self::at(dir, self.variables.clone())
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Runs git to its end, whatever its exit status.
    async fn run<S: AsRef<OsStr>>(
        &self,
        arguments: &[S],
        limit: Duration,
    ) -> Result<Finished, GitError> {
        self.run_once(arguments, limit, Abandoned::Killed).await
    }

    async fn run_once<S: AsRef<OsStr>>(
        &self,
        arguments: &[S],
        limit: Duration,
        abandoned: Abandoned,
    ) -> Result<Finished, GitError> {
        let mut command = Command::new("git");
        command
            .env_clear()
            .envs(self.variables.iter())
            .env("LC_ALL", "C")
            .env("GIT_OPTIONAL_LOCKS", "0")
            .env("GIT_TERMINAL_PROMPT", "0")
            .arg("-C")
            .arg(&self.dir)
            .args(["-c", "core.fsmonitor=false"])
            .args(arguments)
            .current_dir("/")
            .stdin(Stdio::null());
        for name in ELSEWHERE {
            command.env_remove(name);
        }
        match clock::within(limit, finish(command, OUTPUT_BYTES, abandoned)).await {
            Some(Ok(finished)) => Ok(finished),
            Some(Err(error)) if error.kind() == io::ErrorKind::NotFound => {
                Err(GitError::NotInstalled)
            }
            Some(Err(error)) => Err(GitError::Spawn(error)),
            None => Err(GitError::Timeout {
                verb: verb(arguments),
                limit,
            }),
        }
    }

    /// What git printed, where it succeeded.
    async fn output<S: AsRef<OsStr>>(
        &self,
        arguments: &[S],
        limit: Duration,
    ) -> Result<Vec<u8>, GitError> {
        let finished = self.run(arguments, limit).await?;
        if finished.status.success() {
            Ok(finished.stdout)
        } else {
            Err(failed(arguments, &finished))
        }
    }

    /// The line that git printed, without its end.
    async fn line<S: AsRef<OsStr>>(
        &self,
        arguments: &[S],
        limit: Duration,
    ) -> Result<String, GitError> {
        let output = self.output(arguments, limit).await?;
        Ok(String::from_utf8_lossy(&output).trim_end().to_owned())
    }

    /// The same for a question that git answers by failing where there is nothing.
    async fn line_if<S: AsRef<OsStr>>(
        &self,
        arguments: &[S],
        limit: Duration,
    ) -> Result<Option<String>, GitError> {
        let finished = self.run(arguments, limit).await?;
        let line = String::from_utf8_lossy(&finished.stdout)
            .trim_end()
            .to_owned();
        Ok((finished.status.success() && !line.is_empty()).then_some(line))
    }

    /// Has git change something. It is not killed in the middle of it, and waits a while for others that do the same.
    async fn change<S: AsRef<OsStr>>(
        &self,
        arguments: &[S],
        limit: Duration,
    ) -> Result<(), GitError> {
        let mut tries = LOCKED_TRIES;
        loop {
            let finished = self
                .run_once(arguments, limit, Abandoned::LeftAlone)
                .await?;
            if finished.status.success() {
                return Ok(());
            }
            tries -= 1;
            if tries == 0 || !is_locked(&finished) {
                return Err(failed(arguments, &finished));
            }
            clock::sleep(LOCKED_PAUSE).await;
        }
    }
}

fn verb<S: AsRef<OsStr>>(arguments: &[S]) -> String {
    let first = arguments.first().map(AsRef::as_ref).unwrap_or_default();
    first.to_string_lossy().into_owned()
}

fn is_locked(finished: &Finished) -> bool {
    let said = String::from_utf8_lossy(&finished.stderr);
    said.contains(".lock': File exists") || said.contains("could not lock")
}

fn failed<S: AsRef<OsStr>>(arguments: &[S], finished: &Finished) -> GitError {
    let text = String::from_utf8_lossy(&finished.stderr);
    let said = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let said: String = if said.is_empty() {
        finished.status.to_string()
    } else {
        said.chars().take(SAID_CHARS).collect()
    };
    GitError::Failed {
        verb: verb(arguments),
        said,
    }
}
