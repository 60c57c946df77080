//! Commands that the host runs for an attempt, mostly git. They are children of the attempt's
//! supervisor, which enforces their time limits and outlives the host. Commands for requests are in
//! `requests`.
//!
//! The supervisor treats each command as a separate attempt. The key of a command is made of the
//! attempt's key and a number that no other host uses, so the output, end and leftovers of a
//! command cannot be confused with those of another command. If an earlier host had begun commands,
//! this host waits for them or stops them before it begins the same work again.

use std::{
    future::pending,
    io,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    pin::Pin,
    process::ExitStatus,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use claudine_domain::id::AttemptId;
use rustix::io::Errno;
use tokio::sync::{oneshot, watch};
use tokio_util::task::TaskTracker;

use super::{
    directory,
    live::{ChildState, Live, Owner, State, command_key, command_of},
    registry::Registry,
};
use crate::{
    clock,
    command::{Abandoned, Elsewhere, Finished, GRACE, Order, Outcome},
    config::ATTEMPT,
    fsx,
    layout::Layout,
    supervise::{
        AttemptKey, ChildId, NotStartedClass, Rung, Signal, StartChild, Status, Stdin, StopWhy,
        Supervisors,
        log::{Channel, LogReader, Piece},
    },
};

/// Limit of a command's output on disk. More output is an error, because a part of it would be
/// missing.
const LOG_BYTES: u64 = 64 << 20;

/// Runs the host's commands as children of supervisors.
pub(super) struct Commands {
    pub(super) registry: Arc<Registry>,
    pub(super) supervisors: Supervisors,
    pub(super) layout: Layout,
    pub(super) tasks: TaskTracker,
    pub(super) next: AtomicU64,
    /// How long a command that settles work continues after a stop of its attempt.
    pub(super) patience: Duration,
}

/// The upper limit of the time for which a command that settles work continues after a stop of its
/// attempt. A command that has not ended by then is assumed to hang, for example in a filter of the
/// repository or at a remote.
pub(super) const TO_THE_END: Duration = Duration::from_mins(1);

/// How long a supervisor may take to answer the start of a command, in addition to the command's
/// own time limit, which nobody enforces before the start.
const ANSWERS_WITHIN: Duration = Duration::from_secs(30);

const UNANSWERED: &str = "the supervisor that was to run the command does not answer";

/// The pauses before repetitions of a command that settles work, if no supervisor received it. For
/// a moment, a machine may have no room for another supervisor.
const AGAIN_AFTER: [Duration; 5] = [
    Duration::from_millis(100),
    Duration::from_millis(300),
    Duration::from_secs(1),
    Duration::from_secs(3),
    Duration::from_secs(8),
];

/// Runs the commands of one attempt while it prepares or settles.
pub(super) struct OfAttempt {
    commands: Arc<Commands>,
    live: Arc<Live>,
    /// The number of running commands.
    running: Arc<AtomicUsize>,
    /// How long a command continues after a stop of the attempt.
    patience: Duration,
    /// Whether a stop of the attempt ends the running command. False after a stop has ended a
    /// command: the commands that follow undo the unfinished work, so they run to their ends.
    may_be_stopped: Arc<AtomicBool>,
    /// The pauses before repetitions of a command that no supervisor received.
    pauses: &'static [Duration],
}

impl OfAttempt {
    /// Whether no command of the attempt is running.
    pub(super) fn is_idle(&self) -> bool {
        self.running.load(Ordering::Relaxed) == 0
    }
}

/// Counts a running command while somebody waits for it.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(running: Arc<AtomicUsize>) -> Self {
        running.fetch_add(1, Ordering::Relaxed);
        Self(running)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Elsewhere for OfAttempt {
    fn run(&self, order: Order) -> Pin<Box<dyn Future<Output = Outcome> + Send>> {
        let (tell, told) = oneshot::channel();
        let counted = Counted::new(self.running.clone());
        let (commands, live) = (self.commands.clone(), self.live.clone());
        let may_be_stopped = self.may_be_stopped.clone();
        let (patience, pauses) = (self.patience, self.pauses);
        // The command runs to its end even if nobody waits for it, so that its result is known and
        // its supervisor can forget it.
        self.commands.tasks.spawn(async move {
            let owner = Owner::Attempt(live.id);
            let carry_out = || async {
                let stopped = async {
                    if !may_be_stopped.load(Ordering::Relaxed) {
                        pending::<()>().await;
                    }
                    stopped_for(&live, patience).await;
                    may_be_stopped.store(false, Ordering::Relaxed);
                };
                let order = order.clone();
                commands
                    .carry_out(owner, live.umask(), order, stopped)
                    .await
            };
            let outcome = until_received(pauses, carry_out).await;
            if is_unreceived(&outcome) {
                live.change(|state| state.command_unreceived = true);
            }
            if tell.send(outcome).is_err() {
                tracing::debug!(attempt = %live.id, "nobody waits for a command any more");
            }
        });
        Box::pin(async move {
            let _counted = counted;
            told.await
                .unwrap_or_else(|_| Err(io::Error::other("the host is ending")))
        })
    }

    /// These commands are over already, unless a stop of the attempt has ended the wait for them.
    fn earlier_over(&self) -> Pin<Box<dyn Future<Output = io::Result<()>> + Send>> {
        let commands = self.commands.clone();
        Box::pin(async move {
            let over = clock::within(ANSWERS_WITHIN, commands.all_earlier_over()).await;
            over.ok_or_else(|| io::Error::other("a git command of an earlier host has not ended"))
        })
    }
}

impl Commands {
    /// The runner of commands for preparations. A stop of the attempt interrupts them, because they
    /// can be undone. A command that no supervisor received is not repeated, because the attempt
    /// itself starts again later.
    pub(super) fn for_preparing(self: &Arc<Self>, live: &Arc<Live>) -> Arc<OfAttempt> {
        self.of(live, Duration::ZERO, &[])
    }

    /// The runner of commands that settle work. They continue for some time after a stop of the
    /// attempt, so that their result is known. A command that no supervisor received is repeated,
    /// because otherwise the attempt would fail although its work is done.
    pub(super) fn for_settling(self: &Arc<Self>, live: &Arc<Live>) -> Arc<OfAttempt> {
        self.of(live, self.patience, &AGAIN_AFTER)
    }

    fn of(
        self: &Arc<Self>,
        live: &Arc<Live>,
        patience: Duration,
        pauses: &'static [Duration],
    ) -> Arc<OfAttempt> {
        Arc::new(OfAttempt {
            commands: self.clone(),
            live: live.clone(),
            running: Arc::default(),
            patience,
            may_be_stopped: Arc::new(AtomicBool::new(true)),
            pauses,
        })
    }

    /// Runs a command to its end. Once `stopped` completes, the command is asked to end early.
    pub(super) async fn carry_out(
        self: &Arc<Self>,
        owner: Owner,
        umask: Option<u16>,
        order: Order,
        stopped: impl Future<Output = ()> + Send,
    ) -> Outcome {
        let answers = directory::answers(&order.cwd).await;
        answers.map_err(io::Error::other)?;
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}{number}", self.own_names());
        let key = command_key(owner, &name);
        let log = self.log(owner, &name);
        let state = self.registry.expect_command(key.clone());
        let kept_bytes = order.kept_bytes;
        let answers_within = order.limit.saturating_add(ANSWERS_WITHIN);
        // A person waits for the answer, and nothing is left half done.
        let needs_room = owner == Owner::Host && order.abandoned == Abandoned::Killed;
        let start = StartChild {
            umask,
            ..start_of(&key, &log, order)
        };
        let sent = self.supervisors.start(start).done().await;
        let outcome = match sent {
            Ok(()) => {
                let end = self.see_to_end(&key, &state, stopped);
                let full = async {
                    if !needs_room {
                        pending::<()>().await;
                    }
                    no_room(&state).await
                };
                let missed = tokio::select! {
                    biased;
                    ended = has_ended(end, &state, answers_within) => {
                        (!ended).then(|| io::Error::other(UNANSWERED))
                    }
                    why = full => Some(self.unwritten(&why)),
                };
                if let Some(error) = missed {
                    // The start is not carried out later: a supervisor reads what has arrived
                    // before each start, and will find the stop.
                    self.stop(&key).await;
                    self.forget_later(key, log, state);
                    return Err(error);
                }
                let child = state.borrow().children.first().cloned();
                outcome_of(child, log.clone(), kept_bytes).await
            }
            Err(error) => Err(io::Error::other(error)),
        };
        self.forget(&key, &log).await;
        outcome
    }

    /// The prefix of the names of this host's commands.
    fn own_names(&self) -> String {
        format!("{}.", self.supervisors.epoch())
    }

    fn log(&self, owner: Owner, name: &str) -> PathBuf {
        match owner {
            Owner::Attempt(attempt) => self.layout.command_log(attempt, name),
            Owner::Host => self.layout.host_command_log(name),
        }
    }

    /// The error of a command whose output cannot be written.
    fn unwritten(&self, why: &str) -> io::Error {
        let dir = self.layout.commands();
        let message = format!("its output cannot be written in {}: {why}", dir.display());
        io::Error::new(io::ErrorKind::StorageFull, message)
    }

    /// Waits until no process of the command is alive. Stops the command when `stopped` completes.
    async fn see_to_end(
        &self,
        key: &AttemptKey,
        state: &watch::Sender<State>,
        stopped: impl Future<Output = ()> + Send,
    ) {
        tokio::select! {
            biased;
            () = over(state) => return,
            () = stopped => {}
        }
        self.stop(key).await;
        over(state).await;
    }

    async fn stop(&self, key: &AttemptKey) {
        let order = self
            .supervisors
            .stop(key.clone(), StopWhy::Cancelled, ladder(GRACE));
        if let Err(error) = order.done().await {
            tracing::debug!(%key, %error, "a command cannot be stopped");
        }
    }

    /// The commands that an earlier host had begun for an owner.
    fn earlier(&self, owner: Owner) -> Vec<(AttemptKey, Arc<watch::Sender<State>>)> {
        let own = self.own_names();
        let is_earlier = |(of, name): (Owner, &str)| of == owner && !name.starts_with(&own);
        let mut all = self.registry.all_commands();
        all.retain(|(key, _)| command_of(key).is_some_and(is_earlier));
        all
    }

    /// Stops the commands with which an earlier host was preparing the attempt, and waits for their
    /// ends.
    pub(super) async fn end_earlier(&self, attempt: AttemptId) {
        for (key, state) in self.earlier(Owner::Attempt(attempt)) {
            self.stop(&key).await;
            over(&state).await;
            self.registry.no_command(&key);
        }
    }

    /// Waits until the commands with which an earlier host was settling the attempt's work are
    /// over.
    pub(super) async fn wait_for_earlier(&self, live: &Live) {
        for (key, state) in self.earlier(Owner::Attempt(live.id)) {
            let stopped = stopped_for(live, self.patience);
            self.see_to_end(&key, &state, stopped).await;
            self.registry.no_command(&key);
        }
    }

    /// Waits until all commands that an earlier host had begun are over, whoever they were for.
    /// Such a command may still change the attempt's worktree, or the checkout into which work is
    /// merged. Does not wait any longer once `patience` has passed since a stop of the attempt.
    pub(super) async fn wait_for_all_earlier(&self, live: &Live, patience: Duration) {
        tokio::select! {
            biased;
            () = self.all_earlier_over() => {}
            () = stopped_for(live, patience) => {}
        }
    }

    /// Waits until all commands that an earlier host had begun are over.
    pub(super) async fn all_earlier_over(&self) {
        let own = self.own_names();
        let is_earlier = |(_, name): (Owner, &str)| !name.starts_with(&own);
        let mut all = self.registry.all_commands();
        all.retain(|(key, _)| command_of(key).is_some_and(is_earlier));
        for (_, state) in all {
            over(&state).await;
        }
    }

    /// Lets supervisors forget the commands that an earlier host had begun, once they are over.
    pub(super) fn forget_earlier(self: &Arc<Self>) {
        let own = self.own_names();
        for (key, state) in self.registry.all_commands() {
            let Some((owner, name)) = command_of(&key) else {
                continue;
            };
            if name.starts_with(&own) {
                continue;
            }
            let log = self.log(owner, name);
            self.forget_later(key, log, state);
        }
        let dir = self.layout.commands();
        self.tasks.spawn_blocking(move || {
            if let Err(error) = remove_others(&dir, &own) {
                tracing::warn!(
                    %error, dir = %dir.display(),
                    "the output of earlier commands cannot be removed"
                );
            }
        });
    }

    /// Lets the supervisor forget a command once it is over.
    fn forget_later(
        self: &Arc<Self>,
        key: AttemptKey,
        log: PathBuf,
        state: Arc<watch::Sender<State>>,
    ) {
        let commands = self.clone();
        self.tasks.spawn(async move {
            over(&state).await;
            commands.forget(&key, &log).await;
        });
    }

    async fn forget(&self, key: &AttemptKey, log: &Path) {
        self.registry.no_command(key);
        if let Err(error) = self.supervisors.ack(key.clone()).done().await {
            tracing::debug!(%key, %error, "a supervisor cannot be told to forget a command");
        }
        match tokio::fs::remove_file(log).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(
                    %error, log = %log.display(),
                    "the output of a command cannot be removed"
                );
            }
            _ => {}
        }
    }
}

/// Carries out a command, and repeats it after each pause as long as no supervisor has received it.
/// Such a command has done nothing.
async fn until_received<F: Future<Output = Outcome>>(
    pauses: &[Duration],
    mut carry_out: impl FnMut() -> F,
) -> Outcome {
    for pause in pauses {
        let outcome = carry_out().await;
        if !is_unreceived(&outcome) {
            return outcome;
        }
        clock::sleep(*pause).await;
    }
    carry_out().await
}

/// Whether no supervisor received the command.
fn is_unreceived(outcome: &Outcome) -> bool {
    let error = outcome.as_ref().err();
    error.is_some_and(|error| error.kind() == io::ErrorKind::NotConnected)
}

/// Removes the output of earlier hosts' commands, which nobody reads any more.
fn remove_others(dir: &Path, own: &str) -> io::Result<()> {
    for path in fsx::entries(dir)? {
        let name = path.file_name().map(|name| name.to_string_lossy());
        if !name.is_some_and(|name| name.starts_with(own)) {
            fsx::remove_file(&path)?;
        }
    }
    Ok(())
}

/// Waits until the attempt was stopped and `patience` has passed since then.
async fn stopped_for(live: &Live, patience: Duration) {
    live.until(|state| state.stop.is_some().then_some(())).await;
    clock::sleep(patience).await;
}

async fn over(state: &watch::Sender<State>) {
    let mut changes = state.subscribe();
    // This cannot fail, because the sender is borrowed here.
    drop(changes.wait_for(State::is_over).await);
}

/// Waits until the output of a command is held back because the disk is full. Returns the reason.
async fn no_room(state: &watch::Sender<State>) -> String {
    let mut changes = state.subscribe();
    let is_held = |state: &State| state.held.as_deref().is_some_and(is_of_full_disk);
    // This cannot fail, because the sender is borrowed here.
    drop(changes.wait_for(is_held).await);
    let held = state.borrow().held.clone();
    held.unwrap_or_default()
}

/// Whether the system has given this reason because a disk is full, or a user's part of it.
fn is_of_full_disk(why: &str) -> bool {
    let full = [Errno::NOSPC, Errno::DQUOT].map(|errno| io::Error::from(errno).to_string());
    full.iter().any(|full| why.contains(full))
}

/// Waits for the end of a command. Returns `false` if its start was not answered within this time.
async fn has_ended(
    end: impl Future<Output = ()>,
    state: &watch::Sender<State>,
    answers_within: Duration,
) -> bool {
    let unanswered = async {
        clock::sleep(answers_within).await;
        let is_answered = state.borrow().children.first() != Some(&ChildState::Sent);
        if is_answered {
            pending::<()>().await;
        }
    };
    tokio::select! {
        biased;
        () = end => true,
        () = unanswered => false,
    }
}

/// The signals that stop a command. On SIGTERM, git removes its unfinished files.
fn ladder(wait: Duration) -> Vec<Rung> {
    vec![Rung {
        signal: Signal::Term,
        wait,
    }]
}

fn start_of(key: &AttemptKey, log: &Path, order: Order) -> StartChild {
    let Order {
        argv,
        cwd,
        mut env,
        limit,
        abandoned,
        ..
    } = order;
    env.retain(|(name, _)| name != ATTEMPT);
    env.push((ATTEMPT.to_owned(), key.to_string()));
    let wait = match abandoned {
        Abandoned::Killed => Duration::from_secs(1),
        Abandoned::LeftAlone => GRACE,
    };
    StartChild {
        child: ChildId::new(key.clone(), 0),
        argv,
        cwd,
        env_file: None,
        env_remove: Vec::new(),
        env_set: env,
        umask: None,
        bounds: None,
        stdin: Stdin::Empty,
        log: log.to_owned(),
        cap_bytes: LOG_BYTES,
        timeout: Some(limit),
        idle_timeout: None,
        ladder: ladder(wait),
    }
}

/// The outcome of a command that has ended. If no supervisor received the command, the error is of
/// the kind [`io::ErrorKind::NotConnected`].
async fn outcome_of(
    child: Option<ChildState>,
    log: std::path::PathBuf,
    kept_bytes: usize,
) -> Outcome {
    let exit = match child {
        Some(ChildState::Exited(exit)) => exit,
        Some(ChildState::NotStarted { class, message }) => {
            let kind = match class {
                NotStartedClass::CommandNotFound => io::ErrorKind::NotFound,
                NotStartedClass::Supervisor => io::ErrorKind::NotConnected,
                _ => io::ErrorKind::Other,
            };
            return Err(io::Error::new(kind, message));
        }
        _ => {
            return Err(io::Error::other(
                "the command's supervisor died while the command ran",
            ));
        }
    };
    match exit.stopped {
        Some(StopWhy::TimedOut) => return Ok(None),
        Some(StopWhy::Finished) | None => {}
        Some(_) => return Err(io::Error::other("the command was stopped with its attempt")),
    }
    let status = match exit.status {
        Status::Code(code) => ExitStatus::from_raw(code << 8),
        Status::Signal(signal) => ExitStatus::from_raw(signal),
    };
    let reading = tokio::task::spawn_blocking(move || {
        let stdout = read(&log, Channel::Stdout, kept_bytes)?;
        let stderr = read(&log, Channel::Stderr, kept_bytes)?;
        Ok::<_, io::Error>((stdout, stderr))
    });
    let (stdout, stderr) = reading.await.map_err(io::Error::other)??;
    Ok(Some(Finished {
        status,
        stdout,
        stderr,
    }))
}

fn read(log: &Path, channel: Channel, kept_bytes: usize) -> io::Result<Vec<u8>> {
    let mut reader = LogReader::new(log).channel(channel);
    let mut kept = Vec::new();
    while let Some(piece) = reader.next_piece()? {
        match piece {
            Piece::Bytes { bytes, .. } => {
                let room = kept_bytes.saturating_sub(kept.len()).min(bytes.len());
                kept.extend_from_slice(&bytes[..room]);
            }
            Piece::Gap { .. } if channel == Channel::Stdout => {
                return Err(io::Error::other("the command's output is too long"));
            }
            Piece::Gap { .. } => {}
        }
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use super::*;

    #[test]
    fn a_command_has_its_own_marker_and_time_limit() {
        let key = AttemptKey::new("task_00000000000000000000000000.1+3.7");
        let order = Order {
            argv: vec!["git".to_owned()],
            cwd: "/x".into(),
            env: vec![(ATTEMPT.to_owned(), "another".to_owned())],
            kept_bytes: 1,
            limit: Duration::from_secs(20),
            abandoned: Abandoned::LeftAlone,
        };
        let start = start_of(&key, Path::new("/log"), order);
        assert_eq!(start.env_set, [(ATTEMPT.to_owned(), key.to_string())]);
        assert_eq!(start.timeout, Some(Duration::from_secs(20)));
        assert_eq!(start.ladder[0].wait, GRACE);
    }

    #[tokio::test]
    async fn a_missing_command_and_a_command_that_no_supervisor_received_have_different_errors() {
        let check = async |class: NotStartedClass, expected: io::ErrorKind| {
            let child = ChildState::NotStarted {
                class,
                message: String::new(),
            };
            let outcome = outcome_of(Some(child), PathBuf::from("/log"), 1).await;
            assert_eq!(outcome.err().map(|error| error.kind()), Some(expected));
        };
        check(NotStartedClass::CommandNotFound, io::ErrorKind::NotFound).await;
        check(NotStartedClass::Supervisor, io::ErrorKind::NotConnected).await;
        check(NotStartedClass::Resource, io::ErrorKind::Other).await;
    }

    #[tokio::test]
    async fn a_command_does_not_wait_for_ever_for_a_supervisor_that_does_not_answer() {
        let short = Duration::from_millis(1);
        let state = watch::Sender::new(State::default());
        state.send_modify(|state| state.children.push(ChildState::Sent));
        assert!(!has_ended(pending(), &state, short).await);
        assert!(has_ended(ready(()), &state, short).await);
        // Once the start is answered, the supervisor enforces the time limit.
        state.send_modify(|state| state.children[0] = ChildState::Lost);
        let longer = async {
            clock::within(short * 20, pending::<()>()).await;
        };
        assert!(has_ended(longer, &state, short).await);
    }

    /// A supervisor that does not answer may answer soon.
    #[tokio::test]
    async fn a_command_without_room_for_its_output_is_told_from_one_that_is_held_back_otherwise() {
        let state = watch::Sender::new(State::default());
        let found = async |held: &str| {
            state.send_modify(|state| state.held = Some(held.to_owned()));
            clock::within(Duration::from_millis(1), no_room(&state)).await
        };
        assert_eq!(found("its supervisor does not answer").await, None);
        for errno in [Errno::NOSPC, Errno::DQUOT] {
            let why = format!("cannot write: {}", io::Error::from(errno));
            assert_eq!(found(&why).await.as_deref(), Some(why.as_str()));
        }
    }

    #[tokio::test]
    async fn a_command_that_no_supervisor_received_is_repeated() {
        let pauses = [Duration::ZERO; 2];
        let check = async |errors: &[io::ErrorKind], expected: usize| {
            let mut times = 0;
            let carry_out = || {
                let error = errors.get(times).copied();
                let outcome: Outcome = error.map_or(Ok(None), |kind| Err(kind.into()));
                times += 1;
                ready(outcome)
            };
            let outcome = until_received(&pauses, carry_out).await;
            let is_ok = errors.len() < expected;
            assert_eq!((outcome.is_ok(), times), (is_ok, expected));
        };
        let (unreceived, other) = (io::ErrorKind::NotConnected, io::ErrorKind::Other);
        check(&[], 1).await;
        check(&[unreceived], 2).await;
        check(&[unreceived, unreceived], 3).await;
        check(&[unreceived, unreceived, unreceived], 3).await;
        check(&[other], 1).await;
    }
}
