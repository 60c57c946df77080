//! Dependencies between tasks, each with a condition.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{id::TaskId, outcome::Outcome};

/// Required end of the task on which another task depends.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    Succeeded,
    /// The task ran and ended, with success or not, and was not cancelled.
    Completed,
    /// The task ended, even without having run.
    Any,
}

impl Condition {
    pub fn is_met_by(self, outcome: Outcome) -> bool {
        match self {
            Self::Any => true,
            Self::Succeeded => outcome == Outcome::Succeeded,
            Self::Completed => match outcome {
                Outcome::Succeeded | Outcome::Failed | Outcome::TimedOut | Outcome::Lost => true,
                Outcome::Cancelled | Outcome::Skipped | Outcome::UpstreamFailed => false,
            },
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Completed => "completed",
            Self::Any => "any",
        }
    }
}

/// An edge of the graph, kept with the dependent task. A task's edges are sorted by the tasks on
/// which it depends, and name each of these tasks once.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Dependency {
    pub task: TaskId,
    pub condition: Condition,
}

/// The part of a task's end that its dependants need.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct End {
    pub outcome: Outcome,
    /// The task that caused this end, if it was another task.
    pub culprit: Option<TaskId>,
}
