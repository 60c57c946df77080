//! The asynchronous shell around the domain: one owner of all unfinished work and the only writer of the store.
//!
//! It takes inputs from one bounded inbox, steps the board, and fills a batch; while one batch is being made durable the next fills (group
//! commit). What somebody waits for is committed at once; the rest a moment later, together. Nothing outside sees a decision before its batch is on disk. The rules themselves are in `claudine_domain`.

mod capacity;
mod commit;
mod finishes;
mod owner;
mod port;
mod recent;
mod snapshot;
#[cfg(test)]
pub(crate) mod tests;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use claudine_domain::{
    batch::BatchNumber,
    board::Bounds,
    capacity::{Limits, Refusal},
    group::Group,
    id::{AttemptId, TaskId},
    principal::Principal,
    step::{Answer, Input, Refused, Report},
    task::Task,
};
use tokio::sync::{mpsc, oneshot, watch};

pub(crate) use self::{
    capacity::CapacityNow,
    finishes::Finish,
    port::{Attempts, Launch, Machine},
    snapshot::Snapshot,
};
use crate::store::{Epoch, Store, StoreError};

/// Bounds the memory of waiting inputs; whoever finds it full waits.
const INBOX: usize = 4096;

/// Why a command was not carried out.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum EngineError {
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error("the disk is full: {0}")]
    StoreFull(String),
    #[error("the store failed: {0}")]
    Store(String),
    #[error("the host is going down")]
    Down,
}

pub(super) enum Message {
    Command {
        input: Input,
        reply: oneshot::Sender<Result<Answer, EngineError>>,
    },
    Tell(Input),
    /// Answers with what admission goes by, after another look at the machine.
    Capacity(oneshot::Sender<CapacityNow>),
    /// Answers why the task is not started, if it waits for that.
    Refusal {
        task: Box<Task>,
        reply: oneshot::Sender<Option<Refusal>>,
    },
    /// Answers with the groups that somebody has set.
    Groups(oneshot::Sender<BTreeMap<String, Group>>),
    /// Answers once nothing runs and nothing waits to be written.
    Idle(oneshot::Sender<()>),
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
}

/// Where reports of attempts go.
#[derive(Clone)]
pub(crate) struct ReportSender(mpsc::Sender<Message>);

impl ReportSender {
    /// Waits for room in the inbox. A host that is going down drops reports: whoever sent them keeps them until they are released.
    pub(crate) async fn send(&self, attempt: AttemptId, report: Report) {
        let message = Message::Tell(Input::Report { attempt, report });
        if self.0.send(message).await.is_err() {
            tracing::debug!(%attempt, "report after the engine's end");
        }
    }
}

impl ReportSender {
    /// Does not wait; says whether there was room.
    pub(crate) fn try_send(&self, attempt: AttemptId, report: Report) -> bool {
        self.0
            .try_send(Message::Tell(Input::Report { attempt, report }))
            .is_ok()
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

/// Loads the board, takes up what an earlier host left, and runs until it is told to stop.
pub(crate) fn start(
    parts: Parts,
    inbox: Inbox,
    attempts: Arc<dyn Attempts>,
) -> Result<(Engine, tokio::task::JoinHandle<()>), StartError> {
    let finishes = finishes::Finishes::default();
    let (publish, snapshot) = watch::channel(Arc::new(Snapshot::default()));
    let (told, commits) = watch::channel(0);
    let acted_on = Arc::new(AtomicU64::new(0));
    let engine = Engine {
        inbox: inbox.sender,
        snapshot,
        commits,
        acted_on: acted_on.clone(),
        finishes: finishes.clone(),
    };
    let owner = owner::Owner::new(parts, attempts, publish, told, acted_on, finishes)?;
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

    /// Tells something nobody waits for. A full inbox drops it, with a word in the log: what is told so is a hint, not a fact to be kept.
    pub(crate) fn tell(&self, input: Input) {
        if let Err(error) = self.inbox.try_send(Message::Tell(input)) {
            tracing::warn!(%error, "the engine did not take a hint");
        }
    }

    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.borrow().clone()
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

    async fn ask<T>(
        &self,
        message: impl FnOnce(oneshot::Sender<T>) -> Message,
    ) -> Result<T, EngineError> {
        let (reply, answer) = oneshot::channel();
        let sent = self.inbox.send(message(reply)).await;
        sent.map_err(|_| EngineError::Down)?;
        answer.await.map_err(|_| EngineError::Down)
    }

    /// Changes with each batch that has become durable, and closes with the engine.
    pub(crate) fn commits(&self) -> watch::Receiver<BatchNumber> {
        self.commits.clone()
    }

    /// Returns when everything is in the store that was acted on before it was: a task that was started because another has ended is not
    /// told that the other still runs. That is at most one batch away.
    pub(crate) async fn caught_up(&self) {
        let acted_on = self.acted_on.load(Ordering::Acquire);
        let mut commits = self.commits.clone();
        if *commits.borrow() < acted_on && self.inbox.try_send(Message::Hurry).is_err() {
            tracing::debug!("the engine is too busy to hurry: the batch is written when it is due");
        }
        // After a failed commit that batch will not come: its number is given out again, to whatever comes next.
        let still = || acted_on.min(self.acted_on.load(Ordering::Acquire));
        let there = commits.wait_for(|number| *number >= still()).await;
        if there.is_err() {
            tracing::debug!("the engine has ended; what is in the store is all there will be");
        }
    }

    /// Resolves when the task finishes, after it is durable. Whoever asks looks whether it has finished already only after asking.
    pub(crate) fn finish_of(&self, task: TaskId) -> Finish {
        self.finishes.wait_for(task)
    }

    /// Returns when nothing runs any more and everything is written; with `Input::Drain` before it, that is the end of the last attempt.
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
