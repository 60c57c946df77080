//! The latest refusals of admission, kept to show later why tasks had to wait.
//!
//! These refusals are not stored, and no rule reads them. The current reasons are in
//! [`Board::refusals`].
//!
//! [`Board::refusals`]: crate::board::Board::refusals

use std::{collections::VecDeque, mem::discriminant};

use crate::{capacity::Refusal, lane::Lane, time::Timestamp};

/// Maximum number of remembered refusals.
pub const REMEMBERED: usize = 32;

/// A period in which a lane was refused for one reason.
#[derive(Clone, PartialEq, Debug)]
pub struct PastRefusal {
    pub lane: Lane,
    /// Latest form of the refusal.
    pub refusal: Refusal,
    pub first: Timestamp,
    pub last: Timestamp,
    pub times: u64,
}

/// Refusals, sorted by the time at which each was last repeated, the newest last.
#[derive(Clone, Debug, Default)]
pub struct PastRefusals(VecDeque<PastRefusal>);

impl PastRefusals {
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &PastRefusal> {
        self.0.iter()
    }

    pub(crate) fn note(&mut self, lane: &Lane, refusal: &Refusal, now: Timestamp) {
        let is_same = |past: &PastRefusal| {
            discriminant(&past.refusal) == discriminant(refusal) && past.lane == *lane
        };
        if let Some(place) = self.0.iter().rposition(is_same)
            && let Some(mut past) = self.0.remove(place)
        {
            past.refusal = refusal.clone();
            past.last = now;
            past.times += 1;
            self.0.push_back(past);
            return;
        }
        if self.0.len() >= REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back(PastRefusal {
            lane: lane.clone(),
            refusal: refusal.clone(),
            first: now,
            last: now,
            times: 1,
        });
    }
}
