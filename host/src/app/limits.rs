//! Accounts at a usage limit, and the tasks that wait for them.

use std::collections::BTreeMap;

use claudine_domain::{
    account::Parked,
    id::AccountKey,
    principal::Principal,
    task::{State, Task, WaitingFor},
    time::Timestamp,
};

use super::{
    error::AppError,
    host::Host,
    limit_view::{LimitView, executor_of, limit_text, past_limit_text},
    view::TaskRow,
};
use crate::{
    clock::{self, rfc3339},
    store::{Filter, Status},
};

/// Maximum number of waiting tasks that are read to find those that wait for a limit.
const LOOKED_AT: usize = 1_000;

/// Time until which tasks of persons wait.
fn until(parked: &Parked) -> Timestamp {
    parked.until_for(&Principal::default())
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
    /// The accounts at a usage limit that has not ended.
    pub(super) async fn limits(&self) -> Result<Vec<LimitView>, AppError> {
        let snapshot = self.engine.snapshot();
        let now = clock::wall();
        let in_force: Vec<(AccountKey, Parked)> = snapshot
            .parked
            .iter()
            .filter(|(_, parked)| until(parked) > now)
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
            until: rfc3339(until(parked)),
            tasks_waiting: counts.get(account).copied().unwrap_or(0),
        });
        Ok(views.collect())
    }

    /// Adds the name of the limit to a task that waits for it, or a note that the limit has ended.
    pub(super) fn name_limit(&self, task: &Task, view: &mut TaskRow) {
        if let State::Waiting {
            why: WaitingFor::Account(account),
            until,
        } = &task.state
            && let Some(reason) = &mut view.reason
        {
            let limit = self.limit_of(task);
            let text = if *until <= clock::wall() {
                past_limit_text
            } else {
                limit_text
            };
            reason.message = text(account, limit.as_deref(), *until);
        }
    }

    /// The name of the limit that a task waits for.
    pub(super) fn limit_of(&self, task: &Task) -> Option<String> {
        let account = account_waited_for(task)?;
        let snapshot = self.engine.snapshot();
        let mut parked = snapshot.parked.iter();
        let (_, parked) = parked.find(|(key, _)| key == account)?;
        parked.limit.clone()
    }
}
