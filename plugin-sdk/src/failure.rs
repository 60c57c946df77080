//! Errors: reason classes, failures of a call or an attempt, and faults of a document.

use std::fmt;
use std::time::Duration;

use crate::bindings::claudine::plugin::types as wit;

/// Kind of error. The class alone, never the text, decides whether the host retries a task, and
/// whether the task waits for the end of a usage limit.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Class {
    /// A process ended with a failure code.
    Exit,
    /// A process was killed by a signal.
    Signal,
    /// A time limit of the executor itself has passed. Plugins do not report the host's time
    /// limits.
    Timeout,
    /// A process could not be started: not found, not executable, no such directory.
    Spawn,
    /// The plugin itself is at fault.
    Plugin,
    /// A service could not be reached, or is overloaded.
    Network,
    /// A usage limit is reached. The host parks the tasks of that account, and the attempt uses up
    /// no retry.
    RateLimit,
    /// The login is missing or refused. Never retried.
    Auth,
    /// The request can never succeed. Never retried.
    Invalid,
    /// The machine has run out of memory, disk or another resource.
    Resource,
    /// The work ended without a result.
    NoResult,
    /// The agent used up its turns.
    MaxTurns,
    /// The agent used up its budget. Never retried.
    Budget,
    /// The agent lacked a permission that the task needs. Never retried.
    Permission,
    /// The outcome can no longer be found out.
    Lost,
    /// The manifest or the grant does not allow this call.
    Denied,
    /// A class that is newer than this crate.
    Other(String),
}

impl Class {
    /// The word in the contract.
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

/// Reason why a call or an attempt failed.
///
/// Returned from `run`, it means that the executor could not do its work. Work that was done and
/// failed is an [`Outcome`](crate::Outcome) with a cause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The class, which decides how the host proceeds.
    pub class: Class,
    /// One sentence for a person, without a full stop. It must not contain secrets.
    pub message: String,
    /// Whether the same call may succeed later, with nothing changed.
    pub retryable: bool,
    /// Time to wait before the next call, if the service said so.
    pub retry_after: Option<Duration>,
    /// Details for machines.
    pub extra: Vec<(String, String)>,
}

impl Failure {
    /// A failure that would happen again if the call were repeated.
    pub fn new(class: Class, message: impl Into<String>) -> Self {
        Self {
            class,
            message: message.into(),
            retryable: false,
            retry_after: None,
            extra: Vec::new(),
        }
    }

    /// Marks that the same call may succeed later.
    #[must_use]
    pub fn retryable(mut self) -> Self {
        self.retryable = true;
        self
    }

    /// Marks that the same call may succeed after this time.
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

/// One fault in a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issue {
    /// The place, as a JSON Pointer (RFC 6901); empty for the whole document.
    pub path: String,
    /// A description of the fault and of the correct form.
    pub message: String,
}

impl Issue {
    /// An issue at this place, with this sentence.
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

/// A duration in milliseconds, the contract's unit; at most half a billion years.
pub(crate) fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failure_class_is_unchanged_by_conversion_from_text_and_back() {
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
    fn failure_crosses_the_boundary_unchanged() {
        let failure = Failure::new(Class::Network, "the server is overloaded")
            .retry_after(Duration::from_secs(3))
            .with("status", "529");
        assert_eq!(Failure::from(wit::Failure::from(failure.clone())), failure);
    }
}
