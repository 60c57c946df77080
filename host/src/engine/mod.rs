//! The asynchronous shell around the domain: one owner of all unfinished work and the only writer
//! of the store.
//!
//! It takes inputs from one bounded inbox, steps the board, and fills a batch; while one batch is
//! being made durable the next fills (group commit). What somebody waits for is committed at once;
//! the rest a moment later, together. Nothing outside sees a decision before its batch is on disk.
//! The rules themselves are in `claudine_domain`.

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

/// Bounds the memory of waiting inputs; whoever finds it full waits.
const INBOX: usize = 4096;

/// How long a reader waits for what was acted on before it was on disk. That is one commit away,
/// but for a disk that stands still.
const CATCH_UP: Duration = Duration::from_secs(5);

/// Why a command was not carried out.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum EngineError {
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error("the disk is full: {0}")]
    StoreFull(String),
    #[error("the store failed: {0}")]
    Store(String),
    #[error("the host cannot read its store, and tries again: {0}")]
    Reloading(String),
    #[error("the host is draining: it takes no new work, and ends when what runs has ended")]
    Draining,
    #[error("the host is going down")]
    Down,
    #[error("no host is running")]
    NoHost,
}

/// Why an engine has ended without being told to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EngineEnd {
    #[error("another host has taken over the store")]
    Fenced,
    #[error("the thread that commits has ended")]
    CommitThread,
    #[error("the store could not be read again in {tries} tries: {error}")]
    Reload { tries: u32, error: StoreError },
}

/// Where an answer goes.
type Reply<T> = oneshot::Sender<Result<T, EngineError>>;

pub(super) enum Message {
    Command {
        input: Input,
        reply: oneshot::Sender<Result<Answer, EngineError>>,
    },
    /// What an attempt tells.
    Report {
        attempt: AttemptId,
        report: Numbered<Report>,
    },
    /// Answers with what admission goes by, after another look at the machine.
    Capacity(Reply<CapacityNow>),
    /// Answers why the task is not started, if it waits for that.
    Refusal {
        task: Box<Task>,
        reply: Reply<Option<Refusal>>,
    },
    /// Answers with the groups that somebody has set.
    Groups(Reply<BTreeMap<String, Group>>),
    /// Answers at once, whatever else is the matter.
    Ping(oneshot::Sender<()>),
    /// Answers once nothing runs and nothing waits to be written.
    Idle(Reply<()>),
    /// A supervisor that had been silent has answered: what may have turned up with it is looked
    /// for.
    Reached,
    /// Somebody waits for what was acted on.
    Hurry,
    Stop,
}

/// How everybody else speaks to the engine.
#[derive(Clone)]
pub(crate) struct Engine {
    inbox: mpsc::Sender<Message>,
    snapshot: watch::Receiver<Arc<Snapshot>>,
    commits: watch::Receiver<BatchNumber>,
    /// The last batch of which something was acted on before it was on disk.
    acted_on: Arc<AtomicU64>,
    finishes: finishes::Finishes,
    waits: waits::Waits,
}

/// Where reports of attempts go.
#[derive(Clone)]
pub(crate) struct ReportSender(mpsc::Sender<Message>);

impl ReportSender {
    /// Waits for room in the inbox. A host that is going down drops reports: their sender keeps
    /// them until they are acknowledged.
    pub(crate) async fn send(&self, attempt: AttemptId, report: Numbered<Report>) {
        let message = Message::Report { attempt, report };
        if self.0.send(message).await.is_err() {
            tracing::debug!(%attempt, "report after the engine's end");
        }
    }
}

impl ReportSender {
    /// A supervisor that had been silent has answered, or is dead.
    pub(crate) async fn reached(&self) {
        if self.0.send(Message::Reached).await.is_err() {
            tracing::debug!("a supervisor answered after the engine's end");
        }
    }

    /// Does not wait; says whether there was room.
    pub(crate) fn try_send(&self, attempt: AttemptId, report: Numbered<Report>) -> bool {
        self.0.try_send(Message::Report { attempt, report }).is_ok()
    }
}

/// Why an engine does not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the commit thread cannot be started")]
    Thread(#[from] std::io::Error),
}

/// What an engine is made of.
pub(crate) struct Parts {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) epoch: Epoch,
    pub(crate) limits: Limits,
    pub(crate) bounds: Bounds,
    pub(crate) machine: Box<dyn Machine>,
    pub(crate) ballast: crate::ballast::Ballast,
    pub(crate) begin: Begin,
    /// How many are to run at once from here on, if that is said at the start.
    pub(crate) slots: Option<Slots>,
}

/// An engine's inbox before it runs, so that attempts can be wired to it.
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

/// The engine's task; its end without having been told to is an error.
pub(crate) type EngineTask = tokio::task::JoinHandle<Result<(), EngineEnd>>;

/// Loads the board, takes up what an earlier host left, and runs until it is told to stop.
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
    /// Carries out a command; returns once its decision is durable.
    pub(crate) async fn command(&self, input: Input) -> Result<Answer, EngineError> {
        let (reply, answer) = oneshot::channel();
        self.inbox
            .send(Message::Command { input, reply })
            .await
            .map_err(|_| EngineError::Down)?;
        answer.await.map_err(|_| EngineError::Down)?
    }

    /// Carries out what a principal asks for: what is recorded of it names them.
    pub(crate) async fn asked(
        &self,
        by: &Arc<Principal>,
        command: Input,
    ) -> Result<Answer, EngineError> {
        let (by, command) = (by.clone(), Box::new(command));
        self.command(Input::Asked { by, command }).await
    }

    /// The attempt waits for its own descendants until the guard is dropped, whenever that is.
    pub(crate) fn wait_of(&self, attempt: AttemptId) -> Wait {
        self.waits.begin(attempt)
    }

    /// Whether the engine takes messages and answers them.
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

    /// What admission goes by at this moment.
    pub(crate) async fn capacity(&self) -> Result<CapacityNow, EngineError> {
        self.ask(Message::Capacity).await
    }

    /// Why a task is not started at this moment, if admission says no.
    pub(crate) async fn refusal_of(&self, task: Task) -> Result<Option<Refusal>, EngineError> {
        let task = Box::new(task);
        self.ask(|reply| Message::Refusal { task, reply }).await
    }

    /// The groups that somebody has set.
    pub(crate) async fn groups(&self) -> Result<BTreeMap<String, Group>, EngineError> {
        self.ask(Message::Groups).await
    }

    async fn ask<T>(&self, message: impl FnOnce(Reply<T>) -> Message) -> Result<T, EngineError> {
        let (reply, answer) = oneshot::channel();
        let sent = self.inbox.send(message(reply)).await;
        sent.map_err(|_| EngineError::Down)?;
        answer.await.map_err(|_| EngineError::Down)?
    }

    /// Changes with each batch that has become durable, and closes with the engine.
    pub(crate) fn commits(&self) -> watch::Receiver<BatchNumber> {
        self.commits.clone()
    }

    /// Returns when everything is in the store that was acted on before it was: a task that was
    /// started because another has ended is not told that the other still runs. That is at most one
    /// batch away. If the batch is dropped, or the disk stands still, there is nothing to wait for.
    pub(crate) async fn caught_up(&self) {
        let acted_on = self.acted_on.load(Ordering::Acquire);
        let mut commits = self.commits.clone();
        if *commits.borrow() < acted_on && self.inbox.try_send(Message::Hurry).is_err() {
            tracing::debug!("the engine is too busy to hurry: the batch is written when it is due");
        }
        // A board that is loaded again sets it back, and wakes those who wait here.
        let due =
            |number: &BatchNumber| *number >= acted_on.min(self.acted_on.load(Ordering::Acquire));
        match clock::within(CATCH_UP, commits.wait_for(due)).await {
            Some(Ok(_)) => {}
            Some(Err(_)) => {
                tracing::debug!("the engine has ended; what is in the store is all there will be");
            }
            None => tracing::warn!("a commit takes long; what is read meanwhile may be older"),
        }
    }

    /// Resolves when the task finishes, after it is durable. Whoever asks looks whether it has
    /// finished already only after asking.
    pub(crate) fn finish_of(&self, task: TaskId) -> Finish {
        self.finishes.wait_for(task)
    }

    /// Returns when nothing runs any more and everything is written; after `Input::Drain` that is
    /// the end of the last attempt.
    pub(crate) async fn idle(&self) -> Result<(), EngineError> {
        self.ask(Message::Idle).await
    }

    /// Ends the engine after what it has decided is durable. Attempts run on.
    pub(crate) async fn stop(&self) {
        if self.inbox.send(Message::Stop).await.is_err() {
            tracing::debug!("the engine had stopped already");
        }
    }
}
