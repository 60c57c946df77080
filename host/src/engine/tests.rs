//! The shell around the domain, with a store in memory and attempts that only write down what they are told.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod faults;

use std::{
    future::poll_fn,
    sync::{Mutex, atomic::AtomicBool},
    task::{Context, Poll},
};

use claudine_domain::{
    attempt::Phase,
    capacity::Slots,
    dependency::{Condition, Dependency},
    outcome::Outcome,
    step::{Accepted, Cause, Ending, Submission, Submit},
    task::{Class, Idempotency, Request, State},
};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::*;
use crate::{ballast::Ballast, sample::Sampler, store::memory::MemoryStore};

/// What the engine told its attempts.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    Start(AttemptId),
    Resume(AttemptId),
    Spawn(AttemptId),
    Settle(AttemptId),
    Stop(AttemptId),
    Release(AttemptId),
    Stored(AttemptId, u64),
}

/// What the engine said of those that start next.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    Prepare(AttemptId),
    Dismiss(AttemptId),
}

struct Script {
    told: UnboundedSender<Told>,
    next: UnboundedSender<Next>,
    known: Mutex<Vec<AttemptId>>,
    silent: AtomicBool,
}

impl Script {
    fn tell(&self, told: Told) {
        self.told.send(told).expect("the test listens");
    }
}

impl Attempts for Script {
    fn prepare(&self, launch: Launch) {
        // Most tests do not listen to this.
        drop(self.next.send(Next::Prepare(launch.attempt)));
    }
    fn dismiss(&self, attempt: AttemptId) {
        drop(self.next.send(Next::Dismiss(attempt)));
    }
    fn start(&self, launch: Launch) {
        self.known.lock().unwrap().push(launch.attempt);
        self.tell(Told::Start(launch.attempt));
    }
    fn resume(&self, launch: Launch) {
        self.tell(Told::Resume(launch.attempt));
    }
    fn spawn(&self, attempt: AttemptId) {
        self.tell(Told::Spawn(attempt));
    }
    fn settle(&self, attempt: AttemptId) {
        self.tell(Told::Settle(attempt));
    }
    fn stop(&self, attempt: AttemptId, _why: claudine_domain::attempt::StopWhy) {
        self.tell(Told::Stop(attempt));
    }
    fn release(&self, attempt: AttemptId) {
        self.tell(Told::Release(attempt));
    }
    fn checkpoint_stored(&self, attempt: AttemptId, number: u64) {
        self.tell(Told::Stored(attempt, number));
    }
    fn begun(&self, _attempts: &std::collections::BTreeSet<AttemptId>) {}
    fn knows(&self, attempt: AttemptId) -> bool {
        self.known.lock().unwrap().contains(&attempt)
    }
    fn may_turn_up(&self) -> bool {
        self.silent.load(Ordering::Acquire)
    }
}

pub(crate) struct Fixture {
    pub(crate) engine: Engine,
    reports: ReportSender,
    told: UnboundedReceiver<Told>,
    next: UnboundedReceiver<Next>,
    store: Arc<MemoryStore>,
    task: EngineTask,
    attempts: Arc<Script>,
    _dir: tempfile::TempDir,
}

pub(crate) fn begin(store: Arc<MemoryStore>, slots: u32) -> Fixture {
    begin_beside(store, slots, false)
}

/// With a supervisor of an earlier host that does not answer, if `silent`.
fn begin_beside(store: Arc<MemoryStore>, slots: u32, silent: bool) -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let (sender, told) = unbounded_channel();
    let (next_sender, next) = unbounded_channel();
    let inbox = Inbox::new();
    let reports = inbox.reports();
    let limits = Limits {
        slots: Slots::Fixed(slots),
        disk_reserve_bytes: 0,
        memory_reserve_bytes: 0,
        ..Limits::default()
    };
    let parts = Parts {
        epoch: store.lead().unwrap(),
        store: store.clone(),
        limits,
        bounds: Bounds::default(),
        machine: Box::new(Sampler::new(dir.path()).unwrap()),
        ballast: Ballast::open(dir.path().join("ballast"), u64::MAX),
    };
    let attempts = Arc::new(Script {
        told: sender,
        next: next_sender,
        known: Mutex::default(),
        silent: AtomicBool::new(silent),
    });
    let (engine, task) = start(parts, inbox, attempts.clone()).unwrap();
    Fixture {
        engine,
        reports,
        told,
        next,
        store,
        task,
        attempts,
        _dir: dir,
    }
}

impl Fixture {
    async fn submit(&self, number: u64) -> Result<Answer, EngineError> {
        self.submit_as(number, request()).await
    }

    async fn submit_as(&self, number: u64, request: Request) -> Result<Answer, EngineError> {
        self.submit_after(number, request, Vec::new()).await
    }

    async fn submit_after(
        &self,
        number: u64,
        request: Request,
        dependencies: Vec<Dependency>,
    ) -> Result<Answer, EngineError> {
        let submission = Submission {
            id: id(number),
            request,
            dependencies,
            held: false,
            parent: None,
            spec: Arc::from(*b"{}"),
        };
        let submit = Submit {
            tasks: vec![submission],
            ..Submit::default()
        };
        self.engine.command(Input::Submit(submit)).await
    }

    async fn told(&mut self) -> Told {
        self.told.recv().await.expect("the engine lives")
    }

    async fn end(&self, attempt: AttemptId) {
        self.reports
            .send(attempt, Report::Ended(Box::new(success())))
            .await;
    }

    fn outcome(&self, number: u64) -> Option<Outcome> {
        match self.store.task(id(number)).unwrap().unwrap().state {
            State::Done { outcome, .. } => Some(outcome),
            _ => None,
        }
    }

    async fn stop(self) -> Arc<MemoryStore> {
        self.engine.stop().await;
        self.task.await.unwrap().unwrap();
        self.store
    }
}

fn id(number: u64) -> TaskId {
    TaskId::new(number, u128::from(number))
}

fn attempt(number: u64) -> AttemptId {
    AttemptId {
        task: id(number),
        number: 1,
    }
}

fn request() -> Request {
    Request {
        max_output_bytes: 1 << 20,
        env_digest: "e".into(),
        ..Request::new("mock", Class::Command)
    }
}

fn success() -> Ending {
    Ending {
        exit_code: Some(0),
        ..Ending::new(Cause::Success, "")
    }
}

#[tokio::test]
async fn an_answer_means_that_it_is_in_the_store() {
    let mut fixture = begin(Arc::default(), 1);
    let answer = fixture.submit(1).await.unwrap();
    assert_eq!(
        answer,
        Answer::Accepted(vec![Accepted {
            task: id(1),
            existing: false
        }])
    );
    assert!(fixture.store.task(id(1)).unwrap().is_some());
    assert_eq!(fixture.told().await, Told::Start(attempt(1)));
    fixture.end(attempt(1)).await;
    assert_eq!(fixture.told().await, Told::Release(attempt(1)));
    // A release follows the commit of the end.
    assert_eq!(fixture.outcome(1), Some(Outcome::Succeeded));
}

#[tokio::test]
async fn a_waiter_is_told_of_the_end_after_it_is_durable() {
    let mut fixture = begin(Arc::default(), 1);
    let finished = fixture.engine.finish_of(id(1));
    fixture.submit(1).await.unwrap();
    assert_eq!(fixture.told().await, Told::Start(attempt(1)));
    fixture.end(attempt(1)).await;
    finished.await.unwrap();
    assert_eq!(fixture.outcome(1), Some(Outcome::Succeeded));
}

#[tokio::test]
async fn who_starts_next_is_named_before_its_turn_and_no_more_when_it_has_none() {
    let mut fixture = begin(Arc::default(), 1);
    for number in 1..=3 {
        fixture.submit(number).await.unwrap();
    }
    assert_eq!(fixture.next.recv().await, Some(Next::Prepare(attempt(2))));
    let cancel = Input::Cancel {
        task: id(2),
        reason: None,
    };
    fixture.engine.command(cancel).await.unwrap();
    let named = [fixture.next.recv().await, fixture.next.recv().await];
    let expected = [Next::Prepare(attempt(3)), Next::Dismiss(attempt(2))];
    assert_eq!(named, expected.map(Some));
    assert_eq!(fixture.told().await, Told::Start(attempt(1)));
}

/// It may ask for the other one with its first line.
#[tokio::test]
async fn who_was_started_because_another_has_ended_reads_that_it_has() {
    let mut fixture = begin(Arc::default(), 1);
    fixture.submit(1).await.unwrap();
    assert_eq!(fixture.told().await, Told::Start(attempt(1)));
    let after = Dependency {
        task: id(1),
        condition: Condition::Succeeded,
    };
    let then = fixture.submit_after(2, request(), vec![after]);
    then.await.unwrap();
    fixture.engine.caught_up().await;
    let store = fixture.store.clone();
    let stalled = store.stall();
    fixture.end(attempt(1)).await;
    assert_eq!(
        fixture.told().await,
        Told::Start(attempt(2)),
        "no commit stands between them"
    );
    let mut caught_up = std::pin::pin!(fixture.engine.caught_up());
    let look = |context: &mut Context<'_>| Poll::Ready(caught_up.as_mut().poll(context));
    assert!(poll_fn(look).await.is_pending());
    drop(stalled);
    caught_up.await;
    assert_eq!(fixture.outcome(1), Some(Outcome::Succeeded));
}

/// The batch that it waits for is not written, and on a quiet host no other follows.
#[tokio::test]
async fn who_waits_for_a_batch_that_fails_waits_no_longer() {
    let mut fixture = begin(Arc::default(), 1);
    fixture.submit(1).await.unwrap();
    assert_eq!(fixture.told().await, Told::Start(attempt(1)));
    let after = Dependency {
        task: id(1),
        condition: Condition::Succeeded,
    };
    let then = fixture.submit_after(2, request(), vec![after]);
    then.await.unwrap();
    fixture.engine.caught_up().await;
    fixture.store.fail_commits(2);
    let store = fixture.store.clone();
    let stalled = store.stall();
    fixture.end(attempt(1)).await;
    assert_eq!(fixture.told().await, Told::Start(attempt(2)));
    let engine = fixture.engine.clone();
    let mut caught_up = std::pin::pin!(engine.caught_up());
    let look = |context: &mut Context<'_>| Poll::Ready(caught_up.as_mut().poll(context));
    assert!(poll_fn(look).await.is_pending());
    drop(stalled);
    caught_up.await;
}

/// Of both it is on disk how far the attempt is, before it goes on.
#[tokio::test]
async fn an_attempt_goes_on_once_its_phase_is_durable() {
    let mut fixture = begin(Arc::default(), 1);
    let measured = Request {
        start_timeout: Some(std::time::Duration::from_mins(2)),
        ..request()
    };
    fixture.submit_as(1, measured).await.unwrap();
    assert_eq!(fixture.told().await, Told::Start(attempt(1)));
    let phase = |fixture: &Fixture| {
        let task = fixture.store.task(id(1)).unwrap().unwrap();
        task.phase().cloned()
    };
    assert_eq!(phase(&fixture), Some(Phase::Preparing));
    fixture.reports.send(attempt(1), Report::Prepared).await;
    assert_eq!(fixture.told().await, Told::Spawn(attempt(1)));
    assert_eq!(phase(&fixture), Some(Phase::Starting));
    let settling = Report::Settling(Box::new(success()));
    fixture.store.fail_commits(2);
    fixture.reports.send(attempt(1), settling.clone()).await;
    // It was not written: nothing is settled, and what was told is asked for again.
    assert_eq!(fixture.told().await, Told::Resume(attempt(1)));
    fixture.reports.send(attempt(1), settling).await;
    assert_eq!(fixture.told().await, Told::Settle(attempt(1)));
    assert_eq!(phase(&fixture), Some(Phase::Settling));
    let store = fixture.stop().await;
    // Another host goes on with it, and needs nothing but what is on disk.
    let mut next = begin(store, 1);
    assert_eq!(next.told().await, Told::Resume(attempt(1)));
    next.end(attempt(1)).await;
    assert_eq!(next.told().await, Told::Release(attempt(1)));
    assert_eq!(next.outcome(1), Some(Outcome::Succeeded));
}

/// Two at once: each guest goes on with its own, also after what was told before a reload is told
/// again.
#[tokio::test]
async fn a_checkpoint_is_stored_by_its_number() {
    let mut fixture = begin(Arc::default(), 1);
    fixture.submit(1).await.unwrap();
    assert_eq!(fixture.told().await, Told::Start(attempt(1)));
    let checkpoint = |number: u64| Report::Checkpoint {
        number,
        state: Arc::from(*b"state"),
    };
    fixture.store.fail_commits(2);
    fixture.reports.send(attempt(1), checkpoint(1)).await;
    assert_eq!(fixture.told().await, Told::Resume(attempt(1)));
    fixture.reports.send(attempt(1), checkpoint(1)).await;
    fixture.reports.send(attempt(1), checkpoint(2)).await;
    let told = [fixture.told().await, fixture.told().await];
    assert_eq!(told, [1, 2].map(|number| Told::Stored(attempt(1), number)));
}

/// Who asks a host in its first moment is not told that there is nothing.
#[tokio::test]
async fn a_new_host_knows_from_the_start_what_is_queued() {
    let mut first = begin(Arc::default(), 1);
    first.submit(1).await.unwrap();
    assert_eq!(first.told().await, Told::Start(attempt(1)));
    first.submit(2).await.unwrap();
    let store = first.stop().await;
    // It has not taken a turn yet: this runtime has one thread, and nothing is awaited.
    let second = begin(store, 1);
    let snapshot = second.engine.snapshot();
    assert_eq!(snapshot.running + snapshot.queued, 2);
    assert_eq!(snapshot.limits.slots, Slots::Fixed(1));
}

#[tokio::test]
async fn a_failed_commit_is_the_callers_error_and_nothing_else_happens() {
    let fixture = begin(Arc::default(), 1);
    fixture.store.fail_commits(2);
    let error = fixture.submit(1).await.unwrap_err();
    assert!(matches!(error, EngineError::StoreFull(_)), "{error}");
    assert!(fixture.store.task(id(1)).unwrap().is_none());
    let mut fixture = fixture;
    assert!(fixture.told.try_recv().is_err(), "nothing was started");
    fixture.engine.stop().await;
}

/// It was decided on what another command had put into the same batch, and that did not come to be.
#[tokio::test]
async fn a_refusal_waits_for_the_batch_it_was_decided_on() {
    let fixture = begin(Arc::default(), 1);
    let keyed = |payload: &str| Request {
        idempotency: Some(Box::new(Idempotency {
            key: "key".to_owned(),
            payload_digest: payload.to_owned(),
        })),
        ..request()
    };
    fixture.store.fail_commits(2);
    let (taken, refused) = tokio::join!(
        fixture.submit_as(1, keyed("a")),
        fixture.submit_as(2, keyed("b")),
    );
    for answer in [taken, refused] {
        assert!(
            matches!(answer, Err(EngineError::StoreFull(_))),
            "{answer:?}"
        );
    }
    fixture.engine.stop().await;
}

#[tokio::test]
async fn a_full_disk_takes_the_ballast_before_it_is_anybodys_error() {
    let fixture = begin(Arc::default(), 1);
    fixture.store.fail_commits(1);
    fixture.submit(1).await.unwrap();
    assert!(fixture.store.task(id(1)).unwrap().is_some());
    assert!(
        matches!(fixture.submit(2).await, Err(EngineError::StoreFull(_))),
        "from here on nothing new is taken"
    );
}

#[tokio::test]
async fn an_end_that_could_not_be_written_is_asked_for_again() {
    let mut fixture = begin(Arc::default(), 1);
    fixture.submit(1).await.unwrap();
    assert_eq!(fixture.told().await, Told::Start(attempt(1)));
    fixture.store.fail_commits(2);
    fixture.end(attempt(1)).await;
    // The board was loaded again; the attempt is known here, so it is asked what it had told.
    assert_eq!(fixture.told().await, Told::Resume(attempt(1)));
    assert_eq!(fixture.outcome(1), None);
    fixture.end(attempt(1)).await;
    assert_eq!(fixture.told().await, Told::Release(attempt(1)));
    assert_eq!(fixture.outcome(1), Some(Outcome::Succeeded));
}

#[tokio::test]
async fn what_an_attempt_tells_after_its_end_is_dropped_and_counted() {
    let mut fixture = begin(Arc::default(), 1);
    fixture.submit(1).await.unwrap();
    assert_eq!(fixture.told().await, Told::Start(attempt(1)));
    fixture.end(attempt(1)).await;
    assert_eq!(fixture.told().await, Told::Release(attempt(1)));
    fixture.reports.send(attempt(1), Report::Alive).await;
    fixture.end(attempt(1)).await;
    // An end that is told again is released again. With the next answer all of the round before it has been counted.
    assert_eq!(fixture.told().await, Told::Release(attempt(1)));
    fixture.submit(2).await.unwrap();
    assert_eq!(fixture.engine.snapshot().dropped_reports, 2);
    // What somebody waits for inside an attempt that is over is no report.
    drop(fixture.engine.wait_of(attempt(1)));
    // The board that is loaded after a failed commit begins anew; the count does not.
    fixture.store.fail_commits(2);
    fixture.submit(3).await.unwrap_err();
    fixture.submit(4).await.unwrap();
    assert_eq!(fixture.engine.snapshot().dropped_reports, 2);
}

#[tokio::test]
async fn a_new_host_starts_again_what_nobody_received() {
    let mut first = begin(Arc::default(), 1);
    first.submit(1).await.unwrap();
    first.submit(2).await.unwrap();
    assert_eq!(first.told().await, Told::Start(attempt(1)));
    let store = first.stop().await;
    // The second host's attempts know nothing of either: no supervisor ever got them.
    let mut second = begin(store, 1);
    assert_eq!(second.told().await, Told::Start(attempt(1)));
    second.end(attempt(1)).await;
    let mut rest = vec![second.told().await, second.told().await];
    rest.sort_by_key(|told| matches!(told, Told::Start(_)));
    assert_eq!(rest, [Told::Release(attempt(1)), Told::Start(attempt(2))]);
}

#[tokio::test]
async fn a_cancel_of_what_runs_stops_it_and_its_end_is_cancelled() {
    let mut fixture = begin(Arc::default(), 1);
    fixture.submit(1).await.unwrap();
    assert_eq!(fixture.told().await, Told::Start(attempt(1)));
    let answer = fixture
        .engine
        .command(Input::Cancel {
            task: id(1),
            reason: None,
        })
        .await
        .unwrap();
    assert_eq!(
        answer,
        Answer::Cancelling {
            task: id(1),
            already: false
        }
    );
    assert_eq!(fixture.told().await, Told::Stop(attempt(1)));
    let killed = Ending {
        cause: Cause::Class(claudine_domain::outcome::ReasonClass::Signal),
        signal: Some(15),
        ..success()
    };
    fixture
        .reports
        .send(attempt(1), Report::Ended(Box::new(killed)))
        .await;
    assert_eq!(fixture.told().await, Told::Release(attempt(1)));
    assert_eq!(fixture.outcome(1), Some(Outcome::Cancelled));
}

#[tokio::test]
async fn a_drained_host_starts_nothing_and_is_idle_after_the_last_end() {
    let mut fixture = begin(Arc::default(), 1);
    fixture.submit(1).await.unwrap();
    fixture.submit(2).await.unwrap();
    assert_eq!(fixture.told().await, Told::Start(attempt(1)));
    fixture.engine.command(Input::Drain).await.unwrap();
    assert!(matches!(
        fixture.submit(3).await,
        Err(EngineError::Draining)
    ));
    let engine = fixture.engine.clone();
    let idle = tokio::spawn(async move { engine.idle().await });
    fixture.end(attempt(1)).await;
    idle.await.unwrap().unwrap();
    assert_eq!(fixture.told().await, Told::Release(attempt(1)));
    assert!(
        fixture.told.try_recv().is_err(),
        "the second was not started"
    );
    assert_eq!(fixture.outcome(2), None);
}

const HOUR_MS: i64 = 3_600_000;

fn limited(retry_after: std::time::Duration) -> Ending {
    Ending {
        cause: Cause::Class(claudine_domain::outcome::ReasonClass::RateLimit),
        retry_after: Some(retry_after),
        ..success()
    }
}

/// By the wall clock, which is looked at again whenever the engine wakes, and after half a minute at the latest.
#[tokio::test]
async fn who_waits_for_a_time_goes_on_when_the_clock_jumps_past_it() {
    let mut fixture = begin(Arc::default(), 1);
    let account = claudine_domain::id::AccountKey("a".to_owned());
    let parked = Request {
        account: Some(account),
        ..request()
    };
    fixture.submit_as(1, parked).await.unwrap();
    assert_eq!(fixture.told().await, Told::Start(attempt(1)));
    let hour = std::time::Duration::from_hours(1);
    let ending = Report::Ended(Box::new(limited(hour)));
    fixture.reports.send(attempt(1), ending).await;
    assert_eq!(fixture.told().await, Told::Release(attempt(1)));
    // Back, as far as to before it was submitted: it waits.
    crate::clock::jump_wall(-3 * HOUR_MS);
    fixture.engine.capacity().await.unwrap();
    assert_eq!(fixture.engine.capacity().await.unwrap().running, 0);
    crate::clock::jump_wall(3 * HOUR_MS + HOUR_MS);
    fixture.engine.capacity().await.unwrap();
    let again = AttemptId {
        task: id(1),
        number: 2,
    };
    assert_eq!(fixture.told().await, Told::Start(again));
    fixture.stop().await;
}

/// Deadlines go by the clock that does not jump.
#[tokio::test]
async fn a_clock_that_jumps_times_nothing_out() {
    let mut fixture = begin(Arc::default(), 1);
    let bounded = Request {
        timeout: Some(std::time::Duration::from_hours(1)),
        start_timeout: Some(std::time::Duration::from_mins(2)),
        ..request()
    };
    fixture.submit_as(1, bounded).await.unwrap();
    assert_eq!(fixture.told().await, Told::Start(attempt(1)));
    let mut later = 100;
    for jump in [48 * HOUR_MS, -96 * HOUR_MS, 48 * HOUR_MS] {
        crate::clock::jump_wall(jump);
        later += 1;
        fixture.submit(later).await.unwrap();
        assert_eq!(fixture.engine.capacity().await.unwrap().running, 1);
    }
    fixture.end(attempt(1)).await;
    loop {
        match fixture.told().await {
            Told::Release(of) if of == attempt(1) => break,
            Told::Start(_) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(fixture.outcome(1), Some(Outcome::Succeeded));
    fixture.stop().await;
}
