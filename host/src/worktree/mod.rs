//! Worktrees of tasks. Each worktree is a separate checkout for a task, on a separate branch. It is
//! in the data directory and never in the user's checkout.
//!
//! A worktree is planned at the submission, and a request that is certain to fail is refused. The
//! worktree is made when the first attempt starts, and kept for further attempts. When the task has
//! succeeded, its work is merged, pushed, written to a patch, or left, as the user asked.
//! Uncommitted work is never removed. A branch is removed only if its base has everything that is
//! on it. Commits that are on no branch are kept by a ref. Each step first finds out which parts of
//! it are already done, so that another host can continue if a host was killed in the middle.
//! Beside each worktree there is a record of it, which outlives the task.

mod again;
mod auto;
mod branch;
mod claims;
mod clean;
mod create;
mod diff;
mod error;
mod keep;
mod left;
mod list;
mod message;
mod patch;
mod plan;
mod record;
mod request;
mod resolve;
mod settle;
mod unsettled;

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use claudine_domain::{
    attempt::GitState,
    id::TaskId,
    principal::{Authority, Step},
    task::Task,
};
use tokio::sync::{OnceCell, OwnedSemaphorePermit, Semaphore};

pub(crate) use self::{
    again::{Again, Held},
    branch::stem_of,
    clean::Also,
    diff::Changed,
    error::WorktreeError,
    list::Found,
    plan::{Planned, Wish, refuse_taken},
    resolve::Resolution,
    settle::Settling,
};
use self::{claims::Claims, record::Record};
use crate::{
    fsx,
    git::{Git, Installed, Restraint},
    layout::Layout,
    lock::lock,
};

/// The worktrees of a data directory.
pub(crate) struct Worktrees {
    layout: Layout,
    /// A semaphore for each repository that is being changed, so that other changes of the
    /// repository wait for their turn. Git's own locks are not sufficient, because a second git
    /// command fails instead of waiting for them. There is one for each worktree in use, too: work
    /// that may take long and concerns only a worktree, such as writing its files, is done without
    /// a turn in the repository. Whoever has a turn in a repository does not wait for one in a
    /// worktree.
    turns: Mutex<BTreeMap<PathBuf, Arc<Semaphore>>>,
    /// The owners of branches. They are read once, because each choice of a branch's name needs
    /// them.
    claims: OnceCell<Claims>,
    /// What is known about the program `git`.
    installed: Arc<Installed>,
}

impl Worktrees {
    pub(crate) fn new(layout: Layout) -> Self {
        Self {
            layout,
            turns: Mutex::default(),
            claims: OnceCell::new(),
            installed: Arc::default(),
        }
    }

    /// The host's git in a directory, for a task with these variables.
    pub(crate) fn git(
        &self,
        dir: impl Into<PathBuf>,
        variables: Arc<BTreeMap<String, String>>,
    ) -> Git {
        Git::at(dir, variables, self.layout.root()).sharing(&self.installed)
    }

    /// The host's git in the worktree with this record, whether or not the worktree exists. Each
    /// command fails if the directory is no longer a worktree of its repository.
    fn git_of(&self, record: &Record, variables: Arc<BTreeMap<String, String>>) -> Git {
        let git = self.git(self.path(record.task), variables);
        let git = git
            .linked_to(&record.repository)
            .restrained(record.restraint);
        if record.is_without_fetch {
            git.without_fetch()
        } else {
            git
        }
    }

    /// The host's git to show the worktree with this record to a restrained principal, or to
    /// somebody else. A worktree of somebody less restrained may need filters of its repository,
    /// which nobody restrained may run, and without them its files are not what they seem.
    async fn git_to_show(
        &self,
        record: &Record,
        shown_to: Option<Restraint>,
        variables: Arc<BTreeMap<String, String>>,
    ) -> Result<Git, WorktreeError> {
        let git = self.git_of(record, variables);
        if shown_to.is_none() || record.restraint.is_some() {
            return Ok(git);
        }
        let git = git.restrained(shown_to);
        if !fsx::is_missing(git.dir()) && git.has_disabled_filters().await? {
            return Err(WorktreeError::NotShown { task: record.task });
        }
        Ok(git)
    }

    /// The state in which a task has left its worktree. `None` if the worktree has no record.
    pub(crate) async fn state_left(
        &self,
        task: TaskId,
        variables: Arc<BTreeMap<String, String>>,
    ) -> Result<Option<GitState>, WorktreeError> {
        let Some(record) = self.record(task).await? else {
            return Ok(None);
        };
        let git = self.git_of(&record, variables);
        git.own_place(&record.repository).await?;
        Ok(Some(git.state_left().await?))
    }

    /// The state in which a task without a worktree has left its directory. `None` if git would
    /// work elsewhere.
    pub(crate) async fn foreign_state(
        &self,
        task: &Task,
        dir: &Path,
        variables: Arc<BTreeMap<String, String>>,
    ) -> Result<Option<GitState>, WorktreeError> {
        let git = self.git(dir, variables).restrained(restraint(task));
        Ok(git.foreign_state(self.layout.root()).await?)
    }

    /// The path of a task's worktree, whether or not the worktree exists.
    pub(crate) fn path(&self, task: TaskId) -> PathBuf {
        self.layout.worktree(task)
    }

    /// Runs work that waits for the disk on a blocking thread.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Layout) -> Result<T, WorktreeError> + Send + 'static,
    ) -> Result<T, WorktreeError> {
        let layout = self.layout.clone();
        let done = crate::aside::run(move || work(&layout)).await;
        done.unwrap_or_else(|panic| {
            let dir = self.layout.worktrees();
            Err(error::io_error("cannot use", &dir)(io::Error::other(panic)))
        })
    }

    /// Waits for the turn in a repository, or in a worktree.
    async fn turn(&self, place: &Path) -> Turn {
        let semaphore = {
            let mut turns = lock(&self.turns);
            // A turn that only this map refers to is not in use, and nobody waits for it.
            turns.retain(|_, turn| Arc::strong_count(turn) > 1);
            turns
                .entry(place.to_owned())
                .or_insert_with(|| Arc::new(Semaphore::new(1)))
                .clone()
        };
        let mut turn = Turn {
            semaphore,
            permit: None,
        };
        turn.wait().await;
        turn
    }

    /// Waits for the turns in the worktree of a task and in its repository.
    async fn turns_of(&self, task: TaskId, repository: &Path) -> [Turn; 2] {
        let own = self.turn(&self.path(task)).await;
        [own, self.turn(repository).await]
    }

    /// Whether somebody has the turn in the worktree of a task.
    fn is_in_use(&self, task: TaskId) -> bool {
        let turns = lock(&self.turns);
        let turn = turns.get(&self.path(task));
        turn.is_some_and(|turn| turn.available_permits() == 0)
    }
}

/// A turn in a repository or in a worktree, which can be given to others for a while.
struct Turn {
    semaphore: Arc<Semaphore>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Turn {
    /// Lets others have the turn.
    fn give(&mut self) {
        self.permit = None;
    }

    /// Whether others may have the turn.
    fn is_given(&self) -> bool {
        self.permit.is_none()
    }

    /// Waits for the turn, if others may have it.
    async fn wait(&mut self) {
        if !self.is_given() {
            return;
        }
        match self.semaphore.clone().acquire_owned().await {
            Ok(permit) => self.permit = Some(permit),
            Err(_) => unreachable!("nothing closes the semaphore"),
        }
    }
}

/// What git may do for a task, if a restrained principal has submitted the task.
fn restraint(task: &Task) -> Option<Restraint> {
    let request = &task.request;
    let may_connect = |authority: &Authority| {
        authority.step == Step::Full || authority.extras.contains("network")
    };
    request.by.restrained.then(|| Restraint {
        has_network: request.authority.as_deref().is_some_and(may_connect),
    })
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_turn_is_forgotten_once_nobody_has_it_or_waits_for_it() {
        let worktrees = Worktrees::new(Layout::new("/nowhere"));
        let held = Path::new("/held");
        let _turn = worktrees.turn(held).await;
        for number in 0..100 {
            drop(worktrees.turn(Path::new(&format!("/{number}"))).await);
        }
        let second = worktrees.turn(held).now_or_never();
        assert!(second.is_none(), "two may change a repository at once");
        let turns = lock(&worktrees.turns);
        let known: Vec<&PathBuf> = turns.keys().collect();
        assert_eq!(known, [held]);
    }

    #[tokio::test]
    async fn a_turn_can_be_given_to_others_for_a_while() {
        let worktrees = Worktrees::new(Layout::new("/nowhere"));
        let place = Path::new("/held");
        let mut turn = worktrees.turn(place).await;
        turn.give();
        let other = worktrees.turn(place).now_or_never();
        assert!(other.is_some(), "nobody has the turn");
        assert!(turn.wait().now_or_never().is_none(), "another has the turn");
        drop(other);
        assert!(turn.wait().now_or_never().is_some());
        // The turn was taken back already.
        assert!(turn.wait().now_or_never().is_some());
        assert!(worktrees.turn(place).now_or_never().is_none());
    }

    #[tokio::test]
    async fn a_worktree_is_in_use_as_long_as_somebody_has_its_turn() {
        let worktrees = Worktrees::new(Layout::new("/nowhere"));
        let task = crate::store::sample_task(1).id;
        assert!(!worktrees.is_in_use(task));
        let turn = worktrees.turn(&worktrees.path(task)).await;
        assert!(worktrees.is_in_use(task));
        drop(turn);
        assert!(!worktrees.is_in_use(task));
    }
}
