//! Reading what was acted on before it was on disk, and the machine.

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

/// With task 1 running, and task 2 waiting for its success.
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

/// It may ask for the other one with its first line.
#[tokio::test]
async fn what_starts_because_another_has_ended_reads_that_it_has() {
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

/// The number that a reader waits for is dropped with its batch, and on a quiet host no other
/// follows.
#[tokio::test]
async fn a_reader_does_not_wait_for_what_will_never_be_written() {
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
    assert!(in_time.is_some(), "the reload wakes it");
}

/// A machine whose disk answers once another task of the runtime has run.
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
async fn a_disk_that_is_slow_to_answer_the_engine_holds_no_other_task_up() {
    let (read, has_held_up) = (Arc::new(Notify::new()), Arc::new(AtomicBool::new(false)));
    let (ran, other) = blocking::sync_channel(1);
    let is_read = read.clone();
    let running = tokio::spawn(async move {
        is_read.notified().await;
        // The engine may have given up waiting.
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
