//! `/v1/events`: past events, and new ones as they occur.

use axum::{extract::State, response::Response};

use super::{
    Shared,
    answer::{Asked, Refusal},
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
    Ok(stream::answer(events, going_down, visit, Frame::Event))
}
