//! What can be asked of the host, typed. Entry points parse into these; whether they make sense is checked in one place, `app`.

use std::{collections::BTreeMap, path::PathBuf};

use claudine_domain::{id::TaskId, task::Priority};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

pub(crate) use crate::environment::Environment;

/// A task to be taken on. Everything but the executor's document has a default.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Delegate {
    pub(crate) executor: String,
    /// The document for the executor, as its schema has it: `{"prompt": …}`, `{"argv": […]}`, …
    pub(crate) spec: Box<RawValue>,
    #[serde(default)]
    pub(crate) name: Option<String>,
    #[serde(default)]
    pub(crate) priority: Priority,
    /// Absolute. Clients make it so before they ask: the host has no directory of its own to be relative to.
    pub(crate) working_directory: PathBuf,
    #[serde(default)]
    pub(crate) timeout_ms: Option<u64>,
    #[serde(default)]
    pub(crate) idle_timeout_ms: Option<u64>,
    #[serde(default)]
    pub(crate) max_output_bytes: Option<u64>,
    #[serde(default)]
    pub(crate) labels: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) group: Option<String>,
    #[serde(default)]
    pub(crate) idempotency_key: Option<String>,
    /// A detached task is not cancelled with the task it was submitted from.
    #[serde(default)]
    pub(crate) detached: bool,
    pub(crate) environment: Environment,
    /// Who asks: decides which ceilings apply.
    #[serde(default)]
    pub(crate) origin: Origin,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Origin {
    #[default]
    Cli,
    /// `mcp.executors` and `mcp.max_permission_mode` apply.
    Mcp,
}

/// A task as a person names it: an id, a unique prefix of one, or a name.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct TaskRef(pub(crate) String);

/// Which tasks to list, newest first.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListFilter {
    /// `waiting`, `ready`, `running`, `done`, or an outcome.
    #[serde(default)]
    pub(crate) state: Option<String>,
    #[serde(default)]
    pub(crate) name: Option<String>,
    #[serde(default)]
    pub(crate) executor: Option<String>,
    /// `key=value`
    #[serde(default)]
    pub(crate) label: Option<String>,
    #[serde(default)]
    pub(crate) parent: Option<TaskId>,
    /// Only tasks older than this one: the last id of the page before.
    #[serde(default)]
    pub(crate) before: Option<TaskId>,
    /// At most 1,000; 100 where it is not given.
    #[serde(default)]
    pub(crate) limit: Option<u32>,
}

/// Which part of a task's output.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LogQuery {
    /// `stdout` or `stderr`; both, as they were read, where it is not given.
    #[serde(default)]
    pub(crate) stream: Option<String>,
    /// The last attempt where it is not given. One that has not begun is waited for with `follow`; without, a task that has none yet has
    /// no output.
    #[serde(default)]
    pub(crate) attempt: Option<u32>,
    /// Only the last so many lines.
    #[serde(default)]
    pub(crate) tail: Option<u64>,
    /// From this byte of the chosen sequence on: where a reader takes up again. Not together with `tail`.
    #[serde(default)]
    pub(crate) offset: Option<u64>,
    /// Only what was written at or after this time, in milliseconds since 1970. Not together with `tail` or `offset`.
    #[serde(default)]
    pub(crate) since_ms: Option<u64>,
    /// Go on as output comes, through later attempts, until the task has ended.
    #[serde(default)]
    pub(crate) follow: bool,
}

/// How the host goes down.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum DownMode {
    /// Attempts run on under their supervisor.
    #[default]
    Leave,
    /// Nothing new starts; waits until the last attempt has ended.
    Drain,
    /// Attempts are cancelled first.
    Kill,
}
