//! The engine that is used when no host runs. It answers questions from the store, and changes
//! nothing. It tries a command on a board that it then drops, so a command that a host would refuse
//! is refused here for the same reason.

use std::sync::{Arc, atomic::AtomicU64};

use claudine_domain::{
    board::{Board, Bounds},
    capacity::Limits,
    step::Input,
};
use tokio::sync::{mpsc, watch};

use super::{
    CapacityNow, Engine, EngineError, INBOX, Machine, Message, Snapshot, commit::remember_since,
    finishes::Finishes, waits::Waits,
};
use crate::{
    clock,
    store::{Store, unrecorded},
};

/// The time between two readings of the machine. The use of processors is computed from the
/// difference between two readings.
const LOOK: std::time::Duration = std::time::Duration::from_millis(250);

/// Starts an engine that answers questions until no handle to it is left. Must be called inside an
/// asynchronous runtime.
pub(crate) fn absent<M: Machine>(
    store: Arc<dyn Store>,
    limits: Limits,
    machine: impl FnOnce() -> std::io::Result<M> + Send + 'static,
) -> Engine {
    let (inbox, asked) = mpsc::channel(INBOX);
    let snapshot = Snapshot {
        limits,
        no_host: true,
        ..Snapshot::default()
    };
    tokio::spawn(answer(asked, store, limits, machine));
    Engine {
        inbox,
        snapshot: watch::channel(Arc::new(snapshot)).1,
        // Nothing is committed, so a wait for a commit ends at once.
        commits: watch::channel(0).1,
        acted_on: Arc::new(AtomicU64::new(0)),
        finishes: Finishes::default(),
        waits: Waits::default(),
    }
}

async fn answer<M: Machine>(
    mut asked: mpsc::Receiver<Message>,
    store: Arc<dyn Store>,
    limits: Limits,
    machine: impl FnOnce() -> std::io::Result<M>,
) {
    let board = || -> Result<Board, EngineError> {
        let stored = store.load(remember_since());
        let mut stored = stored.map_err(|error| EngineError::Store(error.to_string()))?;
        // Tasks whose processes have ended take no slot any more.
        stored
            .unfinished
            .retain(|task| !unrecorded::is_marked(task));
        Ok(Board::new(
            stored,
            limits,
            Bounds::default(),
            clock::boot_id(),
        ))
    };
    let mut machine = Some(machine);
    while let Some(message) = asked.recv().await {
        // The caller may no longer wait for an answer.
        match message {
            Message::Command { input, reply } => {
                let tried = board().and_then(|mut board| {
                    let answer = board.step(clock::now(), input);
                    answer.map_err(EngineError::from)
                });
                drop(reply.send(tried.and(Err(EngineError::NoHost))));
            }
            Message::Idle(reply) => drop(reply.send(Err(EngineError::NoHost))),
            Message::Capacity(reply) => {
                let mut board = board();
                if let (Ok(board), Some(machine)) = (&mut board, machine.take()) {
                    look(board, machine).await;
                }
                let now = clock::now();
                drop(reply.send(board.map(|board| CapacityNow::of(&board, now))));
            }
            Message::Refusal { reply, .. } => drop(reply.send(Ok(None))),
            Message::Groups(reply) => {
                drop(reply.send(board().map(|board| board.groups().clone())));
            }
            Message::Ping(reply) => drop(reply),
            Message::Report { .. } | Message::Code { .. } | Message::Reached | Message::Hurry => {}
            Message::Stop => return,
        }
    }
}

/// Takes two readings of the machine. If that fails, the board has no reading.
async fn look<M: Machine>(board: &mut Board, machine: impl FnOnce() -> std::io::Result<M>) {
    let mut machine = match machine() {
        Ok(machine) => machine,
        Err(error) => return tracing::debug!(%error, "the machine cannot be read"),
    };
    machine.read();
    clock::sleep(LOOK).await;
    if let Err(refused) = board.step(clock::now(), Input::Reading(machine.read())) {
        tracing::debug!(%refused, "a reading was refused");
    }
}
