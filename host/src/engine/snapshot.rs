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

use crate::store::StoreError;

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
    /// Failures of the store.
    pub(crate) trouble: Trouble,
}

/// The number of failures in a row, since decisions could be stored, that counts as lasting.
const LASTING: u32 = 3;

/// What the store has failed to do.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trouble {
    /// Why the store cannot be read at the moment.
    pub(crate) unreadable: Option<String>,
    /// The number of failures since the host started.
    pub(super) failures: u64,
    /// The number of failures since decisions were stored.
    in_a_row: u32,
    /// The error of the last failure.
    last: String,
}

impl Trouble {
    pub(super) fn note(&mut self, error: &StoreError) {
        self.failures += 1;
        self.in_a_row = self.in_a_row.saturating_add(1);
        self.last = error.to_string();
    }

    /// Begins to count anew, because decisions were stored.
    pub(super) fn end(&mut self) {
        self.in_a_row = 0;
    }

    /// Why decisions cannot be stored, if the last try has failed.
    pub(crate) fn unstored(&self) -> Option<&str> {
        (self.in_a_row > 0).then_some(self.last.as_str())
    }

    /// Why nothing can be stored, if several tries in a row have failed, all of them after the
    /// first `before` failures.
    pub(super) fn lasting_since(&self, before: u64) -> Option<&str> {
        let is_lasting = self.in_a_row >= LASTING && self.failures >= before + u64::from(LASTING);
        self.unstored().filter(|_| is_lasting)
    }
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
            trouble: Trouble::default(),
        }
    }
}
