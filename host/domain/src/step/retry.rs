//! A finished task runs again: the only way out of a terminal state.

use super::{Answer, Refused};
use crate::{board::Board, event::Fact, task::Task, time::Now};

/// How many retried tasks are remembered with their newest end. It has to outlast only the way of a copy from the store to the board.
const REMEMBERED: usize = 1024;

impl Board {
    pub(super) fn retry(&mut self, now: Now, copy: Task) -> Result<Answer, Refused> {
        let id = copy.id;
        // The store's copy may be older than the board: two retries of one task at once make one attempt.
        if let Some(unfinished) = self.tasks.get(&id) {
            return Err(not_done(unfinished));
        }
        // It may even have been retried and have ended again since: then that end is the one to start from, or its attempt would be
        // written over and its number given out twice.
        let ended_again = self.retried.get(&id).cloned().flatten();
        let mut task = ended_again.map_or(copy, |ended| Task::clone(&ended));
        if !task.is_done() {
            return Err(not_done(&task));
        }
        self.room_for_one_more()?;
        task.state = self.queued_state(&task.request, now.wall, now);
        let attempt = task.last_attempt().map_or(1, |last| last.number + 1);
        self.insert(task);
        self.record(id, now, Fact::Retried);
        self.retried.insert(id, None);
        if self.retried.len() > REMEMBERED {
            self.retried.pop_first();
        }
        Ok(Answer::Retrying { task: id, attempt })
    }
}

fn not_done(task: &Task) -> Refused {
    Refused::NotDone {
        task: task.id,
        state: task.state.as_str(),
    }
}
