//! Waiting for a condition, with a deadline. No other code of the tests sleeps: each test that
//! waits names the condition for which it waits.

use std::{
    thread,
    time::{Duration, Instant},
};

/// Time after which an unmet condition fails the test. The time is long, so that no test fails
/// because the machine is busy; a condition that is met ends the wait at once.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// Calls `look` until it returns something, and panics with `what` after [`PATIENCE`].
#[track_caller]
pub fn wait_for<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    match wait_at_most(PATIENCE, look) {
        Some(found) => found,
        None => panic!("waited {} s for {what}", PATIENCE.as_secs()),
    }
}

/// Calls `look` until it returns something; returns `None`, without a panic, after `patience`.
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

/// Sleeps for a random time, so that a test can cause a fault at any moment. Must never be used to
/// wait for a condition.
pub fn any_moment_within(most: Duration, random: &mut Random) {
    thread::sleep(most.mul_f64(random.fraction()));
}

/// Random numbers from a seed that is printed, so that the faults of a failed test can be repeated.
pub struct Random(u64);

impl Random {
    /// Random numbers with the seed in `CLAUDINE_TEST_SEED`, else with a seed from the clock.
    #[track_caller]
    pub fn seeded() -> Self {
        let seed: u64 = match std::env::var("CLAUDINE_TEST_SEED") {
            Ok(text) => text.parse().expect("CLAUDINE_TEST_SEED is a number"),
            Err(_) => std::time::UNIX_EPOCH
                .elapsed()
                .expect("after 1970")
                .subsec_nanos()
                .into(),
        };
        eprintln!("CLAUDINE_TEST_SEED={seed}");
        Self(seed | 1)
    }

    /// The next number of xorshift64*, which is random enough for choosing moments.
    fn step(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A random number that is at least 0 and less than `bound`.
    pub fn below(&mut self, bound: u32) -> u32 {
        u32::try_from(self.step() % u64::from(bound)).expect("less than a u32")
    }

    fn fraction(&mut self) -> f64 {
        f64::from(self.below(1_000_000)) / 1e6
    }
}
