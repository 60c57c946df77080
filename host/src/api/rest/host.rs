//! `/v1/host`: the host itself.

use axum::extract::State;
use serde::{Deserialize, Serialize};

use super::{
    Shared,
    answer::{Answered, ok},
    body::Body,
    caller::By,
};
use crate::{
    app::{DownMode, HostInfo},
    config,
};

#[derive(Clone, Copy, Default, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DownBody {
    #[serde(default)]
    pub(crate) mode: DownMode,
}

/// The host, and whether a drain was lifted.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct UpView {
    pub(crate) lifted: bool,
    pub(crate) host: HostInfo,
}

pub(super) async fn info(State(shared): State<Shared>) -> Answered<HostInfo> {
    ok(shared.host.info().await)
}

/// Returns the settings that the host was started with.
pub(super) async fn settings(State(shared): State<Shared>) -> Answered<Vec<config::Shown>> {
    ok(shared.host.settings())
}

/// Returns `true` if the caller may read the environments of tasks. They are in no answer, but a
/// command can put them into a backup.
pub(super) async fn environments(State(shared): State<Shared>, By(by): By) -> Answered<bool> {
    shared.host.may_read_environments(&by)?;
    ok(true)
}

/// Lifts a drain and returns the host's state.
pub(super) async fn up(State(shared): State<Shared>, By(by): By) -> Answered<UpView> {
    let lifted = shared.host.stay_up(&by).await?;
    ok(UpView {
        lifted,
        host: shared.host.info().await,
    })
}

/// Shuts the host down. Answers when the shutdown begins or, with `drain` or `kill`, when the last
/// attempt has ended.
pub(super) async fn down(
    State(shared): State<Shared>,
    By(by): By,
    Body(body): Body<DownBody>,
) -> Answered<HostInfo> {
    let info = shared.host.info().await;
    shared.host.go_down(&by, body.mode).await?;
    ok(info)
}
