//! `/v1/capacity`: free capacity, and the limit of concurrent tasks.

use axum::extract::State;

use super::{
    Shared,
    answer::{Answered, ok},
    body::Body,
    caller::By,
};
use crate::app::{CapacityView, ForgetProfiles, SetSlots};

pub(super) async fn show(State(shared): State<Shared>) -> Answered<CapacityView> {
    ok(shared.host.capacity().await?)
}

pub(super) async fn set_slots(
    State(shared): State<Shared>,
    By(by): By,
    Body(asked): Body<SetSlots>,
) -> Answered<CapacityView> {
    ok(shared.host.set_slots(&by, &asked).await?)
}

pub(super) async fn forget(
    State(shared): State<Shared>,
    By(by): By,
    Body(asked): Body<ForgetProfiles>,
) -> Answered<CapacityView> {
    ok(shared.host.forget_profiles(&by, &asked).await?)
}
