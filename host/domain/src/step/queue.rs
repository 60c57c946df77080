//! Sets the whole queue's pause and number of slots, and notes up to when uses of sessions may be
//! forgotten.

use super::Answer;
use crate::{
    board::Board,
    capacity::Slots,
    queue::{Pause, Queue},
    time::{Now, Timestamp},
};

impl Board {
    /// Pauses the queue, or ends the pause. If the queue is already paused, the time of its pause
    /// is kept.
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

    /// Sets the slots; `None` restores the configured number.
    pub(super) fn set_slots(&mut self, slots: Option<Slots>) -> Answer {
        self.pending.queue |= self.queue.slots != slots;
        self.queue.slots = slots;
        self.capacity.limits.slots = slots.unwrap_or(self.configured_slots);
        Answer::Noted
    }

    /// Notes that tasks in which sessions of agents were used up to these times may be stored no
    /// longer: the time for unrestrained principals, and the time for anybody.
    pub(super) fn note_forgotten_sessions(
        &mut self,
        by_unrestrained: Option<Timestamp>,
        by_anybody: Option<Timestamp>,
    ) {
        let queue = &mut self.queue;
        for (noted, to) in [
            (&mut queue.sessions_forgotten_to, by_unrestrained),
            (&mut queue.all_sessions_forgotten_to, by_anybody),
        ] {
            if *noted < to {
                *noted = to;
                self.pending.queue = true;
            }
        }
    }

    /// Settings of the whole queue, and what has to be known about it.
    pub fn queue(&self) -> &Queue {
        &self.queue
    }

    /// Number of slots that applies if nobody has set another number.
    pub fn configured_slots(&self) -> Slots {
        self.configured_slots
    }
}
