//! `/v1/cost`: costs of tasks.

use axum::extract::State;

use super::{
    Shared,
    answer::{Answered, Asked, ok},
    caller::Sender,
};
use crate::app::{CostQuery, CostView};

pub(super) async fn show(
    State(shared): State<Shared>,
    sender: Sender,
    Asked(query): Asked<CostQuery>,
) -> Answered<CostView> {
    let query = sender.meant(&shared, query).await?;
    ok(shared.host.cost(query).await?)
}
