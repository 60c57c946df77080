//! `/v1/tasks/{ref}/logs`, `/lines` and `/end`: the output of a task, as bytes or items for
//! display, and as text for reading.

use axum::{extract::State, response::Response};
use serde::{Deserialize, Serialize};

use super::{
    Shared,
    answer::{Answered, Asked, Refusal, ok},
    frame::Frame,
    meant::NamedTask,
    stream,
};
use crate::app::{EndQuery, LogEnd, LogLines, LogQuery};

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
    let stay = shared.places.stay_or_refuse().await?;
    let pieces = shared.host.logs(&task, query).await?;
    let going_down = shared.going_down;
    Ok(stream::answer(pieces, going_down, stay, Frame::Piece))
}

pub(super) async fn lines(
    State(shared): State<Shared>,
    NamedTask(task): NamedTask,
    Asked(query): Asked<LinesQuery>,
) -> Answered<LogLines> {
    ok(shared
        .host
        .log_lines(&task, query.tail.unwrap_or(DEFAULT_LINES))
        .await?)
}

pub(super) async fn end(
    State(shared): State<Shared>,
    NamedTask(task): NamedTask,
    Asked(query): Asked<EndQuery>,
) -> Answered<LogEnd> {
    ok(shared.host.log_end(&task, query).await?)
}
