//! Commands that the host runs for an attempt, mostly git. They are children of the attempt's
//! supervisor, which enforces their time limits and outlives the host. Commands for requests are in
//! `requests`.
//!
//! The supervisor treats each command as a separate attempt. The key of a command is made of the
//! attempt's key and a number that no other host uses, so the output, end and leftovers of a
//! command cannot be confused with those of another command. If an earlier host had begun commands,
//! this host ends them, unless they soon end by themselves, before it begins the same work again.

mod disks;
mod earlier;
mod of_attempt;
mod outcome;

use std::{
    fs,
    future::pending,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::watch;
use tokio_util::task::TaskTracker;

pub(super) use self::of_attempt::OfAttempt;
use self::outcome::outcome_of;
use super::{
    directory,
    live::{ChildState, Live, Owner, State, command_key},
    registry::Registry,
};
use crate::{
    aside,
    bounds::Bounds,
    clock,
    command::{Abandoned, GRACE, Order, Outcome},
    config::ATTEMPT,
    layout::Layout,
    supervise::{AttemptKey, ChildId, Rung, Signal, StartChild, Stdin, StopWhy, Supervisors},
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
    /// The space to keep free on the disk of the data directory.
    pub(super) disk_reserve_bytes: u64,
}

/// What a command does not inherit from its supervisor.
#[derive(Debug, Default)]
pub(super) struct Circumstances {
    umask: Option<u16>,
    bounds: Option<Bounds>,
    /// Whether the command is ended as soon as its output cannot be written, because its work can
    /// be undone, and may be what has filled the disk.
    gives_way: bool,
}

/// The upper limit of the time for which a command that settles work continues after a stop of its
/// attempt. A command that has not ended by then is assumed to hang, for example in a filter of the
/// repository or at a remote.
pub(super) const TO_THE_END: Duration = Duration::from_mins(1);

/// How much memory a command that looks at the work of a restrained principal's attempt, or that
/// changes something for it, may have for itself.
const LOOK_BYTES: u64 = 4 << 30;

/// How much memory a command that only reads for a request of a restrained principal may have for
/// itself. A few of them run at once: see `requests`.
const REQUEST_BYTES: u64 = 1 << 30;

/// How long a supervisor may take to answer the start of a command, in addition to the command's
/// own time limit, which nobody enforces before the start.
const ANSWERS_WITHIN: Duration = Duration::from_millis(if cfg!(test) { 50 } else { 30_000 });

const UNANSWERED: &str = "the supervisor that was to run the command does not answer";

impl Circumstances {
    /// Those of a command for a request. For a restrained principal, a repository that anybody may
    /// have made decides how much memory git needs. The hooks of a person's push may need more.
    pub(super) fn of_request(order: &Order) -> Self {
        let only_reads = order.abandoned == Abandoned::Killed;
        let bytes = if only_reads && order.takes_turn {
            REQUEST_BYTES
        } else {
            LOOK_BYTES
        };
        Self {
            bounds: order.is_restrained.then(|| Bounds::with_memory(bytes)),
            ..Self::default()
        }
    }
}

impl Commands {
    /// Runs a command to its end. Once `stopped` completes, the command is asked to end early.
    pub(super) async fn carry_out(
        self: &Arc<Self>,
        owner: Owner,
        like: Circumstances,
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
        // A person waits for the answer, and a command that only reads leaves nothing half done.
        let is_refused_without_room = owner == Owner::Host && order.abandoned == Abandoned::Killed;
        let Circumstances {
            umask,
            bounds,
            gives_way,
        } = like;
        // Only the output of a command that changes something tells what it has changed.
        let keeps_output = order.abandoned == Abandoned::LeftAlone && !gives_way;
        let start = StartChild {
            umask,
            bounds,
            ..start_of(&key, &log, order)
        };
        let sent = self.supervisors.start(start).done().await;
        let outcome = match sent {
            Ok(()) => {
                let stopped = async {
                    tokio::select! {
                        biased;
                        () = stopped => None,
                        why = no_room_if(gives_way, &state) => Some(why),
                    }
                };
                let mut gave_way = None;
                let end = async {
                    let stopped = self.see_to_end(&key, &state, keeps_output, stopped);
                    gave_way = stopped.await.flatten();
                };
                let full = no_room_if(is_refused_without_room, &state);
                let missed = tokio::select! {
                    biased;
                    ended = has_ended(end, &state, answers_within) => {
                        (!ended).then(|| io::Error::other(UNANSWERED))
                    }
                    why = full => Some(unwritten(&log, &why)),
                };
                if let Some(error) = missed {
                    // The start is not carried out later: before each start, a supervisor reads
                    // everything that has arrived, so it will find the stop.
                    self.stop(&key).await;
                    self.forget_later(key, log, state);
                    return Err(error);
                }
                if let Some(why) = gave_way {
                    self.forget(&key, &log).await;
                    return Err(unwritten(&log, &why));
                }
                let child = {
                    let state = state.borrow();
                    // Half of an answer must not be taken for the whole one.
                    let is_whole = !state.output_cut;
                    state.children.first().filter(|_| is_whole).cloned()
                };
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

    /// Waits until no process of the command is alive and its output is written. Stops the command
    /// when `stopped` completes, and returns what that has returned. A stop drops the output that
    /// cannot be written. If the output is to be kept, a command that has ended is not stopped.
    async fn see_to_end<T>(
        &self,
        key: &AttemptKey,
        state: &watch::Sender<State>,
        keeps_output: bool,
        stopped: impl Future<Output = T> + Send,
    ) -> Option<T> {
        let why = tokio::select! {
            biased;
            () = over(state) => return None,
            why = stopped => why,
        };
        let only_waits = {
            let state = state.borrow();
            state.without_room().is_some() && state.has_ended()
        };
        let is_stopped = !(keeps_output && only_waits);
        if is_stopped {
            self.stop(key).await;
        }
        over(state).await;
        // A part of the output must not be taken for all of it.
        state.send_modify(|state| state.output_cut |= is_stopped && state.was_held);
        Some(why)
    }

    async fn stop(&self, key: &AttemptKey) {
        let order = self
            .supervisors
            .stop(key.clone(), StopWhy::Cancelled, ladder(GRACE));
        if let Err(error) = order.done().await {
            tracing::debug!(%key, %error, "a command cannot be stopped");
        }
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
        let path = log.to_owned();
        let removed = aside::run(move || fs::remove_file(path)).await;
        match removed.unwrap_or_else(|error| Err(io::Error::other(error))) {
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

/// The error of a command whose output cannot be written.
fn unwritten(log: &Path, why: &str) -> io::Error {
    let dir = log.parent().unwrap_or(log).display();
    let message = format!("its output cannot be written in {dir}: {why}");
    io::Error::new(io::ErrorKind::StorageFull, message)
}

/// [`no_room`], or never.
async fn no_room_if(is_of_interest: bool, state: &watch::Sender<State>) -> String {
    if !is_of_interest {
        return pending().await;
    }
    no_room(state).await
}

/// Waits until the output of a command is held back because the disk is full. Returns the reason.
async fn no_room(state: &watch::Sender<State>) -> String {
    let mut changes = state.subscribe();
    let is_held = |state: &State| state.without_room().is_some();
    // This cannot fail, because the sender is borrowed here.
    drop(changes.wait_for(is_held).await);
    let held = state.borrow().held.clone();
    held.unwrap_or_default()
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

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::future::ready;

    use rustix::io::Errno;
    use tokio::sync::mpsc;

    use super::{super::found::Known, super::reporter::Reporter, *};
    use crate::{
        engine::Inbox,
        supervise::{self, Program, Report, Settings},
    };

    /// Commands of the host with the epoch 1, for which no supervisor can be started, and the
    /// reports on them. `known` holds the commands of earlier hosts.
    pub(in crate::attempt) async fn without_supervisors(
        dir: &Path,
        known: Known,
    ) -> (Arc<Commands>, mpsc::Receiver<Report>) {
        let layout = Layout::new(dir);
        layout.create().unwrap();
        let settings = Settings {
            dir: layout.supervisors(),
            program: Program {
                path: PathBuf::from("/bin/false"),
                args: Vec::new(),
            },
            environment: Vec::new(),
            descriptors: None,
            epoch: 1,
        };
        let orphans = supervise::Orphans::look_for(&settings.dir);
        let opened = supervise::open(settings, orphans);
        let opened = opened.await.unwrap();
        let commands = Commands {
            registry: Arc::new(Registry::new(known)),
            supervisors: opened.supervisors,
            layout,
            tasks: TaskTracker::new(),
            next: AtomicU64::new(0),
            patience: Duration::ZERO,
            disk_reserve_bytes: 0,
        };
        (Arc::new(commands), opened.reports)
    }

    /// Passes on the reports from now on.
    pub(in crate::attempt) fn route(commands: &Commands, reports: mpsc::Receiver<Report>) {
        let (registry, supervisors) = (commands.registry.clone(), commands.supervisors.clone());
        tokio::spawn(async move {
            let reporter = Reporter::new(Inbox::new().reports());
            registry.route(reports, &supervisors, &reporter).await;
        });
    }

    pub(in crate::attempt) fn order() -> Order {
        Order {
            argv: vec!["true".to_owned()],
            cwd: PathBuf::from("/"),
            env: Vec::new(),
            kept_bytes: 1,
            limit: Duration::from_mins(1),
            abandoned: Abandoned::Killed,
            restores: false,
            is_restrained: false,
            takes_turn: false,
        }
    }

    #[test]
    fn only_requests_of_restrained_principals_have_a_limit_of_memory() {
        let bounds = |is_restrained, takes_turn, abandoned| {
            let order = Order {
                abandoned,
                is_restrained,
                takes_turn,
                ..order()
            };
            let bounds = Circumstances::of_request(&order).bounds;
            bounds.map(|bounds| bounds.to_string())
        };
        let of = |bytes: u64| Some(format!("data={bytes}:{bytes}"));
        assert_eq!(bounds(true, true, Abandoned::Killed), of(1 << 30));
        // A person looks at the worktree of a client's task.
        assert_eq!(bounds(true, false, Abandoned::Killed), of(4 << 30));
        for takes_turn in [true, false] {
            let changing = bounds(true, takes_turn, Abandoned::LeftAlone);
            assert_eq!(changing, of(4 << 30));
        }
        for abandoned in [Abandoned::Killed, Abandoned::LeftAlone] {
            assert_eq!(bounds(false, false, abandoned), None);
        }
    }

    /// Otherwise a part of the output would be read as the whole of it.
    #[tokio::test]
    async fn a_stopped_command_whose_output_was_held_back_has_no_whole_output() {
        let dir = tempfile::tempdir().unwrap();
        let (commands, reports) = without_supervisors(dir.path(), Known::default()).await;
        route(&commands, reports);
        let key = AttemptKey::new("host+1.1");
        for (keeps_output, has_ended, is_stopped) in [
            (true, true, false),
            (true, false, true),
            (false, true, true),
            (false, false, true),
        ] {
            let child = if has_ended {
                ChildState::Lost
            } else {
                ChildState::Sent
            };
            let state = watch::Sender::new(State {
                children: vec![child],
                held: Some(supervise::log::no_room()),
                was_held: true,
                ..State::default()
            });
            let seen_to = commands.see_to_end(&key, &state, keeps_output, ready(()));
            let ends = async {
                state.send_modify(|state| {
                    state.children = vec![ChildState::Lost];
                    state.ended = true;
                });
            };
            assert_eq!(tokio::join!(seen_to, ends).0, Some(()));
            let is_cut = state.borrow().output_cut;
            assert_eq!(is_cut, is_stopped, "{keeps_output} {has_ended}");
        }
    }

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
            restores: false,
            is_restrained: false,
            takes_turn: false,
        };
        let start = start_of(&key, Path::new("/log"), order);
        assert_eq!(start.env_set, [(ATTEMPT.to_owned(), key.to_string())]);
        assert_eq!(start.timeout, Some(Duration::from_secs(20)));
        assert_eq!(start.ladder[0].wait, GRACE);
    }

    #[tokio::test]
    async fn a_command_does_not_wait_for_ever_for_a_supervisor_that_does_not_answer() {
        let dir = tempfile::tempdir().unwrap();
        let (commands, reports) = without_supervisors(dir.path(), Known::default()).await;
        let order = Order {
            limit: Duration::ZERO,
            ..order()
        };
        // Nobody passes on the reports, so no answer comes.
        let outcome = commands.carry_out(Owner::Host, Circumstances::default(), order, pending());
        let refused = outcome.await.unwrap_err().to_string();
        assert!(refused.contains("does not answer"), "{refused}");
        // The command is known until it is over.
        assert_eq!(commands.registry.all_commands().len(), 1);
        route(&commands, reports);
        commands.tasks.close();
        commands.tasks.wait().await;
        assert!(commands.registry.all_commands().is_empty());
    }

    #[tokio::test]
    async fn the_end_of_a_command_is_awaited_once_its_start_is_answered() {
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

    /// A command is not refused because its supervisor does not answer: it may answer soon.
    #[tokio::test]
    async fn only_a_full_disk_counts_as_no_room_for_the_output_of_a_command() {
        let state = watch::Sender::new(State::default());
        let found = async |held: &str| {
            state.send_modify(|state| state.held = Some(held.to_owned()));
            clock::within(Duration::from_millis(1), no_room(&state)).await
        };
        assert_eq!(found("its supervisor does not answer").await, None);
        let errors = [Errno::NOSPC, Errno::DQUOT].map(|errno| io::Error::from(errno).to_string());
        for why in errors.into_iter().chain([supervise::log::no_room()]) {
            assert_eq!(found(&why).await.as_deref(), Some(why.as_str()));
        }
    }
}
