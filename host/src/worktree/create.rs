//! Makes a task's worktree, or finds the worktree of an earlier attempt.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use claudine_domain::{
    attempt::{Attempt, Phase},
    id::TaskId,
    task::Task,
    worktree::Worktree,
};

use super::{
    Turn, WorktreeError, Worktrees, error::io_error, keep::forget_missing,
    plan::refuse_checked_out, record::Record, restraint, settle::refuse_moved,
};
use crate::{
    command, fsx,
    git::{BranchRef, Commit, Git, GitError, Stamps},
    restored::Restored,
};

/// The place where an attempt works.
pub(crate) struct Entered {
    pub(crate) dir: PathBuf,
    pub(crate) branch: Box<str>,
}

/// Whether the branch of a worktree was made together with the worktree.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Branch {
    New,
    Old,
}

impl Worktrees {
    /// Returns the place where this attempt works. An existing worktree is used as the last attempt
    /// left it.
    pub(crate) async fn enter(
        &self,
        task: &Task,
        worktree: &Worktree,
        attempt: u32,
        variables: Arc<BTreeMap<String, String>>,
    ) -> Result<Entered, WorktreeError> {
        let path = self.path(task.id);
        let repository = Path::new(&worktree.repository);
        let _own = self.turn(&path).await;
        let mut known = self.record(task.id).await?;
        if known.as_ref().is_some_and(Record::is_incomplete) {
            self.remove_files(&path).await?;
        }
        let mut turn = self.turn(repository).await;
        let restraint = restraint(task);
        let is_without_fetch = task.requester_of(attempt).restrained;
        if let Some(record) = &mut known {
            let noted = (record.restraint, record.is_without_fetch);
            // The records of earlier versions do not have it.
            record.restraint = restraint;
            record.is_without_fetch = is_without_fetch;
            if noted != (restraint, is_without_fetch) {
                self.write_record(record).await?;
            }
        }
        let git = if let Some(record) = &known {
            self.git_of(record, variables)
        } else {
            let git = self.git(&path, variables).linked_to(repository);
            let git = git.restrained(restraint);
            if is_without_fetch {
                git.without_fetch()
            } else {
                git
            }
        };
        let is_settled = known
            .as_ref()
            .and_then(|record| record.settled.as_ref())
            .is_some_and(|(settled, _)| *settled == attempt);
        // The processes of an attempt that an earlier host has started may run git here.
        let is_beginning = task.phase() == Some(&Phase::Preparing);
        if let Some(record) = known.as_mut().filter(|_| is_beginning && !is_settled) {
            self.put_right(record, &git).await?;
        }
        let inside = if worktree.inside.is_empty() {
            path.clone()
        } else {
            path.join(&worktree.inside)
        };
        let branch = match known {
            // The host was killed after the merge, so the attempt only has to report the merge.
            Some(record) if is_settled => record.branch,
            // The inner future is boxed to keep the outer future small, because many attempts hold
            // the outer future while they wait, and few reach this point.
            Some(record) if record.is_ready => {
                Box::pin(self.find(&git, task, worktree, record, &mut turn)).await?
            }
            known => Box::pin(self.make(&git, task, worktree, known, &mut turn)).await?,
        };
        if !is_settled {
            // Git does not check out a directory without committed files, so the directory may be
            // missing.
            let dir = inside.clone();
            self.blocking(move |_| {
                if is_beginning {
                    refuse_led_out(&path, &dir)?;
                }
                fs::create_dir_all(&dir).map_err(io_error("cannot make", &dir))
            })
            .await?;
        }
        Ok(Entered {
            dir: inside,
            branch: branch.name().into(),
        })
    }

    async fn find(
        &self,
        git: &Git,
        task: &Task,
        worktree: &Worktree,
        mut record: Record,
        turn: &mut Turn,
    ) -> Result<BranchRef, WorktreeError> {
        record.tip = record.merged_tip().or(record.tip);
        let settled = record.settled.take().is_some();
        if record.again.take().is_some() || settled {
            self.write_record(&record).await?;
        }
        if self.is_there(git, &record).await? {
            git.own_place(&record.repository).await?;
            self.refuse_half_opened(git, &mut record).await?;
        } else {
            self.make_again(git, task, worktree, &mut record, turn)
                .await?;
        }
        self.forget_resolver(git, &mut record).await?;
        Ok(record.branch)
    }

    /// Makes a removed worktree again: on its branch or, if the branch no longer exists, from the
    /// base.
    async fn make_again(
        &self,
        git: &Git,
        task: &Task,
        worktree: &Worktree,
        record: &mut Record,
        turn: &mut Turn,
    ) -> Result<(), WorktreeError> {
        let repository = git.in_repository(&record.repository);
        refuse_moved(&repository, task.id, git.dir()).await?;
        record.forget_missing(&repository, git.dir()).await?;
        let tip = match record.own_tip(&repository, Some(task)).await {
            // Another branch has the name by now, so the task's branch is made again under another
            // name.
            Err(WorktreeError::BranchReplaced { .. }) if !record.is_named => None,
            tip => tip?,
        };
        if let Some(tip) = tip {
            refuse_in_use(&repository, &record.branch).await?;
            let start = self.brought_forward(&repository, record, tip).await?;
            return self.fill(git, record, &start, Branch::Old, turn).await;
        }
        // The branch no longer exists. Either the user deleted it, or it was deleted because its
        // base has everything that was on the branch.
        if let Some(tip) = self::tip(&repository, record.base.as_ref()).await? {
            record.base_commit = tip;
        }
        if !record.is_named {
            let had = Some(&record.branch);
            let branch = self.free_branch(&repository, task.id, worktree, had);
            record.branch = branch.await?;
        }
        record.tip = None;
        record.is_dropped = false;
        self.write_record(record).await?;
        self.make_branch(&repository, record, worktree).await?;
        let start = record.base_commit.clone();
        self.fill(git, record, &start, Branch::New, turn).await
    }

    /// The commit from which the work on a branch continues. If the base has all the work of the
    /// branch, the branch is moved to the base, so that later merges have only new work.
    async fn brought_forward(
        &self,
        repository: &Git,
        record: &mut Record,
        tip: Commit,
    ) -> Result<Commit, WorktreeError> {
        let Some(base) = self::tip(repository, record.base.as_ref()).await? else {
            return Ok(tip);
        };
        if tip == base || !repository.is_ancestor(&tip, &base).await? {
            return Ok(tip);
        }
        repository.move_branch(&record.branch, &base, &tip).await?;
        let moved = repository.branch_commit(&record.branch).await?;
        if moved.as_ref() != Some(&base) {
            return Ok(moved.unwrap_or(tip));
        }
        record.base_commit = base.clone();
        self.write_record(record).await?;
        Ok(base)
    }

    async fn make(
        &self,
        git: &Git,
        task: &Task,
        worktree: &Worktree,
        half: Option<Record>,
        turn: &mut Turn,
    ) -> Result<BranchRef, WorktreeError> {
        if let Some(half) = half {
            self.take_back(git, &half).await?;
        }
        // If the record is lost, the directory may still have work.
        if fsx::is_taken(git.dir()) {
            return Err(WorktreeError::NoRecord {
                path: git.dir().to_owned(),
            });
        }
        let repository = git.in_repository(&worktree.repository);
        let (branch, left) = match &worktree.branch {
            Some(name) => self.named_branch(&repository, task, name).await?,
            None => self.unnamed_branch(&repository, task, worktree).await?,
        };
        let base_commit = match &left {
            Some(tip) => parting(&repository, worktree, tip).await?,
            None => start(&repository, task, worktree).await?,
        };
        let mut record = Record {
            task: task.id,
            repository: worktree.repository.clone().into(),
            checkout: worktree.checkout.clone().map(PathBuf::from),
            branch,
            base: worktree.base.clone().map(BranchRef::named),
            base_commit,
            restraint: restraint(task),
            is_without_fetch: task
                .last_attempt()
                .is_some_and(|last| task.requester_of(last.number).restrained),
            tip: None,
            is_named: worktree.branch.is_some(),
            is_dropped: false,
            is_ready: false,
            is_half_made: false,
            opening: None,
            resolver: None,
            updating: None,
            late: String::new(),
            ignored: Stamps::default(),
            settled: None,
            again: None,
        };
        self.write_record(&record).await?;
        let made = async {
            let (tip, branch) = if let Some(tip) = left {
                (tip, Branch::Old)
            } else {
                self.make_branch(&repository, &mut record, worktree).await?;
                (record.base_commit.clone(), Branch::New)
            };
            self.fill(git, &mut record, &tip, branch, turn).await
        };
        if let Err(error) = made.await {
            turn.wait().await;
            if let Err(error) = self.take_back(git, &record).await {
                tracing::warn!(
                    task = %task.id, %error,
                    "the remains of a failed worktree cannot be removed"
                );
            }
            return Err(error);
        }
        Ok(record.branch)
    }

    /// Returns the branch that the user has named. Also returns the branch's tip if the task has
    /// worked on this branch before and the record is lost. This happens after a restore, because a
    /// backup has no records, but the repository may still be the same. In any other case, an
    /// existing branch is refused.
    async fn named_branch(
        &self,
        repository: &Git,
        task: &Task,
        name: &str,
    ) -> Result<(BranchRef, Option<Commit>), WorktreeError> {
        let branch = BranchRef::named(name);
        let Some(tip) = repository.branch_commit(&branch).await? else {
            if let Some(there) = repository.in_the_way_of(&branch).await? {
                return Err(WorktreeError::BranchInTheWay { branch, there });
            }
            refuse_checked_out(repository, &branch, Some(&self.path(task.id))).await?;
            return Ok((branch, None));
        };
        // The branch is the task's if the task started before the backup was taken, because the
        // name was free when the task started.
        let restored = self.blocking(|layout| Ok(Restored::known(layout))).await?;
        let is_its_own = restored.is_some_and(|restored| {
            let started = task.attempts.iter().filter_map(|it| it.started_at);
            started.min().is_some_and(|at| at <= restored.taken_at)
        });
        if !is_its_own {
            return Err(WorktreeError::BranchExists { branch });
        }
        forget_missing(repository, task.id, &self.path(task.id)).await?;
        refuse_in_use(repository, &branch).await?;
        Ok((branch, Some(tip)))
    }

    /// Does the same as [`Self::named_branch`], for a branch that the user has not named.
    async fn unnamed_branch(
        &self,
        repository: &Git,
        task: &Task,
        worktree: &Worktree,
    ) -> Result<(BranchRef, Option<Commit>), WorktreeError> {
        if let Some((branch, tip)) = self.own_branch(repository, task, worktree).await? {
            forget_missing(repository, task.id, &self.path(task.id)).await?;
            refuse_in_use(repository, &branch).await?;
            return Ok((branch, Some(tip)));
        }
        let branch = self
            .free_branch(repository, task.id, worktree, None)
            .await?;
        Ok((branch, None))
    }

    /// Makes the checkout of a branch again.
    pub(super) async fn refill(
        &self,
        git: &Git,
        record: &mut Record,
        tip: &Commit,
        turn: &mut Turn,
    ) -> Result<(), WorktreeError> {
        let repository = git.in_repository(&record.repository);
        refuse_moved(&repository, record.task, git.dir()).await?;
        record.forget_missing(&repository, git.dir()).await?;
        refuse_in_use(&repository, &record.branch).await?;
        self.fill(git, record, tip, Branch::Old, turn).await
    }

    /// Makes the checkout of a branch at this commit. Records that the checkout is complete, and
    /// which ignored files it has. If its submodules cannot be checked out, the checkout is
    /// removed, so that the next attempt does not use a checkout without submodules.
    ///
    /// The files and the submodules may be any number, and a server may never answer. So others
    /// have the turn in the repository meanwhile: nothing that the checkouts share is written,
    /// since git keeps the index and the repositories of the submodules in the git directory of the
    /// new checkout. A caller that needs the turn afterwards waits for it.
    async fn fill(
        &self,
        git: &Git,
        record: &mut Record,
        tip: &Commit,
        branch: Branch,
        turn: &mut Turn,
    ) -> Result<(), WorktreeError> {
        let repository = git.in_repository(&record.repository);
        record.opening = None;
        // If the record is not ready, it already shows that the worktree is not complete.
        if record.is_ready {
            record.is_half_made = true;
            self.write_record(record).await?;
        }
        let filled = async {
            repository.add_empty_worktree(git.dir(), tip).await?;
            // This is checked first, because settings may lead git to a directory of the user.
            match git.own_place(&record.repository).await {
                Err(GitError::NotItsOwn { top, .. }) => return Err(WorktreeError::LedAway { top }),
                place => place?,
            };
            git.stand_on(&record.branch).await?;
            turn.give();
            git.fill(tip).await?;
            // If somebody has moved the branch meanwhile, the files are not those of its commit,
            // and the next commit would revert what is new on the branch.
            if branch == Branch::Old && git.commit_of("HEAD").await?.as_ref() != Some(tip) {
                return Err(WorktreeError::BranchMoved {
                    branch: record.branch.clone(),
                });
            }
            if git.has_submodules() {
                let (base, checkout) = (record.base.as_ref(), record.main_checkout());
                let updated = git.update_submodules(&record.branch, base, checkout).await;
                let task = record.task;
                updated.map_err(|source| WorktreeError::Submodules { task, source })?;
            }
            Ok(git.ignored_at_first().await?)
        };
        match filled.await {
            Ok(ignored) => {
                record.ignored = ignored;
                record.is_ready = true;
                record.is_half_made = false;
                self.write_record(record).await
            }
            Err(error) => {
                if let Err(error) = self.give_up(&repository, git, record, turn).await {
                    tracing::warn!(
                        path = %git.dir().display(), %error,
                        "an incomplete worktree cannot be removed"
                    );
                }
                Err(error)
            }
        }
    }

    /// Removes a worktree that could not be made completely.
    async fn give_up(
        &self,
        repository: &Git,
        git: &Git,
        record: &mut Record,
        turn: &mut Turn,
    ) -> Result<(), WorktreeError> {
        // Git needs room for its answer, and the files may be what fills the disk. Before the turn
        // was given to others, git has written no files, and somebody else may have made the
        // directory.
        if turn.is_given() {
            self.remove_files(git.dir()).await?;
            turn.wait().await;
        }
        repository.forget_worktree(git.dir()).await?;
        if std::mem::take(&mut record.is_half_made) {
            self.write_record(record).await?;
        }
        Ok(())
    }

    /// Whether the worktree exists. If a host ended while it made the worktree again, the remains
    /// are removed first.
    pub(super) async fn is_there(&self, git: &Git, record: &Record) -> Result<bool, WorktreeError> {
        if record.is_half_made {
            self.remove_half_made(git, record).await?;
        }
        Ok(fsx::is_taken(git.dir()))
    }

    /// Removes the remains of a worktree that was not made completely. They contain no work.
    async fn remove_half_made(&self, git: &Git, record: &Record) -> Result<(), WorktreeError> {
        self.remove_files(git.dir()).await?;
        let repository = git.in_repository(&record.repository);
        Ok(repository.forget_worktree(git.dir()).await?)
    }

    /// Removes the files of a worktree that was not made completely. They may be any number, so
    /// this needs no turn in the repository, and neither git nor room.
    async fn remove_files(&self, worktree: &Path) -> Result<(), WorktreeError> {
        let path = worktree.to_owned();
        // The git of an earlier host may still be making this worktree. If it fails, it removes
        // whatever is at this path then.
        let over = command::earlier_over().await;
        over.map_err(io_error("cannot remove", &path))?;
        self.blocking(move |_| fsx::remove_tree(&path).map_err(io_error("cannot remove", &path)))
            .await
    }

    /// Whether a task has a worktree whose creation was begun and is not complete.
    pub(crate) async fn is_unfinished(&self, task: TaskId) -> Result<bool, WorktreeError> {
        let record = self.record(task).await?;
        Ok(record.is_some_and(|record| !record.is_ready))
    }

    /// Undoes the creation of a task's worktree if an attempt has ended before the worktree was
    /// complete. Nobody has worked in it, and the branch is removed if it has no commits.
    pub(crate) async fn take_back_unfinished(
        &self,
        task: TaskId,
        variables: Arc<BTreeMap<String, String>>,
    ) -> Result<(), WorktreeError> {
        let path = self.path(task);
        let _own = self.turn(&path).await;
        let is_unfinished = |record: &Record| !record.is_ready;
        let Some(half) = self.record(task).await?.filter(is_unfinished) else {
            return Ok(());
        };
        let git = self.git_of(&half, variables);
        // Before anything that may take long or needs room: the files may be what fills the disk.
        self.remove_files(git.dir()).await?;
        let _turn = self.turn(&half.repository).await;
        half.remove_left_locks(&git).await?;
        self.take_back(&git, &half).await
    }

    /// Undoes an interrupted creation.
    async fn take_back(&self, git: &Git, half: &Record) -> Result<(), WorktreeError> {
        self.remove_half_made(git, half).await?;
        let repository = git.in_repository(&half.repository);
        let (branch, start) = (&half.branch, &half.base_commit);
        // Another host or a person may have made a branch of this name at the same time.
        if repository.branch_commit(branch).await?.as_ref() == Some(start)
            && half.has_made_its_branch(&repository).await?
        {
            repository.delete_branch(branch, start).await?;
        }
        self.remove_record(half.task).await
    }
}

impl Record {
    /// Whether the worktree was not made completely, so that it has no work.
    fn is_incomplete(&self) -> bool {
        !self.is_ready || self.is_half_made
    }
}

/// Refuses a directory that is not in its worktree, because the base, or an earlier attempt, has a
/// symbolic link in its path. Directories that do not exist yet cannot lead out. Reads the disk.
fn refuse_led_out(worktree: &Path, dir: &Path) -> Result<(), WorktreeError> {
    let to = fsx::real(dir);
    if to.starts_with(fsx::real(worktree)) {
        return Ok(());
    }
    Err(WorktreeError::LedOut {
        dir: dir.to_owned(),
        to,
    })
}

/// Refuses a branch that is checked out elsewhere, because two checkouts of one branch would undo
/// each other's work.
async fn refuse_in_use(git: &Git, branch: &BranchRef) -> Result<(), WorktreeError> {
    match git.checkouts_of(branch, None).await?.into_iter().next() {
        None => Ok(()),
        Some(checkout) => Err(GitError::InUse {
            branch: branch.clone(),
            checkout: Box::new(checkout),
        }
        .into()),
    }
}

/// The commit from which a task starts. A task with dependencies starts from the present base,
/// since the work of the dependencies may have been merged into the base. A task that has run
/// before also starts from the present base. Any other task starts from the planned commit.
async fn start(git: &Git, task: &Task, worktree: &Worktree) -> Result<Commit, WorktreeError> {
    let base = worktree.base.as_ref().map(BranchRef::named);
    let has_run = |attempt: &Attempt| attempt.ended.is_some() && attempt.started_at.is_some();
    if (!task.dependencies.is_empty() || task.attempts.iter().any(has_run))
        && let Some(tip) = tip(git, base.as_ref()).await?
    {
        return Ok(tip);
    }
    planned(worktree)
}

/// The commit at which an existing branch diverged from its base.
async fn parting(git: &Git, worktree: &Worktree, tip: &Commit) -> Result<Commit, WorktreeError> {
    let base = worktree.base.as_ref().map(BranchRef::named);
    let common = match self::tip(git, base.as_ref()).await? {
        Some(base) => git.common_ancestor(&base, tip).await?,
        None => None,
    };
    common.map_or_else(|| planned(worktree), Ok)
}

fn planned(worktree: &Worktree) -> Result<Commit, WorktreeError> {
    Commit::parse(&worktree.base_commit).ok_or_else(|| WorktreeError::NoBase {
        base: worktree.base_commit.clone(),
    })
}

async fn tip(git: &Git, branch: Option<&BranchRef>) -> Result<Option<Commit>, WorktreeError> {
    match branch {
        Some(branch) => Ok(git.branch_commit(branch).await?),
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::{future::poll_fn, pin::pin, task::Poll, time::Duration};

    use super::*;
    use crate::{clock, layout::Layout};

    /// Its files may be what fills the disk, and another task may use the repository for long.
    #[tokio::test]
    async fn files_of_an_unfinished_worktree_are_removed_before_the_repository_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let worktrees = Worktrees::new(Layout::new(dir.path()));
        let (task, repository) = (TaskId::new(1, 1), dir.path().join("repository"));
        let record = Record {
            task,
            repository: repository.clone(),
            checkout: None,
            branch: BranchRef::named("claudine/x"),
            base: None,
            base_commit: Commit::parse(&"a".repeat(40)).unwrap(),
            restraint: None,
            is_without_fetch: false,
            tip: None,
            is_named: false,
            is_dropped: false,
            is_ready: false,
            is_half_made: false,
            opening: None,
            resolver: None,
            updating: None,
            late: String::new(),
            ignored: Stamps::default(),
            settled: None,
            again: None,
        };
        let worktree = worktrees.path(task);
        fs::create_dir_all(worktree.join("many")).unwrap();
        worktrees.write_record(&record).await.unwrap();
        let _turn = worktrees.turn(&repository).await;
        let mut taking = pin!(worktrees.take_back_unfinished(task, Arc::default()));
        let removed = async {
            while worktree.exists() {
                poll_fn(|context| {
                    assert!(taking.as_mut().poll(context).is_pending());
                    Poll::Ready(())
                })
                .await;
                tokio::task::yield_now().await;
            }
        };
        let within = Duration::from_secs(20);
        clock::within(within, removed).await.unwrap();
        assert!(worktrees.record(task).await.unwrap().is_some());
    }
}
