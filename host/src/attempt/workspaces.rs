//! The workspace of an attempt: the task's directory or a worktree, the state of its repository,
//! and the settling of its work.
//!
//! Git is used only for agents and for tasks in worktrees. For other tasks, git would take longer
//! than a short command itself. The state of the repository never changes how an attempt ended; if
//! git fails, its error is stored instead of the state. The result of settling can change how an
//! attempt ended: if a requested merge fails, the task has not succeeded, so that the task's
//! dependants do not continue without its work.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use claudine_domain::{
    attempt::GitState,
    id::AttemptId,
    outcome::ReasonClass,
    principal::Principal,
    step::{Cause, Ending},
    task::{Class, Task},
    worktree::{Merge, MergeState, MergeStrategy, Worktree},
};

use super::{
    commands::OfAttempt,
    directory::{self, ANSWERS_WITHIN},
};
use crate::{
    ceiling::Refusal,
    clock,
    command::supervised_by,
    engine::Launch,
    environment::Environments,
    git::{self, Commit},
    plugin::{Failure, GuestEnd},
    worktree::{Settling, WorktreeError, Worktrees},
};

/// How long the end of an attempt waits until its incomplete worktree is removed, besides the time
/// of a command. Other work on the repository may take long.
const UNDONE_WITHIN: Duration = Duration::from_secs(10);

/// The directories in which attempts work.
pub(super) struct Workspaces {
    pub(super) worktrees: Arc<Worktrees>,
    pub(super) environments: Arc<Environments>,
}

/// The place where an attempt works.
pub(super) struct Workspace {
    pub(super) dir: String,
    /// The branch of the task's worktree, if the task has one.
    pub(super) branch: Option<Box<str>>,
}

impl Workspaces {
    /// The place where an attempt works. Makes the task's worktree, if it does not exist yet.
    pub(super) async fn enter(&self, launch: &Launch) -> Result<Workspace, GuestEnd> {
        let request = &launch.task.request;
        match &request.worktree {
            // Boxed, because most tasks have no worktree, and this future is large.
            Some(worktree) => Box::pin(self.enter_worktree(launch, worktree)).await,
            None => Ok(Workspace {
                dir: request.cwd.to_string(),
                branch: None,
            }),
        }
    }

    async fn enter_worktree(
        &self,
        launch: &Launch,
        worktree: &Worktree,
    ) -> Result<Workspace, GuestEnd> {
        let variables = self
            .variables(&launch.task.request.env_digest)
            .await
            .map_err(|error| failure("resource", unreadable(&error)))?;
        let number = launch.attempt.number;
        let entered = self
            .worktrees
            .enter(&launch.task, worktree, number, variables);
        let entered = entered
            .await
            .map_err(|error| failure(class(&error), error.to_string()))?;
        let dir = entered.dir.into_os_string().into_string();
        let dir = dir.map_err(|path| {
            failure(
                "invalid",
                format!("the worktree's path {} is not valid UTF-8", path.display()),
            )
        })?;
        Ok(Workspace {
            dir,
            branch: Some(entered.branch),
        })
    }

    /// Undoes the creation of the task's worktree if the attempt was stopped before the worktree
    /// was complete. If this fails, the next attempt does it, or the command that removes
    /// worktrees. `commands` runs the commands for it.
    pub(super) async fn take_back_unfinished(&self, task: &Task, commands: Arc<OfAttempt>) {
        if task.request.worktree.is_none() {
            return;
        }
        // If git went on after this, it could remove what the next attempt makes.
        let undoing = pin!(supervised_by(commands.clone(), self.undo_unfinished(task)));
        let late = clock::sleep(UNDONE_WITHIN);
        let undone = commands.until_idle(late, undoing).await;
        let late = || {
            Err(format!(
                "its worktree may be incomplete, and is not removed yet: this takes longer than \
                 {} s",
                UNDONE_WITHIN.as_secs()
            ))
        };
        if let Err(why) = undone.unwrap_or_else(late) {
            tracing::warn!(task = %task.id, "{why}");
        }
    }

    /// Removes the task's worktree if it is incomplete. Only then is anything else read, so that
    /// its errors are told only of such a worktree.
    async fn undo_unfinished(&self, task: &Task) -> Result<(), String> {
        let is_unfinished = self.worktrees.is_unfinished(task.id).await;
        let unknown = |error: WorktreeError| {
            format!("whether its worktree is incomplete is unknown: {error}")
        };
        if !is_unfinished.map_err(unknown)? {
            return Ok(());
        }
        let left = |why: String| format!("its incomplete worktree is not removed yet: {why}");
        let variables = self.variables(&task.request.env_digest).await;
        let variables = variables.map_err(|error| left(unreadable(&error)))?;
        let undone = self.worktrees.take_back_unfinished(task.id, variables);
        undone.await.map_err(|error| left(error.to_string()))
    }

    /// The principal who has opened a merge in the task's worktree to resolve conflicts. Nobody
    /// opens one after the attempt has entered the worktree.
    pub(super) async fn resolver(&self, task: &Task) -> Result<Option<Principal>, GuestEnd> {
        if task.request.worktree.is_none() {
            return Ok(None);
        }
        let resolver = self.worktrees.resolver(task.id).await;
        resolver.map_err(|error| failure(class(&error), error.to_string()))
    }

    /// Whether an attempt that ended like this has work to settle.
    pub(super) fn is_to_be_settled(task: &Task, ending: &Ending) -> bool {
        let has_succeeded = ending.cause == Cause::Success && ending.stopped.is_none();
        has_succeeded && task.request.worktree.is_some()
    }

    /// Whether an earlier host has recorded how the work of the task's last attempt was settled, or
    /// may have done so: if the record cannot be read, settling the work again shows the error.
    pub(super) async fn may_be_settled(&self, task: &Task) -> bool {
        !matches!(self.worktrees.last_merge(task.id).await, Ok(None))
    }

    /// Commits, merges, pushes or writes the work of the attempt, and adds the result to its
    /// ending. Must be called after all processes of the attempt have ended. If a host dies during
    /// the call, the next host must call it again. If the merge is `forbidden`, the work stays
    /// where it is, unless an earlier host has settled it.
    pub(super) async fn settle(
        &self,
        attempt: AttemptId,
        task: &Task,
        ending: &mut Ending,
        forbidden: Option<Refusal>,
    ) {
        let Some(worktree) = &task.request.worktree else {
            return;
        };
        let variables = match self.variables(&task.request.env_digest).await {
            Ok(variables) => variables,
            Err(error) => {
                ending.cause = Cause::Class(ReasonClass::Resource);
                ending.message = unreadable(&error);
                return;
            }
        };
        let is_agent = task.request.class == Class::Agent;
        if is_agent {
            // The files are counted first, because they may be removed with the worktree.
            let files = self
                .worktrees
                .changed_files(attempt.task, variables.clone());
            ending.files = files.await;
        }
        if let Some(refusal) = forbidden {
            let settled = self.worktrees.has_settled(attempt).await;
            if !matches!(settled, Ok(true)) {
                let branch = task.branch().unwrap_or_default();
                leave_unmerged(ending, refusal, settled.err(), worktree.merge, &branch);
                return;
            }
        }
        let merge = self
            .worktrees
            .settle(Settling {
                task: attempt.task,
                attempt: attempt.number,
                worktree,
                branch: task.branch().unwrap_or_default(),
                last: last_commit(task, ending),
                title: &task.request.summary,
                variables,
            })
            .await;
        if merge.state.is_failure() {
            // `Conflict` is never retried, because another attempt would end in the same way.
            ending.cause = Cause::Class(ReasonClass::Conflict);
            merge.brief().clone_into(&mut ending.message);
        }
        if is_agent && merge.state == MergeState::Nothing {
            ending.files = Some(0);
            if ending.denied > 0 && !task.request.allow_denied {
                ending.cause = Cause::Class(ReasonClass::Permission);
                ending.message = denied_all(ending.denied);
            }
        }
        ending.merge = Some(Box::new(merge));
    }

    /// Looks at the git state after an attempt. `None` for commands without a worktree; the future
    /// returns `None` for tasks that worked outside a repository.
    pub(super) fn git_state<'a>(
        &'a self,
        task: &'a Task,
    ) -> Option<impl Future<Output = Option<Box<GitState>>> + use<'a>> {
        let request = &task.request;
        let is_looked_at: fn(&Path) -> bool = match (&request.worktree, request.class) {
            (Some(_), _) => |path: &Path| path.join(".git").exists(),
            (None, Class::Agent) => git::is_within_repository,
            _ => return None,
        };
        Some(self.git_state_if(task, is_looked_at))
    }

    async fn git_state_if(
        &self,
        task: &Task,
        is_looked_at: fn(&Path) -> bool,
    ) -> Option<Box<GitState>> {
        let request = &task.request;
        let dir = match &request.worktree {
            Some(_) => self.worktrees.path(task.id),
            None => PathBuf::from(&*request.cwd),
        };
        let status = async {
            match self.variables(&request.env_digest).await {
                Ok(variables) => {
                    let state = match &request.worktree {
                        Some(_) => self.worktrees.state_left(task.id, variables).await,
                        None => self.worktrees.foreign_state(task, &dir, variables).await,
                    };
                    state.map_err(|error| error.to_string())
                }
                Err(error) => Err(unreadable(&error)),
            }
        };
        state_of(&dir, ANSWERS_WITHIN, is_looked_at, status).await
    }

    /// The environment of a task, read on a blocking thread if it is not in memory.
    async fn variables(&self, digest: &str) -> io::Result<Arc<BTreeMap<String, String>>> {
        if let Some(variables) = self.environments.recent(digest) {
            return Ok(variables);
        }
        let (environments, digest) = (self.environments.clone(), digest.to_owned());
        let read = crate::aside::run(move || environments.read(&digest)).await;
        read.unwrap_or_else(|panic| Err(io::Error::other(panic)))
    }
}

/// Fails an attempt whose work may not be merged. `unknown` is the error because of which it is
/// unknown whether an earlier host has merged the work.
fn leave_unmerged(
    ending: &mut Ending,
    Refusal { message, hint }: Refusal,
    unknown: Option<WorktreeError>,
    strategy: MergeStrategy,
    branch: &str,
) {
    let unknown = unknown.map_or_else(String::new, |error| {
        format!("; whether an earlier host has merged the work is unknown: {error}")
    });
    ending.cause = Cause::Class(ReasonClass::Permission);
    ending.message = format!("this host does not merge the work: {message}{unknown}; {hint}");
    let detail =
        format!("{message}{unknown}; the work is on branch `{branch}` and in its worktree; {hint}");
    ending.merge = Some(Box::new(Merge {
        brief: Some(message),
        ..Merge::new(strategy, MergeState::Refused, detail)
    }));
}

/// The result of `status`, or its error. `None` if git is not to look at the directory. If the file
/// system of the directory does not answer, the attempt must end nevertheless.
async fn state_of(
    dir: &Path,
    limit: Duration,
    is_looked_at: impl FnOnce(&Path) -> bool + Send + 'static,
    status: impl Future<Output = Result<Option<GitState>, String>>,
) -> Option<Box<GitState>> {
    let state = match directory::look_at(dir, limit, is_looked_at).await {
        Ok(true) => status.await,
        Ok(false) => return None,
        Err(silent) => Err(silent),
    };
    let state = state.unwrap_or_else(|error| {
        Some(GitState {
            error: Some(error),
            ..GitState::default()
        })
    });
    state.map(Box::new)
}

/// The commit of the task's branch at the end of an attempt, if it is known.
fn last_commit(task: &Task, ending: &Ending) -> Option<Commit> {
    let git = ending.git.as_ref()?;
    let is_own = git.branch.is_some() && git.branch == task.branch();
    let commit = git.commit.as_deref().filter(|_| is_own);
    commit.and_then(Commit::parse)
}

/// The message for an agent that should have changed something but did not.
fn denied_all(count: u32) -> String {
    let calls = if count == 1 {
        "1 tool call was".to_owned()
    } else {
        format!("{count} tool calls were")
    };
    format!("{calls} denied, and nothing was changed")
}

fn unreadable(error: &io::Error) -> String {
    format!("the task's environment cannot be read: {error}")
}

fn failure(class: &str, message: String) -> GuestEnd {
    GuestEnd::Failed(Failure::new(class, message))
}

fn class(error: &WorktreeError) -> &'static str {
    if error.is_passing() {
        "resource"
    } else {
        "invalid"
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::{
        fs, future::ready, os::unix::process::ExitStatusExt, process::ExitStatus, sync::mpsc,
    };

    use super::*;
    use crate::{
        config::EnvRules, environment::Environment, git::GitError, layout::Layout,
        store::sample_task,
    };

    fn workspaces(layout: &Layout) -> Workspaces {
        let environments = Environments::new(layout.clone(), EnvRules::default());
        Workspaces {
            worktrees: Arc::new(Worktrees::new(layout.clone())),
            environments: Arc::new(environments),
        }
    }

    #[tokio::test]
    async fn work_whose_record_cannot_be_read_is_not_taken_for_work_that_was_never_settled() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        let workspaces = workspaces(&layout);
        let task = sample_task(1);
        assert!(!workspaces.may_be_settled(&task).await);
        fs::create_dir_all(layout.worktree_record(task.id)).unwrap();
        assert!(workspaces.may_be_settled(&task).await);
    }

    #[tokio::test]
    async fn work_that_may_not_be_merged_is_not_said_to_be_unmerged_if_its_record_is_unreadable() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        layout.create().unwrap();
        let workspaces = workspaces(&layout);
        let environment = Environment::default();
        let digest = workspaces.environments.keep_blocking(environment).unwrap();
        let mut task = sample_task(1);
        let request = Arc::make_mut(&mut task.request);
        request.env_digest = digest.into();
        request.worktree = Some(Box::new(Worktree {
            repository: "/r/.git".to_owned(),
            checkout: None,
            inside: String::new(),
            branch: None,
            base: None,
            base_commit: "d7249d3".to_owned(),
            merge: MergeStrategy::Auto,
            keep: false,
            stem: None,
            message: None,
        }));
        let attempt = AttemptId {
            task: task.id,
            number: 1,
        };
        let settled = async || {
            let mut ending = Ending::new(Cause::Success, "");
            let refusal = Refusal {
                message: "forbidden".to_owned(),
                hint: "allow it".to_owned(),
            };
            let settling = workspaces.settle(attempt, &task, &mut ending, Some(refusal));
            settling.await;
            assert_eq!(ending.cause, Cause::Class(ReasonClass::Permission));
            ending.message
        };
        let never = "this host does not merge the work: forbidden; allow it";
        assert_eq!(settled().await, never);
        fs::create_dir_all(layout.worktree_record(task.id)).unwrap();
        let unknown = settled().await;
        let says = "whether an earlier host has merged the work is unknown: ";
        assert!(unknown.contains(says), "{unknown}");
    }

    #[tokio::test]
    async fn only_an_incomplete_worktree_is_said_to_be_incomplete() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        layout.create().unwrap();
        let workspaces = workspaces(&layout);
        // Its environment cannot be read.
        let task = sample_task(1);
        let undone = async || workspaces.undo_unfinished(&task).await;
        assert_eq!(undone().await, Ok(()));
        let record = layout.worktree_record(task.id);
        fs::create_dir_all(&record).unwrap();
        let unknown = undone().await.unwrap_err();
        let says = "whether its worktree is incomplete is unknown: ";
        assert!(unknown.starts_with(says), "{unknown}");
        fs::remove_dir(&record).unwrap();
        for is_ready in [true, false] {
            let text = serde_json::json!({
                "task": task.id,
                "repository": "/r/.git",
                "branch": "b",
                "base": null,
                "base_commit": "d7249d3".repeat(6).split_at(40).0,
                "is_ready": is_ready,
            });
            fs::write(&record, text.to_string()).unwrap();
            let told = undone().await.err();
            let says = |told: &String| {
                told.starts_with("its incomplete worktree is not removed yet: ")
                    && told.contains("environment cannot be read")
            };
            assert_eq!(told.is_none(), is_ready, "{told:?}");
            assert!(told.as_ref().is_none_or(says), "{told:?}");
        }
    }

    #[test]
    fn a_killed_git_does_not_make_a_request_invalid() {
        let killed = GitError::Killed {
            called: "git worktree".to_owned(),
            status: ExitStatus::from_raw(9),
        };
        assert_eq!(class(&killed.into()), "resource");
        let path = "/caf\u{e9}".into();
        assert_eq!(class(&GitError::NotUtf8 { path }.into()), "invalid");
    }

    #[tokio::test]
    async fn an_attempt_ends_although_the_file_system_of_its_directory_does_not_answer() {
        let dir = tempfile::tempdir().unwrap();
        let found = || ready(Ok(Some(GitState::default())));
        let (release, held) = mpsc::channel::<()>();
        let never = move |_: &Path| held.recv().is_ok();
        let limit = Duration::from_millis(1);
        // The check of the directory is answered at once, and the look is not.
        directory::look_at(dir.path(), ANSWERS_WITHIN, |_| {})
            .await
            .unwrap();
        let state = state_of(dir.path(), limit, never, found()).await;
        let error = state.and_then(|state| state.error).unwrap();
        assert!(error.contains("does not answer"), "{error}");
        drop(release);

        let state = state_of(dir.path(), ANSWERS_WITHIN, |_| true, found()).await;
        assert_eq!(state, Some(Box::default()));
        let none = state_of(dir.path(), ANSWERS_WITHIN, |_| false, found()).await;
        assert_eq!(none, None);
    }
}
