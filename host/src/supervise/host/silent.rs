//! The supervisors that do not answer, and the dead ones whose processes could not be ended yet.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
};

use crate::{lock::lock, supervise::SuperviseError, text::chain};

/// The reason for a dead supervisor whose processes could not be ended because of this error.
pub(super) fn not_ended(error: &SuperviseError) -> String {
    let error = chain(error);
    format!("the processes that a dead supervisor left cannot be ended yet: {error}")
}

/// The silent supervisors by number, each with the reason that is shown to people. Only the router
/// adds to this map.
#[derive(Debug, Clone, Default)]
pub(super) struct Silent(Arc<Mutex<BTreeMap<u32, String>>>);

impl Silent {
    /// Returns whether the reason is new.
    pub(super) fn note(&self, number: u32, said: String) -> bool {
        let mut noted = self.lock();
        let is_new = noted.get(&number) != Some(&said);
        noted.insert(number, said);
        is_new
    }

    pub(super) fn has(&self, number: u32) -> bool {
        self.lock().contains_key(&number)
    }

    pub(super) fn forget(&self, number: u32) {
        self.lock().remove(&number);
    }

    pub(super) fn all(&self) -> Vec<String> {
        self.lock().values().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u32, String>> {
        lock(&self.0)
    }
}
