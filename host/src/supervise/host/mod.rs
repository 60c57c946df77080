//! The host's side: supervisors are found or started, commands go out, reports come in, each
//! exactly once.
//!
//! Everything is owned by one task, the *road* (`road`). What it hears from a supervisor's socket
//! it compares with what the engine was told already (`told`), so a connection that breaks and
//! comes back, at whatever point, neither loses nor doubles a report. A supervisor that died is
//! cleaned up after on a blocking thread (`recover`).
//!
//! A supervisor that another executable started is kept until the last of its attempts is
//! acknowledged; new work goes to one of the current executable, which is started with the first
//! child.

mod adopt;
mod feed;
mod join;
mod link;
mod recover;
mod road;
mod silent;
mod told;

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;

use super::SuperviseError;
use super::launch::Program;
use super::log::LogWatch;
use super::protocol::Command;
use super::report::{Found, Report};
use super::words::{AttemptKey, ChildId, Rung, Signal, StartChild, StopWhy};

pub(super) use feed::Feed;
pub(crate) use join::pids;
pub(crate) use road::open;
use silent::Silent;

/// Commands that may wait. A start is some hundred bytes, and the engine starts no more than its
/// slots.
const COMMANDS: usize = 4096;
/// Reports that may wait for the engine; when they do, the sockets are not read, and the
/// supervisors keep the rest.
const REPORTS: usize = 4096;

/// Inputs that are asked for at once. A supervisor lets only a few connections wait for their
/// hello, and an answer takes a moment.
const CLAIMS: usize = 4;

/// What the road is asked.
#[derive(Debug)]
enum Order {
    Command(Command),
    /// The directory of the supervisor that has the attempt.
    WhereIs(AttemptKey, oneshot::Sender<PathBuf>),
    /// Tells when all that was asked before has been sent.
    Flush(oneshot::Sender<()>),
}

/// What is needed to find and to start supervisors.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// `supervisors` in the data directory.
    pub(crate) dir: PathBuf,
    /// The executable that runs a supervisor, with the arguments that come before the directory.
    pub(crate) program: Program,
    /// The host's own environment; a supervisor gets it without the markers of attempts and agents'
    /// sessions.
    pub(crate) environment: Vec<(OsString, OsString)>,
    /// The soft limit on open files that this process was started with, for the children.
    pub(crate) descriptors: Option<u64>,
    /// The host's fencing number: supervisors do not obey a lower one than they have seen.
    pub(crate) epoch: u64,
}

/// What [`open`] returns.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) supervisors: Supervisors,
    /// Every attempt that supervisors still keep. No report repeats what stands here.
    pub(crate) found: Vec<Found>,
    pub(crate) reports: mpsc::Receiver<Report>,
    /// Ends when the last [`Supervisors`] and the receiver are gone; to be joined.
    pub(crate) road: JoinHandle<()>,
}

/// An order on its way into the queue. If the queue has room it is there at once; if not, it gets
/// there while [`Handover::done`] is awaited, and is lost without that.
#[derive(Debug)]
#[must_use = "an order that found the queue full is lost if nobody waits for room"]
pub(crate) struct Handover(State);

#[derive(Debug)]
enum State {
    Queued,
    Waits(mpsc::Sender<Order>, Order),
    Closed,
}

impl Handover {
    /// Whether the order still waits for room.
    pub(crate) fn waits(&self) -> bool {
        matches!(self.0, State::Waits(..))
    }

    /// Returns when the order is in the queue.
    pub(crate) async fn done(self) -> Result<(), SuperviseError> {
        match self.0 {
            State::Queued => Ok(()),
            State::Waits(orders, order) => {
                orders.send(order).await.map_err(|_| SuperviseError::Closed)
            }
            State::Closed => Err(SuperviseError::Closed),
        }
    }
}

/// The handle to all supervisors. Its verbs only queue; what comes of them is a [`Report`].
#[derive(Debug, Clone)]
pub(crate) struct Supervisors {
    orders: mpsc::Sender<Order>,
    watch: LogWatch,
    epoch: u64,
    claims: Arc<Semaphore>,
    silent: Silent,
}

impl Supervisors {
    /// Answered by `Started`, `NotStarted` or `Exited`. Repeating it for a child that is known
    /// starts nothing.
    pub(crate) fn start(&self, start: StartChild) -> Handover {
        self.send(Command::Start(Box::new(start)))
    }

    /// The input of a child that was started with [`Stdin::Stream`](super::Stdin::Stream) and is
    /// running; `None` where nothing reads it any more. Until this is called the child waits; if
    /// this host ends before, the child is killed.
    pub(crate) async fn feed(&self, child: ChildId) -> Result<Option<Feed>, SuperviseError> {
        let _turn = self.claims.acquire().await;
        let (reply, dir) = oneshot::channel();
        let order = Order::WhereIs(child.attempt().clone(), reply);
        let sent = self.orders.send(order).await;
        sent.map_err(|_| SuperviseError::Closed)?;
        match dir.await {
            Ok(dir) => feed::claim(&dir, self.epoch, child).await,
            // No supervisor has it.
            Err(_) => Ok(None),
        }
    }

    /// To the child's process group; nothing happens where it has ended.
    pub(crate) fn signal(&self, child: ChildId, signal: Signal) -> Handover {
        self.send(Command::Signal { child, signal })
    }

    /// Climbs the ladder and then kills, whether this host lives or not. A second stop starts over
    /// with the new ladder. Nothing of the attempt is started afterwards, also if no supervisor
    /// knows it yet, until it is acknowledged.
    pub(crate) fn stop(&self, attempt: AttemptKey, why: StopWhy, ladder: Vec<Rung>) -> Handover {
        self.send(Command::Stop {
            attempt,
            why,
            ladder,
        })
    }

    /// No more starts: ends what is left. Always answered by `Ended`, at once where nothing is
    /// left.
    pub(crate) fn finish(&self, attempt: AttemptKey) -> Handover {
        self.send(Command::Finish { attempt })
    }

    /// What became of the attempt is on disk: forget it. One that is not over yet is forgotten when
    /// it is.
    pub(crate) fn ack(&self, attempt: AttemptKey) -> Handover {
        self.send(Command::Ack { attempt })
    }

    /// Lets supervisors end as soon as they have nothing left, instead of waiting for another host.
    pub(crate) fn quit(&self) -> Handover {
        self.send(Command::Quit)
    }

    /// Returns when all that was asked before has been sent; one that is being started or looked
    /// for is waited for.
    pub(crate) async fn flush(&self) {
        let (reply, flushed) = oneshot::channel();
        if self.orders.send(Order::Flush(reply)).await.is_ok() {
            // Without an answer nobody is left who could send anything.
            flushed.await.ok();
        }
    }

    /// The host's fencing number.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Why the supervisors of earlier hosts that have not answered yet do not, one text for each.
    /// While there is one, an attempt that nobody knows may turn up.
    pub(crate) fn silent(&self) -> Vec<String> {
        self.silent.all()
    }

    /// For following output.
    pub(crate) fn log_watch(&self) -> &LogWatch {
        &self.watch
    }

    fn send(&self, command: Command) -> Handover {
        let order = Order::Command(command);
        Handover(match self.orders.try_send(order) {
            Ok(()) => State::Queued,
            Err(TrySendError::Full(order)) => State::Waits(self.orders.clone(), order),
            Err(TrySendError::Closed(_)) => State::Closed,
        })
    }
}
