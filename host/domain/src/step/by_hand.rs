//! Records merges by hand, after the automatic merge of a task's work has failed. No executor runs
//! for this. The task gets a successful attempt, and the tasks that could not run because of the
//! task's failure can run now.

use super::{Answer, MergedByHand, Refused};
use crate::{
    attempt::Attempt,
    board::Board,
    event::Fact,
    outcome::Outcome,
    task::{State, Task},
    time::Now,
};

impl Board {
    pub(super) fn merged_by_hand(
        &mut self,
        now: Now,
        merged: MergedByHand,
    ) -> Result<Answer, Refused> {
        let MergedByHand {
            task: copy,
            downstream,
            ended,
            merge,
        } = merged;
        let task = self.newest(copy, &ended)?;
        let id = task.id;
        if !task.failed_by_its_merge() {
            return Err(Refused::NotFailedByMerge { task: id });
        }
        let downstream = self.still_done(downstream, &ended)?;
        self.room_for(downstream.len())?;
        self.within_bounds(downstream.iter().map(|task| &*task.request))?;
        self.all_known(id, &downstream, &ended)?;
        self.room_for_another(&task)?;
        let ended = self.ends_above(&downstream, &ended);
        let attempt = task.last_attempt().map_or(1, |last| last.number + 1);
        self.reopen(now, task);
        self.record(id, now, Fact::MergedByHand { attempt });
        // The revived tasks wait for this task, so `finish` updates them.
        let downstream = self.revive(now, downstream, &ended);
        self.change(id, |task| {
            let attempt = Attempt::merged_by_hand(attempt, now.wall, merge);
            task.attempts.push(attempt);
        });
        let outcome = Outcome::Succeeded;
        self.record(
            id,
            now,
            Fact::AttemptEnded {
                attempt,
                outcome,
                reason: None,
            },
        );
        self.finish(now, id, outcome, None);
        Ok(Answer::MergedByHand {
            task: id,
            attempt,
            downstream,
        })
    }

    /// Puts a finished task back on the board until this step ends.
    fn reopen(&mut self, now: Now, mut task: Task) {
        let id = task.id;
        if let Some(by) = &self.by {
            task.note_requester(by);
        }
        task.retry_at = None;
        task.resumes = None;
        task.state = State::Blocked { since: now.wall };
        self.index_dependencies([&task]);
        self.insert(task);
        self.look_for_blocker(id, 0);
        self.ended_again.note_revival(id);
    }
}
