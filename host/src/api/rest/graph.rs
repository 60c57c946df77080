//! `/v1/graph`: tasks and their dependencies. The ids are in the body, because there may be many.

use axum::extract::State;

use super::{
    Shared,
    answer::{Answered, ok},
    body::Body,
};
use crate::app::{GraphQuery, graph::Graph};

pub(super) async fn graph(
    State(shared): State<Shared>,
    Body(query): Body<GraphQuery>,
) -> Answered<Graph> {
    ok(shared.host.graph(query).await?)
}
