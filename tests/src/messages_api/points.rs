//! Named points: an answer waits at a point until a test releases the point, and a test waits until
//! an answer has reached the point.
//!
//! Tests use points instead of sleeps: once a point is reached, exactly the steps before that point
//! have been sent to the agent.

use std::collections::HashSet;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

#[derive(Default)]
pub(crate) struct Points {
    state: Mutex<State>,
    reached: Condvar,
    released: Notify,
}

#[derive(Default)]
struct State {
    reached: HashSet<String>,
    released: HashSet<String>,
}

impl Points {
    /// Records that an answer has reached the point, and returns once the point is released.
    pub(crate) async fn hold(&self, point: &str) {
        loop {
            let released = self.released.notified();
            {
                let mut state = self.lock();
                state.reached.insert(point.to_owned());
                self.reached.notify_all();
                if state.released.contains(point) {
                    return;
                }
            }
            released.await;
        }
    }

    pub(crate) fn release(&self, point: &str) {
        self.lock().released.insert(point.to_owned());
        self.released.notify_waiters();
    }

    /// Waits until an answer has reached the point; returns `false` if none has within `at_most`.
    pub(crate) fn wait_reached(&self, point: &str, at_most: Duration) -> bool {
        let waited = self
            .reached
            .wait_timeout_while(self.lock(), at_most, |state| !state.reached.contains(point));
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.reached.contains(point)
    }

    pub(crate) fn is_reached(&self, point: &str) -> bool {
        self.lock().reached.contains(point)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
