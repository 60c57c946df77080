//! Typed requests to the host. Entry points parse requests into these types. The contents are
//! validated in one place, `app`.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use claudine_domain::{
    dependency::Condition,
    principal::{Principal, Via},
    task::Priority,
};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer},
};
use serde_json::value::RawValue;

pub(crate) use crate::{environment::Environment, worktree::Wish as WorktreeWish};

/// Tasks to submit, all or none.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Submit {
    pub(crate) environment: Environment,
    /// Origin as stated by MCP servers of earlier versions; later versions state the origin for
    /// each request.
    #[serde(default, skip_serializing_if = "Origin::is_cli")]
    pub(crate) origin: Origin,
    /// Name of the graph. If several graphs have the same name, the name means the newest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
    /// Budget in USD of all agents of the graph.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) budget_usd: Option<f64>,
    pub(crate) tasks: Vec<NewTask>,
}

/// A task to submit. Everything except executor, document and directory has a default.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewTask {
    pub(crate) executor: String,
    /// Document for the executor, according to its schema: `{"prompt": …}`, `{"argv": […]}`, …
    pub(crate) spec: Box<RawValue>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
    #[serde(default)]
    pub(crate) priority: Priority,
    /// An absolute path. Clients resolve relative paths, because the host runs in another
    /// directory.
    pub(crate) working_directory: PathBuf,
    /// Variables in addition to the variables of the request's environment.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) env: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) timeout_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) idle_timeout_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) start_timeout_ms: Option<u64>,
    /// Time limit of waiting in the queue while ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) queue_timeout_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) max_output_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) labels: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) group: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) idempotency_key: Option<String>,
    /// Do not cancel this task when the task that submits it is cancelled.
    #[serde(default)]
    pub(crate) detached: bool,
    /// Tasks to wait for. A name means a task of the same request or, if no task of the request has
    /// this name, an existing task.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) dependencies: Vec<DependencyRef>,
    /// Tasks whose output is passed on, at most 100. They must succeed first, unless `dependencies`
    /// sets another condition.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) with_output_of: Vec<TaskRef>,
    /// Hold the task until it is released.
    #[serde(default)]
    pub(crate) hold: bool,
    /// Minimum delay of the start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) after_ms: Option<u64>,
    /// Earliest start, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) start_at_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) retries: Option<Retries>,
    /// Budget in USD, over all attempts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) budget_usd: Option<f64>,
    /// Run the task in its own worktree.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) worktree: Option<WorktreeWish>,
    /// For agents: succeed even if tools were denied and the worktree has no changes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) allow_denied: bool,
}

/// A dependency, with the condition for the end of the other task. If only a name is given, the
/// other task must succeed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct DependencyRef {
    pub(crate) task: TaskRef,
    pub(crate) condition: Condition,
}

impl<'de> Deserialize<'de> for DependencyRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Whole {
            #[serde(alias = "taskId")]
            task: TaskRef,
            condition: Option<Condition>,
        }
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = DependencyRef;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a task, or {task, condition}")
            }

            fn visit_str<E: serde::de::Error>(self, task: &str) -> Result<DependencyRef, E> {
                Ok(DependencyRef {
                    task: TaskRef(task.to_owned()),
                    condition: Condition::Succeeded,
                })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<DependencyRef, A::Error> {
                let whole = Whole::deserialize(MapAccessDeserializer::new(map))?;
                Ok(DependencyRef {
                    task: whole.task,
                    condition: whole.condition.unwrap_or(Condition::Succeeded),
                })
            }
        }
        deserializer.deserialize_any(Either)
    }
}

/// Retries after failed attempts. The maximum delay grows by the factor after each attempt; the
/// actual delay is random between zero and this maximum.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Retries {
    /// Limit of further attempts.
    pub(crate) limit: u32,
    /// Classes of failures that are retried; by default all classes that can be retried, except
    /// `lost`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) on: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) initial_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) factor: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) max_ms: Option<u64>,
}

/// Options of a retry.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RetryOptions {
    /// Run all dependants again, instead of only those that could not run.
    #[serde(default)]
    pub(crate) downstream: bool,
    /// Start a task now if it waits for a time (for the end of a usage limit, for a delay, or for
    /// its start time).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) now: bool,
    #[serde(default, skip_serializing_if = "Change::is_none")]
    pub(crate) change: Change,
}

/// Changes that hold from the next attempt on. Missing fields are not changed.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Change {
    /// Fields to change in the executor's document; null removes a field.
    #[serde(skip_serializing_if = "serde_json::Map::is_empty")]
    pub(crate) spec: serde_json::Map<String, serde_json::Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) priority: Option<Priority>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) timeout_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) idle_timeout_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) start_timeout_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) queue_timeout_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) max_output_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) retries: Option<Retries>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) budget_usd: Option<f64>,
    /// Budget in USD of all agents of the task's graph.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) graph_budget_usd: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) allow_denied: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) group: Option<String>,
    /// Labels to add or replace.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) labels: BTreeMap<String, String>,
}

impl Change {
    pub(crate) fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// Options of a resumption.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ResumeOptions {
    /// New instructions, at most 1 MiB.
    #[serde(default)]
    pub(crate) context: String,
    #[serde(default, skip_serializing_if = "Change::is_none")]
    pub(crate) change: Change,
}

/// Selects a checkpoint of a task.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CheckpointQuery {
    /// Number of the attempt; by default the last finished one.
    #[serde(default)]
    pub(crate) attempt: Option<u32>,
}

/// Changes of a group. Missing fields are not changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct GroupChange {
    /// Limit of running tasks, at least 1; `unlimited` removes the limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) limit: Option<u32>,
    #[serde(default)]
    pub(crate) unlimited: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) paused: Option<bool>,
    /// Create the group if it does not exist.
    #[serde(default)]
    pub(crate) make: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Origin {
    #[default]
    Cli,
    Mcp,
}

impl Origin {
    #[allow(
        clippy::trivially_copy_pass_by_ref,
        reason = "serde passes a reference"
    )]
    fn is_cli(&self) -> bool {
        *self == Self::Cli
    }

    /// The principal of a request that states this origin.
    pub(super) fn principal(self, by: &Arc<Principal>) -> Arc<Principal> {
        match self {
            Self::Cli => by.clone(),
            Self::Mcp => Arc::new(Principal {
                via: Via::Mcp,
                restrained: true,
                ..Principal::clone(by)
            }),
        }
    }
}

/// A task as a person refers to it: an id, the end or the beginning of an id, a name, or a keyword
/// such as `@last`; see `store::reference`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct TaskRef(pub(crate) String);

/// Selects tasks that meet all given conditions. A list shows the newest task first.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListFilter {
    /// States, phases and outcomes as displayed, or `active`, `queued`, `done`. A task is selected
    /// if one of them matches.
    #[serde(
        default,
        deserialize_with = "one_or_several",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub(crate) state: Vec<String>,
    /// Name, in which `*` matches any number of characters, and `?` one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) executor: Option<String>,
    /// Labels as `key=value`; all of them must match.
    #[serde(
        default,
        deserialize_with = "one_or_several",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub(crate) label: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) group: Option<String>,
    /// Name of a graph, or one of its tasks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) graph: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) parent: Option<TaskRef>,
    /// Only tasks that are unfinished or ended at this time or later, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) since_ms: Option<u64>,
    /// Only tasks that ended before this time, or are unfinished and were submitted before this
    /// time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) until_ms: Option<u64>,
    /// Only tasks older than this task, which is the last one of the previous page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) before: Option<TaskRef>,
    /// Page size of a list, at most 1,000; 100 by default. In an overview: number of finished
    /// tasks, 20 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) limit: Option<u32>,
}

/// Reads a list of strings. A single string is read as a list of one, because a field may occur
/// once or several times in a query.
fn one_or_several<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    struct Either;
    impl<'de> Visitor<'de> for Either {
        type Value = Vec<String>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a string or a list of strings")
        }

        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Vec<String>, E> {
            Ok(vec![text.to_owned()])
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<String>, A::Error> {
            let mut texts = Vec::new();
            while let Some(text) = list.next_element()? {
                texts.push(text);
            }
            Ok(texts)
        }
    }
    deserializer.deserialize_any(Either)
}

/// Selects output of a task.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LogQuery {
    /// `stdout` or `stderr`; by default both, in the order in which they were read.
    #[serde(default)]
    pub(crate) stream: Option<String>,
    /// Number of the attempt; the last one by default. With `follow`, an attempt that has not begun
    /// is awaited; without `follow`, a task without attempts has no output.
    #[serde(default)]
    pub(crate) attempt: Option<u32>,
    /// Only this many last lines.
    #[serde(default)]
    pub(crate) tail: Option<u64>,
    /// Only bytes from this offset of the selected output, to continue an earlier read. Excludes
    /// `tail`.
    #[serde(default)]
    pub(crate) offset: Option<u64>,
    /// Only output since this time, in milliseconds since 1970. Excludes `tail` and `offset`.
    #[serde(default)]
    pub(crate) since_ms: Option<u64>,
    /// Follow the output, through later attempts, until the task has ended.
    #[serde(default)]
    pub(crate) follow: bool,
    /// For agents: items of the transcript instead of bytes. `tail` then counts lines of the
    /// transcript.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) transcript: bool,
    /// Offset in standard error at which to continue a transcript; `offset` is the offset in
    /// standard output.
    #[serde(default)]
    pub(crate) stderr_offset: Option<u64>,
}

/// Selects the last lines of a task's output.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EndQuery {
    /// Number of lines; 20 by default.
    #[serde(default)]
    pub(crate) lines: Option<u64>,
}

/// Selects events.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EventQuery {
    /// Only events of this task, which is given as a [`TaskRef`].
    #[serde(default)]
    pub(crate) task: Option<String>,
    /// Only events of this graph: its name, or one of its tasks. Excludes `task`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) graph: Option<String>,
    /// Only events with a higher number, to continue an earlier read.
    #[serde(default)]
    pub(crate) after: Option<u64>,
    /// Only events from this time on, in milliseconds since 1970. Default: for a task or graph, all
    /// its events; otherwise all stored events or, with `follow`, only new events.
    #[serde(default)]
    pub(crate) since_ms: Option<u64>,
    /// Follow new events, until the given task or graph has ended.
    #[serde(default)]
    pub(crate) follow: bool,
}

/// Selects tasks for a graph.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct GraphQuery {
    /// Tasks whose connected components are shown; by default all unfinished tasks and their
    /// dependencies.
    #[serde(default)]
    pub(crate) tasks: Vec<TaskRef>,
    /// Name of a graph, or one of its tasks; used in place of `tasks`. Dependencies of the graph's
    /// tasks are included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) graph: Option<String>,
}

/// Mode of a shutdown of the host.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum DownMode {
    /// Running attempts continue under their supervisor.
    #[default]
    Leave,
    /// Starts nothing, and waits until the last attempt has ended.
    Drain,
    /// Cancels all attempts first.
    Kill,
}
