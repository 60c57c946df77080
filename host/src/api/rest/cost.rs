//! `/v1/cost`: costs of tasks.

use axum::extract::State;

use super::{
    Shared,
    answer::{Answered, Asked, ok},
};
use crate::app::{CostQuery, CostView};

pub(super) async fn show(
    State(shared): State<Shared>,
    Asked(query): Asked<CostQuery>,
) -> Answered<CostView> {
    ok(shared.host.cost(query).await?)
}
