//! Waiting for a condition, with a deadline. This is the only place of the tests that lets time pass: whoever needs the world to have changed says which change.

use std::{
    thread,
    time::{Duration, Instant},
};

/// How long a condition may take before the test fails. Long, since a busy machine must not fail a test and a condition that comes true costs nothing.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// Looks again and again until `look` has something to say, and panics with `what` when it has not for [`PATIENCE`].
#[track_caller]
pub fn wait_for<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    match wait_at_most(PATIENCE, look) {
        Some(found) => found,
        None => panic!("waited {} s for {what}", PATIENCE.as_secs()),
    }
}

/// The same with a deadline of one's own, and without a panic.
pub fn wait_at_most<T>(patience: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + patience;
    let mut pause = Duration::from_millis(2);
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        if Instant::now() >= deadline {
            return None;
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}
