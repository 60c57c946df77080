//! Input of an executor.

use crate::bindings::claudine::plugin::types;
use crate::bindings::exports::claudine::plugin::executor as wit;

/// An attempt at a task.
#[derive(Clone, Debug)]
pub struct Task<S> {
    /// Id of the task: `task_…`.
    pub id: String,
    /// Number of the attempt, counted from 1.
    pub attempt: u32,
    /// The document; [`validate`](crate::Executor::validate) has accepted it.
    pub spec: S,
    /// The absolute directory in which the task works. Children start there by default.
    pub workspace: String,
    /// Variables of the task's environment that the manifest lists under `reads-env`. Children get
    /// the whole environment.
    pub env: Attributes,
    /// Labels given at the submission.
    pub labels: Attributes,
    /// The previous attempt, if the task is tried again.
    pub previous: Option<Previous>,
    /// Amount that this attempt may cost, in US dollars: the smallest of the remaining budgets of
    /// its task, its graph and the day. `None`: no budget. An executor that knows its cost ends the
    /// attempt as [`Budget`](crate::Class::Budget) before the attempt costs more.
    pub budget_usd: Option<f64>,
}

/// A task that is not accepted yet.
#[derive(Clone, Debug)]
pub struct Draft<S> {
    /// The document.
    pub spec: S,
    /// The value that [`Task::env`] will have.
    pub env: Attributes,
    /// The absolute directory in which the task would work. A task with its own worktree gets
    /// another directory.
    pub workspace: String,
    /// Labels of the task.
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

/// End of the previous attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Previous {
    /// Number of the attempt.
    pub number: u32,
    /// Outcome: `succeeded`, `failed`, `timed_out`, `cancelled` or `lost`.
    pub outcome: String,
    /// Reason class of the end.
    pub class: crate::Class,
    /// Outputs of the attempt as this executor returned them: a JSON object. Parse them with
    /// [`parse`](crate::parse).
    pub outputs: String,
    /// Set if the new attempt is to continue this one on request: the message of the request, which
    /// may be empty.
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
            budget_usd: budget_usd(&more),
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

/// The budget of the attempt. A budget that cannot be read counts as spent: without one, the
/// attempt could cost anything.
fn budget_usd(more: &Attributes) -> Option<f64> {
    // The parser of JSON is in every plugin already. That of the standard library would add 10 KiB
    // to the memory of each instance.
    let usd = more.get("budget-usd")?;
    Some(serde_json::from_str(usd).unwrap_or(0.0))
}

/// Names and values, in their original order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes(types::Attrs);

impl Attributes {
    /// Makes attributes from pairs of a name and a value.
    pub fn new(pairs: Vec<(String, String)>) -> Self {
        Self(pairs)
    }

    /// Value of the first pair with this name.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budget_that_cannot_be_read_counts_as_spent() {
        let budget = |usd: &str| {
            let more = vec![("budget-usd".to_owned(), usd.to_owned())];
            budget_usd(&Attributes::new(more))
        };
        assert_eq!(budget("0.25"), Some(0.25));
        assert_eq!(budget("a lot"), Some(0.0));
        assert_eq!(budget_usd(&Attributes::default()), None);
    }
}
