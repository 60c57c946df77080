//! `/v1/graph`: tasks and what waits for what. The tasks are in the body, since there may be many.

use axum::extract::State;

use super::{
    Shared,
    answer::{Answered, Body, ok},
};
use crate::app::{GraphQuery, graph::Graph};

pub(super) async fn graph(
    State(shared): State<Shared>,
    Body(query): Body<GraphQuery>,
) -> Answered<Graph> {
    ok(shared.host.graph(query).await?)
}
