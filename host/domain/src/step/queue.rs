//! What is set for the whole queue: a pause, and how many run at once.

use super::Answer;
use crate::{
    board::Board,
    capacity::Slots,
    queue::{Pause, Queue},
    time::Now,
};

impl Board {
    /// A queue that is paused already stays so since then.
    pub(super) fn pause(&mut self, now: Now, paused: bool) -> Answer {
        if paused == self.queue.paused.is_some() {
            return Answer::Changed(0);
        }
        let by = self.by.clone().unwrap_or_default();
        let since = now.wall;
        self.queue.paused = paused.then_some(Pause { since, by });
        self.pending.queue = true;
        Answer::Changed(1)
    }

    /// `None` goes back to what is configured.
    pub(super) fn set_slots(&mut self, slots: Option<Slots>) -> Answer {
        self.pending.queue |= self.queue.slots != slots;
        self.queue.slots = slots;
        self.capacity.limits.slots = slots.unwrap_or(self.configured_slots);
        Answer::Noted
    }

    /// What is set for the whole queue.
    pub fn queue(&self) -> &Queue {
        &self.queue
    }

    /// How many run at once if nobody sets it.
    pub fn configured_slots(&self) -> Slots {
        self.configured_slots
    }
}
