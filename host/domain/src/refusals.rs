//! The last refusals of admission, so that somebody who comes later can see what held work back.
//!
//! Not stored, and no rule looks at them: a lane is refused for what is true at the moment, which
//! is in [`Board::refusals`].
//!
//! [`Board::refusals`]: crate::board::Board::refusals

use std::{collections::VecDeque, mem::discriminant};

use crate::{capacity::Refusal, lane::Lane, time::Timestamp};

/// How many are remembered.
pub const REMEMBERED: usize = 32;

/// A lane was refused for a while for one reason.
#[derive(Clone, PartialEq, Debug)]
pub struct PastRefusal {
    pub lane: Lane,
    /// As it was the last time.
    pub refusal: Refusal,
    pub first: Timestamp,
    pub last: Timestamp,
    pub times: u64,
}

/// The one that was refused last at the back.
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
