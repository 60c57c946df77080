//! What a task waits for: other tasks, each with a condition.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{id::TaskId, outcome::Outcome};

/// How the task that is waited for has to end.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    Succeeded,
    /// It ran to an end, a good one or not.
    Completed,
    /// It ended, even without having run.
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

/// An edge of the graph, kept with the task that waits. A task has its edges sorted by what is
/// waited for, each once.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Dependency {
    pub task: TaskId,
    pub condition: Condition,
}

/// How a task ended, as far as those that wait for it are concerned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct End {
    pub outcome: Outcome,
    /// The task whose end this one's follows from.
    pub culprit: Option<TaskId>,
}
