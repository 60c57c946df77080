//! The host's side: finds or starts supervisors, sends commands, and receives each report exactly
//! once.
//!
//! One async task, the *router* (`router`), owns all connections. It compares each message of a
//! supervisor with its record of the reports that the engine already got (`told`). So no report is
//! lost or duplicated if a connection breaks, at whatever point, and is made again. A blocking
//! thread cleans up after a supervisor that died (`recover`).
//!
//! A supervisor that another executable started is kept until the last of its attempts is
//! acknowledged. New work goes to a supervisor of the current executable, which is started when the
//! first child is to be started.

mod adopt;
mod answers;
mod ending;
mod feed;
mod join;
mod link;
mod orphans;
mod recover;
mod router;
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

pub(crate) use ending::end_all;
pub(super) use feed::Feed;
pub(crate) use join::{
    frozen, frozen_among, is_out_of_sight, leaders, may_have_left, open_attempts, pids,
    runs_as_noted, suspended,
};
pub(crate) use orphans::Orphans;
pub(crate) use router::open;
use silent::Silent;
pub(crate) use silent::{Silence, SilenceKind};

/// The most commands that may wait. They need little memory, because a start is a few hundred
/// bytes, and the engine starts no more attempts than it has slots.
const COMMANDS: usize = 4096;
/// The most reports that may wait for the engine. While this many wait, the sockets are not read,
/// and the supervisors keep later reports.
const REPORTS: usize = 4096;

/// The most requests for the input of a child at the same time. A supervisor keeps only a few
/// connections that have not sent their hello yet.
const CLAIMS: usize = 4;

/// A request to the router.
#[derive(Debug)]
enum Order {
    Command(Command),
    /// Asks for the directory of the supervisor that has the attempt.
    WhereIs(AttemptKey, oneshot::Sender<PathBuf>),
    /// Replies when every earlier order has been sent.
    Flush(oneshot::Sender<()>),
}

/// The settings for finding and starting supervisors.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// The directory `supervisors` in the data directory.
    pub(crate) dir: PathBuf,
    /// The executable that runs a supervisor, with the arguments that come before the directory.
    pub(crate) program: Program,
    /// The host's own environment. Supervisors get it without the variables that mark attempts and
    /// agents' sessions.
    pub(crate) environment: Vec<(OsString, OsString)>,
    /// The soft limit on open files that this process was started with, to be given to children.
    pub(crate) descriptors: Option<u64>,
    /// The host's fencing number: a supervisor obeys no host whose number is lower than the highest
    /// that it has seen.
    pub(crate) epoch: u64,
}

/// The result of [`open`].
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) supervisors: Supervisors,
    /// Every attempt that supervisors still keep. The states here are not reported again.
    pub(crate) found: Vec<Found>,
    pub(crate) reports: mpsc::Receiver<Report>,
    /// The router's async task, to be joined. It ends when the last [`Supervisors`] and the
    /// receiver are dropped.
    pub(crate) router: JoinHandle<()>,
}

/// An order that is being put into the queue. If the queue has room, the order is queued at once.
/// If the queue is full, the order is queued while [`Handover::done`] is awaited, and lost if
/// nobody awaits it.
#[derive(Debug)]
#[must_use = "if the queue is full, the order is lost unless this is awaited"]
pub(crate) struct Handover(State);

#[derive(Debug)]
enum State {
    Queued,
    Waits(mpsc::Sender<Order>, Order),
    Closed,
}

impl Handover {
    /// Whether the order is still waiting for room.
    pub(crate) fn waits(&self) -> bool {
        matches!(self.0, State::Waits(..))
    }

    /// Waits until the order is in the queue.
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

/// The handle to all supervisors. Its methods only queue orders; the results come as [`Report`]s.
#[derive(Debug, Clone)]
pub(crate) struct Supervisors {
    orders: mpsc::Sender<Order>,
    watch: LogWatch,
    epoch: u64,
    claims: Arc<Semaphore>,
    silent: Silent,
}

impl Supervisors {
    /// Starts a child. Answered by `Started`, `NotStarted` or `Exited`. Repeating the start of a
    /// known child starts nothing, and is answered by the state of the child.
    pub(crate) fn start(&self, start: StartChild) -> Handover {
        self.send(Command::Start(Box::new(start)))
    }

    /// The input of a running child that was started with [`Stdin::Stream`](super::Stdin::Stream);
    /// `None` if nothing reads the input any more. The child waits for its input until this
    /// function is called, and is killed if this host ends before that.
    pub(crate) async fn feed(&self, child: ChildId) -> Result<Option<Feed>, SuperviseError> {
        let _turn = self.claims.acquire().await;
        let (reply, dir) = oneshot::channel();
        let order = Order::WhereIs(child.attempt().clone(), reply);
        let sent = self.orders.send(order).await;
        sent.map_err(|_| SuperviseError::Closed)?;
        match dir.await {
            Ok(dir) => feed::claim(&dir, self.epoch, child).await,
            // No supervisor has the child.
            Err(_) => Ok(None),
        }
    }

    /// Signals the child's process group; does nothing if the child has ended.
    pub(crate) fn signal(&self, child: ChildId, signal: Signal) -> Handover {
        self.send(Command::Signal { child, signal })
    }

    /// Sends the ladder's signals in turn and then KILL, even if this host dies meanwhile. A second
    /// stop starts over with the new ladder. Until the attempt is acknowledged, no more of its
    /// children are started, even if no supervisor knows the attempt yet.
    pub(crate) fn stop(&self, attempt: AttemptKey, why: StopWhy, ladder: Vec<Rung>) -> Handover {
        self.send(Command::Stop {
            attempt,
            why,
            ladder,
        })
    }

    /// Ends the remaining processes of the attempt; no more starts may follow. Always answered by
    /// `Ended`, at once if no process is left.
    pub(crate) fn finish(&self, attempt: AttemptKey) -> Handover {
        self.send(Command::Finish { attempt })
    }

    /// Lets the supervisor forget the attempt, because its result is on disk. An attempt that has
    /// not ended yet is forgotten at its end.
    pub(crate) fn ack(&self, attempt: AttemptKey) -> Handover {
        self.send(Command::Ack { attempt })
    }

    /// Stops an attempt and lets its supervisor forget it. The acknowledgement is queued only after
    /// the stop: if it overtook the stop, the stop would reach nobody, and the attempt would go on.
    pub(crate) fn stop_and_ack(
        &self,
        attempt: AttemptKey,
        why: StopWhy,
        ladder: Vec<Rung>,
    ) -> impl Future<Output = Result<(), SuperviseError>> + Send + use<> {
        let stop = self.stop(attempt.clone(), why, ladder);
        let supervisors = self.clone();
        async move {
            stop.done().await?;
            supervisors.ack(attempt).done().await
        }
    }

    /// Lets supervisors end as soon as they have no attempts left, instead of waiting for another
    /// host.
    pub(crate) fn quit(&self) -> Handover {
        self.send(Command::Quit)
    }

    /// Waits until every earlier order has been sent, including orders to supervisors that are
    /// being started or reconnected to, but without orders to silent supervisors.
    pub(crate) async fn flush(&self) {
        let (reply, flushed) = oneshot::channel();
        if self.orders.send(Order::Flush(reply)).await.is_ok() {
            // If no answer comes, the router has ended and sends nothing more.
            flushed.await.ok();
        }
    }

    /// The host's fencing number.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The reasons why supervisors do not answer, or why the processes of dead supervisors cannot
    /// be ended, one for each supervisor. While there is such a supervisor, it may have an attempt
    /// that this host does not know.
    pub(crate) fn silences(&self) -> Vec<Silence> {
        self.silent.all()
    }

    /// The texts of [`Self::silences`].
    pub(crate) fn silent(&self) -> Vec<String> {
        let silences = self.silences().into_iter();
        silences.map(|silence| silence.said).collect()
    }

    /// Stops counting a supervisor as silent. Call this once the attempts in its
    /// [`Report::Reached`] are known.
    pub(crate) fn heard_of(&self, number: u32) {
        self.silent.forget(number);
    }

    /// The watch through which readers follow output.
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
