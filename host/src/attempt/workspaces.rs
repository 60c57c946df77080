//! Where an attempt works: in the task's directory, or in a worktree; how it leaves the repository
//! there, and what becomes of its work.
//!
//! Git is asked for agents and for tasks in worktrees only: a short command would pay more for it
//! than for itself. What it says of the repository never changes how an attempt ended; where it
//! says nothing, the reason is kept in its place. What became of the work does: a task whose merge
//! was asked for and could not be done has not succeeded, or what depends on it would go on without
//! its work.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use claudine_domain::{
    attempt::GitState,
    id::AttemptId,
    outcome::ReasonClass,
    step::{Cause, Ending},
    task::{Class, Task},
    worktree::MergeState,
};

use crate::{
    engine::Launch,
    environment::Environments,
    git,
    plugin::{Failure, GuestEnd},
    worktree::{Settling, WorktreeError, Worktrees},
};

/// The directories that attempts work in.
pub(super) struct Workspaces {
    pub(super) worktrees: Arc<Worktrees>,
    pub(super) environments: Arc<Environments>,
}

/// Where an attempt works.
pub(super) struct Workspace {
    pub(super) dir: String,
    /// The branch of its worktree.
    pub(super) branch: Option<Box<str>>,
}

impl Workspaces {
    /// Where an attempt works. Its worktree is made, if it has none yet.
    pub(super) async fn enter(&self, launch: &Launch) -> Result<Workspace, GuestEnd> {
        let request = &launch.task.request;
        let Some(worktree) = &request.worktree else {
            return Ok(Workspace {
                dir: request.cwd.to_string(),
                branch: None,
            });
        };
        let variables = self
            .variables(&request.env_digest)
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

    /// Whether something is to be done with the work of an attempt that ended like this.
    pub(super) fn is_to_be_settled(task: &Task, ending: &Ending) -> bool {
        let has_succeeded = ending.cause == Cause::Success && ending.stopped.is_none();
        has_succeeded && task.request.worktree.is_some()
    }

    /// Whether an earlier host has written down what became of the work of the task's last attempt.
    pub(super) async fn is_settled(&self, task: &Task) -> bool {
        matches!(self.worktrees.last_merge(task.id).await, Ok(Some(_)))
    }

    /// Commits, merges, pushes or writes what the attempt has done, and adds to its ending what
    /// became of that. To be called once nothing of the attempt is alive, and more than once where
    /// a host dies over it.
    pub(super) async fn settle(&self, attempt: AttemptId, task: &Task, ending: &mut Ending) {
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
            // Afterwards it may be gone.
            let files = self
                .worktrees
                .changed_files(attempt.task, variables.clone());
            ending.files = files.await;
        }
        let merge = self
            .worktrees
            .settle(Settling {
                task: attempt.task,
                attempt: attempt.number,
                worktree,
                branch: task.branch().unwrap_or_default(),
                title: &task.request.summary,
                variables,
            })
            .await;
        if merge.state.is_failure() {
            // To do the work once more would end the same way.
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

    /// `None` for a task that is neither an agent's nor in a worktree, or that worked in no
    /// repository.
    pub(super) async fn git_state(&self, task: &Task) -> Option<Box<GitState>> {
        let request = &task.request;
        let is_looked_at: fn(&Path) -> bool = match (&request.worktree, request.class) {
            (Some(_), _) => |path: &Path| path.join(".git").exists(),
            (None, Class::Agent) => git::is_within_repository,
            _ => return None,
        };
        let dir = match &request.worktree {
            Some(_) => self.worktrees.path(task.id),
            None => PathBuf::from(&*request.cwd),
        };
        let looked_at = dir.clone();
        // It may be on a disk that does not answer.
        let look = tokio::task::spawn_blocking(move || is_looked_at(&looked_at)).await;
        if !look.unwrap_or(false) {
            return None;
        }
        let state = match self.variables(&request.env_digest).await {
            Ok(variables) => self
                .worktrees
                .git(dir, variables)
                .status()
                .await
                .map_err(|error| error.to_string()),
            Err(error) => Err(unreadable(&error)),
        };
        Some(Box::new(state.unwrap_or_else(|error| GitState {
            error: Some(error),
            ..GitState::default()
        })))
    }

    /// A task's environment, read on a thread that may block where it is not at hand.
    async fn variables(&self, digest: &str) -> io::Result<Arc<BTreeMap<String, String>>> {
        if let Some(variables) = self.environments.recent(digest) {
            return Ok(variables);
        }
        let (environments, digest) = (self.environments.clone(), digest.to_owned());
        let read = tokio::task::spawn_blocking(move || environments.read(&digest)).await;
        read.unwrap_or_else(|panic| Err(io::Error::other(panic)))
    }
}

/// Why an agent has not succeeded that was to change something.
fn denied_all(count: u32) -> String {
    let calls = if count == 1 {
        "1 tool call was".to_owned()
    } else {
        format!("{count} tool calls were")
    };
    format!("{calls} denied, and nothing was changed")
}

fn unreadable(error: &io::Error) -> String {
    format!("its environment cannot be read: {error}")
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
