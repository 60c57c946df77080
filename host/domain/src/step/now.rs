//! Starts a task at once, whatever time the task was waiting for.

use std::sync::Arc;

use super::{Answer, Refused, retry::not_done};
use crate::{
    board::Board,
    event::Fact,
    id::{AccountKey, TaskId},
    task::{Request, State},
    time::Now,
};

impl Board {
    /// Starts the task. If its account is at a usage limit, this task tests the limit first, and
    /// the account's other tasks wait for its result.
    pub(super) fn try_now(&mut self, now: Now, id: TaskId) -> Result<Answer, Refused> {
        let Some(task) = self.tasks.get(&id) else {
            return Err(Refused::Unknown { task: id });
        };
        if !matches!(task.state, State::Waiting { .. }) {
            return Err(not_done(task));
        }
        // The start time is removed even if the task currently waits for the end of a usage limit,
        // which is later. If the start time were kept, the task would wait for the start time next.
        let starts_later = task.request.start_at.is_some_and(|at| at > now.wall);
        let attempt = task.next_attempt();
        if let Some(account) = task.request.account.clone() {
            self.doubt_limit(now, account);
        }
        self.change(id, |task| {
            task.retry_at = None;
            if starts_later {
                task.request = Arc::new(Request {
                    start_at: None,
                    ..Request::clone(&task.request)
                });
            }
        });
        self.record(id, now, Fact::TriedNow);
        self.place(now, id, now.wall);
        Ok(Answer::Retrying {
            task: id,
            attempt,
            downstream: 0,
            held: false,
        })
    }

    /// Lets the account's limit be tested at once. If a restrained principal asks for this, the
    /// tasks of others still wait until the end of the limit, or until an attempt has shown that
    /// the limit is over.
    fn doubt_limit(&mut self, now: Now, account: AccountKey) {
        let Some(parked) = self.accounts.get(&account) else {
            return;
        };
        let by_restrained = self.by.as_ref().is_some_and(|by| by.restrained);
        let doubted = parked.doubted(now.wall, by_restrained);
        if doubted != *parked {
            self.set_account(account, Some(doubted));
        }
    }
}
