//! `/v1/tasks/{ref}/logs`, `/lines` and `/end`: the output of a task, as bytes or items for
//! display, and as text for reading.

use axum::{
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};

use super::{
    Shared,
    answer::{Answer, Asked, Refusal},
    frame::Frame,
    meant::NamedTask,
    pages::Cut,
    stream,
};
use crate::app::{EndQuery, LogQuery, Reach};

const DEFAULT_LINES: u64 = 100;

#[derive(Clone, Copy, Default, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LinesQuery {
    #[serde(default)]
    pub(crate) tail: Option<u64>,
}

pub(super) async fn stream(
    State(shared): State<Shared>,
    NamedTask(task): NamedTask,
    Asked(query): Asked<LogQuery>,
) -> Result<Response, Refusal> {
    let visit = shared.places.visit(query.follow).await?;
    let pieces = shared.host.logs(&task, query).await?;
    let going_down = shared.going_down;
    Ok(stream::answer(pieces, going_down, visit, Frame::Piece))
}

pub(super) async fn lines(
    State(shared): State<Shared>,
    NamedTask(task): NamedTask,
    cut: Cut,
    Asked(query): Asked<LinesQuery>,
) -> Result<Response, Refusal> {
    let tail = query.tail.unwrap_or(DEFAULT_LINES);
    let host = shared.host;
    let lines = move |reach: Reach| -> BoxFuture<'static, _> {
        let (host, task) = (host.clone(), task.clone());
        Box::pin(async move { host.log_lines(&task, tail, reach).await })
    };
    shared.pages.output(&cut, lines).await
}

pub(super) async fn end(
    State(shared): State<Shared>,
    NamedTask(task): NamedTask,
    cut: Cut,
    Asked(query): Asked<EndQuery>,
) -> Result<Response, Refusal> {
    let host = shared.host;
    if let Some(end) = host.no_log_end(&task).await? {
        return Ok(Answer(StatusCode::OK, end).into_response());
    }
    let end = move |reach: Reach| -> BoxFuture<'static, _> {
        let (host, task) = (host.clone(), task.clone());
        Box::pin(async move { host.log_end(&task, query, reach).await })
    };
    shared.pages.output(&cut, end).await
}
