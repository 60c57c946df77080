//! Changes to a finished task before it runs again.

use std::{fmt, sync::Arc};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::principal::Principal;

/// An option with a changed value.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Difference {
    pub option: String,
    /// Value before the change; none if the option was not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// Writes `model opus`, `timeout 10m (was 5m)` or `no max_turns (was 3)`.
impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.after {
            Some(after) => write!(f, "{} {after}", self.option)?,
            None => write!(f, "no {}", self.option)?,
        }
        match &self.before {
            Some(before) => write!(f, " (was {before})"),
            None => Ok(()),
        }
    }
}

/// Lists the differences in a sentence.
pub fn listed(differences: &[Difference]) -> String {
    let all: Vec<String> = differences.iter().map(ToString::to_string).collect();
    all.join(", ")
}

/// Changes that apply from this attempt on.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Revised {
    pub from_attempt: u32,
    pub differences: Vec<Difference>,
    /// The principal who made the changes. Earlier versions did not store it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Arc<Principal>>,
}

/// A request to run a finished task again. The attempt `from_attempt` and the later ones, up to the
/// next such request, are those of the principal `by`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Requested {
    pub from_attempt: u32,
    pub by: Arc<Principal>,
}
