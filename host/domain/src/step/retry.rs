//! A finished task runs again: the only way out of a terminal state.

use super::{Answer, Refused};
use crate::{board::Board, event::Fact, task::Task, time::Now};

impl Board {
    pub(super) fn retry(&mut self, now: Now, mut task: Task) -> Result<Answer, Refused> {
        let id = task.id;
        // The store's copy may be older than the board: two retries of one task at once make one attempt.
        if let Some(unfinished) = self.tasks.get(&id) {
            return Err(Refused::NotDone {
                task: id,
                state: unfinished.state.as_str(),
            });
        }
        if !task.is_done() {
            return Err(Refused::NotDone {
                task: id,
                state: task.state.as_str(),
            });
        }
        task.state = self.queued_state(&task.request, now);
        let attempt = task.last_attempt().map_or(1, |last| last.number + 1);
        self.insert(task);
        self.record(id, now, Fact::Retried);
        Ok(Answer::Retrying { task: id, attempt })
    }
}
