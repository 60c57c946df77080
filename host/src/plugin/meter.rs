//! How many of something a guest may send in a second.

use std::time::Duration;

use crate::clock;

const WINDOW: Duration = Duration::from_secs(1);

/// Counts in windows of one second. What passes the limit is counted, and the count is handed out once when the next window begins.
#[derive(Debug)]
pub(crate) struct Meter {
    limit: u32,
    window_start: Duration,
    taken: u32,
    surplus: u64,
}

/// Whether one more fits.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// It does; so many were left out before it.
    Yes {
        left_out: u64,
    },
    No,
}

impl Meter {
    pub(crate) fn per_second(limit: u32) -> Meter {
        Meter {
            limit,
            window_start: Duration::ZERO,
            taken: 0,
            surplus: 0,
        }
    }

    pub(crate) fn admit(&mut self) -> Admission {
        self.admit_at(clock::monotonic())
    }

    fn admit_at(&mut self, now: Duration) -> Admission {
        if now >= self.window_start + WINDOW {
            self.window_start = now;
            self.taken = 0;
        }
        if self.taken >= self.limit {
            self.surplus += 1;
            return Admission::No;
        }
        self.taken += 1;
        Admission::Yes {
            left_out: std::mem::take(&mut self.surplus),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_surplus_is_counted_and_said_once() {
        let mut meter = Meter::per_second(2);
        let mut at = |millis| meter.admit_at(Duration::from_millis(millis));
        let answers = [
            at(1_000),
            at(1_001),
            at(1_002),
            at(1_999),
            at(2_000),
            at(2_001),
        ];
        let (none, two) = (
            Admission::Yes { left_out: 0 },
            Admission::Yes { left_out: 2 },
        );
        assert_eq!(
            answers,
            [
                none,
                Admission::Yes { left_out: 0 },
                Admission::No,
                Admission::No,
                two,
                Admission::Yes { left_out: 0 }
            ]
        );
    }
}
