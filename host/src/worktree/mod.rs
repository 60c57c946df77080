//! Worktrees: a checkout of its own for a task, on a branch of its own, in the data directory and
//! never in the person's checkout.
//!
//! It is planned at the submission, where everything that can be wrong is refused; made when the
//! first attempt starts; kept over further attempts; and when the task has succeeded its work is
//! merged, pushed, written to a patch, or left, as was asked. Work that is not committed is never
//! removed, and a branch only if all that is on it is in its base. Each step finds out what of it
//! is done already, so that a host that was killed in the middle can be followed by one that goes
//! on. Beside each worktree there is a record of it, which outlives its task.

mod again;
mod auto;
mod branch;
mod claims;
mod clean;
mod create;
mod diff;
mod error;
mod list;
mod message;
mod plan;
mod record;
mod request;
mod resolve;
mod settle;

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use claudine_domain::id::TaskId;
use tokio::sync::{OnceCell, OwnedSemaphorePermit, Semaphore};

use self::claims::Claims;
pub(crate) use self::{
    again::{Again, Held},
    branch::stem_of,
    clean::Also,
    diff::Changed,
    error::WorktreeError,
    list::Found,
    plan::{Planned, Wish, plan, refuse_taken},
    resolve::Resolution,
    settle::Settling,
};
use crate::{git::Git, layout::Layout, lock::lock};

/// The worktrees of a data directory.
pub(crate) struct Worktrees {
    layout: Layout,
    /// One turn for each repository that is being changed or waited for: git's own locks refuse the
    /// second comer, and do not wait.
    turns: Mutex<BTreeMap<PathBuf, Arc<Semaphore>>>,
    /// Read once: it is gone by each time that a branch is named.
    claims: OnceCell<Claims>,
}

impl Worktrees {
    pub(crate) fn new(layout: Layout) -> Self {
        Self {
            layout,
            turns: Mutex::default(),
            claims: OnceCell::new(),
        }
    }

    /// The host's git in a directory, for a task with these variables.
    pub(crate) fn git(
        &self,
        dir: impl Into<PathBuf>,
        variables: Arc<BTreeMap<String, String>>,
    ) -> Git {
        Git::at(dir, variables, self.layout.root())
    }

    /// The worktree of a task, whether it is there or not.
    pub(crate) fn path(&self, task: TaskId) -> PathBuf {
        self.layout.worktree(task)
    }

    /// Does what waits for the disk on a thread that may.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Layout) -> Result<T, WorktreeError> + Send + 'static,
    ) -> Result<T, WorktreeError> {
        let layout = self.layout.clone();
        let done = tokio::task::spawn_blocking(move || work(&layout)).await;
        done.unwrap_or_else(|panic| {
            let dir = self.layout.worktrees();
            Err(error::io_error("cannot use", &dir)(io::Error::other(panic)))
        })
    }

    async fn turn(&self, repository: &Path) -> OwnedSemaphorePermit {
        let turn = {
            let mut turns = lock(&self.turns);
            // A turn that only this map has is neither taken nor waited for.
            turns.retain(|_, turn| Arc::strong_count(turn) > 1);
            turns
                .entry(repository.to_owned())
                .or_insert_with(|| Arc::new(Semaphore::new(1)))
                .clone()
        };
        match turn.acquire_owned().await {
            Ok(permit) => permit,
            Err(_) => unreachable!("nobody closes it"),
        }
    }
}
