//! What an executor is given.

use crate::bindings::claudine::plugin::types;
use crate::bindings::exports::claudine::plugin::executor as wit;

/// An attempt at a task.
#[derive(Clone, Debug)]
pub struct Task<S> {
    /// `task_…`
    pub id: String,
    /// Numbered from 1.
    pub attempt: u32,
    /// What was asked; [`validate`](crate::Executor::validate) has accepted it.
    pub spec: S,
    /// The absolute directory the task works in. Children start there unless told otherwise.
    pub workspace: String,
    /// Those variables of the task's environment that the manifest names under `reads-env`.
    /// Children get the whole of it.
    pub env: Attributes,
    /// What the task was labelled with when it was submitted.
    pub labels: Attributes,
    /// The attempt before this one, of a task that is tried again.
    pub previous: Option<Previous>,
    /// What this attempt may cost at most, in US dollars: what is left of the budgets of its task,
    /// its graph and the day. An executor that knows what it costs ends the attempt as
    /// [`Budget`](crate::Class::Budget) before it costs more.
    pub budget_usd: Option<f64>,
}

/// A task that is not accepted yet, as it would be run.
#[derive(Clone, Debug)]
pub struct Draft<S> {
    /// The request.
    pub spec: S,
    /// What [`Task::env`] will be.
    pub env: Attributes,
    /// The absolute directory it would work in. A task with a worktree of its own gets another.
    pub workspace: String,
    /// What the task would be labelled with.
    pub labels: Attributes,
}

impl<S> Draft<S> {
    pub(crate) fn new(draft: wit::Draft, spec: S) -> Self {
        Self {
            spec,
            env: Attributes::new(draft.env),
            workspace: draft.workspace,
            labels: Attributes::new(draft.labels),
        }
    }
}

/// How the attempt before this one ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Previous {
    /// Its number.
    pub number: u32,
    /// `succeeded`, `failed`, `timed_out`, `cancelled`, `lost`.
    pub outcome: String,
    /// Its reason class.
    pub class: crate::Class,
    /// Its outputs as this executor gave them: a JSON object. Read it with [`parse`](crate::parse).
    pub outputs: String,
    /// Somebody asked that this attempt goes on from where that one ended, and said this; it may be
    /// empty.
    pub resume: Option<String>,
}

impl<S> Task<S> {
    /// The id by which the host names this attempt, unique for ever.
    pub fn attempt_id(&self) -> String {
        format!("{}.{}", self.id, self.attempt)
    }

    pub(crate) fn new(task: wit::Task, spec: S) -> Self {
        let more = Attributes::new(task.more);
        Self {
            budget_usd: more.get("budget-usd").and_then(|usd| usd.parse().ok()),
            id: task.id,
            attempt: task.attempt,
            spec,
            workspace: task.workspace,
            env: Attributes::new(task.env),
            labels: Attributes::new(task.labels),
            previous: task.previous.map(|previous| Previous {
                number: previous.number,
                outcome: previous.outcome,
                class: crate::Class::from(previous.class.as_str()),
                outputs: previous.outputs,
                resume: previous.resume,
            }),
        }
    }
}

/// Names and values, in the order they came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes(types::Attrs);

impl Attributes {
    /// From pairs of a name and a value.
    pub fn new(pairs: Vec<(String, String)>) -> Self {
        Self(pairs)
    }

    /// The value of the first pair of this name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter()
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value)
    }

    /// All pairs.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }
}
