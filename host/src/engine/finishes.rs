//! Waits for tasks to finish.
//!
//! Waits are kept by task, so that an end wakes only the callers who wait for that task, and so
//! that the engine knows whether anybody waits for a given task.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll},
};

use claudine_domain::id::TaskId;
use tokio::sync::oneshot;

use crate::lock::lock;

/// A wait that resolves once the task's end is durable, and fails if the engine has ended. Dropping
/// this value ends the wait.
pub(crate) struct Finish {
    told: oneshot::Receiver<()>,
    task: TaskId,
    finishes: Finishes,
}

impl Future for Finish {
    type Output = Result<(), oneshot::error::RecvError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.told).poll(context)
    }
}

impl Drop for Finish {
    fn drop(&mut self) {
        self.told.close();
        let mut waiting = self.finishes.lock();
        if let Entry::Occupied(mut waiters) = waiting.by_task.entry(self.task) {
            waiters.get_mut().retain(|waiter| !waiter.is_closed());
            if waiters.get().is_empty() {
                waiters.remove();
            }
        }
    }
}

#[derive(Clone, Default)]
pub(super) struct Finishes(Arc<Mutex<Waiting>>);

#[derive(Default)]
struct Waiting {
    by_task: BTreeMap<TaskId, Vec<oneshot::Sender<()>>>,
    closed: bool,
}

impl Finishes {
    pub(super) fn wait_for(&self, task: TaskId) -> Finish {
        let (sender, told) = oneshot::channel();
        let mut waiting = self.lock();
        if !waiting.closed {
            waiting.by_task.entry(task).or_default().push(sender);
        }
        Finish {
            told,
            task,
            finishes: self.clone(),
        }
    }

    /// Whether anybody waits for one of these tasks.
    pub(super) fn any_waited_for(&self, mut tasks: impl Iterator<Item = TaskId>) -> bool {
        let waiting = self.lock();
        !waiting.by_task.is_empty() && tasks.any(|task| waiting.by_task.contains_key(&task))
    }

    pub(super) fn tell(&self, finished: &[TaskId]) {
        let mut waiting = self.lock();
        for task in finished {
            for waiter in waiting.by_task.remove(task).into_iter().flatten() {
                // The waiter may no longer exist.
                let _gone = waiter.send(());
            }
        }
    }

    /// Ends all waits, because the engine has ended.
    pub(super) fn close(&self) {
        let mut waiting = self.lock();
        waiting.closed = true;
        waiting.by_task.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        lock(&self.0)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn task(number: u128) -> TaskId {
        TaskId::new(0, number)
    }

    #[tokio::test]
    async fn only_callers_who_wait_for_a_task_are_woken_by_its_end() {
        let finishes = Finishes::default();
        let (first, mut second) = (finishes.wait_for(task(1)), finishes.wait_for(task(2)));
        assert!(finishes.any_waited_for([task(3), task(1)].into_iter()));
        finishes.tell(&[task(1), task(3)]);
        first.await.unwrap();
        assert!(second.told.try_recv().is_err());
        assert!(!finishes.any_waited_for([task(1)].into_iter()));
    }

    #[test]
    fn a_dropped_wait_is_removed() {
        let finishes = Finishes::default();
        let stays = finishes.wait_for(task(1));
        drop(finishes.wait_for(task(1)));
        drop(finishes.wait_for(task(2)));
        assert_eq!(finishes.lock().by_task[&task(1)].len(), 1);
        drop(stays);
        assert!(finishes.lock().by_task.is_empty());
        assert!(!finishes.any_waited_for([task(1)].into_iter()));
    }

    #[tokio::test]
    async fn waits_fail_when_the_engine_ends() {
        let finishes = Finishes::default();
        let before = finishes.wait_for(task(1));
        finishes.close();
        assert!(before.await.is_err());
        assert!(finishes.wait_for(task(1)).await.is_err());
    }
}
