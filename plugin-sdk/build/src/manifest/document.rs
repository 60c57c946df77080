//! The manifest as parsed, before its values are checked.

use serde::Deserialize;

use super::{Class, Kind, StopSignal};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Document {
    pub(super) kind: Kind,
    pub(super) name: String,
    pub(super) version: String,
    pub(super) wit: String,
    pub(super) summary: String,
    #[serde(default)]
    pub(super) class: Class,
    pub(super) idle_timeout_ms: Option<u64>,
    pub(super) start_timeout_ms: Option<u64>,
    #[serde(default)]
    pub(super) serial_start: bool,
    #[serde(default)]
    pub(super) standby: bool,
    #[serde(default)]
    pub(super) reads_env: Vec<String>,
    #[serde(default)]
    pub(super) stop: Vec<Stop>,
    pub(super) account: Option<Account>,
    #[serde(default)]
    pub(super) permissions: Permissions,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Stop {
    pub(super) signal: StopSignal,
    pub(super) wait_ms: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Account {
    pub(super) directory_variable: String,
    pub(super) default_directory: String,
    #[serde(default)]
    pub(super) credentials: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Permissions {
    pub(super) process: Option<Process>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Process {
    pub(super) commands: Vec<String>,
    pub(super) why: String,
}
