//! `/v1/events`: past events, and new ones as they occur.

use axum::{extract::State, http::HeaderValue, response::Response};

use super::{
    Shared,
    answer::{Asked, NOTE_HEADER, Refusal},
    caller::Sender,
    frame::Frame,
    stream,
};
use crate::app::EventQuery;

pub(super) async fn stream(
    State(shared): State<Shared>,
    sender: Sender,
    Asked(query): Asked<EventQuery>,
) -> Result<Response, Refusal> {
    let query = sender.meant(&shared, query).await?;
    let visit = shared.places.visit(query.follow).await?;
    let events = shared.host.events(query).await?;
    let going_down = shared.going_down;
    let mut answer = stream::answer(events.pieces, going_down, visit, Frame::Event);
    // In a header, because clients of other versions refuse frames that they do not know.
    if let Some(note) = events
        .note
        .and_then(|note| HeaderValue::try_from(note).ok())
    {
        answer.headers_mut().insert(NOTE_HEADER, note);
    }
    Ok(answer)
}
