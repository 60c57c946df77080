//! Answers about plugins.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct PluginView {
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) version: String,
    pub(crate) summary: String,
    /// `built-in`, or the path from which the plugin was installed.
    pub(crate) origin: String,
    pub(crate) digest: String,
    /// `healthy`, `needs_grant`, `unhealthy`, `undetected`, `broken`.
    pub(crate) health: String,
    pub(crate) message: String,
    /// A problem that limits the plugin, with advice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) warning: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct PluginDetail {
    #[serde(flatten)]
    pub(crate) plugin: PluginView,
    /// Imports of the component; the component can do nothing beyond these.
    pub(crate) imports: Vec<String>,
    /// Permissions requested by the plugin's manifest, with reasons.
    pub(crate) asks: Vec<PermissionView>,
    /// Granted permissions.
    pub(crate) grants: Vec<PermissionView>,
    pub(crate) task_schema: serde_json::Value,
    /// Schema of the plugin's table in the configuration file.
    pub(crate) config_schema: serde_json::Value,
    pub(crate) attributes: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct PermissionView {
    pub(crate) kind: String,
    pub(crate) scope: String,
    pub(crate) why: String,
    /// Effective power of the permission, in plain words.
    pub(crate) worth: String,
}
