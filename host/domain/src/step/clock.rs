//! Handles a wall clock that was set back. A wait of a given length must not become longer by the
//! difference. A start time is a point in time and is not changed.

use std::time::Duration;

use super::Answer;
use crate::{
    account::{FIRST_WAIT, Parked},
    board::Board,
    event::Fact,
    id::AccountKey,
    task::{State, Task, WaitingFor},
    time::Now,
};

/// Longest wait of a task for the budget of the next day.
pub(super) const UNTIL_NEXT_DAY: Duration = Duration::from_hours(24);

impl Board {
    /// Shortens every wait that is longer than the longest wait that could begin now.
    pub(super) fn clock_set_back(&mut self, now: Now) -> Answer {
        self.shorten_limits(now);
        self.shorten_delays(now);
        Answer::Noted
    }

    fn shorten_limits(&mut self, now: Now) {
        let shortened = self.accounts.iter().filter_map(|(key, parked)| {
            let shortened = parked.shortened(now.wall);
            (shortened != *parked).then(|| (key.clone(), shortened))
        });
        let shortened: Vec<(AccountKey, Parked)> = shortened.collect();
        for (account, parked) in shortened {
            self.set_account(account.clone(), Some(parked.clone()));
            let why = WaitingFor::Account(account.clone());
            let waits =
                |task: &Task| matches!(&task.state, State::Waiting { why: of, .. } if *of == why);
            for id in self.ids_where(waits) {
                let Some(task) = self.tasks.get(&id) else {
                    continue;
                };
                let until = parked.until_for(&task.request.by);
                self.place(now, id, now.wall);
                let account = account.clone();
                self.record(id, now, Fact::Parked { account, until });
            }
        }
    }

    fn shorten_delays(&mut self, now: Now) {
        let latest = |task: &Task| now.wall.after(longest_delay(task));
        let late = |task: &Task| task.retry_at.is_some_and(|at| at > latest(task));
        for id in self.ids_where(late) {
            let Some(task) = self.tasks.get(&id) else {
                continue;
            };
            let until = latest(task);
            let waits = matches!(task.state, State::Waiting { .. });
            self.change(id, |task| task.retry_at = Some(until));
            if waits {
                self.place(now, id, now.wall);
                self.record(id, now, Fact::RetryScheduled { until });
            }
        }
    }
}

/// Longest wait of the task before its next attempt: the longest delay of its retry policy, or
/// [`FIRST_WAIT`] if it has no policy or its last attempt never began. After an attempt of unknown
/// cost it may wait for the next day.
pub(super) fn longest_delay(task: &Task) -> Duration {
    let ended = task.last_attempt().and_then(|last| last.ended.as_ref());
    let never_began = ended.is_some_and(|ended| ended.never_began);
    let policy = task.request.retries.as_ref().filter(|_| !never_began);
    let longest = policy.map_or(FIRST_WAIT, |policy| policy.backoff.max);
    if ended.is_some_and(|ended| ended.cost_is_unknown) {
        longest.max(UNTIL_NEXT_DAY)
    } else {
        longest
    }
}
