//! A limit on the items and bytes that a guest may send in a second.

use std::time::Duration;

use crate::clock;

const WINDOW: Duration = Duration::from_secs(1);

/// Counts in windows of one second. Items beyond the limit are counted, and the count is returned
/// once when the next window begins.
#[derive(Debug)]
pub(crate) struct Meter {
    limit: u32,
    limit_bytes: usize,
    window_start: Duration,
    taken: u32,
    taken_bytes: usize,
    surplus: u64,
}

/// Whether one more item fits.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// The item fits; `left_out` is the number of items that were refused since the last item that
    /// fitted.
    Yes {
        left_out: u64,
    },
    No,
}

impl Meter {
    pub(crate) fn per_second(limit: u32, limit_bytes: usize) -> Meter {
        Meter {
            limit,
            limit_bytes,
            window_start: Duration::ZERO,
            taken: 0,
            taken_bytes: 0,
            surplus: 0,
        }
    }

    pub(crate) fn admit(&mut self, bytes: usize) -> Admission {
        self.admit_at(clock::monotonic(), bytes)
    }

    fn admit_at(&mut self, now: Duration, bytes: usize) -> Admission {
        if now >= self.window_start + WINDOW {
            self.window_start = now;
            self.taken = 0;
            self.taken_bytes = 0;
        }
        let after = self.taken_bytes.saturating_add(bytes);
        if self.taken >= self.limit || after > self.limit_bytes {
            self.surplus += 1;
            return Admission::No;
        }
        self.taken += 1;
        self.taken_bytes = after;
        Admission::Yes {
            left_out: std::mem::take(&mut self.surplus),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn left_out_items_are_counted_and_reported_once() {
        let mut meter = Meter::per_second(2, 100);
        let mut at = |millis| meter.admit_at(Duration::from_millis(millis), 50);
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

    #[test]
    fn large_items_use_up_the_limit_on_bytes() {
        let mut meter = Meter::per_second(10, 100);
        let mut at = |millis, bytes| meter.admit_at(Duration::from_millis(millis), bytes);
        let yes = |left_out| Admission::Yes { left_out };
        assert_eq!(at(1_000, 60), yes(0));
        assert_eq!(at(1_001, 60), Admission::No);
        assert_eq!(at(1_002, 40), yes(1));
        assert_eq!(at(1_003, 1), Admission::No);
        assert_eq!(at(2_000, 100), yes(1));
    }
}
