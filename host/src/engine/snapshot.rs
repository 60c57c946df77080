//! What the engine knows beyond the store, for `info` and `doctor`. Published after every round, so
//! it is small: what grows with the queue is asked of the engine.

use std::sync::Arc;

use claudine_domain::{
    account::Parked,
    board::{Board, Unreadable},
    capacity::Limits,
    id::AccountKey,
    queue::Queue,
};

#[derive(Clone, Debug, Default)]
pub(crate) struct Snapshot {
    pub(crate) limits: Limits,
    pub(crate) running: usize,
    pub(crate) queued: usize,
    pub(crate) parked: Vec<(AccountKey, Parked)>,
    /// No engine runs: nothing is started or stopped.
    pub(crate) no_host: bool,
    pub(crate) draining: bool,
    /// What is set for the whole queue.
    pub(crate) queue: Queue,
    /// The disk is full: nothing new is accepted until there is space again.
    pub(crate) store_full: bool,
    /// Rows of the store that cannot be read.
    pub(crate) unreadable: Arc<[Unreadable]>,
    /// Reports of attempts that were over, since the host started.
    pub(crate) dropped_reports: u64,
    /// Why the store cannot be read at the moment.
    pub(crate) trouble: Option<String>,
}

impl Snapshot {
    pub(super) fn of(board: &Board, store_full: bool) -> Self {
        Self {
            limits: board.capacity().limits,
            running: board.running_count(),
            queued: board.queued_count(),
            parked: board
                .parked()
                .iter()
                .map(|(key, parked)| (key.clone(), parked.clone()))
                .collect(),
            no_host: false,
            draining: board.is_draining(),
            queue: board.queue().clone(),
            store_full,
            unreadable: Arc::default(),
            dropped_reports: 0,
            trouble: None,
        }
    }
}
