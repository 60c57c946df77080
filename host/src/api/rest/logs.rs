//! `/v1/tasks/{ref}/logs`, `/lines` and `/end`: the output of a task, as bytes or items for
//! display, and as text for reading.

use axum::{extract::State, response::Response};
use serde::{Deserialize, Serialize};

use super::{
    Shared,
    answer::{Asked, Refusal},
    frame::Frame,
    meant::NamedTask,
    pages::Cut,
    stream,
};
use crate::app::{EndQuery, LogQuery};

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
    let lines = Box::pin(shared.host.log_lines(&task, tail));
    shared.pages.output(&cut, lines).await
}

pub(super) async fn end(
    State(shared): State<Shared>,
    NamedTask(task): NamedTask,
    cut: Cut,
    Asked(query): Asked<EndQuery>,
) -> Result<Response, Refusal> {
    let end = Box::pin(shared.host.log_end(&task, query));
    shared.pages.output(&cut, end).await
}
