//! An answer as a stream of frames, with an explicit end.

use axum::{
    body::Body as Outgoing,
    http::header::CONTENT_TYPE,
    response::{IntoResponse, Response},
};
use futures_util::stream;
use hyper::body::Bytes;
use tokio::sync::mpsc;

use super::{
    GoingDown,
    frame::{self, Frame},
    places::{Visit, no_place},
    tasks,
};
use crate::app::AppError;

/// The part of the stream that is still to be sent.
enum Rest<T> {
    Pieces(mpsc::Receiver<Result<T, AppError>>, GoingDown, Visit),
    Nothing,
}

/// Sends the pieces as frames, and releases the place of `visit` at the end. Nothing is read ahead,
/// because the next piece is taken only when the connection has accepted the previous piece.
pub(super) fn answer<T: Send + 'static>(
    pieces: mpsc::Receiver<Result<T, AppError>>,
    going_down: GoingDown,
    visit: Visit,
    frame: fn(T) -> Frame,
) -> Response {
    let frames = stream::unfold(
        Rest::Pieces(pieces, going_down, visit),
        move |rest| async move {
            match rest {
                Rest::Nothing => None,
                Rest::Pieces(mut pieces, going_down, mut visit) => {
                    let next = tokio::select! {
                        biased;
                        () = visit.is_over() => Some(Err(no_place())),
                        next = pieces.recv() => next,
                        () = going_down.wait() => Some(Err(tasks::going_down())),
                    };
                    let (frame, rest) = match next {
                        Some(Ok(piece)) => {
                            visit.note_piece();
                            (frame(piece), Rest::Pieces(pieces, going_down, visit))
                        }
                        Some(Err(error)) => (Frame::Error(error), Rest::Nothing),
                        None => (Frame::End, Rest::Nothing),
                    };
                    Some((
                        Ok::<_, std::convert::Infallible>(Bytes::from(frame.encode())),
                        rest,
                    ))
                }
            }
        },
    );
    (
        [(CONTENT_TYPE, frame::CONTENT_TYPE)],
        Outgoing::from_stream(frames),
    )
        .into_response()
}
