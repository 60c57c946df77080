//! The supervisors that do not answer.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
};

use crate::lock::lock;

/// The silent supervisors by number, each with the reason for its silence. Only the router changes
/// this map.
#[derive(Debug, Clone, Default)]
pub(super) struct Silent(Arc<Mutex<BTreeMap<u32, String>>>);

impl Silent {
    pub(super) fn note(&self, number: u32, said: String) {
        self.lock().insert(number, said);
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
