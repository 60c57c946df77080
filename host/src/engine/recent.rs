//! The requests of tasks that were submitted a moment ago, so that a task that starts soon needs no
//! read from the store.
//!
//! This is only a cache: the store has every request.

use std::{collections::BTreeMap, sync::Arc};

use claudine_domain::{
    batch::{Batch, DocumentKey},
    id::TaskId,
};

/// Limit of the total size of the kept requests. Once it is reached, new requests are not kept.
const BYTES: usize = 4 << 20;
/// The size of the largest request that is kept. Larger requests are read again from the store,
/// which takes no noticeable time compared with their execution.
const LARGEST_BYTES: usize = 16 << 10;

#[derive(Default)]
pub(super) struct Recent {
    specs: BTreeMap<TaskId, Arc<[u8]>>,
    bytes: usize,
}

impl Recent {
    /// Keeps the requests of a durable batch, and forgets the requests of tasks that the batch
    /// finished.
    pub(super) fn note(&mut self, batch: &Batch) {
        for (key, bytes) in &batch.documents {
            if let DocumentKey::Spec(task) = key
                && bytes.len() <= LARGEST_BYTES
                && self.bytes + bytes.len() <= BYTES
                && self.specs.insert(*task, bytes.clone()).is_none()
            {
                self.bytes += bytes.len();
            }
        }
        for task in batch.tasks.iter().filter(|task| task.is_done()) {
            self.take(task.id);
        }
    }

    pub(super) fn get(&self, task: TaskId) -> Option<Arc<[u8]>> {
        self.specs.get(&task).cloned()
    }

    pub(super) fn take(&mut self, task: TaskId) -> Option<Arc<[u8]>> {
        let spec = self.specs.remove(&task)?;
        self.bytes -= spec.len();
        Some(spec)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(tasks: std::ops::Range<u128>, bytes: usize) -> Batch {
        let spec: Arc<[u8]> = vec![0; bytes].into();
        let documents = tasks.map(|task| (DocumentKey::Spec(TaskId::new(0, task)), spec.clone()));
        Batch {
            documents: documents.collect(),
            ..Batch::default()
        }
    }

    #[test]
    fn small_requests_are_kept_up_to_a_limit() {
        let mut recent = Recent::default();
        recent.note(&batch(0..1, LARGEST_BYTES + 1));
        assert!(recent.take(TaskId::new(0, 0)).is_none());
        let room = BYTES / LARGEST_BYTES;
        recent.note(&batch(0..room as u128 + 5, LARGEST_BYTES));
        assert_eq!(recent.specs.len(), room);
        assert!(recent.take(TaskId::new(0, 0)).is_some());
        assert!(recent.take(TaskId::new(0, 0)).is_none());
        recent.note(&batch(100_000..100_001, LARGEST_BYTES));
        assert_eq!(recent.specs.len(), room);
        assert_eq!(recent.bytes, BYTES);
    }
}
