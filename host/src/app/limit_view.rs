//! Describes usage limits of accounts, always in the same words.

use claudine_domain::{id::AccountKey, time::Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::clock::rfc3339;

/// An account at a usage limit.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct LimitView {
    /// Executor whose tasks wait.
    pub(crate) executor: String,
    /// Name of the limit, such as `5-hour`, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) limit: Option<String>,
    #[schemars(extend("format" = "date-time"))]
    pub(crate) until: String,
    /// Number of tasks that wait.
    pub(crate) tasks_waiting: usize,
}

impl LimitView {
    /// `Claude usage limit (5-hour) until 2026-11-22T20:15:00.000Z · 2 tasks wait`
    pub(crate) fn text(&self) -> String {
        let limit = phrase(&self.executor, self.limit.as_deref(), "until", &self.until);
        match self.tasks_waiting {
            0 => limit,
            1 => format!("{limit} · 1 task waits"),
            count => format!("{limit} · {count} tasks wait"),
        }
    }
}

/// The limit of a task's account.
pub(super) fn limit_text(account: &AccountKey, limit: Option<&str>, until: Timestamp) -> String {
    phrase(executor_of(account), limit, "until", &rfc3339(until))
}

/// Describes a limit that has ended, for tasks that still wait for it because no host has started
/// them since then.
pub(super) fn past_limit_text(
    account: &AccountKey,
    limit: Option<&str>,
    until: Timestamp,
) -> String {
    phrase(executor_of(account), limit, "ended at", &rfc3339(until))
}

fn phrase(executor: &str, limit: Option<&str>, until: &str, time: &str) -> String {
    let mut chars = executor.chars();
    let name: String = chars
        .next()
        .into_iter()
        .flat_map(char::to_uppercase)
        .chain(chars)
        .collect();
    let limit = limit.map_or_else(String::new, |limit| format!(" ({limit})"));
    format!("{name} usage limit{limit} {until} {time}")
}

/// The executor, which is the first part of an account's key.
pub(super) fn executor_of(account: &AccountKey) -> &str {
    account.0.split(':').next().unwrap_or(&account.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_described_in_one_phrase() {
        let check = |limit: Option<&str>, tasks_waiting: usize, expected: &str| {
            let view = LimitView {
                executor: "claude".to_owned(),
                limit: limit.map(str::to_owned),
                until: "2026-11-22T14:51:33.042Z".to_owned(),
                tasks_waiting,
            };
            assert_eq!(view.text(), expected);
        };
        check(
            Some("5-hour"),
            2,
            "Claude usage limit (5-hour) until 2026-11-22T14:51:33.042Z · 2 tasks wait",
        );
        check(
            None,
            1,
            "Claude usage limit until 2026-11-22T14:51:33.042Z · 1 task waits",
        );
        let account = AccountKey("claude:/home/u/.claude:90a6".to_owned());
        let text = limit_text(&account, None, Timestamp(1_795_359_093_042));
        assert_eq!(text, "Claude usage limit until 2026-11-22T14:51:33.042Z");
        let text = past_limit_text(&account, Some("5-hour"), Timestamp(1_795_359_093_042));
        let ended = "Claude usage limit (5-hour) ended at 2026-11-22T14:51:33.042Z";
        assert_eq!(text, ended);
    }
}
