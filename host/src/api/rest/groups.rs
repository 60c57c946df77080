//! `/v1/groups`: groups of tasks with a limit.

use axum::extract::State;

use super::{
    Shared,
    answer::{Answered, Named, ok},
    body::Body,
    caller::By,
};
use crate::app::{GroupChange, GroupView};

pub(super) async fn list(State(shared): State<Shared>) -> Answered<Vec<GroupView>> {
    ok(shared.host.groups().await?)
}

pub(super) async fn set(
    State(shared): State<Shared>,
    By(by): By,
    Named(name): Named,
    Body(change): Body<GroupChange>,
) -> Answered<GroupView> {
    ok(shared.host.set_group(&by, &name, change).await?)
}

/// Removes a group and returns its last state.
pub(super) async fn remove(
    State(shared): State<Shared>,
    By(by): By,
    Named(name): Named,
) -> Answered<GroupView> {
    ok(shared.host.remove_group(&by, &name).await?)
}
