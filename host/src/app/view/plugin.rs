//! What is answered of plugins.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct PluginView {
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) version: String,
    pub(crate) summary: String,
    /// `built-in` or the path it was installed from.
    pub(crate) origin: String,
    pub(crate) digest: String,
    /// `healthy`, `needs_grant`, `unhealthy`, `undetected`, `broken`.
    pub(crate) health: String,
    pub(crate) message: String,
    /// What works less well than it could, and the way out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) warning: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct PluginDetail {
    #[serde(flatten)]
    pub(crate) plugin: PluginView,
    /// What the component imports: the most it can ever do.
    pub(crate) imports: Vec<String>,
    /// What its manifest asks for, with its reasons.
    pub(crate) asks: Vec<PermissionView>,
    /// What was granted.
    pub(crate) grants: Vec<PermissionView>,
    pub(crate) task_schema: serde_json::Value,
    /// Of its table in the configuration file.
    pub(crate) config_schema: serde_json::Value,
    pub(crate) attributes: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct PermissionView {
    pub(crate) kind: String,
    pub(crate) scope: String,
    pub(crate) why: String,
    /// What it is worth, said plainly.
    pub(crate) worth: String,
}
