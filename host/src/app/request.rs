//! What can be asked of the host, typed. Entry points parse into these; whether they make sense is
//! checked in one place, `app`.

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

/// Tasks to be taken on, all or none.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Submit {
    pub(crate) environment: Environment,
    /// What an MCP server of an earlier version says of itself; later ones say it of each request.
    #[serde(default, skip_serializing_if = "Origin::is_cli")]
    pub(crate) origin: Origin,
    /// A name to find them by together. Several graphs may have it: the newest is meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
    /// What the agents among them may cost together, in US dollars.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) budget_usd: Option<f64>,
    pub(crate) tasks: Vec<NewTask>,
}

/// A task to be taken on. Everything but executor, document and directory has a default.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewTask {
    pub(crate) executor: String,
    /// The document for the executor, as its schema has it: `{"prompt": …}`, `{"argv": […]}`, …
    pub(crate) spec: Box<RawValue>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
    #[serde(default)]
    pub(crate) priority: Priority,
    /// Absolute. Clients make it so before they ask: the host has no directory of its own to be
    /// relative to.
    pub(crate) working_directory: PathBuf,
    /// Variables beside those of the request's environment.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) env: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) timeout_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) idle_timeout_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) start_timeout_ms: Option<u64>,
    /// How long it may be ready without being started.
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
    /// A detached task is not cancelled with the task it was submitted from.
    #[serde(default)]
    pub(crate) detached: bool,
    /// What it waits for. A name means a task of the same request, else the one that the name
    /// finds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) dependencies: Vec<DependencyRef>,
    /// Tasks whose output it is given, at most 100. It waits for each of them as for one that has
    /// to succeed, unless `dependencies` says otherwise.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) with_output_of: Vec<TaskRef>,
    /// It is held until somebody releases it.
    #[serde(default)]
    pub(crate) hold: bool,
    /// It is not started before so long from now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) after_ms: Option<u64>,
    /// It is not started before this time, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) start_at_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) retries: Option<Retries>,
    /// What its attempts may cost together, in US dollars.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) budget_usd: Option<f64>,
    /// It works in a checkout of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) worktree: Option<WorktreeWish>,
    /// An agent in a worktree succeeds even if it was denied tools and changed nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) allow_denied: bool,
}

/// A task that is waited for, and how it has to end. A name alone means that it has to succeed.
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

/// Another attempt after one that failed. Delays grow by the factor and are drawn evenly from
/// nothing to the grown delay.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Retries {
    /// How many attempts may follow the first.
    pub(crate) limit: u32,
    /// The classes of failures that are retried; all that can be but `lost` where there is none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) on: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) initial_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) factor: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) max_ms: Option<u64>,
}

/// How a finished task runs again.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RetryOptions {
    /// Also what had run after it, and not only what could not.
    #[serde(default)]
    pub(crate) downstream: bool,
    /// A task that waits for a time (a usage limit, a delay, its start) is tried at once.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) now: bool,
    #[serde(default, skip_serializing_if = "Change::is_none")]
    pub(crate) change: Change,
}

/// What of a task is different from its next attempt on. What is not given stays.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Change {
    /// Fields of the document for its executor; null takes one away.
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
    /// What the agents of its graph may cost together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) graph_budget_usd: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) allow_denied: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) group: Option<String>,
    /// Labels beside those that it has, or in their place.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) labels: BTreeMap<String, String>,
}

impl Change {
    pub(crate) fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// How a finished task goes on.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ResumeOptions {
    /// What is to be done about it now, at most 1 MiB.
    #[serde(default)]
    pub(crate) context: String,
    #[serde(default, skip_serializing_if = "Change::is_none")]
    pub(crate) change: Change,
}

/// Which checkpoint of a task.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CheckpointQuery {
    /// The last attempt that has ended where it is not given.
    #[serde(default)]
    pub(crate) attempt: Option<u32>,
}

/// What of a group is to be different; what is not given stays.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct GroupChange {
    /// How many of its tasks may run at once, at least 1; `unlimited` takes the limit away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) limit: Option<u32>,
    #[serde(default)]
    pub(crate) unlimited: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) paused: Option<bool>,
    /// The group is made if it is not there.
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

    /// The principal of a request that says this of itself.
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

/// A task as a person names it: an id, the end or the beginning of one, a name, or `@last`; see
/// `store::reference`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct TaskRef(pub(crate) String);

/// Which tasks are meant: all conditions that are given hold. A list has them newest first.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListFilter {
    /// States, phases and outcomes as they are shown, or `active`, `queued`, `done`; several of
    /// them mean any of them.
    #[serde(
        default,
        deserialize_with = "one_or_several",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub(crate) state: Vec<String>,
    /// In it `*` stands for any characters or none, and `?` for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) executor: Option<String>,
    /// Each `key=value`; several mean all of them.
    #[serde(
        default,
        deserialize_with = "one_or_several",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub(crate) label: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) group: Option<String>,
    /// The name of a graph, or one of its tasks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) graph: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) parent: Option<TaskRef>,
    /// Only tasks that ended at this time or later, in milliseconds since 1970, or have not ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) since_ms: Option<u64>,
    /// Only tasks that ended before this time, or were submitted before it and have not ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) until_ms: Option<u64>,
    /// Only tasks older than this one: the last id of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) before: Option<TaskRef>,
    /// At most 1,000; 100 where it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) limit: Option<u32>,
}

/// A list of texts, or one text that is the whole list: a query has a field once or several times.
fn one_or_several<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    struct Either;
    impl<'de> Visitor<'de> for Either {
        type Value = Vec<String>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a text, or a list of texts")
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

/// Which part of a task's output.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LogQuery {
    /// `stdout` or `stderr`; both, as they were read, where it is not given.
    #[serde(default)]
    pub(crate) stream: Option<String>,
    /// The last attempt where it is not given. One that has not begun is waited for with `follow`;
    /// without, a task that has none yet has no output.
    #[serde(default)]
    pub(crate) attempt: Option<u32>,
    /// Only the last so many lines.
    #[serde(default)]
    pub(crate) tail: Option<u64>,
    /// From this byte of the chosen sequence on: where a reader takes up again. Not together with
    /// `tail`.
    #[serde(default)]
    pub(crate) offset: Option<u64>,
    /// Only what was written at or after this time, in milliseconds since 1970. Not together with
    /// `tail` or `offset`.
    #[serde(default)]
    pub(crate) since_ms: Option<u64>,
    /// Go on as output comes, through later attempts, until the task has ended.
    #[serde(default)]
    pub(crate) follow: bool,
    /// Of an agent, the items that its executor makes of the output instead of its bytes. A tail is
    /// then of their lines.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) transcript: bool,
    /// Where a reader of a transcript takes up standard error again; `offset` is that of standard
    /// output.
    #[serde(default)]
    pub(crate) stderr_offset: Option<u64>,
}

/// How much of the end of a task's output.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EndQuery {
    /// How many lines; 20 where it is not given.
    #[serde(default)]
    pub(crate) lines: Option<u64>,
}

/// Which events.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EventQuery {
    /// Only those of this task, as [`TaskRef`] has it.
    #[serde(default)]
    pub(crate) task: Option<String>,
    /// Only those of this graph: its name, or one of its tasks. Not together with `task`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) graph: Option<String>,
    /// Only those with a higher number: where a reader takes up again.
    #[serde(default)]
    pub(crate) after: Option<u64>,
    /// Only those from the first on that is of this time or later, in milliseconds since 1970.
    /// Where neither is given: of a task all, else all that are kept, and with `follow` those to
    /// come.
    #[serde(default)]
    pub(crate) since_ms: Option<u64>,
    /// Go on as they come; of a task until it has ended.
    #[serde(default)]
    pub(crate) follow: bool,
}

/// Which tasks to show with what waits for what.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct GraphQuery {
    /// Their connected parts; none stands for all that has not ended, with what it hangs on.
    #[serde(default)]
    pub(crate) tasks: Vec<TaskRef>,
    /// Instead of them, the name of a graph, or one of its tasks: what was submitted together, with
    /// what it hangs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) graph: Option<String>,
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
