//! `/v1/plugins`: the plugins and their permissions. Permissions cannot be granted here.

use axum::extract::State;
use serde::{Deserialize, Serialize};

use super::{
    Shared,
    answer::{Answered, Asked, Named, ok},
};
use crate::app::{PluginDetail, PluginView};

#[derive(Clone, Copy, Default, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PluginsQuery {
    /// Whether to run the health checks again instead of returning the last results.
    #[serde(default)]
    pub(crate) refresh: bool,
}

pub(super) async fn list(
    State(shared): State<Shared>,
    Asked(query): Asked<PluginsQuery>,
) -> Answered<Vec<PluginView>> {
    ok(shared.host.plugins(query.refresh).await)
}

pub(super) async fn inspect(
    State(shared): State<Shared>,
    Named(name): Named,
) -> Answered<PluginDetail> {
    ok(shared.host.plugin(&name).await?)
}
