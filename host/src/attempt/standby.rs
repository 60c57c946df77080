//! Attempts that are about to start. Their executors' instances exist already, and wait before they
//! start their first child.
//!
//! They have no visible effect, because the engine does not count them and they report nothing to
//! the engine. An instance that is dropped here is made again when its attempt starts.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use claudine_domain::id::AttemptId;
use tokio::task::JoinHandle;

use super::live::Live;
use crate::lock::lock;

/// An attempt whose instance exists but that has not begun.
pub(super) struct StandBy {
    pub(super) live: Arc<Live>,
    pub(super) work: JoinHandle<()>,
}

/// The attempts that will be started next and whose instances exist already.
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
