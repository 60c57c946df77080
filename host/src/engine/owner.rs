//! The loop that owns the board.

mod effects;
mod passing;
mod reload;
mod told;

use std::{
    collections::{BTreeSet, VecDeque},
    ops::ControlFlow,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use claudine_domain::{
    batch::{Batch, BatchNumber, Effect},
    board::{Board, Bounds, Stored, Unreadable},
    capacity::{Limits, Slots},
    id::{AttemptId, TaskId},
    step::{Answer, Input, Refused},
    time::{Now, Timestamp},
};
use tokio::sync::{mpsc, oneshot, watch};

use self::passing::Waking;
use super::{
    Attempts, CapacityNow, EngineEnd, EngineError, Machine, Message, Parts, Snapshot, StartError,
    aside::aside,
    commit::{Committer, Done, remember_since},
    finishes::Finishes,
    recent::Recent,
    reports::Reports,
    snapshot::Trouble,
    waits::Waits,
};
use crate::{
    ballast::{self, Ballast},
    clock,
    config::Begin,
    store::StoreError,
};

/// How often the machine is read while there is work.
const SAMPLE_EVERY: Duration = Duration::from_secs(1);
/// The pause between a failed commit and the next try.
const RETRY_AFTER: Duration = Duration::from_millis(if cfg!(test) { 50 } else { 1_000 });
/// If nobody waits for a batch, it is filled for this time before it is committed, so that short
/// tasks share a commit. Supervisors keep the content of such a batch (starts and ends of attempts)
/// until the batch is durable, so a crash loses nothing. Ends of tasks become visible with this
/// delay.
const LINGER: Duration = Duration::from_millis(10);
/// A request with at least this number of tasks is passed to the board with [`aside`], so that the
/// request does not delay the other asynchronous tasks of the runtime.
const MANY: usize = 1_000;
/// The maximum number of inputs in one round. Later inputs are added to the next batch.
const ROUND: usize = 1024;

type Reply = oneshot::Sender<Result<Answer, EngineError>>;

/// An answer that waits for its batch.
struct Awaiting {
    after: BatchNumber,
    answer: Result<Answer, EngineError>,
    reply: Reply,
}

/// State that the owner shares with the handles to the engine.
pub(super) struct Shared {
    pub(super) publish: watch::Sender<Arc<Snapshot>>,
    pub(super) told: watch::Sender<BatchNumber>,
    pub(super) acted_on: Arc<AtomicU64>,
    pub(super) finishes: Finishes,
    pub(super) waits: Waits,
}

pub(super) struct Owner {
    board: Board,
    limits: Limits,
    bounds: Bounds,
    attempts: Arc<dyn Attempts>,
    committer: Committer,
    machine: Box<dyn Machine>,
    ballast: Ballast,
    publish: watch::Sender<Arc<Snapshot>>,
    told: watch::Sender<BatchNumber>,
    acted_on: Arc<AtomicU64>,
    finishes: Finishes,
    waits: Waits,
    recent: Recent,
    reports: Reports,
    /// The attempts that were named as the next to start.
    standing_by: Vec<AttemptId>,
    /// The number of the last batch on disk.
    durable: BatchNumber,
    in_flight: Option<InFlight>,
    /// The latest time at which the open batch is committed; `None` while it is empty.
    due: Option<Duration>,
    awaiting: VecDeque<Awaiting>,
    /// Whether a reader waits for the open batch ([`Message::Hurry`]).
    hurried: bool,
    idle: Vec<super::Reply<()>>,
    next_sample: Option<claudine_domain::time::MonotonicMs>,
    /// The wall clock's time at the last round. `None` after a board was loaded; the first round
    /// then treats the wall clock as set back.
    last_wall: Option<Timestamp>,
    waking: Waking,
    stopping: bool,
    /// The number of reports from attempts that had already ended. This number is not reset when
    /// the board is loaded again.
    dropped_reports: u64,
    /// Rows of the store that could not be read when the board was loaded.
    unreadable: Arc<[Unreadable]>,
    /// Failures of the store.
    trouble: Trouble,
    /// Attempts that have not ended and that a silent supervisor may have.
    unsure: BTreeSet<AttemptId>,
}

/// Logs the rows of the store that cannot be read, and returns them.
fn told_aside(stored: &Stored) -> Arc<[Unreadable]> {
    for row in &stored.unreadable {
        let Unreadable {
            what, key, reason, ..
        } = row;
        tracing::error!(
            what,
            key,
            reason,
            "a row of the store cannot be read and is set aside"
        );
    }
    stored.unreadable.clone().into()
}

struct InFlight {
    batch: Arc<Batch>,
    effects: Vec<Effect>,
    finished: Vec<TaskId>,
}

impl Owner {
    pub(super) fn new(
        parts: Parts,
        attempts: Arc<dyn Attempts>,
        shared: Shared,
    ) -> Result<Self, StartError> {
        let Shared {
            publish,
            told,
            acted_on,
            finishes,
            waits,
        } = shared;
        let Parts {
            store,
            epoch,
            limits,
            bounds,
            machine,
            ballast,
            begin,
            slots,
        } = parts;
        let stored = store.load(remember_since())?;
        let durable = stored.last_batch;
        let unreadable = told_aside(&stored);
        let committer = Committer::start(store, epoch)?;
        let board = Board::new(stored, limits, bounds, clock::boot_id());
        let mut owner = Self {
            board,
            limits,
            bounds,
            attempts,
            committer,
            machine,
            ballast,
            publish,
            told,
            acted_on,
            finishes,
            waits,
            recent: Recent::default(),
            reports: Reports::default(),
            standing_by: Vec::new(),
            durable,
            in_flight: None,
            due: None,
            awaiting: VecDeque::new(),
            hurried: false,
            idle: Vec::new(),
            next_sample: None,
            last_wall: None,
            waking: Waking::default(),
            stopping: false,
            dropped_reports: 0,
            unreadable,
            trouble: Trouble::default(),
            unsure: BTreeSet::new(),
        };
        owner.begin(begin, slots);
        // Questions that arrive before the first round are answered from the loaded board.
        owner.publish();
        Ok(owner)
    }

    /// Applies the settings for the host's start, before anything is started.
    fn begin(&mut self, begin: Begin, slots: Option<Slots>) {
        let begin = match begin {
            Begin::Usual => None,
            Begin::Paused => Some(Input::Pause(true)),
            Begin::Draining | Begin::Killing => Some(Input::Drain),
        };
        let slots = slots.map(|slots| Input::SetSlots(Some(slots)));
        for input in begin.into_iter().chain(slots) {
            if let Err(refused) = self.board.step(clock::now(), input) {
                tracing::error!(%refused, "a setting for the host's start was refused");
            }
        }
    }

    pub(super) async fn run(mut self, mut inbox: mpsc::Receiver<Message>) -> Result<(), EngineEnd> {
        self.read_machine(clock::now());
        self.recover_first();
        let waits = self.waits.clone();
        loop {
            if self.decide() {
                // Lets other asynchronous tasks carry out the released effects first, because these
                // effects need not wait for the commit that follows.
                tokio::task::yield_now().await;
            }
            self.settle();
            if self.stopping && self.in_flight.is_none() && !self.board.has_pending() {
                return Ok(());
            }
            let now = clock::now();
            let wake = self.until_next(now);
            self.waking.sleeps_until(now.monotonic.after(wake));
            tokio::select! {
                biased;
                done = self.committer.done.recv() => {
                    let done = done.ok_or(EngineEnd::CommitThread)?;
                    if self.committed(done, &mut inbox).await?.is_break() {
                        return Ok(());
                    }
                }
                message = inbox.recv() => {
                    let Some(message) = message else { self.stopping = true; continue };
                    self.take_round(message, &mut inbox);
                }
                () = waits.changed() => {}
                () = clock::sleep(wake) => {}
            }
        }
    }

    /// Processes the inputs that have arrived, up to a full round.
    fn take_round(&mut self, first: Message, inbox: &mut mpsc::Receiver<Message>) {
        let now = clock::now();
        self.take(now, first);
        for _ in 1..ROUND {
            let Ok(message) = inbox.try_recv() else { break };
            self.take(now, message);
        }
    }

    fn take(&mut self, now: Now, message: Message) {
        match message {
            Message::Command { input, reply } => {
                let answer = self.refuse(&input).map_or_else(
                    || self.step_command(now, input).map_err(EngineError::from),
                    Err,
                );
                // The decisions on which a refusal is based must be durable too.
                let after = self.last_decided();
                self.awaiting.push_back(Awaiting {
                    after,
                    answer,
                    reply,
                });
            }
            Message::Report { attempt, report } => self.take_report(now, attempt, report),
            Message::Capacity(reply) => {
                self.read_machine(now);
                if reply.send(Ok(CapacityNow::of(&self.board, now))).is_err() {
                    tracing::debug!("nobody waits for the capacity any more");
                }
            }
            Message::Refusal { task, reply } => {
                if reply.send(Ok(self.board.refusal_of(&task, now))).is_err() {
                    tracing::debug!("nobody asks any more why a task is not started");
                }
            }
            Message::Groups(reply) => {
                if reply.send(Ok(self.board.groups().clone())).is_err() {
                    tracing::debug!("nobody waits for the groups any more");
                }
            }
            Message::Ping(reply) => {
                if reply.send(()).is_err() {
                    tracing::debug!("nobody waits for a sign of life any more");
                }
            }
            Message::Idle(reply) => self.idle.push(reply),
            Message::Code { executor, lacks } => self.take_code(now, executor, lacks),
            Message::Reached => self.look_for_unsure(),
            Message::Hurry => self.hurried = true,
            Message::Stop => self.stopping = true,
        }
    }

    /// Passes a command to the board. A command for many tasks is run in [`aside`], because the
    /// board needs a good part of a second for a graph of a hundred thousand tasks.
    fn step_command(&mut self, now: Now, input: Input) -> Result<Answer, Refused> {
        match input.command() {
            Input::Submit(together) if together.tasks.len() >= MANY => {
                aside(|| self.board.step(now, input))
            }
            Input::Each(commands) if commands.len() >= MANY => {
                aside(|| self.board.step(now, input))
            }
            _ => self.board.step(now, input),
        }
    }

    /// The batch that contains the latest decision.
    fn last_decided(&self) -> BatchNumber {
        self.board.pending_batch() - u64::from(!self.board.has_pending())
    }

    /// Refuses new work on a full disk, and while the host is draining or going down.
    fn refuse(&self, input: &Input) -> Option<EngineError> {
        if !brings_work(input) {
            return None;
        }
        if self.stopping {
            return Some(EngineError::Leaving);
        }
        if self.board.is_draining() {
            return Some(EngineError::Draining);
        }
        let is_full = self.ballast.is_freed();
        is_full.then(|| EngineError::StoreFull(ballast::refusal()))
    }

    /// Tells the board which attempts have begun to wait for their descendants, and which have
    /// stopped waiting.
    fn take_waits(&mut self, now: Now) {
        for (attempt, waits) in self.waits.take_changes() {
            self.take_wait(now, attempt, waits);
        }
    }

    fn take_wait(&mut self, now: Now, attempt: AttemptId, waits: bool) {
        let input = if waits {
            Input::WaitBegins { attempt }
        } else {
            Input::WaitEnds { attempt }
        };
        if let Err(refused) = self.board.step(now, input) {
            tracing::error!(%refused, %attempt, "a wait was refused");
        }
    }

    /// Applies the passage of time, admits tasks, and performs the effects that need no further
    /// commit. Returns whether there were such effects.
    fn decide(&mut self) -> bool {
        let now = clock::now();
        self.take_waits(now);
        self.board_tick(now);
        if self.next_sample.is_some_and(|at| at <= now.monotonic) {
            self.read_machine(now);
        }
        if !self.stopping {
            self.board.admit(now);
        }
        let released = self.board.take_released(self.durable);
        let any = !released.is_empty();
        if released.iter().any(|effect| self.follows_an_end(effect)) {
            self.acted_on
                .store(self.board.pending_batch(), Ordering::Release);
        }
        self.perform(released);
        any
    }

    /// Commits the next batch if it is due, sends answers, and publishes the state.
    fn settle(&mut self) {
        self.name_next();
        if self.in_flight.is_none() && self.is_batch_due() {
            self.seal();
        }
        self.answer();
        self.acknowledge();
        self.next_sample = self.sample_at(clock::now());
        self.publish();
        let is_at_rest = self.board.is_at_rest(clock::now());
        if is_at_rest && self.in_flight.is_none() && !self.board.has_pending() {
            for idle in self.idle.drain(..) {
                if idle.send(Ok(())).is_err() {
                    tracing::debug!("nobody waits for the host to be idle any more");
                }
            }
        }
    }

    fn publish(&self) {
        let snapshot = Snapshot {
            dropped_reports: self.dropped_reports,
            unreadable: self.unreadable.clone(),
            trouble: self.trouble.clone(),
            ..Snapshot::of(&self.board, self.ballast.is_freed())
        };
        self.publish.send_replace(Arc::new(snapshot));
    }

    /// Whether the open batch must be committed. If somebody waits for the batch, it is committed
    /// at once; otherwise after a moment.
    fn is_batch_due(&mut self) -> bool {
        if !self.board.has_pending() {
            (self.due, self.hurried) = (None, false);
            return false;
        }
        let now = clock::monotonic();
        let due = *self.due.get_or_insert(now + LINGER);
        due <= now
            || self.stopping
            || self.hurried
            || !self.idle.is_empty()
            || self
                .awaiting
                .back()
                .is_some_and(|last| last.after == self.board.pending_batch())
            || self.board.is_commit_urgent(self.durable)
            || self
                .finishes
                .any_waited_for(self.board.finished_in_pending())
    }

    fn seal(&mut self) {
        (self.due, self.hurried) = (None, false);
        let (batch, effects) = self.board.seal();
        let finished = batch
            .tasks
            .iter()
            .filter(|task| task.is_done())
            .map(|task| task.id)
            .collect();
        let batch = Arc::new(batch);
        self.in_flight = Some(InFlight {
            batch: batch.clone(),
            effects,
            finished,
        });
        self.commit(batch);
    }

    fn commit(&mut self, batch: Arc<Batch>) {
        if self.committer.commit(batch).is_err() {
            tracing::error!("the commit thread has ended");
            self.stopping = true;
        }
    }

    /// Handles the result of a commit: performs the effects of a durable batch, or loads the board
    /// again.
    async fn committed(
        &mut self,
        done: Done,
        inbox: &mut mpsc::Receiver<Message>,
    ) -> Result<ControlFlow<()>, EngineEnd> {
        match done {
            Done::Committed(number) => {
                self.durable = number;
                self.trouble.end();
                if let Some(in_flight) = self.in_flight.take() {
                    debug_assert_eq!(in_flight.batch.number, number);
                    self.recent.note(&in_flight.batch);
                    self.perform(in_flight.effects);
                    self.finishes.tell(&in_flight.finished);
                    self.told.send_replace(number);
                }
                Ok(ControlFlow::Continue(()))
            }
            // The disk is full. The space of the ballast is kept for this case, so the ballast is
            // freed and the same batch is tried once more.
            Done::Failed(_, StoreError::Full { .. }) if !self.ballast.is_freed() => {
                aside(|| self.ballast.free());
                if let Some(batch) = self.in_flight.as_ref().map(|it| it.batch.clone()) {
                    self.commit(batch);
                }
                Ok(ControlFlow::Continue(()))
            }
            Done::Failed(number, error) => {
                tracing::error!(batch = number, %error, "a commit failed; the board is loaded again");
                self.reload(error, inbox).await
            }
            Done::Loaded(_) => Ok(ControlFlow::Continue(())),
        }
    }

    fn answer(&mut self) {
        while self
            .awaiting
            .front()
            .is_some_and(|awaiting| awaiting.after <= self.durable)
        {
            if let Some(Awaiting { answer, reply, .. }) = self.awaiting.pop_front() {
                // The caller may no longer wait for the answer. The decision stays in effect in
                // this case too.
                drop(reply.send(answer));
            }
        }
    }

    fn read_machine(&mut self, now: Now) {
        let reading = aside(|| {
            let reading = self.machine.read();
            self.ballast.restore_if_room(reading.disk_free_bytes);
            reading
        });
        if let Err(refused) = self.board.step(now, Input::Reading(reading)) {
            tracing::error!(%refused, "a reading was refused");
        }
        self.next_sample = self.sample_at(now);
    }

    /// The time of the next reading of the machine. `None` if there is no work, so that an idle
    /// host does not wake up.
    fn sample_at(&self, now: Now) -> Option<claudine_domain::time::MonotonicMs> {
        let busy = self.board.queued_count() > 0
            || self.board.running_count() > 0
            || self.ballast.is_freed();
        if !busy {
            return None;
        }
        let last = self
            .board
            .capacity()
            .reading()
            .map_or(now.monotonic, |reading| reading.at);
        Some(last.after(SAMPLE_EVERY))
    }
}

/// Whether the input brings new work.
fn brings_work(input: &Input) -> bool {
    match input.command() {
        Input::Submit(_) | Input::Retry(_) => true,
        Input::Each(commands) => commands.iter().any(brings_work),
        _ => false,
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.finishes.close();
    }
}
