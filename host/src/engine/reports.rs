//! Reports of attempts on their way to the disk: each counts once, and is acknowledged once it is
//! durable.

use std::collections::{HashMap, VecDeque};

use claudine_domain::{batch::BatchNumber, id::AttemptId, outbox::Heard};

/// What was heard of attempts that are not released.
#[derive(Default)]
pub(super) struct Reports {
    heard: HashMap<AttemptId, Heard>,
    /// What waits for its batch to be durable, in the order in which it was taken.
    taken: VecDeque<Taken>,
}

#[derive(Clone, Copy)]
struct Taken {
    after: BatchNumber,
    attempt: AttemptId,
    number: u64,
}

impl Reports {
    /// Whether a report is heard for the first time.
    pub(super) fn hear(&mut self, attempt: AttemptId, number: u64, from: u64) -> bool {
        let heard = self.heard.entry(attempt).or_default();
        heard.hear(number, from)
    }

    /// What follows from the report is in that batch, or in an earlier one.
    pub(super) fn take(&mut self, after: BatchNumber, attempt: AttemptId, number: u64) {
        self.taken.push_back(Taken {
            after,
            attempt,
            number,
        });
    }

    /// The next report of which all is durable.
    pub(super) fn next_durable(&mut self, durable: BatchNumber) -> Option<(AttemptId, u64)> {
        let next = self.taken.pop_front_if(|taken| taken.after <= durable)?;
        Some((next.attempt, next.number))
    }

    /// All later batches are dropped: what they held is told again, and counts then.
    pub(super) fn drop_after(&mut self, durable: BatchNumber) {
        while let Some(taken) = self.taken.pop_back_if(|taken| taken.after > durable) {
            if let Some(heard) = self.heard.get_mut(&taken.attempt) {
                heard.forget(taken.number);
            }
        }
    }

    /// The end of the attempt is durable, and nothing more is expected of it.
    pub(super) fn released(&mut self, attempt: AttemptId) {
        self.heard.remove(&attempt);
    }
}
