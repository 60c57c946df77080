//! The shell around the domain, with a store in memory and a runner that only records its orders.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod answering;
mod attempts;
mod clocks;
mod faults;
mod hosts;
mod reading;
mod waits;

use std::sync::{Mutex, atomic::AtomicBool};

use claudine_domain::{
    capacity::Slots,
    dependency::Dependency,
    outcome::Outcome,
    step::{Cause, Ending, Found, Submission, Submit},
    task::{Class, Request, State},
};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::*;
use crate::{ballast::Ballast, sample::Sampler, store::memory::MemoryStore};

/// An order of the engine to its runner.
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

/// A message of the engine about the attempts that start next.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    Prepare(AttemptId),
    Dismiss(AttemptId),
}

struct Script {
    told: UnboundedSender<Told>,
    next: UnboundedSender<Next>,
    acknowledged: UnboundedSender<u64>,
    known: Mutex<Vec<AttemptId>>,
    silent: AtomicBool,
}

impl Script {
    fn tell(&self, told: Told) {
        self.told.send(told).expect("the test listens");
    }
}

impl Attempts for Script {
    fn load(&self, _executor: &str) {}
    fn prepare(&self, launch: Launch) {
        // Most tests do not receive these messages.
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
    fn acknowledge(&self, _attempt: AttemptId, number: u64) {
        // Most tests do not receive these messages.
        self.acknowledged.send(number).ok();
    }
    fn release(&self, attempt: AttemptId) {
        self.tell(Told::Release(attempt));
    }
    fn checkpoint_stored(&self, attempt: AttemptId, number: u64) {
        self.tell(Told::Stored(attempt, number));
    }
    fn begun(
        &self,
        _attempts: &std::collections::BTreeSet<AttemptId>,
        _unreadable: &std::collections::BTreeSet<claudine_domain::id::TaskId>,
    ) {
    }
    fn found(&self, attempt: AttemptId, _task: &Task) -> Option<Found> {
        if self.known.lock().unwrap().contains(&attempt) {
            Some(Found::Known)
        } else if self.silent.load(Ordering::Acquire) {
            None
        } else {
            Some(Found::NeverReceived)
        }
    }
}

pub(crate) struct Fixture {
    pub(crate) engine: Engine,
    reports: ReportSender,
    told: UnboundedReceiver<Told>,
    next: UnboundedReceiver<Next>,
    acknowledged: UnboundedReceiver<u64>,
    /// The number of reports sent so far.
    reported: AtomicU64,
    store: Arc<MemoryStore>,
    task: EngineTask,
    attempts: Arc<Script>,
    _dir: tempfile::TempDir,
}

pub(crate) fn begin(store: Arc<MemoryStore>, slots: u32) -> Fixture {
    begin_beside(store, slots, false)
}

/// Begins an engine. If `silent` is set, a supervisor of an earlier host does not answer.
fn begin_beside(store: Arc<MemoryStore>, slots: u32, silent: bool) -> Fixture {
    begin_on(store, slots, silent, |sampler| Box::new(sampler))
}

fn begin_on(
    store: Arc<MemoryStore>,
    slots: u32,
    silent: bool,
    machine: impl FnOnce(Sampler) -> Box<dyn Machine>,
) -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let (sender, told) = unbounded_channel();
    let (next_sender, next) = unbounded_channel();
    let (acknowledged_sender, acknowledged) = unbounded_channel();
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
        machine: machine(Sampler::new(dir.path()).unwrap()),
        ballast: Ballast::open(dir.path().join("ballast"), u64::MAX),
        begin: Begin::Usual,
        slots: None,
    };
    let attempts = Arc::new(Script {
        told: sender,
        next: next_sender,
        acknowledged: acknowledged_sender,
        known: Mutex::default(),
        silent: AtomicBool::new(silent),
    });
    let (engine, task) = start(parts, inbox, attempts.clone()).unwrap();
    Fixture {
        engine,
        reports,
        told,
        next,
        acknowledged,
        reported: AtomicU64::new(0),
        store,
        task,
        attempts,
        _dir: dir,
    }
}

/// An engine whose task 1 was started.
async fn one_running(slots: u32) -> Fixture {
    let mut fixture = begin(Arc::default(), slots);
    fixture.submit(1).await.unwrap();
    assert_eq!(fixture.told().await, Told::Start(attempt(1)));
    fixture
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
        self.tell(attempt, Report::Ended(Box::new(success()))).await;
    }

    /// Sends a report that was not sent before.
    async fn tell(&self, attempt: AttemptId, report: Report) {
        let number = 1 + self.reported.fetch_add(1, Ordering::AcqRel);
        self.tell_as(attempt, number, report).await;
    }

    async fn tell_as(&self, attempt: AttemptId, number: u64, report: Report) {
        let from = 0;
        let numbered = Numbered {
            number,
            from,
            report,
        };
        self.reports.send(attempt, numbered).await;
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
