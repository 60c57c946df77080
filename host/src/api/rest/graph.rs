//! `/v1/graph`: tasks and their dependencies. The ids are in the body, because there may be many.

use axum::extract::State;

use super::{
    Shared,
    answer::{Answered, ok},
    body::Body,
    caller::Sender,
};
use crate::app::{GraphQuery, graph::Graph};

pub(super) async fn graph(
    State(shared): State<Shared>,
    sender: Sender,
    Body(query): Body<GraphQuery>,
) -> Answered<Graph> {
    let query = sender.meant(&shared, query).await?;
    ok(shared.host.graph(query).await?)
}
