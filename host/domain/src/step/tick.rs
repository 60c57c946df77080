//! Time has passed: deadlines of running attempts, tasks that waited for a time.

use crate::{
    board::Board,
    event::Fact,
    id::TaskId,
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
            // Stopping takes the attempt's clocks out of the index.
            self.stop(now, id, clock.why());
        }
        while let Some((until, id)) = self.waiting.first().copied() {
            if until > now.wall {
                break;
            }
            self.wake(now, id);
        }
    }

    fn wake(&mut self, now: Now, id: TaskId) {
        let Some(task) = self.tasks.get(&id) else {
            return;
        };
        let State::Waiting {
            why: WaitingFor::Account(_),
            ..
        } = &task.state
        else {
            return;
        };
        let since = task.created_at;
        self.change(id, |task| task.state = State::Ready { since });
        self.record(id, now, Fact::BackToReady);
    }
}
