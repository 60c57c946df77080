//! The asynchronous shell around the domain: the single owner of all unfinished work, and the only
//! writer of the store.
//!
//! The engine takes inputs from one bounded inbox, passes them to the board (all unfinished work,
//! in memory), and adds the changes to a batch. While one batch is made durable, the next one is
//! filled (group commit). A batch for which somebody waits is committed at once. Any other batch is
//! committed a moment later, so that more inputs share the commit. No decision is visible outside
//! before its batch is on disk, with one exception: an attempt that was reserved on disk starts as
//! soon as a slot is free or its dependencies have ended, even if the end of another attempt that
//! made this start possible is not on disk yet. The rules by which the board decides are in
//! `claudine_domain`.

mod absent;
mod aside;
mod capacity;
mod commit;
mod finishes;
mod owner;
mod port;
mod recent;
mod reports;
mod snapshot;
#[cfg(test)]
pub(crate) mod tests;
mod waits;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use claudine_domain::{
    batch::BatchNumber,
    board::Bounds,
    capacity::{Limits, Refusal, Slots},
    group::Group,
    id::{AttemptId, TaskId},
    outbox::Numbered,
    principal::Principal,
    step::{Answer, Input, Refused, Report},
    task::Task,
};
use tokio::sync::{mpsc, oneshot, watch};

pub(crate) use self::{
    absent::absent,
    capacity::CapacityNow,
    finishes::Finish,
    port::{Attempts, Launch, Machine},
    snapshot::Snapshot,
    waits::Wait,
};
use crate::clock;
use crate::config::Begin;
use crate::store::{Epoch, Store, StoreError};

/// The capacity of the inbox; senders wait while it is full.
const INBOX: usize = 4096;

/// The maximum time that a reader waits until decisions that the engine has already acted on are on
/// disk. The wait takes as long as one commit, unless the disk hangs.
const CATCH_UP: Duration = Duration::from_secs(5);

/// Why a command was not carried out.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum EngineError {
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error("{0}")]
    StoreFull(String),
    #[error("the store failed: {0}")]
    Store(String),
    #[error("the host cannot read its store, and tries again: {0}")]
    Reloading(String),
    #[error("the host is draining: it takes no new work, and ends after the running attempts")]
    Draining,
    #[error("the host is going down")]
    Down,
    /// Like `Down`, but certainly nothing was done, so the next host can do it.
    #[error("the host is going down")]
    Leaving,
    #[error("no host is running")]
    NoHost,
}

/// Why an engine has ended although nobody stopped it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EngineEnd {
    #[error("another host has taken over the store")]
    Fenced,
    /// The files of the store were removed, replaced or overwritten.
    #[error(transparent)]
    Gone(StoreError),
    #[error("the thread that commits has ended")]
    CommitThread,
    #[error("the store could not be read again in {tries} tries: {error}")]
    Reload { tries: u32, error: StoreError },
}

/// The channel for an answer.
type Reply<T> = oneshot::Sender<Result<T, EngineError>>;

pub(super) enum Message {
    Command {
        input: Input,
        reply: oneshot::Sender<Result<Answer, EngineError>>,
    },
    /// A report of an attempt.
    Report {
        attempt: AttemptId,
        report: Numbered<Report>,
    },
    /// Reads the machine again, and answers with the data that admission uses.
    Capacity(Reply<CapacityNow>),
    /// Answers with the reason why a waiting task is not started.
    Refusal {
        task: Box<Task>,
        reply: Reply<Option<Refusal>>,
    },
    /// Answers with the groups that have settings.
    Groups(Reply<BTreeMap<String, Group>>),
    /// Answers at once, whatever state the engine is in.
    Ping(oneshot::Sender<()>),
    /// Answers once nothing runs and nothing waits to be written.
    Idle(Reply<()>),
    /// The code of an executor cannot be had at the moment, for this reason, or can be had again.
    Code {
        executor: Arc<str>,
        lacks: Option<Arc<str>>,
    },
    /// A silent supervisor has answered, or is dead. Attempts that this supervisor may have are
    /// looked up again.
    Reached,
    /// Commits the open batch now, because a reader waits until decisions that the engine has
    /// already acted on are on disk.
    Hurry,
    Stop,
}

/// A handle to the engine.
#[derive(Clone)]
pub(crate) struct Engine {
    inbox: mpsc::Sender<Message>,
    snapshot: watch::Receiver<Arc<Snapshot>>,
    commits: watch::Receiver<BatchNumber>,
    /// The number of the last batch whose decisions were acted on before the batch was on disk.
    acted_on: Arc<AtomicU64>,
    finishes: finishes::Finishes,
    waits: waits::Waits,
}

/// The handle by which attempts send their reports.
#[derive(Clone)]
pub(crate) struct ReportSender(mpsc::Sender<Message>);

impl ReportSender {
    /// Sends a report, and waits for room in the inbox. If the host is going down, the report is
    /// not sent. It is not lost, because an attempt keeps each report until the engine acknowledges
    /// the report.
    pub(crate) async fn send(&self, attempt: AttemptId, report: Numbered<Report>) {
        let message = Message::Report { attempt, report };
        if self.0.send(message).await.is_err() {
            tracing::debug!(%attempt, "a report arrived after the engine's end");
        }
    }
}

impl ReportSender {
    /// Tells the engine that a silent supervisor has answered, or that it is dead.
    pub(crate) async fn reached(&self) {
        if self.0.send(Message::Reached).await.is_err() {
            tracing::debug!("a supervisor answered after the engine's end");
        }
    }

    /// Tells the engine that the code of an executor cannot be had at the moment, for this reason,
    /// or that it can be had again.
    pub(crate) async fn code(&self, executor: &str, lacks: Option<&str>) {
        let message = Message::Code {
            executor: executor.into(),
            lacks: lacks.map(Arc::from),
        };
        if self.0.send(message).await.is_err() {
            tracing::debug!("news of an executor's code arrived after the engine's end");
        }
    }

    /// Waits until the inbox has room for a message.
    pub(crate) async fn room(&self) {
        if self.0.reserve().await.is_err() {
            tracing::debug!("there is no room for a report after the engine's end");
        }
    }

    /// Sends a report without waiting. Returns whether there was room for it.
    pub(crate) fn try_send(&self, attempt: AttemptId, report: Numbered<Report>) -> bool {
        self.0.try_send(Message::Report { attempt, report }).is_ok()
    }
}

/// Why an engine cannot start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the commit thread cannot be started")]
    Thread(#[from] std::io::Error),
}

/// The parts of an engine.
pub(crate) struct Parts {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) epoch: Epoch,
    pub(crate) limits: Limits,
    pub(crate) bounds: Bounds,
    pub(crate) machine: Box<dyn Machine>,
    pub(crate) ballast: crate::ballast::Ballast,
    pub(crate) begin: Begin,
    /// The number of slots, if it is set at the start.
    pub(crate) slots: Option<Slots>,
}

/// An engine's inbox before the engine runs, so that attempts can be connected to it.
pub(crate) struct Inbox {
    sender: mpsc::Sender<Message>,
    receiver: mpsc::Receiver<Message>,
}

impl Inbox {
    pub(crate) fn new() -> Self {
        let (sender, receiver) = mpsc::channel(INBOX);
        Self { sender, receiver }
    }

    pub(crate) fn reports(&self) -> ReportSender {
        ReportSender(self.sender.clone())
    }
}

/// The engine's asynchronous task. It returns an error if the engine ends although nobody stopped
/// the engine.
pub(crate) type EngineTask = tokio::task::JoinHandle<Result<(), EngineEnd>>;

/// Loads the board, takes over the attempts of an earlier host, and runs until it is stopped.
pub(crate) fn start(
    parts: Parts,
    inbox: Inbox,
    attempts: Arc<dyn Attempts>,
) -> Result<(Engine, EngineTask), StartError> {
    let finishes = finishes::Finishes::default();
    let waits = waits::Waits::default();
    let (publish, snapshot) = watch::channel(Arc::new(Snapshot::default()));
    let (told, commits) = watch::channel(0);
    let acted_on = Arc::new(AtomicU64::new(0));
    let engine = Engine {
        inbox: inbox.sender,
        snapshot,
        commits,
        acted_on: acted_on.clone(),
        finishes: finishes.clone(),
        waits: waits.clone(),
    };
    let shared = owner::Shared {
        publish,
        told,
        acted_on,
        finishes,
        waits,
    };
    let owner = owner::Owner::new(parts, attempts, shared)?;
    let task = tokio::spawn(owner.run(inbox.receiver));
    Ok((engine, task))
}

impl Engine {
    /// Carries out a command. Returns once the decision is durable.
    pub(crate) async fn command(&self, input: Input) -> Result<Answer, EngineError> {
        let (reply, answer) = oneshot::channel();
        self.inbox
            .send(Message::Command { input, reply })
            .await
            .map_err(|_| EngineError::Leaving)?;
        answer.await.map_err(|_| EngineError::Down)?
    }

    /// Carries out a command of a principal, who is recorded with the command's effects.
    pub(crate) async fn asked(
        &self,
        by: &Arc<Principal>,
        command: Input,
    ) -> Result<Answer, EngineError> {
        let (by, command) = (by.clone(), Box::new(command));
        self.command(Input::Asked { by, command }).await
    }

    /// Marks that the attempt waits for its own descendants, until the guard is dropped.
    pub(crate) fn wait_of(&self, attempt: AttemptId) -> Wait {
        self.waits.begin(attempt)
    }

    /// Whether the engine answers messages.
    pub(crate) async fn answers(&self) -> bool {
        let (reply, answer) = oneshot::channel();
        self.inbox.send(Message::Ping(reply)).await.is_ok() && answer.await.is_ok()
    }

    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.borrow().clone()
    }

    /// Resolves when the engine is not draining.
    pub(crate) async fn takes_work(&self) {
        let mut snapshot = self.snapshot.clone();
        if snapshot.wait_for(|now| !now.draining).await.is_err() {
            tracing::debug!("the engine has ended");
        }
    }

    /// Resolves when no attempt runs, not even one whose end is still to be told.
    pub(crate) async fn runs_nothing(&self) {
        let mut snapshot = self.snapshot.clone();
        if snapshot.wait_for(|now| now.running == 0).await.is_err() {
            tracing::debug!("the engine has ended");
        }
    }

    /// The data that admission uses at this moment.
    pub(crate) async fn capacity(&self) -> Result<CapacityNow, EngineError> {
        self.ask(Message::Capacity).await
    }

    /// The reason why a task is not started at this moment, if admission refuses it.
    pub(crate) async fn refusal_of(&self, task: Task) -> Result<Option<Refusal>, EngineError> {
        let task = Box::new(task);
        self.ask(|reply| Message::Refusal { task, reply }).await
    }

    /// The groups that have settings.
    pub(crate) async fn groups(&self) -> Result<BTreeMap<String, Group>, EngineError> {
        self.ask(Message::Groups).await
    }

    async fn ask<T>(&self, message: impl FnOnce(Reply<T>) -> Message) -> Result<T, EngineError> {
        let (reply, answer) = oneshot::channel();
        let sent = self.inbox.send(message(reply)).await;
        sent.map_err(|_| EngineError::Down)?;
        answer.await.map_err(|_| EngineError::Down)?
    }

    /// The number of the last durable batch. The channel is closed when the engine ends.
    pub(crate) fn commits(&self) -> watch::Receiver<BatchNumber> {
        self.commits.clone()
    }

    /// Waits until all decisions that were acted on before this call are in the store. Without this
    /// wait, a task that was started at the end of its dependency could read that the dependency
    /// still runs. The wait is for one batch at most, and ends early if the batch is dropped or the
    /// disk hangs.
    pub(crate) async fn caught_up(&self) {
        let acted_on = self.acted_on.load(Ordering::Acquire);
        let mut commits = self.commits.clone();
        if *commits.borrow() < acted_on && self.inbox.try_send(Message::Hurry).is_err() {
            tracing::debug!("the inbox is full: the batch is written when it is due");
        }
        // When the board is loaded again, `self.acted_on` is reset and the readers that wait here
        // are woken.
        let due =
            |number: &BatchNumber| *number >= acted_on.min(self.acted_on.load(Ordering::Acquire));
        match clock::within(CATCH_UP, commits.wait_for(due)).await {
            Some(Ok(_)) => {}
            Some(Err(_)) => {
                tracing::debug!("the engine has ended; the store does not change any more");
            }
            None => tracing::warn!("a commit takes long; reads may be outdated"),
        }
    }

    /// Resolves when the end of the task is durable. To miss no end, first call this method, and
    /// then check whether the task has already finished.
    pub(crate) fn finish_of(&self, task: TaskId) -> Finish {
        self.finishes.wait_for(task)
    }

    /// Waits until nothing runs and everything is written. After `Input::Drain`, the wait ends with
    /// the last attempt.
    pub(crate) async fn idle(&self) -> Result<(), EngineError> {
        self.ask(Message::Idle).await
    }

    /// Resolves once several tries in a row to store decisions have failed, with the reason of the
    /// last one. Tries before this call do not count.
    pub(crate) async fn stores_nothing(&self) -> String {
        let mut snapshot = self.snapshot.clone();
        let before = snapshot.borrow().trouble.failures;
        let lasting = snapshot.wait_for(|now| now.trouble.lasting_since(before).is_some());
        if let Ok(now) = lasting.await {
            return now.trouble.unstored().unwrap_or_default().to_owned();
        }
        // The engine has ended, which ends the host.
        std::future::pending().await
    }

    /// Ends the engine once its decisions are durable, or cannot be stored. Attempts continue to
    /// run.
    pub(crate) async fn stop(&self) {
        if self.inbox.send(Message::Stop).await.is_err() {
            tracing::debug!("the engine had stopped already");
        }
    }
}
