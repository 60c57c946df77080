//! Attempts that are about to start: their instances are made, and wait at their first child.
//!
//! Nothing of it is seen: the engine does not count them, and is told nothing by them. What is
//! dropped here is made anew when it is started.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use claudine_domain::id::AttemptId;
use tokio::task::JoinHandle;

use super::live::Live;
use crate::lock::lock;

/// An attempt that was made ready and not begun.
pub(super) struct StandBy {
    pub(super) live: Arc<Live>,
    pub(super) work: JoinHandle<()>,
}

/// What will be started next, as far as it was made ready for it.
#[derive(Default)]
pub(super) struct StandingBy(Mutex<BTreeMap<AttemptId, StandBy>>);

impl StandingBy {
    pub(super) fn insert(&self, one: StandBy) {
        lock(&self.0).insert(one.live.id, one);
    }

    pub(super) fn take(&self, attempt: AttemptId) -> Option<StandBy> {
        lock(&self.0).remove(&attempt)
    }
}
