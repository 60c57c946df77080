//! Usage limits of accounts, in one phrase wherever they are told.

use std::collections::BTreeMap;

use claudine_domain::{
    account::Parked,
    id::AccountKey,
    task::{State, Task, WaitingFor},
    time::Timestamp,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{error::AppError, host::Host, view::TaskRow};
use crate::{
    clock::{self, rfc3339},
    store::{Filter, Status},
};

/// Of so many tasks that wait for a time it is looked at whether a limit is the reason.
const LOOKED_AT: usize = 1_000;

/// An account at a usage limit.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct LimitView {
    /// Whose tasks wait.
    pub(crate) executor: String,
    /// Which limit it is, such as `5-hour`, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) limit: Option<String>,
    #[schemars(extend("format" = "date-time"))]
    pub(crate) until: String,
    /// How many tasks wait for its end.
    pub(crate) tasks_waiting: usize,
}

impl LimitView {
    /// `Claude usage limit (5-hour) until 2026-11-22T20:15:00.000Z · 2 tasks wait`
    pub(crate) fn text(&self) -> String {
        let limit = phrase(&self.executor, self.limit.as_deref(), &self.until);
        match self.tasks_waiting {
            0 => limit,
            1 => format!("{limit} · 1 task waits"),
            count => format!("{limit} · {count} tasks wait"),
        }
    }
}

/// The limit of one task's account.
pub(super) fn limit_text(account: &AccountKey, limit: Option<&str>, until: Timestamp) -> String {
    phrase(executor_of(account), limit, &rfc3339(until))
}

fn phrase(executor: &str, limit: Option<&str>, until: &str) -> String {
    let mut chars = executor.chars();
    let name: String = chars
        .next()
        .into_iter()
        .flat_map(char::to_uppercase)
        .chain(chars)
        .collect();
    let limit = limit.map_or_else(String::new, |limit| format!(" ({limit})"));
    format!("{name} usage limit{limit} until {until}")
}

/// An account's key begins with the name of its executor.
fn executor_of(account: &AccountKey) -> &str {
    account.0.split(':').next().unwrap_or(&account.0)
}

fn account_waited_for(task: &Task) -> Option<&AccountKey> {
    match &task.state {
        State::Waiting {
            why: WaitingFor::Account(account),
            ..
        } => Some(account),
        _ => None,
    }
}

impl Host {
    /// The accounts at a usage limit that is not over.
    pub(super) async fn limits(&self) -> Result<Vec<LimitView>, AppError> {
        let snapshot = self.engine.snapshot();
        let now = clock::wall();
        let in_force: Vec<(AccountKey, Parked)> = snapshot
            .parked
            .iter()
            .filter(|(_, parked)| parked.until > now)
            .cloned()
            .collect();
        if in_force.is_empty() {
            return Ok(Vec::new());
        }
        let waiting = Filter::in_state(Status::Waiting);
        let waiting = self
            .read(move |reader| Ok(reader.store.list(&waiting, LOOKED_AT)?))
            .await?;
        let mut counts: BTreeMap<&AccountKey, usize> = BTreeMap::new();
        for account in waiting.tasks.iter().filter_map(account_waited_for) {
            *counts.entry(account).or_default() += 1;
        }
        let views = in_force.iter().map(|(account, parked)| LimitView {
            executor: executor_of(account).to_owned(),
            limit: parked.limit.clone(),
            until: rfc3339(parked.until),
            tasks_waiting: counts.get(account).copied().unwrap_or(0),
        });
        Ok(views.collect())
    }

    /// Says of a task that waits for a limit which one it is.
    pub(super) fn name_limit(&self, task: &Task, view: &mut TaskRow) {
        if let State::Waiting {
            why: WaitingFor::Account(account),
            until,
        } = &task.state
            && let Some(reason) = &mut view.reason
        {
            let limit = self.limit_of(task);
            reason.message = limit_text(account, limit.as_deref(), *until);
        }
    }

    /// The name of the limit that an account is at.
    pub(super) fn limit_of(&self, task: &Task) -> Option<String> {
        let account = account_waited_for(task)?;
        let snapshot = self.engine.snapshot();
        let mut parked = snapshot.parked.iter();
        let (_, parked) = parked.find(|(key, _)| key == account)?;
        parked.limit.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_one_phrase() {
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
    }
}
