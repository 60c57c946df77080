//! Time has passed: deadlines of running attempts, tasks that waited for a time.

use crate::{board::Board, event::Fact, id::TaskId, task::State, time::Now};

impl Board {
    pub(super) fn tick(&mut self, now: Now) {
        self.capacity.settle(now);
        while let Some((at, id, clock)) = self.clocks.first().copied() {
            if at > now.monotonic {
                break;
            }
            // Stopping takes the attempt's clocks out of the index, so each turn shortens it.
            self.stop(now, id, clock.why());
        }
        while let Some((until, id)) = self.waiting.first().copied() {
            if until > now.wall {
                break;
            }
            self.wake(now, id);
        }
    }

    /// A task that waited for a time keeps its place in the line: it counts from its creation.
    fn wake(&mut self, now: Now, id: TaskId) {
        self.change(id, |task| {
            task.state = State::Ready {
                since: task.created_at,
            };
        });
        self.record(id, now, Fact::BackToReady);
    }
}
