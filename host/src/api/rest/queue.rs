//! `/v1/queue`: the queue as a whole.

use axum::extract::State;

use super::{
    Shared,
    answer::{Answered, ok},
    body::Body,
    caller::By,
};
use crate::app::{PauseQueue, QueuePaused};

pub(super) async fn pause(
    State(shared): State<Shared>,
    By(by): By,
    Body(asked): Body<PauseQueue>,
) -> Answered<QueuePaused> {
    ok(shared.host.pause_queue(&by, asked).await?)
}
