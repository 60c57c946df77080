//! Requests that read the store after the engine acted on a decision that is not on disk yet, and
//! readings of the machine.

use std::{
    future::poll_fn,
    pin::pin,
    sync::mpsc as blocking,
    task::{Context, Poll},
};

use claudine_domain::{capacity::Reading, dependency::Condition};
use tokio::sync::Notify;

use super::*;
use crate::clock;

/// An engine on which task 1 runs, and task 2 waits for its success.
async fn one_waiting_for_another() -> Fixture {
    let fixture = one_running(1).await;
    let first = Dependency {
        task: id(1),
        condition: Condition::Succeeded,
    };
    let second = fixture.submit_after(2, request(), vec![first]);
    second.await.unwrap();
    fixture.engine.caught_up().await;
    fixture
}

/// The first command of a started task may ask about the dependency whose end allowed the start.
#[tokio::test]
async fn a_started_task_reads_the_end_of_its_dependency() {
    let mut fixture = one_waiting_for_another().await;
    let store = fixture.store.clone();
    let stalled = store.stall();
    fixture.end(attempt(1)).await;
    let told = fixture.told().await;
    assert_eq!(told, Told::Start(attempt(2)), "before the commit");
    let mut caught_up = pin!(fixture.engine.caught_up());
    let look = |context: &mut Context<'_>| Poll::Ready(caught_up.as_mut().poll(context));
    assert!(poll_fn(look).await.is_pending());
    drop(stalled);
    caught_up.await;
    assert_eq!(fixture.outcome(1), Some(Outcome::Succeeded));
}

/// The batch for which a reader waits is dropped, and no other batch follows, because the host is
/// idle.
#[tokio::test]
async fn a_reader_does_not_wait_for_a_dropped_batch() {
    let mut fixture = one_waiting_for_another().await;
    fixture.store.fail_commits(2);
    let store = fixture.store.clone();
    let stalled = store.stall();
    fixture.end(attempt(1)).await;
    assert_eq!(fixture.told().await, Told::Start(attempt(2)));
    let mut caught_up = pin!(fixture.engine.caught_up());
    let look = |context: &mut Context<'_>| Poll::Ready(caught_up.as_mut().poll(context));
    assert!(poll_fn(look).await.is_pending());
    drop(stalled);
    let in_time = clock::within(CATCH_UP / 2, caught_up).await;
    assert!(in_time.is_some(), "the reload wakes the reader");
}

/// A machine whose disk answers only after another asynchronous task has run.
struct Slow {
    sampler: Sampler,
    read: Arc<Notify>,
    other: blocking::Receiver<()>,
    has_held_up: Arc<AtomicBool>,
}

impl Machine for Slow {
    fn read(&mut self) -> Reading {
        self.read.notify_one();
        let waited = self.other.recv_timeout(Duration::from_secs(10));
        let held_up = waited == Err(blocking::RecvTimeoutError::Timeout);
        self.has_held_up.fetch_or(held_up, Ordering::AcqRel);
        self.sampler.read()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_slow_disk_delays_only_the_engine() {
    let (read, has_held_up) = (Arc::new(Notify::new()), Arc::new(AtomicBool::new(false)));
    let (ran, other) = blocking::sync_channel(1);
    let is_read = read.clone();
    let running = tokio::spawn(async move {
        is_read.notified().await;
        // The engine may have stopped waiting.
        ran.send(()).unwrap_or_default();
    });
    let told = has_held_up.clone();
    let fixture = begin_on(Arc::default(), 1, false, |sampler| {
        Box::new(Slow {
            sampler,
            read,
            other,
            has_held_up: told,
        })
    });
    assert!(fixture.engine.answers().await);
    running.await.unwrap();
    assert!(!has_held_up.load(Ordering::Acquire));
    fixture.stop().await;
}
