//! The engine's state that is not in the store, for `info` and `doctor`. This state is published
//! after every round, so it must be small: data that grows with the queue is sent only on request.

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
    /// Whether no engine runs, so that nothing is started or stopped.
    pub(crate) no_host: bool,
    pub(crate) draining: bool,
    /// The settings of the whole queue.
    pub(crate) queue: Queue,
    /// Whether the disk is full, so that new work is refused until there is space.
    pub(crate) store_full: bool,
    /// Rows of the store that cannot be read.
    pub(crate) unreadable: Arc<[Unreadable]>,
    /// The number of reports from attempts that were over, since the host started.
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
