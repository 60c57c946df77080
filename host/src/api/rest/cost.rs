//! `/v1/cost`: costs of tasks.

use axum::{extract::State, response::Response};

use super::{
    Shared,
    answer::{Asked, Refusal},
    caller::Sender,
    pages::Cut,
};
use crate::app::CostQuery;

pub(super) async fn show(
    State(shared): State<Shared>,
    sender: Sender,
    cut: Cut,
    Asked(query): Asked<CostQuery>,
) -> Result<Response, Refusal> {
    let query = sender.meant(&shared, query).await?;
    let host = shared.host.clone();
    let cost = async move { host.cost(query).await };
    shared.pages.rows(&cut, cost).await
}
