//! `/v1/tasks`: submits, shows, awaits, cancels and retries tasks.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};

use super::{
    Shared,
    answer::{Answer, Answered, Asked, Refusal, ok},
    body::Body,
    caller::{By, Sender},
    meant::NamedTask,
    pages::{Acting, Cut},
};
use crate::app::{
    Action, AppError, Cancelled, Changed, CheckpointQuery, ErrorKind, ListFilter, Reach,
    ResumeOptions, Retried, RetryOptions, Submit, Submitted, TaskActions, TaskRef, TaskView, Why,
    graph::Graph, waiting_attempt,
};

/// Time limit of one wait, after which clients ask again. It is below a minute, because proxies and
/// MCP clients give up after a minute without an answer.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_secs(50);

/// Number of named tasks up to which an action needs no turn, because its results take no more
/// memory than the buffer of a connection.
const FEW_TASKS: usize = 100;

/// Options of a wait.
#[derive(Clone, Default, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WaitQuery {
    #[serde(default)]
    pub(crate) timeout_ms: Option<u64>,
    /// The attempt inside which the caller waits. The attempt's slot is free while the caller waits
    /// for descendants of the attempt. Ignored if the caller is known to be outside of its task.
    #[serde(default)]
    pub(crate) waiter: Option<String>,
}

#[derive(Clone, Default, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CancelBody {
    #[serde(default)]
    pub(crate) reason: Option<String>,
}

pub(super) async fn submit(
    State(shared): State<Shared>,
    By(by): By,
    Body(request): Body<Submit>,
) -> Answered<Submitted> {
    // Boxed, because the server moves a handler's future several times.
    let submitted = Box::pin(shared.host.submit(&by, request)).await?;
    let status = if submitted.tasks.iter().all(|task| task.existing) {
        StatusCode::OK
    } else {
        StatusCode::CREATED
    };
    Ok(Answer(status, submitted))
}

/// Shows the tasks as a graph without submitting them.
pub(super) async fn plan(
    State(shared): State<Shared>,
    By(by): By,
    Body(request): Body<Submit>,
) -> Answered<Graph> {
    ok(shared.host.plan(&by, request).await?)
}

pub(super) async fn list(
    State(shared): State<Shared>,
    sender: Sender,
    cut: Cut,
    Asked(filter): Asked<ListFilter>,
) -> Result<Response, Refusal> {
    let filter = sender.meant(&shared, filter).await?;
    let host = shared.host.clone();
    let list = async move { host.list(filter).await };
    shared.pages.rows(&cut, list).await
}

pub(super) async fn status(
    State(shared): State<Shared>,
    NamedTask(task): NamedTask,
) -> Answered<TaskView> {
    ok(shared.host.status(&task).await?)
}

pub(super) async fn why(
    State(shared): State<Shared>,
    By(by): By,
    NamedTask(task): NamedTask,
) -> Answered<Why> {
    ok(shared.host.why(&by, &task).await?)
}

/// Ends when the caller disconnects, because the disconnect drops this future.
pub(super) async fn wait(
    State(shared): State<Shared>,
    sender: Sender,
    NamedTask(task): NamedTask,
    Asked(query): Asked<WaitQuery>,
) -> Answered<TaskView> {
    let limit = query
        .timeout_ms
        .map_or(LONGEST_WAIT, Duration::from_millis)
        .min(LONGEST_WAIT);
    let waiter = match &query.waiter {
        Some(marker) => waiting_attempt(&sender.principal(&shared).await?, marker),
        None => None,
    };
    let stay = shared.places.stay();
    let has_to_end = async {
        match &stay {
            Some(_) => std::future::pending().await,
            None => shared.places.has_to_end().await,
        }
    };
    tokio::select! {
        view = Box::pin(shared.host.wait(&task, limit, waiter)) => ok(view?),
        // Without a place for a long stay, the answer comes early, with the task's current state,
        // and the client asks again.
        () = has_to_end => ok(Box::pin(shared.host.status(&task)).await?),
        () = shared.going_down.wait() => Err(Refusal(going_down())),
    }
}

pub(super) async fn cancel(
    State(shared): State<Shared>,
    By(by): By,
    NamedTask(task): NamedTask,
    Body(body): Body<CancelBody>,
) -> Answered<Cancelled> {
    ok(shared.host.cancel(&by, &task, body.reason).await?)
}

pub(super) async fn retry(
    State(shared): State<Shared>,
    By(by): By,
    NamedTask(task): NamedTask,
    Body(options): Body<RetryOptions>,
) -> Answered<Retried> {
    ok(shared.host.retry(&by, &task, options).await?)
}

pub(super) async fn resume(
    State(shared): State<Shared>,
    By(by): By,
    NamedTask(task): NamedTask,
    Body(options): Body<ResumeOptions>,
) -> Answered<Retried> {
    ok(shared.host.resume(&by, &task, options).await?)
}

pub(super) async fn checkpoint(
    State(shared): State<Shared>,
    NamedTask(task): NamedTask,
    cut: Cut,
    Asked(query): Asked<CheckpointQuery>,
) -> Result<Response, Refusal> {
    let host = shared.host;
    let checkpoint = move |reach: Reach| -> BoxFuture<'static, _> {
        let (host, task) = (host.clone(), task.clone());
        Box::pin(async move { host.checkpoint(&task, query, reach).await })
    };
    shared.pages.output(&cut, checkpoint).await
}

/// Body of a request to hold or release a task.
#[derive(Clone, Default, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HoldBody {
    /// Whether to include all tasks of the task's graph.
    #[serde(default)]
    pub(crate) graph: bool,
}

pub(super) async fn hold(
    State(shared): State<Shared>,
    By(by): By,
    NamedTask(task): NamedTask,
    Body(body): Body<HoldBody>,
) -> Answered<Changed> {
    ok(shared.host.hold(&by, task, body.graph).await?)
}

pub(super) async fn release(
    State(shared): State<Shared>,
    By(by): By,
    NamedTask(task): NamedTask,
    Body(body): Body<HoldBody>,
) -> Answered<Changed> {
    ok(shared.host.release(&by, task, body.graph).await?)
}

pub(super) async fn act(
    State(shared): State<Shared>,
    sender: Sender,
    cut: Cut,
    Body(asked): Body<TaskActions>,
) -> Result<Response, Refusal> {
    let by = Arc::new(sender.principal(&shared).await?);
    let asked = sender.meant(&shared, asked).await?;
    let host = shared.host.clone();
    // A dry run reads as many tasks as a list, and can be repeated as often.
    if asked.dry_run {
        let found = async move { host.act(&by, asked).await };
        return Box::pin(shared.pages.rows(&cut, found)).await;
    }
    if asked.filter.is_none() && asked.ids.len() <= FEW_TASKS {
        let acted = host.act(&by, asked).await?;
        return Ok(Answer(StatusCode::OK, acted).into_response());
    }
    let who = Acting {
        is_restrained: by.restrained,
        is_long: matches!(asked.action, Action::Retry | Action::Resume),
    };
    let going_down = shared.going_down.clone();
    let host_ends = async move { going_down.wait().await };
    let acting = Box::pin(async move { host.act(&by, asked).await });
    Box::pin(shared.pages.acted(&cut, who, host_ends, acting)).await
}

/// Shows a task named `actions`. It needs a handler of its own, because its path is also the path
/// to which actions on several tasks are posted.
pub(super) async fn status_of_actions(State(shared): State<Shared>) -> Answered<TaskView> {
    ok(shared.host.status(&TaskRef("actions".to_owned())).await?)
}

pub(super) async fn release_restored(
    State(shared): State<Shared>,
    By(by): By,
) -> Answered<Changed> {
    ok(shared.host.release_restored(&by).await?)
}

pub(super) fn going_down() -> AppError {
    AppError::new(ErrorKind::Unavailable, "the host went down")
        .hint("running tasks continue under their supervisor; the next command starts a host again")
}
