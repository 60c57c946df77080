//! What admission goes by, for whoever asks how much room there is. Put together when it is asked
//! for: it is larger than what is published after each round.

use claudine_domain::{
    board::Board,
    budget::Level,
    capacity::{Capacity, Refusal, Slots},
    lane::Lane,
    queue::Queue,
    refusals::PastRefusal,
    time::Now,
};

#[derive(Clone, Debug)]
pub(crate) struct CapacityNow {
    pub(crate) capacity: Capacity,
    pub(crate) running: usize,
    /// Less than what runs by those who wait for their own descendants.
    pub(crate) slots_in_use: usize,
    pub(crate) queued: usize,
    pub(crate) queue: Queue,
    /// How many run at once if nobody sets it.
    pub(crate) configured_slots: Slots,
    /// What agents may cost today, if there is a budget, and have.
    pub(crate) today: Option<Level>,
    pub(crate) refusals: Vec<(Lane, Refusal)>,
    /// The latest first.
    pub(crate) past: Vec<PastRefusal>,
}

impl CapacityNow {
    pub(super) fn of(board: &Board, now: Now) -> Self {
        Self {
            capacity: board.capacity().clone(),
            running: board.running_count(),
            slots_in_use: board.slots_in_use(),
            queued: board.queued_count(),
            queue: board.queue().clone(),
            configured_slots: board.configured_slots(),
            today: board.day_level(now),
            refusals: board.refusals(now).into_iter().collect(),
            past: board.past_refusals().iter().rev().cloned().collect(),
        }
    }
}
