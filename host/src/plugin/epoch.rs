//! The thread that advances wasmtime's epoch (not the epoch of the host), so that a spinning guest
//! is interrupted.
//!
//! It is a separate thread because spinning guests can occupy every worker of the runtime, and so
//! stop the runtime's timers too. The thread ticks only while a guest computes and for a moment
//! afterwards, so it sleeps while all attempts wait for their children.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};

use wasmtime::Engine;

use super::limits::{TICK, Waits};
use crate::clock;

/// How many ticks the thread continues after the last guest has stopped computing, so that on a
/// busy host it does not stop and start all the time.
const LINGER_TICKS: u32 = 10;

#[derive(Debug, Default)]
struct Shared {
    /// The number of guests that compute at this moment.
    running: AtomicUsize,
    /// Whether a guest has computed since the last tick.
    recent: AtomicBool,
    parked: AtomicBool,
    ended: AtomicBool,
}

/// The owner of the thread; dropping it ends and joins the thread.
#[derive(Debug)]
pub(crate) struct Ticker {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Ticker {
    pub(crate) fn start(engine: Engine) -> std::io::Result<Ticker> {
        let shared = Arc::new(Shared::default());
        let seen = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("epoch".into())
            .spawn(move || tick(&engine, &seen))?;
        Ok(Ticker {
            shared,
            thread: Some(thread),
        })
    }

    /// Drives a future that runs guest code. The epoch advances while the future is polled, and the
    /// time between two polls is added to the guest's budget. The future is pinned by the caller,
    /// because a parameter of an async function takes its room twice.
    pub(crate) async fn drive<F: Future>(
        &self,
        waits: Arc<Waits>,
        mut future: Pin<&mut F>,
    ) -> F::Output {
        let mut left_at = None;
        std::future::poll_fn(|context| {
            if let Some(left_at) = left_at {
                waits.passed(clock::monotonic().saturating_sub(left_at));
            }
            let _turn = self.turn();
            let result = future.as_mut().poll(context);
            if result.is_pending() {
                left_at = Some(clock::monotonic());
            }
            result
        })
        .await
    }

    fn turn(&self) -> Turn<'_> {
        // Sequentially consistent with the parking below: either the thread sees this guest, or
        // this guest sees that the thread is parked.
        self.shared.running.fetch_add(1, Ordering::SeqCst);
        if self.shared.parked.load(Ordering::SeqCst)
            && let Some(thread) = &self.thread
        {
            thread.thread().unpark();
        }
        Turn(&self.shared)
    }

    #[cfg(test)]
    fn is_parked(&self) -> bool {
        self.shared.parked.load(Ordering::SeqCst)
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // The result is dropped, because the loop cannot panic.
            drop(thread.join());
        }
    }
}

/// Marks that a guest computes on this thread.
struct Turn<'a>(&'a Shared);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.recent.store(true, Ordering::Relaxed);
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

fn tick(engine: &Engine, shared: &Shared) {
    let mut idle = 0;
    while !shared.ended.load(Ordering::SeqCst) {
        if idle < LINGER_TICKS {
            thread::park_timeout(TICK);
            engine.increment_epoch();
            let busy = shared.recent.swap(false, Ordering::Relaxed)
                || shared.running.load(Ordering::SeqCst) > 0;
            idle = if busy { 0 } else { idle + 1 };
            continue;
        }
        shared.parked.store(true, Ordering::SeqCst);
        // After a spurious wake-up the thread parks again.
        while shared.running.load(Ordering::SeqCst) == 0
            && !shared.recent.load(Ordering::Relaxed)
            && !shared.ended.load(Ordering::SeqCst)
        {
            thread::park();
        }
        shared.parked.store(false, Ordering::SeqCst);
        idle = 0;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn wait_until_parked(ticker: &Ticker) {
        while !ticker.is_parked() {
            thread::yield_now();
        }
    }

    #[test]
    fn the_ticker_is_parked_while_no_guest_computes() {
        let engine = Engine::default();
        let ticker = Ticker::start(engine).unwrap();
        wait_until_parked(&ticker);
        let turn = ticker.turn();
        while ticker.is_parked() {
            thread::yield_now();
        }
        drop(turn);
        wait_until_parked(&ticker);
    }

    #[test]
    fn dropping_the_ticker_ends_its_thread() {
        let ticker = Ticker::start(Engine::default()).unwrap();
        let shared = Arc::downgrade(&ticker.shared);
        drop(ticker);
        assert!(shared.upgrade().is_none());
    }
}
