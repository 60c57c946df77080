//! The end of an attempt, as its executor reports it.

use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::bindings::claudine::plugin::types as wit;
use crate::failure::milliseconds;
use crate::{Class, ExitStatus};

/// The end of an attempt. Most executors convert an [`ExitStatus`]; an agent's executor reads the
/// verdict from the agent's output and uses [`Outcome::success`] or [`Outcome::failed`].
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// `None` means success.
    pub cause: Option<Class>,
    /// Exit code of the attempt's main process, if it has one.
    pub code: Option<i32>,
    /// Signal that killed the main process, if one did.
    pub signal: Option<i32>,
    /// One sentence for a person, without a full stop.
    pub summary: String,
    /// Results by name. The host understands `result` (a string: shown as the task's output, and
    /// cut to a quarter of the task's output limit and to 1 MiB), `session_id`, `cost_usd` (at most
    /// 1,000,000; a cost that cannot be read counts as not told, and the attempt's end says so),
    /// `denials`, `model`, `num_turns` and, for a usage limit, `usage_limit` (its name, such as
    /// `5-hour`). Others are stored and shown unchanged. If an agent's attempt had a budget and
    /// there is no `cost_usd`, it counts as if it had cost its whole budget, or `cost_at_most_usd`
    /// if this is less. If the only budget was that of the day, and the task is a person's own,
    /// the whole budget is not assumed.
    pub outputs: Map<String, Value>,
    /// For [`Class::RateLimit`]: time until the limit ends, if known.
    pub retry_after: Option<Duration>,
    /// Figures by name, in snake_case with the unit last.
    pub metrics: Vec<(String, f64)>,
}

impl Outcome {
    /// The work succeeded.
    pub fn success(summary: impl Into<String>) -> Self {
        Self::new(None, summary.into())
    }

    /// The work ended without success.
    pub fn failed(cause: Class, summary: impl Into<String>) -> Self {
        Self::new(Some(cause), summary.into())
    }

    fn new(cause: Option<Class>, summary: String) -> Self {
        Self {
            cause,
            code: None,
            signal: None,
            summary,
            outputs: Map::new(),
            retry_after: None,
            metrics: Vec::new(),
        }
    }

    /// Records how the process ended, and leaves the cause unchanged.
    #[must_use]
    pub fn exit(mut self, status: &ExitStatus) -> Self {
        self.code = status.code;
        self.signal = status.signal;
        self
    }

    /// Adds a result. A value that JSON cannot represent (a map whose keys are not strings) is
    /// dropped, with a warning in the log.
    #[must_use]
    pub fn output(mut self, name: impl Into<String>, value: impl Serialize) -> Self {
        let name = name.into();
        match serde_json::to_value(value) {
            Ok(value) => drop(self.outputs.insert(name, value)),
            Err(error) => crate::warn!("the output {name} was dropped: {error}"),
        }
        self
    }

    /// Sets the time until a usage limit ends.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// Adds a figure; the name is in snake_case with the unit last, as in `tokens_per_s`.
    #[must_use]
    pub fn metric(mut self, name: impl Into<String>, value: f64) -> Self {
        self.metrics.push((name.into(), value));
        self
    }
}

/// Code 0 means success; any other code, a signal or an unknown status does not.
impl From<ExitStatus> for Outcome {
    fn from(status: ExitStatus) -> Self {
        let cause = match (status.code, status.signal) {
            (_, Some(_)) => Some(Class::Signal),
            (Some(0), None) => None,
            (Some(_), None) => Some(Class::Exit),
            (None, None) => Some(Class::Lost),
        };
        Self::new(cause, status.to_string()).exit(&status)
    }
}

impl From<Outcome> for wit::Outcome {
    fn from(outcome: Outcome) -> Self {
        Self {
            cause: outcome
                .cause
                .as_ref()
                .map_or("success", Class::as_str)
                .to_owned(),
            code: outcome.code,
            signal: outcome.signal,
            summary: outcome.summary,
            outputs: Value::Object(outcome.outputs).to_string(),
            retry_after_ms: outcome.retry_after.map(milliseconds),
            metrics: outcome.metrics,
            more: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(code: Option<i32>, signal: Option<i32>, cause: &str, summary: &str) {
        let outcome = wit::Outcome::from(Outcome::from(ExitStatus {
            code,
            signal,
            ..ExitStatus::default()
        }));
        assert_eq!(
            (outcome.cause.as_str(), outcome.summary.as_str()),
            (cause, summary)
        );
        assert_eq!((outcome.code, outcome.signal), (code, signal));
    }

    #[test]
    fn exit_status_becomes_an_outcome() {
        check(Some(0), None, "success", "exited with code 0");
        check(Some(3), None, "exit", "exited with code 3");
        check(None, Some(9), "signal", "killed by signal 9 (KILL)");
        check(None, Some(64), "signal", "killed by signal 64");
        check(None, None, "lost", "ended with an unknown status");
    }

    #[test]
    fn outputs_are_a_json_object() {
        let outcome = Outcome::success("done")
            .output("result", "text")
            .output("num_turns", 3)
            .metric("wait_ms", 1.5);
        let outcome = wit::Outcome::from(outcome);
        assert_eq!(outcome.outputs, r#"{"num_turns":3,"result":"text"}"#);
        assert_eq!(outcome.metrics, [("wait_ms".to_owned(), 1.5)]);
    }
}
