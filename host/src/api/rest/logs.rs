//! `/v1/tasks/{ref}/logs` and `/lines`: a task's output, as bytes for those who show it and as text for those who read it.

use super::{
    GoingDown, Shared,
    answer::{Answered, Asked, Refusal, ok},
    frame::{self, Frame},
    tasks,
};
use crate::app::{LogLines, LogQuery, LogStream, TaskRef};
use axum::{
    body::Body as Outgoing,
    extract::{Path, State},
    http::header::CONTENT_TYPE,
    response::{IntoResponse, Response},
};
use futures_util::stream;
use hyper::body::Bytes;
use serde::{Deserialize, Serialize};

const DEFAULT_LINES: u64 = 100;

#[derive(Clone, Copy, Default, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LinesQuery {
    #[serde(default)]
    pub(crate) tail: Option<u64>,
}

/// What is left to send.
enum Rest {
    Pieces(LogStream, GoingDown),
    Nothing,
}

/// Nothing is read ahead: the next piece is asked for when the one before it has been taken off our hands.
pub(super) async fn stream(
    State(shared): State<Shared>,
    Path(task): Path<String>,
    Asked(query): Asked<LogQuery>,
) -> Result<Response, Refusal> {
    let pieces = shared.host.logs(&TaskRef(task), query).await?;
    let frames = stream::unfold(
        Rest::Pieces(pieces, shared.going_down),
        async |rest| match rest {
            Rest::Nothing => None,
            Rest::Pieces(mut pieces, going_down) => {
                let next = tokio::select! {
                    biased;
                    next = pieces.recv() => next,
                    () = going_down.wait() => Some(Err(tasks::going_down())),
                };
                let (frame, rest) = match next {
                    Some(Ok(piece)) => (Frame::Piece(piece), Rest::Pieces(pieces, going_down)),
                    Some(Err(error)) => (Frame::Error(error), Rest::Nothing),
                    None => (Frame::End, Rest::Nothing),
                };
                Some((
                    Ok::<_, std::convert::Infallible>(Bytes::from(frame.encode())),
                    rest,
                ))
            }
        },
    );
    Ok((
        [(CONTENT_TYPE, frame::CONTENT_TYPE)],
        Outgoing::from_stream(frames),
    )
        .into_response())
}

pub(super) async fn lines(
    State(shared): State<Shared>,
    Path(task): Path<String>,
    Asked(query): Asked<LinesQuery>,
) -> Answered<LogLines> {
    ok(shared
        .host
        .log_lines(&TaskRef(task), query.tail.unwrap_or(DEFAULT_LINES))
        .await?)
}
