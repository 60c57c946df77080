//! Frees ended instances on a separate thread.
//!
//! Freeing an instance's memory takes as long as a short run of a guest, and no attempt should wait
//! for it. If the thread does not keep up, the caller frees the instance itself.

use std::any::Any;
use std::io;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};

/// The most instances that wait to be freed. Each of them still has its memory.
const WAITING: usize = 64;

type Instance = Box<dyn Any + Send>;

/// The owner of the thread; dropping it waits for the instances that are left.
#[derive(Debug)]
pub(crate) struct Reaper {
    sender: Option<SyncSender<Instance>>,
    thread: Option<JoinHandle<()>>,
}

impl Reaper {
    pub(crate) fn start() -> io::Result<Reaper> {
        let (sender, instances) = sync_channel::<Instance>(WAITING);
        let thread = thread::Builder::new()
            .name("instances".into())
            .spawn(move || instances.into_iter().for_each(drop))?;
        Ok(Reaper {
            sender: Some(sender),
            thread: Some(thread),
        })
    }

    pub(crate) fn take(&self, instance: impl Any + Send) {
        let Some(sender) = &self.sender else { return };
        match sender.try_send(Box::new(instance)) {
            Ok(()) => {}
            Err(TrySendError::Full(instance) | TrySendError::Disconnected(instance)) => {
                drop(instance);
            }
        }
    }
}

impl Drop for Reaper {
    fn drop(&mut self) {
        self.sender = None;
        if let Some(thread) = self.thread.take() {
            // A panic during freeing has printed its message; nothing else can be done.
            drop(thread.join());
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::sync::Arc;

    use super::*;

    #[test]
    fn dropping_the_reaper_frees_all_instances() {
        let instance = Arc::new(());
        let reaper = Reaper::start().unwrap();
        for _ in 0..10 * WAITING {
            reaper.take(Arc::clone(&instance));
        }
        drop(reaper);
        assert_eq!(Arc::strong_count(&instance), 1);
    }
}
