//! What the engine knows beyond the store: the machine, the slots, why the last ones were not started. For `why`, `info` and `doctor`.

use std::{collections::BTreeMap, sync::Arc};

use claudine_domain::{
    account::Parked,
    board::{Board, Lane},
    capacity::{Limits, Refusal},
    group::Group,
    id::AccountKey,
    profile::Trusted,
};

#[derive(Clone, Debug, Default)]
pub(crate) struct Snapshot {
    pub(crate) limits: Limits,
    pub(crate) running: usize,
    pub(crate) queued: usize,
    pub(crate) refusals: Vec<(Lane, Refusal)>,
    /// Which classes have lanes of their own.
    pub(crate) trusted: Trusted,
    pub(crate) parked: Vec<(AccountKey, Parked)>,
    /// Groups that somebody has set.
    pub(crate) groups: Arc<BTreeMap<String, Group>>,
    pub(crate) draining: bool,
    /// The disk is full: nothing new is accepted until there is space again.
    pub(crate) store_full: bool,
    /// Reports of attempts that were over, since the host started.
    pub(crate) dropped_reports: u64,
}

impl Snapshot {
    pub(super) fn of(board: &Board, store_full: bool) -> Self {
        Self {
            limits: board.capacity().limits,
            running: board.running_count(),
            queued: board.queued_count(),
            refusals: board
                .refusals()
                .iter()
                .map(|(lane, refusal)| (lane.clone(), refusal.clone()))
                .collect(),
            parked: board
                .parked()
                .iter()
                .map(|(key, parked)| (key.clone(), parked.clone()))
                .collect(),
            groups: Arc::new(board.groups().clone()),
            trusted: board.capacity().profiles().trusted().clone(),
            draining: board.is_draining(),
            store_full,
            dropped_reports: 0,
        }
    }
}
