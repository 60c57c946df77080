//! The data that admission uses, for questions about free capacity. Built only on request, because
//! it is too large to be published after each round.

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
    /// Slots in use, without the attempts that wait for their own descendants.
    pub(crate) slots_in_use: usize,
    pub(crate) queued: usize,
    pub(crate) queue: Queue,
    /// The configured number of slots, used if none was set at runtime.
    pub(crate) configured_slots: Slots,
    /// The budget of agents for today and the amount that agents have spent of it, if there is a
    /// budget.
    pub(crate) today: Option<Level>,
    pub(crate) refusals: Vec<(Lane, Refusal)>,
    /// The past refusals, the latest first.
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
