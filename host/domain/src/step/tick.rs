//! Handles the passing of time: deadlines of running attempts, and waits that end.

use crate::{
    board::Board,
    event::Fact,
    id::TaskId,
    outcome::{Outcome, QUEUE_TIMEOUT, Reason, ReasonClass},
    task::{State, WaitingFor},
    time::Now,
};

impl Board {
    pub(super) fn tick(&mut self, now: Now) {
        self.capacity.settle(now);
        while let Some((at, id, clock)) = self.clocks.first().copied() {
            if at > now.monotonic {
                break;
            }
            // Stopping an attempt or ending a task removes its time limits from the index, and a
            // limit that begins again is later, so the loop ends.
            if self.is_deaf(id, clock) {
                self.restart_phase_clock(id, now);
            } else if let Some(why) = clock.stops() {
                self.stop(now, id, why);
            } else {
                let reason = Reason::new(ReasonClass::Timeout, QUEUE_TIMEOUT);
                self.finish(now, id, Outcome::TimedOut, Some(reason));
            }
        }
        while let Some((until, id)) = self.waiting.first().copied() {
            if until > now.wall {
                break;
            }
            self.wake(now, id);
        }
    }

    /// Makes a waiting task ready. After a wait for its account, the task's place in the queue
    /// counts from its creation. After a wait for its start time or its next retry, the place
    /// counts from the end of the wait.
    pub(super) fn wake(&mut self, now: Now, id: TaskId) {
        let Some(task) = self.tasks.get(&id) else {
            return;
        };
        let since = match &task.state {
            State::Waiting {
                why: WaitingFor::Account(_),
                ..
            } => task.created_at,
            State::Waiting { until, .. } => *until,
            _ => return,
        };
        self.place(now, id, since);
        self.record(id, now, Fact::BackToReady);
    }
}
