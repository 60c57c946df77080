//! `/v1/events`: what has happened, and what happens.

use axum::{extract::State, response::Response};

use super::{
    Shared,
    answer::{Asked, Refusal},
    frame::Frame,
    stream,
};
use crate::app::EventQuery;

pub(super) async fn stream(
    State(shared): State<Shared>,
    Asked(query): Asked<EventQuery>,
) -> Result<Response, Refusal> {
    let events = shared.host.events(query).await?;
    Ok(stream::answer(events, shared.going_down, Frame::Event))
}
