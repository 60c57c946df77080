//! The attempts that wait for their own descendants: a set of waits, each of which lasts as long as
//! its guard.
//!
//! The engine reads this set instead of receiving messages. Therefore, a caller that ends cannot
//! leave a wait behind, no change can be refused or arrive in the wrong order, and a board that is
//! loaded again gets the complete set.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard},
};

use claudine_domain::id::AttemptId;
use tokio::sync::Notify;

use crate::lock::lock;

/// A guard: while it exists, the attempt's slot counts as free.
pub(crate) struct Wait {
    attempt: AttemptId,
    id: u64,
    waits: Waits,
}

#[derive(Clone, Default)]
pub(super) struct Waits(Arc<Shared>);

#[derive(Default)]
struct Shared {
    open: Mutex<Open>,
    changed: Notify,
}

#[derive(Default)]
struct Open {
    waits: BTreeMap<AttemptId, BTreeSet<u64>>,
    last_id: u64,
    /// Attempts whose first wait has begun, or whose last wait has ended, since the engine last
    /// read the set.
    changed: BTreeSet<AttemptId>,
}

impl Waits {
    pub(super) fn begin(&self, attempt: AttemptId) -> Wait {
        let mut open = self.lock();
        open.last_id += 1;
        let id = open.last_id;
        let waits = open.waits.entry(attempt).or_default();
        waits.insert(id);
        if waits.len() == 1 {
            self.note_change(&mut open, attempt);
        }
        drop(open);
        Wait {
            attempt,
            id,
            waits: self.clone(),
        }
    }

    fn end(&self, attempt: AttemptId, id: u64) {
        let mut open = self.lock();
        let Some(waits) = open.waits.get_mut(&attempt) else {
            return;
        };
        waits.remove(&id);
        if waits.is_empty() {
            open.waits.remove(&attempt);
            self.note_change(&mut open, attempt);
        }
    }

    fn note_change(&self, open: &mut Open, attempt: AttemptId) {
        open.changed.insert(attempt);
        self.0.changed.notify_one();
    }

    /// Resolves when the set has changed since the last call of [`Waits::take_changes`].
    pub(super) async fn changed(&self) {
        self.0.changed.notified().await;
    }

    /// The attempts that changed, and whether each of them is waiting now.
    pub(super) fn take_changes(&self) -> Vec<(AttemptId, bool)> {
        let mut open = self.lock();
        let changed = std::mem::take(&mut open.changed);
        let waits = |attempt| (attempt, open.waits.contains_key(&attempt));
        changed.into_iter().map(waits).collect()
    }

    /// All waiting attempts, for a board that was loaded again and does not know them.
    pub(super) fn all(&self) -> Vec<AttemptId> {
        self.lock().waits.keys().copied().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        lock(&self.0.open)
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        self.waits.end(self.attempt, self.id);
    }
}

#[cfg(test)]
mod tests {
    use claudine_domain::id::TaskId;

    use super::*;

    #[test]
    fn an_attempt_counts_as_waiting_until_the_last_of_its_waits_ends() {
        let attempt = AttemptId {
            task: TaskId::new(1, 1),
            number: 1,
        };
        let waits = Waits::default();
        let first = waits.begin(attempt);
        assert_eq!(waits.take_changes(), [(attempt, true)]);
        let second = waits.begin(attempt);
        drop(first);
        assert_eq!(waits.take_changes(), []);
        assert_eq!(waits.all(), [attempt]);
        drop(second);
        assert_eq!(waits.take_changes(), [(attempt, false)]);
        assert_eq!(waits.all(), []);
        // The wait is over before the engine reads the set, but the engine must still learn the
        // final state.
        drop(waits.begin(attempt));
        assert_eq!(waits.take_changes(), [(attempt, false)]);
    }
}
