//! What goes wrong: reason classes, failures of a call or an attempt, and faults of a document.

use std::fmt;
use std::time::Duration;

use crate::bindings::claudine::plugin::types as wit;

/// Why something could not be done, in the words the host decides by: retries and parking look at
/// the class, never at the text.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Class {
    /// A process ended with a code that means failure.
    Exit,
    /// A process was ended by a signal.
    Signal,
    /// A time limit of the executor's own passed. The host's limits are not reported by the plugin.
    Timeout,
    /// A process could not be started: not found, not executable, no such directory.
    Spawn,
    /// The plugin itself is at fault.
    Plugin,
    /// The other side could not be reached, or said that it is overloaded.
    Network,
    /// A usage limit is reached; the host parks the tasks of that account. It does not use up an
    /// attempt.
    RateLimit,
    /// Nobody is logged in, or the login is refused. Never retried.
    Auth,
    /// What was asked cannot be done by anybody. Never retried.
    Invalid,
    /// Memory, disk or another resource of the machine is used up.
    Resource,
    /// The work ended without saying how.
    NoResult,
    /// The agent used up its turns.
    MaxTurns,
    /// The agent used up its money. Never retried.
    Budget,
    /// The agent was not allowed to do what the task needs. Never retried.
    Permission,
    /// What happened cannot be known any more.
    Lost,
    /// The manifest or the grant does not allow this call.
    Denied,
    /// A class that is younger than this crate.
    Other(String),
}

impl Class {
    /// The word the contract uses.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Exit => "exit",
            Self::Signal => "signal",
            Self::Timeout => "timeout",
            Self::Spawn => "spawn",
            Self::Plugin => "plugin",
            Self::Network => "network",
            Self::RateLimit => "rate_limit",
            Self::Auth => "auth",
            Self::Invalid => "invalid",
            Self::Resource => "resource",
            Self::NoResult => "no_result",
            Self::MaxTurns => "max_turns",
            Self::Budget => "budget",
            Self::Permission => "permission",
            Self::Lost => "lost",
            Self::Denied => "denied",
            Self::Other(word) => word,
        }
    }
}

impl From<&str> for Class {
    fn from(word: &str) -> Self {
        match word {
            "exit" => Self::Exit,
            "signal" => Self::Signal,
            "timeout" => Self::Timeout,
            "spawn" => Self::Spawn,
            "plugin" => Self::Plugin,
            "network" => Self::Network,
            "rate_limit" => Self::RateLimit,
            "auth" => Self::Auth,
            "invalid" => Self::Invalid,
            "resource" => Self::Resource,
            "no_result" => Self::NoResult,
            "max_turns" => Self::MaxTurns,
            "budget" => Self::Budget,
            "permission" => Self::Permission,
            "lost" => Self::Lost,
            "denied" => Self::Denied,
            other => Self::Other(other.to_owned()),
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a call or an attempt came to nothing.
///
/// Returned from `run` it means that the executor could not do its work. Work that was done and
/// failed is an [`Outcome`](crate::Outcome) with a cause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What the host decides by.
    pub class: Class,
    /// One sentence for a person, without a trailing full stop. No secret may stand in it.
    pub message: String,
    /// Whether the same call may succeed later without anything being changed.
    pub retryable: bool,
    /// How long to wait before that, where the other side said so.
    pub retry_after: Option<Duration>,
    /// Details for machines.
    pub extra: Vec<(String, String)>,
}

impl Failure {
    /// One that the same call will meet again.
    pub fn new(class: Class, message: impl Into<String>) -> Self {
        Self {
            class,
            message: message.into(),
            retryable: false,
            retry_after: None,
            extra: Vec::new(),
        }
    }

    /// Says that the same call may succeed later.
    #[must_use]
    pub fn retryable(mut self) -> Self {
        self.retryable = true;
        self
    }

    /// Says that the same call may succeed after this time.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retryable = true;
        self.retry_after = Some(wait);
        self
    }

    /// Adds a detail for machines.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.extra.push((name.into(), value.into()));
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

impl From<wit::Failure> for Failure {
    fn from(failure: wit::Failure) -> Self {
        Self {
            class: Class::from(failure.code.as_str()),
            message: failure.message,
            retryable: failure.retryable,
            retry_after: failure.retry_after_ms.map(Duration::from_millis),
            extra: failure.extra,
        }
    }
}

impl From<Failure> for wit::Failure {
    fn from(failure: Failure) -> Self {
        Self {
            code: failure.class.as_str().to_owned(),
            message: failure.message,
            retryable: failure.retryable,
            retry_after_ms: failure.retry_after.map(milliseconds),
            extra: failure.extra,
        }
    }
}

/// One fault of a document that somebody wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issue {
    /// Where: a JSON Pointer (RFC 6901), empty for the whole document.
    pub path: String,
    /// What is wrong and what would be right.
    pub message: String,
}

impl Issue {
    /// A JSON Pointer and a sentence.
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            message: message.into(),
        }
    }
}

impl From<Issue> for wit::Issue {
    fn from(issue: Issue) -> Self {
        Self {
            path: issue.path,
            message: issue.message,
        }
    }
}

impl From<Issue> for Failure {
    fn from(issue: Issue) -> Self {
        let message = if issue.path.is_empty() {
            issue.message
        } else {
            format!("{}: {}", issue.path, issue.message)
        };
        Self::new(Class::Invalid, message)
    }
}

/// A duration as the contract writes it. What does not fit is cut: half a billion years are long
/// enough.
pub(crate) fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_survives_its_text_form() {
        for word in [
            "exit",
            "signal",
            "timeout",
            "spawn",
            "plugin",
            "network",
            "rate_limit",
            "auth",
            "invalid",
            "resource",
            "no_result",
            "max_turns",
            "budget",
            "permission",
            "lost",
            "denied",
            "a_younger_one",
        ] {
            let class = Class::from(word);
            assert_eq!(class.as_str(), word);
            assert_eq!(
                matches!(class, Class::Other(_)),
                word == "a_younger_one",
                "{word}"
            );
        }
    }

    #[test]
    fn a_failure_crosses_the_border_unchanged() {
        let failure = Failure::new(Class::Network, "the server is overloaded")
            .retry_after(Duration::from_secs(3))
            .with("status", "529");
        assert_eq!(Failure::from(wit::Failure::from(failure.clone())), failure);
    }
}
