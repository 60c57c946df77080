//! One method for each request.

use std::time::Duration;

use serde::de::DeserializeOwned;

use super::{Ask, Client, ClientError, address};
use crate::{
    api::rest::{CancelBody, DownBody, LinesQuery, PluginsQuery, UpView, WaitQuery},
    app::{
        Action, AppError, Cancelled, CapacityView, Changed, ChangesQuery, CheckpointQuery,
        CheckpointView, CleanWorktrees, CostQuery, CostView, Delegated, DiffQuery, DiffView,
        DownMode, EndQuery, ErrorKind, ForgetProfiles, FoundWorktree, GraphQuery, GroupChange,
        GroupView, HostInfo, ListFilter, LogEnd, LogLines, MergeWorktree, Overview, PauseQueue,
        PluginDetail, PluginView, QueuePaused, ResolveWorktree, ResumeOptions, Retried,
        RetryOptions, SetSlots, Submit, Submitted, TaskActions, TaskList, TaskRef, TaskRow,
        TaskView, TasksActed, Why, WorktreeMerged, WorktreeResolved, WorktreesCleaned,
        WorktreesQuery, graph::Graph,
    },
    clock, config,
};

/// The commands that show whether changes of worktrees, groups and slots were carried out.
const WORKTREES: &str = "claudine worktree list";
const GROUPS: &str = "claudine group list";
const CAPACITY: &str = "claudine capacity";
/// Number of tasks on a page if a whole list is read.
const LARGEST_PAGE: u32 = 1_000;
/// Pause before repeating a wait that was answered early.
const ASK_AGAIN: Duration = Duration::from_secs(1);

impl Client {
    /// Submits tasks. The request is repeated after a crash of the host if all tasks have
    /// idempotency keys, because then no task is submitted twice.
    pub(in crate::api) async fn submit(&self, request: &Submit) -> Result<Submitted, ClientError> {
        let again = request
            .tasks
            .iter()
            .all(|task| task.idempotency_key.is_some());
        let ask = Ask::post("/v1/tasks".to_owned(), request)?.of_work();
        self.ask(ask.repeatable_if(again)).await
    }

    /// Shows the graph of a request without submitting it.
    pub(in crate::api) async fn plan(&self, request: &Submit) -> Result<Graph, ClientError> {
        self.ask(Ask::post("/v1/plan".to_owned(), request)?.repeatable_if(true))
            .await
    }

    /// Submits a single task.
    pub(in crate::api) async fn delegate(
        &self,
        request: &Submit,
    ) -> Result<Delegated, ClientError> {
        let mut submitted = self.submit(request).await?;
        submitted.tasks.pop().ok_or_else(|| {
            let message = "the host accepted no task";
            ClientError::Refused(AppError::new(ErrorKind::Internal, message))
        })
    }

    /// Has no time limit, because the store may have to read and write many tasks. Dry runs,
    /// cancels and holds may be repeated.
    pub(in crate::api) async fn act(&self, asked: &TaskActions) -> Result<TasksActed, ClientError> {
        let again = asked.dry_run || matches!(asked.action, Action::Cancel | Action::Hold);
        let ask = Ask::post("/v1/tasks/actions".to_owned(), asked)?;
        self.ask(ask.patient().repeatable_if(again)).await
    }

    pub(in crate::api) async fn release_restored(&self) -> Result<Changed, ClientError> {
        let path = "/v1/restored/release".to_owned();
        let nothing = serde_json::json!({});
        self.ask(Ask::post(path, &nothing)?.repeatable_if(true))
            .await
    }

    pub(in crate::api) async fn groups(&self) -> Result<Vec<GroupView>, ClientError> {
        self.ask(Ask::get("/v1/groups".to_owned())).await
    }

    pub(in crate::api) async fn set_group(
        &self,
        name: &str,
        change: &GroupChange,
    ) -> Result<GroupView, ClientError> {
        let path = address::group(name, "")?;
        let ask = Ask::post(path, change)?.shown_by(GROUPS);
        self.ask(ask.repeatable_if(true)).await
    }

    pub(in crate::api) async fn remove_group(&self, name: &str) -> Result<GroupView, ClientError> {
        let nothing = serde_json::json!({});
        let path = address::group(name, "/remove")?;
        self.ask(Ask::post(path, &nothing)?.shown_by(GROUPS)).await
    }

    pub(in crate::api) async fn pause_queue(
        &self,
        paused: bool,
    ) -> Result<QueuePaused, ClientError> {
        let asked = PauseQueue { paused };
        self.ask(Ask::post("/v1/queue".to_owned(), &asked)?.repeatable_if(true))
            .await
    }

    pub(in crate::api) async fn worktrees(
        &self,
        query: &WorktreesQuery,
    ) -> Result<Vec<FoundWorktree>, ClientError> {
        let path = address::with_query("/v1/worktrees".to_owned(), query)?;
        self.ask(Ask::get(path)).await
    }

    pub(in crate::api) async fn clean_worktrees(
        &self,
        asked: &CleanWorktrees,
    ) -> Result<WorktreesCleaned, ClientError> {
        let ask = Ask::post("/v1/worktrees/clean".to_owned(), asked)?;
        self.ask(ask.patient().shown_by(WORKTREES)).await
    }

    /// Has no time limit, because git has none. Repeating the request returns the finished merge.
    pub(in crate::api) async fn merge_worktree(
        &self,
        task: &str,
        asked: MergeWorktree,
    ) -> Result<WorktreeMerged, ClientError> {
        let path = address::task(task, "/merge")?;
        let ask = Ask::post(path, &asked)?.patient();
        self.ask(ask.shown_by(WORKTREES)).await
    }

    /// Has no time limit, because git has none. The client does not repeat the request, but a
    /// person may, because beginning or ending a resolution twice changes nothing.
    pub(in crate::api) async fn resolve_worktree(
        &self,
        task: &str,
        asked: ResolveWorktree,
    ) -> Result<WorktreeResolved, ClientError> {
        let path = address::task(task, "/resolve")?;
        let ask = Ask::post(path, &asked)?.patient();
        self.ask(ask.shown_by(WORKTREES)).await
    }

    pub(in crate::api) async fn diff(
        &self,
        task: &str,
        query: DiffQuery,
    ) -> Result<DiffView, ClientError> {
        let path = address::with_query(address::task(task, "/diff")?, &query)?;
        self.ask(Ask::get(path).patient()).await
    }

    pub(in crate::api) async fn list(&self, filter: &ListFilter) -> Result<TaskList, ClientError> {
        self.ask(Ask::get(address::with_query(
            "/v1/tasks".to_owned(),
            filter,
        )?))
        .await
    }

    pub(in crate::api) async fn overview(
        &self,
        filter: &ListFilter,
    ) -> Result<Overview, ClientError> {
        let path = address::with_query("/v1/overview".to_owned(), filter)?;
        self.ask(Ask::get(path)).await
    }

    /// Returns as soon as something has changed, or at the time limit.
    pub(in crate::api) async fn changes(
        &self,
        query: ChangesQuery,
    ) -> Result<Overview, ClientError> {
        let path = address::with_query("/v1/changes".to_owned(), &query)?;
        self.ask(Ask::get(path)).await
    }

    /// All tasks that match a filter, newest first.
    pub(in crate::api) async fn list_all(
        &self,
        mut filter: ListFilter,
    ) -> Result<Vec<TaskRow>, ClientError> {
        let mut tasks = Vec::new();
        filter.limit = Some(LARGEST_PAGE);
        loop {
            let page = self.list(&filter).await?;
            tasks.extend(page.tasks);
            match page.next {
                Some(next) => filter.before = Some(TaskRef(next)),
                None => return Ok(tasks),
            }
        }
    }

    pub(in crate::api) async fn status(&self, task: &str) -> Result<TaskView, ClientError> {
        self.ask(Ask::get(address::task(task, "")?)).await
    }

    pub(in crate::api) async fn why(&self, task: &str) -> Result<Why, ClientError> {
        self.ask(Ask::get(address::task(task, "/why")?)).await
    }

    /// Returns the task as soon as it has ended, or in its current state at the time limit.
    pub(in crate::api) async fn wait(
        &self,
        task: &str,
        limit: Duration,
        waiter: Option<&str>,
    ) -> Result<TaskView, ClientError> {
        let ends_at = clock::monotonic() + limit;
        loop {
            let left = ends_at.saturating_sub(clock::monotonic());
            let view = self.wait_once(task, left, waiter).await?;
            let left = ends_at.saturating_sub(clock::monotonic());
            if view.outcome.is_some() || left.is_zero() {
                return Ok(view);
            }
            // A host with too many waits answers early. The pause keeps this client from asking it
            // again at once.
            clock::sleep(left.min(ASK_AGAIN)).await;
        }
    }

    async fn wait_once(
        &self,
        task: &str,
        limit: Duration,
        waiter: Option<&str>,
    ) -> Result<TaskView, ClientError> {
        let timeout_ms = u64::try_from(limit.as_millis()).ok();
        let query = WaitQuery {
            timeout_ms,
            waiter: waiter.map(str::to_owned),
        };
        let path = address::with_query(address::task(task, "/wait")?, &query)?;
        self.ask(Ask::get(path).of_host()).await
    }

    pub(in crate::api) async fn cancel(
        &self,
        task: &str,
        reason: Option<String>,
    ) -> Result<Cancelled, ClientError> {
        self.ask(
            Ask::post(address::task(task, "/cancel")?, &CancelBody { reason })?.repeatable_if(true),
        )
        .await
    }

    pub(in crate::api) async fn retry(
        &self,
        task: &str,
        options: &RetryOptions,
    ) -> Result<Retried, ClientError> {
        self.ask(Ask::post(address::task(task, "/retry")?, options)?.of_work())
            .await
    }

    pub(in crate::api) async fn resume(
        &self,
        task: &str,
        options: &ResumeOptions,
    ) -> Result<Retried, ClientError> {
        self.ask(Ask::post(address::task(task, "/resume")?, options)?.of_work())
            .await
    }

    pub(in crate::api) async fn checkpoint(
        &self,
        task: &str,
        query: CheckpointQuery,
    ) -> Result<CheckpointView, ClientError> {
        self.ask(Ask::get(address::with_query(
            address::task(task, "/checkpoint")?,
            &query,
        )?))
        .await
    }

    /// The last lines of both streams, as items to draw.
    pub(in crate::api) async fn log_end(
        &self,
        task: &str,
        query: EndQuery,
    ) -> Result<LogEnd, ClientError> {
        let path = address::task(task, "/end")?;
        self.ask(Ask::get(address::with_query(path, &query)?)).await
    }

    pub(in crate::api) async fn log_lines(
        &self,
        task: &str,
        tail: u64,
    ) -> Result<LogLines, ClientError> {
        let query = LinesQuery { tail: Some(tail) };
        self.ask(Ask::get(address::with_query(
            address::task(task, "/lines")?,
            &query,
        )?))
        .await
    }

    pub(in crate::api) async fn graph(&self, query: &GraphQuery) -> Result<Graph, ClientError> {
        self.ask(Ask::post("/v1/graph".to_owned(), query)?.reading())
            .await
    }

    pub(in crate::api) async fn plugins(
        &self,
        refresh: bool,
    ) -> Result<Vec<PluginView>, ClientError> {
        let query = PluginsQuery { refresh };
        let path = address::with_query("/v1/plugins".to_owned(), &query)?;
        self.ask_of_plugins(Ask::get(path)).await
    }

    pub(in crate::api) async fn plugin(&self, name: &str) -> Result<PluginDetail, ClientError> {
        self.ask_of_plugins(Ask::get(address::plugin(name)?)).await
    }

    /// Asks a host, because only a host compiles plugins. If none can start with the settings, this
    /// process answers as far as it can, because the request changes nothing.
    async fn ask_of_plugins<T: DeserializeOwned>(&self, ask: Ask) -> Result<T, ClientError> {
        let asked = self.ask(ask.clone().of_host());
        match self.unless_compiler_is_stopped(asked).await {
            Err(ClientError::Refused(error)) if error.kind == ErrorKind::Invalid => {
                self.ask(ask).await
            }
            answer => answer,
        }
    }

    pub(in crate::api) async fn cost(&self, query: &CostQuery) -> Result<CostView, ClientError> {
        self.ask(Ask::get(address::with_query("/v1/cost".to_owned(), query)?))
            .await
    }

    pub(in crate::api) async fn capacity(&self) -> Result<CapacityView, ClientError> {
        self.ask(Ask::get("/v1/capacity".to_owned())).await
    }

    pub(in crate::api) async fn set_slots(
        &self,
        slots: String,
    ) -> Result<CapacityView, ClientError> {
        let asked = SetSlots { slots };
        let ask = Ask::post("/v1/capacity/slots".to_owned(), &asked)?.shown_by(CAPACITY);
        self.ask(ask.repeatable_if(true)).await
    }

    pub(in crate::api) async fn forget_profiles(
        &self,
        executor: String,
    ) -> Result<CapacityView, ClientError> {
        let asked = ForgetProfiles { executor };
        let ask = Ask::post("/v1/capacity/forget".to_owned(), &asked)?;
        self.ask(ask.shown_by(CAPACITY)).await
    }

    pub(in crate::api) async fn info(&self) -> Result<HostInfo, ClientError> {
        self.ask(Ask::get("/v1/host".to_owned()).of_host()).await
    }

    pub(in crate::api) async fn settings(&self) -> Result<Vec<config::Shown>, ClientError> {
        self.ask(Ask::get("/v1/host/settings".to_owned())).await
    }

    /// Returns an error if this process may not read the environments of tasks.
    pub(in crate::api) async fn may_read_environments(&self) -> Result<(), ClientError> {
        let asked = Ask::get("/v1/host/environments".to_owned());
        let _: bool = self.ask(asked).await?;
        Ok(())
    }

    /// Starts a host if none runs. Also returns whether a host was started.
    pub(in crate::api) async fn reach(&self) -> Result<(HostInfo, bool), ClientError> {
        let (_, started) = self.start().connect().await?;
        Ok((self.info().await?, started))
    }

    /// Starts a host if none runs, and lifts a drain. Also returns whether a host was started.
    pub(in crate::api) async fn up(&self) -> Result<(UpView, bool), ClientError> {
        let (host, started) = self.reach().await?;
        // Hosts of earlier versions cannot lift a drain, but report whether they drain.
        if !host.draining {
            return Ok((
                UpView {
                    lifted: false,
                    host,
                },
                started,
            ));
        }
        let up = self
            .ask(Ask::post("/v1/host/up".to_owned(), &())?.repeatable_if(true))
            .await?;
        Ok((up, started))
    }

    /// Shuts the host down and returns its last state. Has no time limit, because running tasks may
    /// have to end first.
    pub(in crate::api) async fn down(&self, mode: DownMode) -> Result<HostInfo, ClientError> {
        // A repeated request joins the shutdown in progress, so repeating it does no harm.
        let ask = Ask::post("/v1/host/down".to_owned(), &DownBody { mode })?;
        self.ask(ask.patient().repeatable_if(true)).await
    }
}
