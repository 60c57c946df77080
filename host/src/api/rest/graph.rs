//! `/v1/graph`: tasks and their dependencies. The ids are in the body, because there may be many.

use axum::{extract::State, response::Response};

use super::{Shared, answer::Refusal, body::Body, caller::Sender, pages::Cut};
use crate::app::GraphQuery;

pub(super) async fn graph(
    State(shared): State<Shared>,
    sender: Sender,
    cut: Cut,
    Body(query): Body<GraphQuery>,
) -> Result<Response, Refusal> {
    let query = sender.meant(&shared, query).await?;
    let host = shared.host.clone();
    let graph = async move { host.graph(query).await };
    shared.pages.rows(&cut, graph).await
}
