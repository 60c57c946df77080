//! Time has passed: deadlines of running attempts, tasks that waited for a time.

use crate::{
    board::Board,
    event::Fact,
    id::TaskId,
    outcome::{Outcome, Reason, ReasonClass},
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
            // Stopping takes the attempt's clocks out of the index, and so does its end: each turn
            // shortens it.
            if let Some(why) = clock.stops() {
                self.stop(now, id, why);
            } else {
                let message = "was ready for longer than its queue timeout";
                let reason = Reason::new(ReasonClass::Timeout, message);
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

    /// A task that waited for its account keeps its place in the line by its creation; one that
    /// waited for its own time has it from then.
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
