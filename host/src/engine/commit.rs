//! The commit thread: makes one batch durable while the engine fills the next one.
//!
//! It is a separate thread because a commit waits for the disk. At most one batch is in progress,
//! so each of the two channels holds one message.

use std::sync::{Arc, mpsc as blocking};

use claudine_domain::{
    batch::{Batch, BatchNumber},
    board::Stored,
};
use tokio::sync::mpsc;

use crate::{
    clock,
    store::{Epoch, Store, StoreError},
};

enum Order {
    Commit(Arc<Batch>),
    Load,
}

/// The result of an order to the commit thread.
pub(super) enum Done {
    Committed(BatchNumber),
    Failed(BatchNumber, StoreError),
    Loaded(Result<Stored, StoreError>),
}

pub(super) struct Committer {
    orders: Option<blocking::SyncSender<Order>>,
    pub(super) done: mpsc::Receiver<Done>,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// Error: the commit thread has ended. Only a panic can cause this.
#[derive(Debug, thiserror::Error)]
#[error("the commit thread has ended")]
pub(super) struct Gone;

impl Committer {
    pub(super) fn start(store: Arc<dyn Store>, epoch: Epoch) -> std::io::Result<Self> {
        let (orders, inbox) = blocking::sync_channel(1);
        let (outbox, done) = mpsc::channel(1);
        let thread = std::thread::Builder::new()
            .name("commit".to_owned())
            .spawn(move || {
                while let Ok(order) = inbox.recv() {
                    let answer = match order {
                        Order::Commit(batch) => match store.commit(epoch, &batch) {
                            Ok(()) => Done::Committed(batch.number),
                            Err(error) => Done::Failed(batch.number, error),
                        },
                        Order::Load => Done::Loaded(store.load(remember_since())),
                    };
                    if outbox.blocking_send(answer).is_err() {
                        return;
                    }
                }
            })?;
        Ok(Self {
            orders: Some(orders),
            done,
            thread: Some(thread),
        })
    }

    pub(super) fn commit(&self, batch: Arc<Batch>) -> Result<(), Gone> {
        self.order(Order::Commit(batch))
    }

    pub(super) fn load(&self) -> Result<(), Gone> {
        self.order(Order::Load)
    }

    fn order(&self, order: Order) -> Result<(), Gone> {
        self.orders
            .as_ref()
            .ok_or(Gone)?
            .send(order)
            .map_err(|_| Gone)
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        self.orders = None;
        // The thread may be about to send an answer, but nothing receives it any more.
        self.done.close();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the commit thread panicked");
        }
    }
}

/// The start of the period from which idempotency keys are loaded. Older keys have expired.
pub(super) fn remember_since() -> claudine_domain::time::Timestamp {
    let window = claudine_domain::time::millis(claudine_domain::board::IDEMPOTENCY_WINDOW);
    claudine_domain::time::Timestamp(clock::wall().0.saturating_sub(window))
}
