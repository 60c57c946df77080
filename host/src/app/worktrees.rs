//! Worktrees: planned with a submission, listed, and cleaned away.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
};

use claudine_domain::{
    id::TaskId,
    principal::Principal,
    task::{Idempotency, Task},
    worktree::{Merge, MergeStrategy, Worktree},
};
use serde::{Deserialize, Serialize};

use super::{
    error::{AppError, ErrorKind},
    host::Host,
    may::{Verb, may},
    request::{NewTask, TaskRef},
};
use crate::{
    config,
    environment::Kept,
    git::Git,
    worktree::{Again, Content, Found, WorktreeError, plan, refuse_taken},
};

/// Tasks with a worktree in one request.
const WORKTREES_MAX: usize = 1_000;

/// A worktree that is there.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct FoundWorktree {
    pub(crate) task: String,
    /// Of its task, where that has one and is not forgotten.
    pub(crate) name: Option<String>,
    /// `blocked`, `waiting`, `ready`, `held`, `running`, an outcome, or `forgotten`.
    pub(crate) state: String,
    pub(crate) branch: String,
    pub(crate) base: Option<String>,
    pub(crate) path: String,
    pub(crate) repository: String,
    /// Files that are changed or new, and not committed; null where git cannot say.
    pub(crate) dirty: Option<u64>,
    /// Commits that are neither in the base nor on a remote.
    pub(crate) unmerged: Option<u64>,
    pub(crate) error: Option<String>,
    pub(crate) merge: Option<Merge>,
}

/// Which worktrees are removed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CleanWorktrees {
    /// Also those whose work is on their branch only; the branch stays.
    #[serde(default)]
    pub(crate) all: bool,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct WorktreesCleaned {
    pub(crate) removed: Vec<RemovedWorktree>,
    pub(crate) left: Vec<LeftWorktree>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct RemovedWorktree {
    pub(crate) task: String,
    pub(crate) path: String,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct LeftWorktree {
    pub(crate) task: String,
    pub(crate) path: String,
    pub(crate) why: String,
}

/// What is to become of the work of a finished task after all.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MergeWorktree {
    /// What the task was submitted with, where it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) merge: Option<MergeStrategy>,
}

/// What became of it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct WorktreeMerged {
    pub(crate) task: String,
    pub(crate) merge: Merge,
}

impl Host {
    /// The worktree that a task asks for, if it does and can have it.
    pub(super) async fn planned(
        &self,
        task: &NewTask,
        idempotency: Option<&Idempotency>,
        kept: &Kept,
    ) -> Result<Option<Box<Worktree>>, AppError> {
        let Some(wish) = &task.worktree else {
            return Ok(None);
        };
        let git = Git::at(&task.working_directory, kept.variables.clone());
        let worktree = plan(&git, wish).await?;
        if !self.was_taken_on(&worktree, idempotency).await? {
            refuse_taken(&git, &worktree).await?;
        }
        Ok(Some(Box::new(worktree)))
    }

    /// Whether the branch is there because this same request was sent before, under the same key.
    async fn was_taken_on(
        &self,
        worktree: &Worktree,
        idempotency: Option<&Idempotency>,
    ) -> Result<bool, AppError> {
        let (Some(branch), Some(idempotency)) = (&worktree.branch, idempotency) else {
            return Ok(false);
        };
        let owner = self
            .worktrees
            .owner(Path::new(&worktree.repository), branch)?;
        let Some(owner) = owner else {
            return Ok(false);
        };
        let task = self
            .read(move |reader| Ok(reader.store.task(owner)?))
            .await?;
        Ok(task.is_some_and(|task| task.request.idempotency.as_deref() == Some(idempotency)))
    }

    pub(crate) async fn list_worktrees(&self) -> Result<Vec<FoundWorktree>, AppError> {
        let found = self.worktrees.list(own_variables()).await?;
        self.read(move |reader| {
            let mut list = Vec::with_capacity(found.len());
            for one in found {
                let task = reader.store.task(one.task)?;
                list.push(view(one, task.as_ref()));
            }
            Ok(list)
        })
        .await
    }

    /// Asks once more for what becomes of a finished task's work. The task stays as it has ended.
    pub(crate) async fn merge_worktree(
        &self,
        by: &Principal,
        reference: &TaskRef,
        asked: MergeWorktree,
    ) -> Result<WorktreeMerged, AppError> {
        let id = self.resolve(reference).await?;
        let held = self.worktrees.hold(id).await?;
        let task = self.read(move |reader| Ok(reader.store.task(id)?)).await?;
        if let Some(task) = task.as_ref().filter(|task| !task.is_done()) {
            let message = format!("task {id} is {}, not done", task.state.as_str());
            return Err(AppError::new(ErrorKind::Conflict, message)
                .hint("what becomes of its work is decided when it ends"));
        }
        let worktree = task.as_ref().and_then(|it| it.request.worktree.as_deref());
        let usual = match worktree {
            Some(worktree) => Some(worktree.merge),
            None => self.worktrees.last_merge(id)?.map(|merge| merge.strategy),
        };
        let strategy = asked.merge.or(usual).unwrap_or_default();
        if strategy == MergeStrategy::Manual {
            let message = format!("--merge manual leaves the branch of {id} as it is");
            return Err(AppError::new(ErrorKind::Invalid, message)
                .hint("say what is to become of it by --merge auto, pr or patch"));
        }
        may(by, Verb::Merge(strategy), task.as_ref(), &self.settings.mcp)?;
        let title = task.as_ref().map(|task| task.request.summary.as_str());
        let again = Again {
            strategy,
            keep: worktree.is_some_and(|worktree| worktree.keep),
            title: title.unwrap_or("work of a forgotten task"),
            variables: self.variables_of(task.as_ref()).await?,
        };
        let merge = self.worktrees.merge_again(&held, again).await?;
        if merge.state.is_failure() {
            return Err(AppError::new(ErrorKind::Conflict, merge.detail));
        }
        Ok(WorktreeMerged {
            task: id.to_string(),
            merge,
        })
    }

    /// The environment in which git is run for a task: its own, as long as that is kept.
    pub(super) async fn variables_of(
        &self,
        task: Option<&Task>,
    ) -> Result<Arc<BTreeMap<String, String>>, AppError> {
        let Some(task) = task else {
            return Ok(own_variables());
        };
        let (environments, digest) = (self.environments.clone(), task.request.env_digest.clone());
        self.read(move |_| {
            environments.read(&digest).map_err(|error| {
                AppError::new(
                    ErrorKind::Unavailable,
                    format!("the task's environment cannot be read: {error}"),
                )
            })
        })
        .await
    }

    pub(crate) async fn clean_worktrees(
        &self,
        by: &Principal,
        asked: CleanWorktrees,
    ) -> Result<WorktreesCleaned, AppError> {
        may(by, Verb::CleanWorktrees, None, &self.settings.mcp)?;
        let tasks = self.worktrees.tasks()?;
        let unfinished = self
            .read(move |reader| {
                let ends = reader.store.ends(&tasks)?;
                let unfinished = ends.into_iter().filter(|(_, end)| end.is_none());
                Ok(unfinished
                    .map(|(task, _)| task)
                    .collect::<BTreeSet<TaskId>>())
            })
            .await?;
        let cleaned = self
            .worktrees
            .clean(&unfinished, asked.all, own_variables())
            .await?;
        let removed = cleaned
            .removed
            .into_iter()
            .map(|(task, path)| RemovedWorktree {
                task: task.to_string(),
                path: path.display().to_string(),
            });
        let left = cleaned.left.into_iter().map(|left| LeftWorktree {
            task: left.task.to_string(),
            path: left.path.display().to_string(),
            why: left.why,
        });
        Ok(WorktreesCleaned {
            removed: removed.collect(),
            left: left.collect(),
        })
    }
}

/// Each asks git half a dozen questions before anything is taken on.
pub(super) fn few_enough(tasks: &[NewTask]) -> Result<(), AppError> {
    let count = tasks.iter().filter(|task| task.worktree.is_some()).count();
    if count > WORKTREES_MAX {
        return Err(AppError::new(
            ErrorKind::Limit,
            format!(
                "{count} tasks of the request ask for a worktree; {WORKTREES_MAX} is the limit"
            ),
        ));
    }
    Ok(())
}

/// Refuses two that name the same branch: the second would find it taken.
pub(super) fn each_its_own<'a>(
    worktrees: impl Iterator<Item = &'a Worktree>,
) -> Result<(), AppError> {
    let mut named = BTreeSet::new();
    for worktree in worktrees {
        if let Some(branch) = &worktree.branch
            && !named.insert((&worktree.repository, branch))
        {
            return Err(AppError::new(
                ErrorKind::Invalid,
                format!("two tasks of the request name the branch `{branch}`"),
            ));
        }
    }
    Ok(())
}

/// The host's own: the task of a worktree may be forgotten, and its environment with it.
fn own_variables() -> Arc<BTreeMap<String, String>> {
    let text = |value: std::ffi::OsString| value.into_string().ok();
    let variables = config::whole_environment().into_iter();
    Arc::new(
        variables
            .filter_map(|(name, value)| Some((text(name)?, text(value)?)))
            .collect(),
    )
}

fn view(found: Found, task: Option<&Task>) -> FoundWorktree {
    let state = match task {
        None => "forgotten",
        Some(task) => task
            .end()
            .map_or_else(|| task.state.as_str(), |end| end.outcome.as_str()),
    };
    let (content, error) = match found.content {
        Ok(content) => (Some(content), None),
        Err(error) => (None, Some(error)),
    };
    FoundWorktree {
        task: found.task.to_string(),
        name: task.and_then(|task| task.request.name.clone()),
        state: state.to_owned(),
        branch: found.branch,
        base: found.base,
        path: found.path.display().to_string(),
        repository: found.repository.display().to_string(),
        dirty: content.map(|Content { dirty, .. }| dirty),
        unmerged: content.map(|Content { unmerged, .. }| unmerged),
        error,
        merge: found.merge,
    }
}

impl From<WorktreeError> for AppError {
    fn from(error: WorktreeError) -> Self {
        let kind = if error.is_conflict() {
            ErrorKind::Conflict
        } else if error.is_passing() {
            ErrorKind::Unavailable
        } else {
            ErrorKind::Invalid
        };
        let app = Self::new(kind, error.to_string());
        match error.hint() {
            Some(hint) => app.hint(hint),
            None => app,
        }
    }
}
