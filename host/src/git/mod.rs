//! Runs git and `gh` by their command lines. No other module runs them.
//!
//! A command is a `Spec`, and every command goes through [`Git::run`]: with a fixed environment
//! (`environment`), with the same settings for every user (`settings`) and, except for a push,
//! without hooks. Commands never wait for a person: they have no input and no prompt, and their
//! time is limited. All other files of the module define what to run and how to parse the output.

mod aside;
mod attributes;
mod checkouts;
mod configured;
mod conflicts;
mod connect;
mod diff;
mod entries;
mod environment;
mod folding;
mod foreign;
mod forward;
mod gh;
mod git_dirs;
mod hooks;
mod in_the_way;
mod index;
mod index_lock;
mod led;
mod locked;
mod locks;
mod look;
mod makable;
mod names;
mod operation;
mod patch;
mod place;
mod put_back;
mod reflog;
mod refs;
mod restraint;
mod settings;
mod spec;
mod status;
mod submodules;
mod swap;
mod taken;
#[cfg(test)]
pub(crate) mod tests;
mod traps;
mod undo;
mod users;
mod work;

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    process::ExitStatus,
    sync::Arc,
    time::Duration,
};

use tokio::sync::OnceCell;

pub(crate) use self::{
    checkouts::{Checkout, Standing},
    conflicts::Unresolved,
    diff::{Diff, Shape, Wanted},
    environment::users_files,
    forward::{After, Late, Updated},
    gh::{Opening, Owner},
    git_dirs::{is_within_repository, unusual_git_dirs_at},
    hooks::Installed,
    index::Stamps,
    look::{Look, shortened},
    makable::Unmakable,
    names::{BranchRef, Commit},
    operation::Operation,
    place::Place,
    put_back::{PutBack, Step, StepNote},
    reflog::Keeping,
    refs::Resolved,
    restraint::Restraint,
    status::Uncommitted,
    users::{Led, UsersFiles},
    work::Merged,
};
use self::{
    environment::Variables,
    folding::folds_case,
    locked::{is_locked, locked},
    place::is_linked_checkout,
    restraint::reaching,
    spec::{Purpose, SHORT, Spec},
    submodules::Meddled,
    traps::Trap,
};
pub(crate) use crate::config::GIT_ELSEWHERE as ELSEWHERE;
use crate::{
    clock,
    command::{Abandoned, Finished, finish_within, restrained_if},
    config,
    text::{ends_on_one_line, harmless, shell_word},
};

/// How long a command is tried again while another git process holds a lock of the repository, and
/// the pause between two tries. For most locks, git itself does not wait.
const LOCKED_WITHIN: Duration = Duration::from_secs(5);
const LOCKED_PAUSE: Duration = Duration::from_millis(100);
/// Error messages that mean that the answer to a question is no. For other questions, a failure
/// without a message means no.
const NO: [&str; 3] = [
    "is not a valid branch name",
    "No such remote",
    // The name denotes a directory or a file.
    "expected commit type",
];
/// Error messages that mean that an object of a partial clone is missing.
const NOT_FETCHED: [&str; 2] = ["lazy fetching disabled", "from promisor remote"];
/// The maximum number of characters of git's error output in the message of an error.
const SAID_CHARS: usize = 300;
/// The maximum number of characters of git's error output that an error keeps. The words that show
/// why git has failed may be anywhere in it.
const KEPT_CHARS: usize = 64 << 10;

#[derive(Debug, thiserror::Error)]
pub(crate) enum GitError {
    #[error("{program} is not installed: `{program}` was not found on the host's PATH")]
    NotInstalled { program: &'static str },
    #[error("{program} cannot be run: {source}")]
    Spawn {
        program: &'static str,
        source: io::Error,
    },
    #[error("`{called}` did not end within {} s", .limit.as_secs())]
    Timeout { called: String, limit: Duration },
    #[error("`{called}` failed: {}", ends_on_one_line(said, SAID_CHARS))]
    Failed { called: String, said: String },
    /// The message is for a checkout in which nothing was changed.
    #[error(
        "a filter that git requires has failed, so nothing was changed: {}; make the filter work first, because git itself would leave the file missing",
        harmless(said)
    )]
    FilterFailed { said: String },
    #[error("`{called}` was killed before its end ({status}); it may be tried again")]
    Killed { called: String, status: ExitStatus },
    #[error(
        "`{called}` failed because of the lock {}: another git is at work, or a git was killed and has left it; once no git is running there, `rm {}` removes the lock",
        lock.display(),
        shell_word(&lock.display().to_string())
    )]
    Locked { called: String, lock: PathBuf },
    #[error(
        "git is not run in {}: its settings name {count} filters, merge drivers or hooks that would have to be disabled one by one, and {most} is the limit; `git -C {} config --list --show-origin` shows in which files they are",
        dir.display(),
        shell_word(&dir.display().to_string())
    )]
    TooManyPrograms {
        dir: PathBuf,
        count: usize,
        most: usize,
    },
    /// A person may fetch the object.
    #[error(
        "`{called}` failed because the repository is a partial clone in which an object is missing, and git fetches none here: {}; `git fetch --refetch --no-filter` there gets all objects",
        ends_on_one_line(said, SAID_CHARS)
    )]
    NotFetched { called: String, said: String },
    #[error("the output of `{called}` is too long")]
    TooMuch { called: String },
    #[error(
        "the output of `{called}` cannot be parsed: {}",
        ends_on_one_line(printed, SAID_CHARS)
    )]
    Unreadable { called: String, printed: String },
    #[error(
        "{} is no longer a worktree of its repository: {}",
        dir.display(),
        why_not_its_own(dir, repository, *is_known)
    )]
    NotItsOwn {
        dir: PathBuf,
        /// The top directory of the checkout in which git would work instead.
        top: PathBuf,
        repository: PathBuf,
        /// Whether the repository still has the git directory of the worktree.
        is_known: bool,
    },
    #[error(
        "{} is no longer the checkout of a submodule: its `.git` or `core.worktree` leads elsewhere; nothing was done with its files; once they are saved elsewhere and the directory is removed, `git -C {} -c submodule.active=. submodule update -- {}` makes it again",
        top.join(path).display(),
        shell_word(&top.display().to_string()),
        shell_word(path)
    )]
    NotASubmodule {
        /// The checkout that has the submodule.
        top: PathBuf,
        path: String,
    },
    #[error(
        "git cannot read the directory {} in {}, and would leave out its files",
        harmless(directory),
        checkout.display()
    )]
    Unread {
        checkout: PathBuf,
        /// The directory and the reason, in git's words.
        directory: String,
    },
    #[error("changed files could not be put back, and are in {}", kept.display())]
    NotPutBack {
        files: Vec<String>,
        /// The directory that has the files.
        kept: PathBuf,
    },
    #[error("there is no room for the new files of {}", path.display())]
    NoRoom { path: PathBuf },
    #[error("the directory {} cannot be made: {source}", dir.display())]
    Unmade { dir: PathBuf, source: io::Error },
    #[error("its index {} cannot be replaced: {source}", index.display())]
    IndexStays { index: PathBuf, source: io::Error },
    #[error(
        "the merge was made, but the index of {} is still that of the commit before: {source}; a commit there would undo the merge; `git -C {} reset` puts the index right",
        checkout.display(),
        shell_word(&checkout.display().to_string())
    )]
    IndexBehind {
        checkout: PathBuf,
        source: Box<GitError>,
    },
    #[error("branch `{branch}` was moved at the same moment")]
    BranchMoved { branch: BranchRef },
    #[error(
        "a {} is open in {}, and would undo the merge if it were aborted; end it first",
        operation.as_str(),
        checkout.display()
    )]
    OperationOpen {
        operation: Operation,
        checkout: PathBuf,
    },
    #[error("the path {} is not valid UTF-8", path.display())]
    NotUtf8 { path: PathBuf },
    #[error("branch `{branch}` is checked out in {}", checkout.shown())]
    InUse {
        branch: BranchRef,
        checkout: Box<Checkout>,
    },
    #[error("{} cannot be read: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Trapped(#[from] Trap),
    #[error(transparent)]
    Meddled(#[from] Meddled),
    #[error("the file system of {} cannot be synced: {source}", path.display())]
    Sync { path: PathBuf, source: io::Error },
}

impl GitError {
    /// Whether git has failed and has said this.
    pub(crate) fn says(&self, words: &str) -> bool {
        matches!(self, Self::Failed { said, .. } if said.contains(words))
    }
}

/// Why a directory is no longer a worktree of its repository, and what can be done. Git repairs
/// only a worktree whose git directory is still in the repository.
fn why_not_its_own(dir: &Path, repository: &Path, is_known: bool) -> String {
    if is_known {
        format!(
            "its `.git` is missing or leads elsewhere, or `core.worktree` is set; nothing was done with its files; `git -C {} worktree repair` makes its `.git` again, and `core.worktree` must not be set for it",
            shell_word(&repository.display().to_string())
        )
    } else {
        format!(
            "the repository {} was moved or removed, or was made again without the worktree; nothing was done with its files; if the repository was moved, move it back; if not, save the files that you need elsewhere, and `rm -r {}` removes the rest",
            repository.display(),
            shell_word(&dir.display().to_string())
        )
    }
}

/// The place in which git is run.
#[derive(Clone, PartialEq, Eq, Debug)]
enum At {
    /// A directory. Git finds its repository.
    Checkout(PathBuf),
    /// The directory that all checkouts of a repository share. This directory has no files of a
    /// checkout.
    Repository(PathBuf),
}

impl At {
    fn dir(&self) -> &Path {
        match self {
            Self::Checkout(dir) | Self::Repository(dir) => dir,
        }
    }
}

/// Git, set up to run in one place.
#[derive(Clone, Debug)]
pub(crate) struct Git {
    at: At,
    /// The repository of which the directory must be a linked checkout before each command.
    linked_to: Option<PathBuf>,
    /// What git may do here, if it works for the task of a restrained principal.
    restraint: Option<Restraint>,
    variables: Variables,
    /// Whether names that differ only in case denote the same file here. This is looked up at most
    /// once.
    folds_case: Arc<OnceCell<bool>>,
    /// Whether this git runs hooks that a configuration names.
    knows_named_hooks: Arc<OnceCell<bool>>,
    /// What the gits of the host have found out about the program.
    installed: Arc<Installed>,
}

impl Git {
    /// Git in a directory, for a task with these variables, run by a host with this data directory.
    pub(crate) fn at(
        dir: impl Into<PathBuf>,
        task: Arc<BTreeMap<String, String>>,
        data_dir: &Path,
    ) -> Self {
        let variables = Variables::new(config::whole_environment(), &task);
        Self::new(At::Checkout(dir.into()), variables.with_data_dir(data_dir))
    }

    fn new(at: At, variables: Variables) -> Self {
        Self {
            at,
            linked_to: None,
            restraint: None,
            variables,
            folds_case: Arc::default(),
            knows_named_hooks: Arc::default(),
            installed: Arc::default(),
        }
    }

    /// The same setup for a directory that should be a linked checkout of this repository. A task
    /// may have replaced its `.git`, and any command of git would then use the settings of another
    /// repository, with the programs that they name. So each command first checks this, and fails
    /// if it is not so. A directory that is missing or cannot be examined is left to git, which
    /// fails there and says why.
    pub(crate) fn linked_to(self, repository: impl Into<PathBuf>) -> Self {
        Self {
            linked_to: Some(repository.into()),
            ..self
        }
    }

    /// The same setup in another directory.
    pub(crate) fn in_dir(&self, dir: impl Into<PathBuf>) -> Self {
        self.elsewhere(At::Checkout(dir.into()))
    }

    /// The same setup in the directory that all checkouts of a repository share.
    pub(crate) fn in_repository(&self, dir: impl Into<PathBuf>) -> Self {
        self.elsewhere(At::Repository(dir.into()))
    }

    /// The same setup in another place, which has an index of its own.
    fn elsewhere(&self, at: At) -> Self {
        Self {
            restraint: self.restraint,
            knows_named_hooks: self.knows_named_hooks.clone(),
            installed: self.installed.clone(),
            ..Self::new(at, self.variables.clone().without_index())
        }
    }

    /// The same setup with another index in place of that of the checkout.
    fn with_index(&self, index: &Path) -> Self {
        Self {
            variables: self.variables.clone().with_index(index),
            ..self.clone()
        }
    }

    pub(crate) fn dir(&self) -> &Path {
        self.at.dir()
    }

    /// Calls `look` with the path of this directory, on a thread that may wait for the disk.
    async fn look_at_files<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Path) -> T + Send + 'static,
    ) -> Result<T, GitError> {
        let dir = self.dir().to_owned();
        let looked = crate::aside::run(move || look(&dir)).await;
        looked.map_err(|panic| unusable(self.dir())(io::Error::other(panic)))
    }

    /// Whether names that differ only in case denote the same file in this checkout.
    async fn folds_case(&self) -> Result<bool, GitError> {
        let At::Checkout(_) = &self.at else {
            return Ok(false);
        };
        let looked = self
            .folds_case
            .get_or_try_init(|| self.look_at_files(folds_case));
        match clock::within(SHORT, looked).await {
            Some(folds) => folds.copied(),
            None => Err(unusable(self.dir())(io::ErrorKind::TimedOut.into())),
        }
    }

    /// Fails if the directory should be a linked checkout of a repository and is not. No process of
    /// the task runs any more when its host runs git there. Another process that may write there
    /// could still replace the `.git` in the moment before the command reads it.
    async fn refuse_led_away(&self) -> Result<(), GitError> {
        let Some(repository) = &self.linked_to else {
            return Ok(());
        };
        let expected = repository.clone();
        let looked = self.look_at_files(move |dir| {
            dir.metadata().is_err() || is_linked_checkout(dir, &expected)
        });
        match clock::within(SHORT, looked).await {
            Some(Ok(true)) => Ok(()),
            Some(Ok(false)) => Err(self.not_its_own(self.dir().to_owned(), repository).await),
            Some(Err(error)) => Err(error),
            None => Err(unusable(self.dir())(io::ErrorKind::TimedOut.into())),
        }
    }

    /// Runs a command to its end. Any exit status is accepted, but not the end by a signal, after
    /// which the command has no result. All commands go through this function.
    async fn run(&self, spec: &Spec) -> Result<Finished, GitError> {
        self.refuse_led_away().await?;
        let folds_case = self.folds_case().await?;
        // The futures are boxed to keep those of the callers small.
        let spec = Box::pin(self.without_named_hooks(spec, folds_case)).await?;
        if self.is_restrained() {
            return Box::pin(self.run_restrained(&spec, folds_case)).await;
        }
        let variables = &self.variables;
        self.run_at(&self.at, &spec, variables, folds_case).await
    }

    async fn run_at(
        &self,
        at: &At,
        spec: &Spec,
        variables: &Variables,
        folds_case: bool,
    ) -> Result<Finished, GitError> {
        let program = spec.program.name();
        let abandoned = match spec.purpose {
            Purpose::Reads => Abandoned::Killed,
            Purpose::Changes => Abandoned::LeftAlone,
        };
        let variables = Box::pin(self.safe_variables(at, variables)).await?;
        let command = spec.command(at, &reaching(spec, &variables), folds_case);
        let finished = finish_within(command, spec.kept_bytes, spec.limit, abandoned);
        match restrained_if(self.is_restrained(), finished).await {
            Ok(Some(Finished { status, .. })) if status.code().is_none() => Err(GitError::Killed {
                called: spec.called(),
                status,
            }),
            Ok(Some(finished)) => Ok(finished),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(GitError::NotInstalled { program })
            }
            Err(source) => Err(GitError::Spawn { program, source }),
            Ok(None) => Err(GitError::Timeout {
                called: spec.called(),
                limit: spec.limit,
            }),
        }
    }

    /// The output of a command, if it succeeded.
    async fn output(&self, spec: &Spec) -> Result<Vec<u8>, GitError> {
        let finished = self.run(spec).await?;
        if finished.status.success() {
            whole(spec, finished)
        } else {
            Err(failed(spec, &finished))
        }
    }

    /// The output of a command that asks a question. `None` if the answer is no.
    async fn output_if(&self, spec: &Spec) -> Result<Option<Vec<u8>>, GitError> {
        let finished = self.run(spec).await?;
        if finished.status.success() {
            whole(spec, finished).map(Some)
        } else if is_no(&finished) {
            Ok(None)
        } else {
            Err(failed(spec, &finished))
        }
    }

    /// The line that a command printed, without the line end.
    async fn line(&self, spec: &Spec) -> Result<String, GitError> {
        Ok(without_newline(self.output(spec).await?))
    }

    /// The line that a command printed; `None` if the command printed nothing, or if it failed
    /// because there is nothing to print.
    async fn line_if(&self, spec: &Spec) -> Result<Option<String>, GitError> {
        let finished = self.run(spec).await?;
        if !finished.status.success() {
            return if is_no(&finished) {
                Ok(None)
            } else {
                Err(failed(spec, &finished))
            };
        }
        let line = without_newline(finished.stdout);
        Ok((!line.is_empty()).then_some(line))
    }

    /// Runs a command that changes something, and returns its output. Tries again for a while if
    /// another git process holds a lock.
    async fn change(&self, spec: &Spec) -> Result<Vec<u8>, GitError> {
        let mut locked_since = None;
        loop {
            let finished = self.run(spec).await?;
            if finished.status.success() {
                return Ok(finished.stdout);
            }
            if !is_locked(&finished) {
                return Err(failed(spec, &finished));
            }
            let since = *locked_since.get_or_insert_with(clock::monotonic);
            if clock::monotonic().saturating_sub(since) >= LOCKED_WITHIN {
                return Err(locked(spec, &finished));
            }
            clock::sleep(LOCKED_PAUSE).await;
        }
    }
}

/// The output of a command that has succeeded. Output that was cut must not be taken for complete
/// output.
fn whole(spec: &Spec, finished: Finished) -> Result<Vec<u8>, GitError> {
    if finished.stdout.len() >= spec.kept_bytes {
        return Err(GitError::TooMuch {
            called: spec.called(),
        });
    }
    Ok(finished.stdout)
}

fn without_newline(output: Vec<u8>) -> String {
    let text = output.strip_suffix(b"\n").unwrap_or(&output);
    String::from_utf8_lossy(text).into_owned()
}

/// Whether git has failed only because the answer to the question is no.
fn is_no(finished: &Finished) -> bool {
    let said = String::from_utf8_lossy(&finished.stderr);
    // A file of the repository that cannot be read has an error message too, and the exit status 1.
    let has_errors = said.lines().any(|line| !line.starts_with("warning: "));
    said.is_empty()
        || finished.status.code() == Some(1) && !has_errors
        || NO.iter().any(|no| said.contains(no))
}

fn failed(spec: &Spec, finished: &Finished) -> GitError {
    let text = String::from_utf8_lossy(&finished.stderr);
    let said = ends_on_one_line(&text, KEPT_CHARS);
    let said = if said.is_empty() {
        finished.status.to_string()
    } else {
        said
    };
    let called = spec.called();
    if NOT_FETCHED.iter().any(|words| said.contains(words)) {
        GitError::NotFetched { called, said }
    } else {
        GitError::Failed { called, said }
    }
}

/// Turns an I/O error into an error that names the path.
fn unusable(path: &Path) -> impl FnOnce(io::Error) -> GitError {
    let path = path.to_owned();
    move |source| GitError::Read { path, source }
}

/// Splits names that end with NUL.
fn names(output: &[u8]) -> Vec<String> {
    output
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
        .map(|name| String::from_utf8_lossy(name).into_owned())
        .collect()
}

/// Whether a name is not the real name of its file, because the real name is not valid UTF-8. Such
/// a file cannot be looked at.
fn is_lossy(name: &str) -> bool {
    name.contains(char::REPLACEMENT_CHARACTER)
}
