//! Records of worktrees. A record is separate from its task, because the task is removed after some
//! days, while work that nobody has fetched is kept.

use std::{
    io,
    path::{Path, PathBuf},
};

use claudine_domain::{id::TaskId, principal::Principal, worktree::Merge};
use serde::{Deserialize, Serialize};

use super::{WorktreeError, Worktrees, claims::Claims, error::io_error};
use crate::{
    fsx::{self, Lasting},
    git::{BranchRef, Commit, Git, Restraint, Stamps, StepNote},
    layout::Layout,
};

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) task: TaskId,
    pub(super) repository: PathBuf,
    /// The repository's main checkout, if git cannot find it from the repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) checkout: Option<PathBuf>,
    pub(super) branch: BranchRef,
    pub(super) base: Option<BranchRef>,
    /// The commit at which the branch diverged from its base.
    pub(super) base_commit: Commit,
    /// What git may do in the worktree, if a restrained principal has submitted the task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) restraint: Option<Restraint>,
    /// Whether git fetches no missing object, although there is no restraint: a restrained
    /// principal has requested the last attempt of somebody else's task.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) is_without_fetch: bool,
    /// The branch's last known commit, noted when the worktree was removed or another attempt
    /// began. It distinguishes the branch from another branch that somebody made later under the
    /// same name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) tip: Option<Commit>,
    /// Whether the user named the branch. If so, it is never deleted.
    #[serde(default)]
    pub(super) is_named: bool,
    /// Whether the branch was deleted because its base had everything that was on the branch. If
    /// so, the name of the branch is free.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) is_dropped: bool,
    /// Whether the worktree was made completely.
    #[serde(default)]
    pub(super) is_ready: bool,
    /// Whether the worktree, which had been removed, is being made again. Nobody has worked in the
    /// part of it that exists.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) is_half_made: bool,
    /// The merge that is being opened in the worktree for a person. If git has not noted the merge,
    /// files in the worktree may be those of the merge instead of the task's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) opening: Option<Opening>,
    /// The principal who has opened a merge in the worktree to resolve its conflicts. Counts only
    /// as long as a merge is open there, because somebody may have ended that merge with git.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) resolver: Option<Principal>,
    /// The update of a checkout of the base that was begun and has not succeeded. If git has failed
    /// half-way, and the host was killed before it had put the files back, the next host does so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) updating: Option<Updating>,
    /// Messages about files of a checkout that somebody has changed while they were being replaced,
    /// for the next result of a merge.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) late: String,
    /// The ignored files that were in the worktree before its task began.
    #[serde(default, skip_serializing_if = "Stamps::is_empty")]
    pub(super) ignored: Stamps,
    /// The result of settling, and the number of the attempt whose work was settled.
    #[serde(default)]
    pub(super) settled: Option<(u32, Merge)>,
    /// The result of a merge that was asked for again after the task had ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) again: Option<Merge>,
}

/// A merge of the base into a task's branch.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Opening {
    /// The commit of the branch before the merge.
    pub(super) tip: Commit,
    /// The tree that results from the merge, with conflict markers.
    pub(super) tree: String,
}

/// An update of a checkout of the base.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Updating {
    pub(super) checkout: PathBuf,
    pub(super) step: StepNote,
}

impl Record {
    /// The repository's main checkout or, if it has none, the repository itself.
    pub(super) fn main_checkout(&self) -> &Path {
        match (&self.checkout, self.repository.parent()) {
            (Some(checkout), _) => checkout,
            (None, Some(top)) if self.repository.ends_with(".git") => top,
            (None, _) => &self.repository,
        }
    }

    fn claim(&self, claims: &Claims) {
        if self.is_dropped {
            claims.forget(self.task);
        } else {
            claims.note(self.task, &self.repository, &self.branch);
        }
    }

    /// Removes the locks that a killed git has left in places that only this task uses. `git` is
    /// that of the worktree, whether or not the worktree exists. Must be called only while the task
    /// does not run.
    pub(super) async fn remove_left_locks(&self, git: &Git) -> Result<(), WorktreeError> {
        let repository = git.in_repository(&self.repository);
        let refs = [self.branch.full(), self.kept_ref()];
        // Boxed to keep the futures of the callers small, because there is seldom a lock.
        let removing = Box::pin(repository.remove_left_locks(&refs, git.dir()));
        Ok(removing.await?)
    }

    /// The commit at which the branch diverges from its base. If the base was merged into the
    /// branch, this commit is later than the commit at which the branch was made.
    pub(super) async fn parting(&self, git: &Git, tip: &Commit) -> Result<Commit, WorktreeError> {
        let base = self.base_tip(git).await?;
        let sides = Sides::compared(git, tip.clone(), base).await?;
        Ok(self.parted_at(&sides))
    }

    /// Does the same as [`Self::parting`] if the branch and its base are at these commits.
    pub(super) fn parted_at(&self, sides: &Sides) -> Commit {
        // A merged branch no longer diverges from its base, so the recorded commit counts.
        let common = sides.common.clone().filter(|_| !sides.is_in_base());
        common.unwrap_or_else(|| self.base_commit.clone())
    }

    /// The commits of the branch and its base; `None` if the branch does not exist.
    pub(super) async fn sides(&self, git: &Git) -> Result<Option<Sides>, WorktreeError> {
        match self.tips(git).await? {
            [Some(tip), base] => Sides::compared(git, tip, base).await.map(Some),
            [None, _] => Ok(None),
        }
    }

    /// The last commits of the branch and of its base, as far as these exist.
    pub(super) async fn tips(&self, git: &Git) -> Result<[Option<Commit>; 2], WorktreeError> {
        match &self.base {
            Some(base) => Ok(git.branch_commits([&self.branch, base]).await?),
            None => Ok([git.branch_commit(&self.branch).await?, None]),
        }
    }

    async fn base_tip(&self, git: &Git) -> Result<Option<Commit>, WorktreeError> {
        match &self.base {
            Some(base) => Ok(git.branch_commit(base).await?),
            None => Ok(None),
        }
    }

    /// The commit after which everything on the branch is the task's work. If the task has merged
    /// its base, or rebased its branch onto it, this is the later commit `from`, at which the
    /// branch diverges from the base now. If somebody has rewritten the base, `from` is earlier
    /// than the task's start and does not count.
    pub(super) async fn start(&self, git: &Git, from: &Commit) -> Result<Commit, WorktreeError> {
        let planned = &self.base_commit;
        let is_later = git.is_ancestor(planned, from).await?;
        let start = if is_later { from } else { planned };
        Ok(start.clone())
    }

    /// Whether the base has everything that is on the branch.
    pub(super) async fn is_merged(&self, git: &Git, tip: &Commit) -> Result<bool, WorktreeError> {
        let base = self.base_tip(git).await?;
        self.is_merged_into(base.as_ref(), git, tip).await
    }

    /// Does the same as [`Self::is_merged`] if the base is at this commit.
    pub(super) async fn is_merged_into(
        &self,
        base: Option<&Commit>,
        git: &Git,
        tip: &Commit,
    ) -> Result<bool, WorktreeError> {
        for base in base.into_iter().chain([&self.base_commit]) {
            if git.is_ancestor(tip, base).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// The commits of a branch and its base, read at the same time.
pub(super) struct Sides {
    pub(super) tip: Commit,
    /// The commit of the base, if the base exists.
    pub(super) base: Option<Commit>,
    /// The last commit that is on both.
    pub(super) common: Option<Commit>,
}

impl Sides {
    async fn compared(git: &Git, tip: Commit, base: Option<Commit>) -> Result<Self, WorktreeError> {
        let common = match &base {
            Some(base) => git.common_ancestor(base, &tip).await?,
            None => None,
        };
        Ok(Self { tip, base, common })
    }

    /// Whether the branch has a commit that is not in the history of `start`.
    pub(super) async fn has_work(&self, git: &Git, start: &Commit) -> Result<bool, WorktreeError> {
        if self.common.as_ref() == Some(start) {
            return Ok(!self.is_in_base());
        }
        Ok(git.commits_between(start, &self.tip).await? > 0)
    }

    /// Whether the base has everything that is on the branch.
    pub(super) fn is_in_base(&self) -> bool {
        self.common.as_ref() == Some(&self.tip)
    }
}

/// The task of an existing record, and the record itself or the error of reading it.
pub(super) type Kept = (TaskId, Result<Record, WorktreeError>);

impl Worktrees {
    pub(super) async fn record(&self, task: TaskId) -> Result<Option<Record>, WorktreeError> {
        self.blocking(move |layout| read(layout, task)).await
    }

    /// The record of a task's worktree. Fails if the task has no worktree.
    pub(super) async fn known(&self, task: TaskId) -> Result<Record, WorktreeError> {
        let record = self.record(task).await?;
        record.ok_or(WorktreeError::NoWorktree { task })
    }

    pub(super) async fn write_record(&self, record: &Record) -> Result<(), WorktreeError> {
        let claims = self.claims().await?;
        let written = record.clone();
        self.blocking(move |layout| write(layout, &written)).await?;
        record.claim(claims);
        Ok(())
    }

    pub(super) async fn remove_record(&self, task: TaskId) -> Result<(), WorktreeError> {
        let claims = self.claims().await?;
        self.blocking(move |layout| {
            let path = layout.worktree_record(task);
            fsx::remove_file(&path).map_err(io_error("cannot remove", &path))
        })
        .await?;
        claims.forget(task);
        Ok(())
    }

    /// The owners of branches, from all records that can be read.
    pub(super) async fn claims(&self) -> Result<&Claims, WorktreeError> {
        self.claims
            .get_or_try_init(|| async {
                let claims = Claims::default();
                for record in self.readable_records().await? {
                    record.claim(&claims);
                }
                Ok(claims)
            })
            .await
    }

    /// The records that can be read, the oldest task first. The log names the others.
    pub(super) async fn readable_records(&self) -> Result<Vec<Record>, WorktreeError> {
        let records = self.records().await?.into_iter();
        let readable = records.filter_map(|(task, record)| match record {
            Ok(record) => Some(record),
            Err(error) => {
                tracing::warn!(%task, %error, "the record of a worktree is left out");
                None
            }
        });
        Ok(readable.collect())
    }

    /// All records, the oldest task first. If a record cannot be read, the other records are still
    /// returned.
    pub(super) async fn records(&self) -> Result<Vec<Kept>, WorktreeError> {
        self.blocking(|layout| {
            let records = tasks(layout)?.into_iter().filter_map(|task| {
                let record = read(layout, task).transpose()?;
                Some((task, record))
            });
            Ok(records.collect())
        })
        .await
    }
}

/// Reads a record. Must be called on a thread that may block.
pub(super) fn read(layout: &Layout, task: TaskId) -> Result<Option<Record>, WorktreeError> {
    let path = layout.worktree_record(task);
    match fsx::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|error| io_error("cannot read", &path)(error.into())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io_error("cannot read", &path)(error)),
    }
}

fn write(layout: &Layout, record: &Record) -> Result<(), WorktreeError> {
    let path = layout.worktree_record(record.task);
    let write = || -> io::Result<()> {
        fsx::make_private_dir(&layout.worktrees())?;
        // The record must survive a power cut: the work in a worktree may exist nowhere else, and
        // only the record describes it.
        fsx::replace(&path, Lasting::PowerCut, &serde_json::to_vec(record)?).map(drop)
    };
    write().map_err(io_error("cannot write", &path))
}

fn tasks(layout: &Layout) -> Result<Vec<TaskId>, WorktreeError> {
    let dir = layout.worktrees();
    let entries = fsx::entries(&dir).map_err(io_error("cannot read", &dir))?;
    Ok(entries.iter().filter_map(|path| task_of(path)).collect())
}

fn task_of(path: &Path) -> Option<TaskId> {
    let name = path.file_name()?.to_str()?;
    name.strip_suffix(".json")?.parse().ok()
}
