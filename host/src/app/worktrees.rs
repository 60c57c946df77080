//! Plans worktrees of submissions, and lists and removes worktrees.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
};

use claudine_domain::{
    id::TaskId,
    principal::Principal,
    task::{Idempotency, Task},
    worktree::{Merge, Worktree},
};
use futures_util::future::join_all;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    branch_name::may_be_named,
    error::{AppError, ErrorKind},
    host::Host,
    may::{Verb, may},
    prepare::summary,
    request::{ListFilter, NewTask},
    select::{Purpose, Selection},
};
use crate::{
    command::{earlier_over, supervised_by, taking_turns_if},
    environment::Kept,
    git::{Git, Restraint},
    worktree::{Also, Found, Planned, Wish, WorktreeError, refuse_taken, stem_of},
};

/// Maximum number of tasks with a worktree in a request.
const WORKTREES_MAX: usize = 1_000;

/// An existing worktree.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct FoundWorktree {
    pub(crate) task: String,
    /// Name of the worktree's task, if the task has a name and is still stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
    /// `blocked`, `waiting`, `ready`, `held`, `running`, an outcome, or `forgotten`.
    pub(crate) state: String,
    /// Absent if the record of the worktree cannot be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) branch: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) base: Option<String>,
    pub(crate) path: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) repository: Option<String>,
    /// Number of changed or new files that are not committed; absent if git reports an error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) dirty: Option<u64>,
    /// Number of files and directories that the task made and git ignores.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ignored: Option<u64>,
    /// Number of commits that are neither in the base nor on a remote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) unmerged: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) merge: Option<Merge>,
}

/// Selects worktrees to list.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WorktreesQuery {
    /// Only worktrees of this graph's tasks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) graph: Option<String>,
}

/// Selects worktrees to remove.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CleanWorktrees {
    /// Only worktrees of this graph's tasks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) graph: Option<String>,
    /// Include worktrees whose changes are only on their branches; the branches are kept.
    #[serde(default)]
    pub(crate) all: bool,
    /// Include worktrees with files that git ignores; these files are lost.
    #[serde(default)]
    pub(crate) ignored: bool,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct WorktreesCleaned {
    pub(crate) removed: Vec<RemovedWorktree>,
    pub(crate) left: Vec<LeftWorktree>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct RemovedWorktree {
    pub(crate) task: String,
    pub(crate) path: String,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct LeftWorktree {
    pub(crate) task: String,
    pub(crate) path: String,
    pub(crate) why: String,
}

impl Host {
    /// The worktree that a task requests. `None` if the task requests no worktree; an error if the
    /// requested worktree is not possible.
    pub(super) async fn planned(
        &self,
        by: &Principal,
        task: &NewTask,
        idempotency: Option<&Idempotency>,
        kept: &Kept,
    ) -> Result<Option<Planned>, AppError> {
        let Some(wish) = &task.worktree else {
            return Ok(None);
        };
        let variables = kept.variables.clone();
        let git = self.worktrees.git(&task.working_directory, variables);
        // An agent may have written the settings of the repository.
        let git = git.restrained(Restraint::of_request_by(by));
        let planning = self.plan_worktree(by, &git, wish, idempotency);
        let mut planned = self.supervised_for(by, planning).await?;
        if planned.worktree.branch.is_none() {
            let summary = summary(task.spec.get());
            planned.worktree.stem = stem_of(task.name.as_deref(), &summary);
        }
        // The repository may be elsewhere than the directory of the request.
        let repository = PathBuf::from(&*planned.worktree.repository);
        self.may_work_in(by, vec![repository]).await?;
        Ok(Some(planned))
    }

    /// Refuses directories in which a restrained principal may not let a task work.
    pub(super) async fn may_work_in(
        &self,
        by: &Principal,
        directories: Vec<PathBuf>,
    ) -> Result<(), AppError> {
        if !by.restrained {
            return Ok(());
        }
        let (places, by) = (self.places.clone(), by.clone());
        let look = move || {
            let mut directories = directories.iter();
            directories.try_for_each(|directory| places.may_work_in(&by, directory))
        };
        let looked = crate::aside::run(look).await.map_err(|panic| {
            let message = format!("the directory cannot be checked: {panic}");
            AppError::new(ErrorKind::Internal, message)
        });
        Ok(looked??)
    }

    async fn plan_worktree(
        &self,
        by: &Principal,
        git: &Git,
        wish: &Wish,
        idempotency: Option<&Idempotency>,
    ) -> Result<Planned, AppError> {
        let planned = self.worktrees.plan(git, wish).await?;
        if !self.was_taken_on(&planned.worktree, idempotency).await? {
            refuse_taken(git, &planned.worktree).await?;
            may_be_named(by, git, &planned.worktree).await?;
        }
        Ok(planned)
    }

    /// Runs work for a request; all of its commands are children of a supervisor.
    pub(super) fn supervised<F: Future>(&self, work: F) -> impl Future<Output = F::Output> {
        // Not an async function, which would have room for the work twice.
        supervised_by(self.commands.clone(), Box::pin(work))
    }

    /// Like [`Self::supervised`], for a request of this principal.
    pub(super) fn supervised_for<F: Future>(
        &self,
        by: &Principal,
        work: F,
    ) -> impl Future<Output = F::Output> + use<F> {
        supervised_by(
            self.commands.clone(),
            taking_turns_if(by.restrained, Box::pin(work)),
        )
    }

    /// Whether the branch already belongs to the task of an earlier equal request with the same
    /// idempotency key.
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
            .owner(Path::new(&worktree.repository), branch)
            .await?;
        let Some(owner) = owner else {
            return Ok(false);
        };
        let task = self
            .read(move |reader| Ok(reader.store.task(owner)?))
            .await?;
        Ok(task.is_some_and(|task| task.request.idempotency.as_deref() == Some(idempotency)))
    }

    pub(crate) async fn list_worktrees(
        &self,
        by: &Principal,
        query: WorktreesQuery,
    ) -> Result<Vec<FoundWorktree>, AppError> {
        let meant = self.tasks_of(query.graph, Purpose::Show).await?;
        let shown_to = Restraint::of_request_by(by);
        let listing = self
            .worktrees
            .list(meant.as_ref(), shown_to, Arc::default());
        let found = self.supervised_for(by, listing).await?;
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

    /// The tasks of a graph; `None` if no graph is given.
    async fn tasks_of(
        &self,
        graph: Option<String>,
        purpose: Purpose,
    ) -> Result<Option<BTreeSet<TaskId>>, AppError> {
        if graph.is_none() {
            return Ok(None);
        }
        let filter = ListFilter {
            graph,
            ..ListFilter::default()
        };
        self.read(move |reader| {
            let mut tasks = BTreeSet::new();
            Selection::of(reader, &filter, purpose)?.each(reader, |task| {
                tasks.insert(task.id);
                Ok(())
            })?;
            Ok(Some(tasks))
        })
        .await
    }

    /// The environment of a task. Empty if there is no task, for example because the task is no
    /// longer stored.
    pub(super) async fn variables_of(
        &self,
        task: Option<&Task>,
    ) -> Result<Arc<BTreeMap<String, String>>, AppError> {
        let Some(task) = task else {
            return Ok(Arc::default());
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
        self: &Arc<Self>,
        by: &Principal,
        asked: CleanWorktrees,
    ) -> Result<WorktreesCleaned, AppError> {
        may(by, Verb::CleanWorktrees, None, &self.settings.mcp)?;
        let meant = self.tasks_of(asked.graph, Purpose::Finished).await?;
        let also = Also {
            unmerged: asked.all,
            ignored: asked.ignored,
        };
        let (mut removed, mut left) = (Vec::new(), Vec::new());
        for id in self.worktrees.tasks().await? {
            if meant.as_ref().is_some_and(|tasks| !tasks.contains(&id)) {
                continue;
            }
            let path = self.worktrees.path(id);
            let was_there = path.exists();
            let (task, path) = (id.to_string(), path.display().to_string());
            let cleaned = self.clean_worktree(id, also).await;
            match cleaned.unwrap_or_else(|error| Some(error.message)) {
                Some(why) => left.push(LeftWorktree { task, path, why }),
                None if was_there => removed.push(RemovedWorktree { task, path }),
                None => {}
            }
        }
        Ok(WorktreesCleaned { removed, left })
    }

    /// Removes a worktree. If it is kept, returns the reason.
    async fn clean_worktree(
        self: &Arc<Self>,
        id: TaskId,
        also: Also,
    ) -> Result<Option<String>, AppError> {
        let unfinished = "the task of the worktree has not ended";
        // This is checked before locking, because the lock would wait for a running attempt.
        if self.is_unfinished(id).await? {
            return Ok(Some(unfinished.to_owned()));
        }
        // This is checked again under the lock. From now on, no attempt can enter the locked
        // worktree.
        let held = self.worktrees.hold(id).await?;
        if self.is_unfinished(id).await? {
            return Ok(Some(unfinished.to_owned()));
        }
        let host = self.clone();
        let cleaning = async move {
            let cleaning = host.worktrees.clean(&held, also, Arc::default());
            host.supervised(cleaning).await.map_err(AppError::from)
        };
        self.seen_to(cleaning).await
    }

    /// Puts back the checkouts that an earlier host was updating, for the merge of a task, when it
    /// was killed. A person cannot commit in such a checkout until it is put back. The next merge
    /// of the same task would put it back too, but perhaps nobody ever requests one. If the host is
    /// told to end everything, it waits a while for this work, even if it has not begun yet.
    pub(crate) fn put_back_checkouts(self: &Arc<Self>) -> impl Future<Output = ()> + Send + use<> {
        let (host, under_way) = (self.clone(), self.restoring.token());
        async move {
            host.put_all_back().await;
            drop(under_way);
        }
    }

    async fn put_all_back(self: &Arc<Self>) {
        let tasks = match self.worktrees.updating().await {
            Ok(tasks) => tasks,
            Err(error) => {
                tracing::warn!(%error, "checkouts that an earlier host was updating are unknown");
                return;
            }
        };
        // All at once, so that in each of the repositories this comes before other work.
        let all = tasks.into_iter().map(|id| self.put_back_at_start(id));
        join_all(all).await;
    }

    async fn put_back_at_start(self: &Arc<Self>, id: TaskId) {
        let why = match self.put_back_checkout(id).await {
            Ok(None) => {
                tracing::info!(task = %id, "an interrupted update of a checkout is over");
                return;
            }
            Ok(Some(why)) => why,
            Err(error) => error.message,
        };
        tracing::warn!(task = %id, why, "a checkout cannot be put back");
    }

    /// Puts back the checkout that an earlier host was updating for this task. Returns the reason
    /// if this is not possible.
    async fn put_back_checkout(self: &Arc<Self>, id: TaskId) -> Result<Option<String>, AppError> {
        let task = self.read(move |reader| Ok(reader.store.task(id)?)).await?;
        let variables = self.variables_of(task.as_ref()).await?;
        // The turn in the repository is not kept for ever, because a request that waits for it is
        // not told why.
        let held = loop {
            let held = self.worktrees.hold(id).await?;
            match self.supervised(earlier_over()).await {
                Ok(()) => break held,
                Err(error) => tracing::warn!(%error, "checkouts cannot be put back yet"),
            }
        };
        let host = self.clone();
        let putting_back = async move {
            let putting_back = host.worktrees.put_back(&held, variables);
            host.supervised(putting_back).await.map_err(AppError::from)
        };
        self.seen_to(putting_back).await
    }

    async fn is_unfinished(&self, id: TaskId) -> Result<bool, AppError> {
        let ends = self
            .read(move |reader| Ok(reader.store.ends(&BTreeSet::from([id]))?))
            .await?;
        Ok(ends.into_iter().any(|(_, end)| end.is_none()))
    }
}

/// Limits the worktrees in a request, because each worktree takes half a dozen runs of git before
/// the answer.
pub(super) fn few_enough(tasks: &[NewTask]) -> Result<(), AppError> {
    let count = tasks.iter().filter(|task| task.worktree.is_some()).count();
    if count > WORKTREES_MAX {
        return Err(AppError::new(
            ErrorKind::Limit,
            format!(
                "{count} tasks in the request ask for a worktree; {WORKTREES_MAX} is the limit"
            ),
        )
        .hint("submit some of them in further requests"));
    }
    Ok(())
}

/// Refuses branches that cannot exist together. Without this check, the task that comes second
/// would fail at its start.
pub(super) fn each_its_own<'a>(
    worktrees: impl Iterator<Item = &'a Worktree>,
) -> Result<(), AppError> {
    let mut named: BTreeSet<(&str, String)> = BTreeSet::new();
    for worktree in worktrees {
        let Some(branch) = &worktree.branch else {
            continue;
        };
        let repository = worktree.repository.as_str();
        if !named.insert((repository, format!("{branch}/"))) {
            return Err(AppError::new(
                ErrorKind::Invalid,
                format!("two tasks of the request name the branch `{branch}`"),
            )
            .hint("give each of them a branch of its own"));
        }
    }
    // The names are sorted so that each name is directly followed by the names of branches below
    // it.
    let pairs = named.iter().zip(named.iter().skip(1));
    for ((repository, above), (other, below)) in pairs {
        if repository == other && below.starts_with(above) {
            let (above, below) = (above.trim_end_matches('/'), below.trim_end_matches('/'));
            return Err(AppError::new(
                ErrorKind::Invalid,
                format!(
                    "tasks of the request name the branches `{above}` and `{below}`, which cannot both exist, because git stores a branch as a file"
                ),
            )
            .hint(format!("choose a name that is not below `{above}`")));
        }
    }
    Ok(())
}

fn view(found: Found, task: Option<&Task>) -> FoundWorktree {
    let state = match task {
        None => "forgotten",
        Some(task) => task
            .end()
            .map_or_else(|| task.state.as_str(), |end| end.outcome.as_str()),
    };
    let (content, error) = match &found.content {
        Ok(content) => (Some(content), None),
        Err(error) => (None, Some(error.clone())),
    };
    FoundWorktree {
        task: found.task.to_string(),
        name: task.and_then(|task| task.request.name.clone()),
        state: state.to_owned(),
        branch: found.branch,
        base: found.base,
        path: found.path.display().to_string(),
        repository: found.repository.map(|path| path.display().to_string()),
        dirty: content.map(|content| content.dirty),
        ignored: content.map(|content| content.ignored),
        unmerged: content.map(|content| content.unmerged),
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
