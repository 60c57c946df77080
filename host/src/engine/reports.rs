//! Keeps track of the reports of attempts. Each report is applied once, and is acknowledged when
//! its effects are durable.

use std::collections::{HashMap, VecDeque};

use claudine_domain::{batch::BatchNumber, id::AttemptId, outbox::Heard};

/// The reports of all attempts that are not released.
#[derive(Default)]
pub(super) struct Reports {
    heard: HashMap<AttemptId, Heard>,
    /// Reports that wait for their batches to be durable, in the order of arrival.
    taken: VecDeque<Taken>,
}

#[derive(Clone, Copy)]
struct Taken {
    after: BatchNumber,
    attempt: AttemptId,
    number: u64,
}

impl Reports {
    /// Whether a report is new.
    pub(super) fn hear(&mut self, attempt: AttemptId, number: u64, from: u64) -> bool {
        let heard = self.heard.entry(attempt).or_default();
        heard.hear(number, from)
    }

    /// Records that the effects of a report are in the batch `after`, or in an earlier batch.
    pub(super) fn take(&mut self, after: BatchNumber, attempt: AttemptId, number: u64) {
        self.taken.push_back(Taken {
            after,
            attempt,
            number,
        });
    }

    /// The next report whose effects are all durable.
    pub(super) fn next_durable(&mut self, durable: BatchNumber) -> Option<(AttemptId, u64)> {
        let next = self.taken.pop_front_if(|taken| taken.after <= durable)?;
        Some((next.attempt, next.number))
    }

    /// Drops the reports of batches after `durable`. Attempts repeat these reports, and the
    /// repeated reports are accepted.
    pub(super) fn drop_after(&mut self, durable: BatchNumber) {
        while let Some(taken) = self.taken.pop_back_if(|taken| taken.after > durable) {
            if let Some(heard) = self.heard.get_mut(&taken.attempt) {
                heard.forget(taken.number);
            }
        }
    }

    /// Forgets an attempt whose end is durable, since no more reports are expected.
    pub(super) fn released(&mut self, attempt: AttemptId) {
        self.heard.remove(&attempt);
    }
}
