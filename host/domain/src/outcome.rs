//! How attempts and tasks end.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How an attempt or a task ended. A task that ended with an attempt has the outcome of that
/// attempt.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Succeeded,
    Failed,
    TimedOut,
    Cancelled,
    Skipped,
    UpstreamFailed,
    Lost,
}

impl Outcome {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::TimedOut => "timed_out",
            Self::Cancelled => "cancelled",
            Self::Skipped => "skipped",
            Self::UpstreamFailed => "upstream_failed",
            Self::Lost => "lost",
        }
    }
}

/// Kind of failure. Retry policies refer to these kinds.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReasonClass {
    /// A process exited with a code other than 0.
    Exit,
    /// A process was killed by a signal that Claudine did not send.
    Signal,
    Timeout,
    /// A process could not be started.
    Spawn,
    /// The executor itself failed: a trap, an invalid answer, or a component that does not load.
    Plugin,
    Network,
    RateLimit,
    Auth,
    Invalid,
    /// The task's work could not be merged, for example because the same lines were changed
    /// elsewhere.
    Conflict,
    Resource,
    NoResult,
    MaxTurns,
    Budget,
    Permission,
    Lost,
    /// Somebody cancelled the task.
    Cancelled,
}

impl ReasonClass {
    const ALL: [(Self, &'static str); 17] = [
        (Self::Exit, "exit"),
        (Self::Signal, "signal"),
        (Self::Timeout, "timeout"),
        (Self::Spawn, "spawn"),
        (Self::Plugin, "plugin"),
        (Self::Network, "network"),
        (Self::RateLimit, "rate_limit"),
        (Self::Auth, "auth"),
        (Self::Invalid, "invalid"),
        (Self::Conflict, "conflict"),
        (Self::Resource, "resource"),
        (Self::NoResult, "no_result"),
        (Self::MaxTurns, "max_turns"),
        (Self::Budget, "budget"),
        (Self::Permission, "permission"),
        (Self::Lost, "lost"),
        (Self::Cancelled, "cancelled"),
    ];

    /// Class for the name that an executor uses. The name `denied` means `permission`. An unknown
    /// name means that the plugin is at fault.
    pub fn from_plugin(code: &str) -> Self {
        if code == "denied" {
            return Self::Permission;
        }
        Self::ALL
            .into_iter()
            .find(|(_, name)| *name == code)
            .map_or(Self::Plugin, |(class, _)| class)
    }

    pub fn all() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().map(|(class, _)| class)
    }

    pub fn parse(word: &str) -> Option<Self> {
        let found = Self::ALL.into_iter().find(|(_, name)| *name == word);
        found.map(|(class, _)| class)
    }

    pub fn as_str(self) -> &'static str {
        Self::ALL
            .into_iter()
            .find(|(class, _)| *class == self)
            .map_or("plugin", |(_, name)| name)
    }
}

/// Messages for a task that a time limit has ended. The host recognises the limit by its message.
pub const TIMEOUT: &str = "the attempt ran longer than its timeout";
/// Message of an attempt that no supervisor had begun to carry out at its timeout.
pub const TIMEOUT_BEFORE_START: &str =
    "the attempt reached its timeout before any process of it was started";
pub const IDLE_TIMEOUT: &str = "the attempt gave no output for longer than its idle timeout";
pub const QUEUE_TIMEOUT: &str = "the task was ready for longer than its queue timeout";

/// Reason why a task did not succeed, for people and for retry policies.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Reason {
    pub class: ReasonClass,
    pub message: String,
}

impl Reason {
    pub fn new(class: ReasonClass, message: impl Into<String>) -> Self {
        Self {
            class,
            message: message.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::stored;

    #[test]
    fn each_outcome_has_the_same_word_in_code_store_and_command_line() {
        use Outcome::{Cancelled, Failed, Lost, Skipped, Succeeded, TimedOut, UpstreamFailed};
        for outcome in [
            Succeeded,
            Failed,
            TimedOut,
            Cancelled,
            Skipped,
            UpstreamFailed,
            Lost,
        ] {
            assert_eq!(stored(outcome), outcome.as_str());
        }
    }

    #[test]
    fn each_reason_class_has_one_word() {
        assert_eq!(ReasonClass::all().count(), 17);
        for class in ReasonClass::all() {
            let word = class.as_str();
            assert_eq!(stored(class), word);
            assert_eq!(ReasonClass::parse(word), Some(class));
            assert_eq!(ReasonClass::from_plugin(word), class);
        }
        assert_eq!(ReasonClass::parse("denied"), None);
        assert_eq!(ReasonClass::parse(""), None);
        // Only plugins use the word `denied`. An unknown word means that the plugin is at fault.
        let check = |code: &str, expected| assert_eq!(ReasonClass::from_plugin(code), expected);
        check("denied", ReasonClass::Permission);
        check("no such", ReasonClass::Plugin);
    }
}
