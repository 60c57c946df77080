//! `/v1/host`: the host itself.

use axum::extract::State;
use serde::{Deserialize, Serialize};

use super::{
    Shared,
    answer::{Answered, Body, ok},
    caller::By,
};
use crate::app::{DownMode, HostInfo};

#[derive(Clone, Copy, Default, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DownBody {
    #[serde(default)]
    pub(crate) mode: DownMode,
}

pub(super) async fn info(State(shared): State<Shared>) -> Answered<HostInfo> {
    ok(shared.host.info())
}

/// Answers when the host is on its way: with `drain` and `kill` that is when the last attempt has ended.
pub(super) async fn down(
    State(shared): State<Shared>,
    By(by): By,
    Body(body): Body<DownBody>,
) -> Answered<HostInfo> {
    let info = shared.host.info();
    shared.host.go_down(&by, body.mode).await?;
    ok(info)
}
