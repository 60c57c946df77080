//! Runs the commands of an attempt while it prepares or settles.

use std::{
    future::{pending, poll_fn},
    io,
    path::Path,
    pin::{Pin, pin},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::Poll,
    time::Duration,
};

use tokio::sync::oneshot;

use super::{
    Circumstances, Commands, LOOK_BYTES,
    disks::{Filled, Watched},
    stopped_for,
};
use crate::{
    attempt::live::{Live, Owner},
    bounds::Bounds,
    clock,
    command::{Abandoned, Elsewhere, Order, Outcome},
};

/// The pauses before repetitions of a command that settles work, if no supervisor received it. For
/// a moment, a machine may have no room for another supervisor.
const AGAIN_AFTER: [Duration; 5] = [
    Duration::from_millis(100),
    Duration::from_millis(300),
    Duration::from_secs(1),
    Duration::from_secs(3),
    Duration::from_secs(8),
];

/// How long all commands that restore a checkout may take together after a stop of the attempt has
/// ended a command. If that is too short, the next host or the next merge restores the checkout.
const RESTORING: Duration = Duration::from_secs(30);

/// How much memory a command of a restrained principal's preparation may have. A repository decides
/// how much git needs: a few hundred kilobytes can describe any number of files. Two GiB are enough
/// for some ten million files.
const MEMORY_BYTES: u64 = 2 << 30;

/// Runs the commands of one attempt while it prepares or settles.
pub(in crate::attempt) struct OfAttempt {
    commands: Arc<Commands>,
    live: Arc<Live>,
    /// The number of running commands.
    running: Arc<AtomicUsize>,
    /// How long a command continues after a stop of the attempt.
    patience: Duration,
    /// The time at which a stop of the attempt has ended a command. The commands that follow undo
    /// the unfinished work, so a stop does not end them. Only those that restore a checkout have
    /// another limit, because a filter may hang there for each file.
    undone_since: Arc<OnceLock<Duration>>,
    /// The pauses before repetitions of a command that no supervisor received.
    pauses: &'static [Duration],
    /// The disks that a command must not fill.
    watched: Option<Watched>,
    bounds: Option<Bounds>,
    /// Whether a command is ended if its output cannot be written.
    gives_way: bool,
}

impl OfAttempt {
    /// Whether no command of the attempt is running.
    fn is_idle(&self) -> bool {
        self.running.load(Ordering::Relaxed) == 0
    }

    /// Does the work whose commands run here. Once `late` has completed, drops the work as soon as
    /// it runs no command, and returns `None`. A command for which nobody waits any more would go
    /// on beside other work on the repository.
    pub(in crate::attempt) async fn until_idle<T>(
        &self,
        late: impl Future<Output = ()>,
        mut work: Pin<&mut impl Future<Output = T>>,
    ) -> Option<T> {
        let mut late = pin!(late);
        let mut is_late = false;
        poll_fn(|context| {
            if let Poll::Ready(done) = work.as_mut().poll(context) {
                return Poll::Ready(Some(done));
            }
            is_late = is_late || late.as_mut().poll(context).is_ready();
            if is_late && self.is_idle() {
                return Poll::Ready(None);
            }
            Poll::Pending
        })
        .await
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
        let undone_since = self.undone_since.clone();
        let (patience, pauses) = (self.patience, self.pauses);
        let (watched, gives_way) = (self.watched.clone(), self.gives_way);
        let bounds = limits_of(self.bounds.as_ref(), &order);
        // The command runs to its end even if nobody waits for it, so that its result is known and
        // its supervisor can forget it.
        self.commands.tasks.spawn(async move {
            let owner = Owner::Attempt(live.id);
            let carry_out = || async {
                let undone_since = &*undone_since;
                let left = left_for(undone_since.get().copied());
                // A command that hangs would be killed only some time after it was told to end.
                if order.restores && left == Some(Duration::ZERO) {
                    return Err(io::Error::other("the attempt was stopped"));
                }
                let restores = order.restores;
                let full = OnceLock::new();
                let was_stopped = AtomicBool::new(false);
                let stopped = async {
                    match left {
                        Some(left) if restores => clock::sleep(left).await,
                        Some(_) => pending::<()>().await,
                        None => {
                            tokio::select! {
                                biased;
                                () = stopped_for(&live, patience) => {}
                                filled = fills(watched.as_ref()) => {
                                    full.get_or_init(|| filled);
                                }
                            }
                            was_stopped.store(true, Ordering::Relaxed);
                        }
                    }
                };
                let order = order.clone();
                let like = Circumstances {
                    umask: live.umask(),
                    bounds: bounds.clone(),
                    gives_way,
                };
                let outcome = commands.carry_out(owner, like, order, stopped).await;
                let outcome = full.into_inner().map_or(outcome, |it| Err(it.into_error()));
                let is_stopped = was_stopped.into_inner() && is_cut_short(&outcome);
                if is_stopped || gives_way && is_without_room(&outcome) {
                    undone_since.get_or_init(clock::monotonic);
                }
                outcome
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

    /// The commands of earlier hosts are over already, unless a stop of the attempt has ended the
    /// wait for them.
    fn earlier_over(&self) -> Pin<Box<dyn Future<Output = io::Result<()>> + Send>> {
        let commands = self.commands.clone();
        Box::pin(async move { commands.earlier_over().await })
    }
}

impl Commands {
    /// The runner of commands for preparations. A stop of the attempt interrupts them, because they
    /// can be undone. A command that no supervisor received is not repeated, because the attempt
    /// itself starts again later.
    ///
    /// A repository decides how much they write, so they are ended before they fill a disk, and if
    /// a full disk has no room for their output. `repository` is the git directory that the task's
    /// worktree shares with others.
    pub(in crate::attempt) fn for_preparing(
        self: &Arc<Self>,
        live: &Arc<Live>,
        repository: Option<&Path>,
        is_restrained: bool,
    ) -> Arc<OfAttempt> {
        let reserve = self.disk_reserve_bytes;
        Arc::new(OfAttempt {
            watched: Some(Watched::of(&self.layout, repository, reserve)),
            gives_way: true,
            bounds: is_restrained.then(|| Bounds::with_memory(MEMORY_BYTES)),
            ..self.of(live, Duration::ZERO, &[])
        })
    }

    /// The runner of commands that settle work. They continue for some time after a stop of the
    /// attempt, so that their result is known. A command that no supervisor received is repeated,
    /// because otherwise the attempt would fail although its work is done.
    pub(in crate::attempt) fn for_settling(self: &Arc<Self>, live: &Arc<Live>) -> Arc<OfAttempt> {
        Arc::new(self.of(live, self.patience, &AGAIN_AFTER))
    }

    /// The runner of commands that undo a preparation, or look at what a stopped attempt has left.
    /// They go on like those that settle work, but do not wait for room on a full disk: what they
    /// remove may be what fills it, and nobody has worked there.
    pub(in crate::attempt) fn for_undoing(self: &Arc<Self>, live: &Arc<Live>) -> Arc<OfAttempt> {
        Arc::new(OfAttempt {
            gives_way: true,
            ..self.of(live, self.patience, &AGAIN_AFTER)
        })
    }

    fn of(
        self: &Arc<Self>,
        live: &Arc<Live>,
        patience: Duration,
        pauses: &'static [Duration],
    ) -> OfAttempt {
        OfAttempt {
            commands: self.clone(),
            live: live.clone(),
            running: Arc::default(),
            patience,
            undone_since: Arc::default(),
            pauses,
            watched: None,
            bounds: None,
            gives_way: false,
        }
    }
}

/// Whether a command that was told to stop has not done its work. If it was done before the stop
/// arrived, the work goes on with the next command, which must be stopped then.
fn is_cut_short(outcome: &Outcome) -> bool {
    !matches!(outcome, Ok(Some(_)))
}

/// The limits of a command, if it has other ones than its supervisor: those of a preparation, or
/// those of a command for a request. A command that changes something may have to run the hooks of
/// a push, which may need more.
fn limits_of(preparing: Option<&Bounds>, order: &Order) -> Option<Bounds> {
    let only_reads = order.abandoned == Abandoned::Killed;
    let reading = (order.is_restrained && only_reads).then(|| Bounds::with_memory(LOOK_BYTES));
    preparing.cloned().or(reading)
}

/// Waits until one of the disks fills, if there are any.
async fn fills(watched: Option<&Watched>) -> Filled {
    match watched {
        Some(watched) => watched.fills().await,
        None => pending().await,
    }
}

/// How long commands that restore a checkout may still run if a stop has ended a command at this
/// time.
fn left_for(undone_since: Option<Duration>) -> Option<Duration> {
    let since = undone_since?;
    Some((since + RESTORING).saturating_sub(clock::monotonic()))
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

/// Whether a command was ended because a disk is full.
fn is_without_room(outcome: &Outcome) -> bool {
    let error = outcome.as_ref().err();
    error.is_some_and(|error| error.kind() == io::ErrorKind::StorageFull)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::{future::ready, os::unix::process::ExitStatusExt, process::ExitStatus};

    use claudine_domain::id::{AttemptId, TaskId};

    use super::{
        super::tests::{order, route, without_supervisors},
        *,
    };
    use crate::{
        attempt::{found::Known, live::State},
        command::Finished,
    };

    #[tokio::test]
    async fn a_command_that_no_supervisor_received_is_repeated() {
        let dir = tempfile::tempdir().unwrap();
        let (commands, reports) = without_supervisors(dir.path(), Known::default()).await;
        route(&commands, reports);
        let check = async |pauses: &'static [Duration], expected: u64| {
            let id = AttemptId {
                task: TaskId::new(1, 1),
                number: 1,
            };
            let (live, _stopped) = Live::new(id, Vec::new(), State::default());
            let live = Arc::new(live);
            let before = commands.next.load(Ordering::Relaxed);
            let outcome = commands.of(&live, Duration::ZERO, pauses).run(order());
            let error = outcome.await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::NotConnected, "{error}");
            assert_eq!(commands.next.load(Ordering::Relaxed) - before, expected);
            assert!(live.look(|state| state.command_unreceived));
        };
        check(&[], 1).await;
        check(&[Duration::ZERO; 2], 3).await;
        assert!(commands.registry.all_commands().is_empty());
    }

    /// Only what follows a command that was cut short undoes work, and goes on after a stop.
    #[test]
    fn command_that_was_done_before_its_stop_arrived_is_not_cut_short() {
        let done = Finished {
            status: ExitStatus::from_raw(1 << 8),
            stdout: Vec::new(),
            stderr: Vec::new(),
        };
        assert!(!is_cut_short(&Ok(Some(done))));
        assert!(is_cut_short(&Ok(None)));
        assert!(is_cut_short(&Err(io::Error::other("stopped"))));
    }

    #[test]
    fn what_git_reads_for_a_restrained_principal_has_a_limit_of_memory_after_an_attempt_too() {
        let check = |is_restrained: bool, abandoned: Abandoned, expected: bool| {
            let order = Order {
                abandoned,
                is_restrained,
                ..order()
            };
            let limits = limits_of(None, &order);
            assert_eq!(limits.is_some(), expected, "{order:?}");
            let preparing = Bounds::with_memory(MEMORY_BYTES);
            assert_eq!(limits_of(Some(&preparing), &order), Some(preparing));
        };
        check(true, Abandoned::Killed, true);
        check(true, Abandoned::LeftAlone, false);
        check(false, Abandoned::Killed, false);
    }

    #[tokio::test]
    async fn work_that_is_late_is_dropped_only_once_it_runs_no_command() {
        let dir = tempfile::tempdir().unwrap();
        let (commands, _reports) = without_supervisors(dir.path(), Known::default()).await;
        let id = AttemptId {
            task: TaskId::new(1, 1),
            number: 1,
        };
        let (live, _stopped) = Live::new(id, Vec::new(), State::default());
        let runner = commands.of(&Arc::new(live), Duration::ZERO, &[]);
        let (end, ended) = oneshot::channel::<()>();
        let counted = Counted::new(runner.running.clone());
        let work = pin!(async {
            ended.await.unwrap();
            drop(counted);
            pending::<()>().await;
        });
        let mut late = pin!(runner.until_idle(ready(()), work));
        let look = poll_fn(|context| Poll::Ready(late.as_mut().poll(context)));
        assert!(look.await.is_pending(), "dropped beside its command");
        end.send(()).unwrap();
        assert_eq!(late.await, None);
        // Work that is done in time is never dropped.
        let done = pin!(async { 7 });
        assert_eq!(runner.until_idle(ready(()), done).await, Some(7));
    }

    /// The files of a checkout may be restored one by one, and a filter may hang for each of them.
    #[tokio::test]
    async fn commands_that_restore_a_checkout_after_a_stop_have_one_time_limit_together() {
        let dir = tempfile::tempdir().unwrap();
        let (commands, reports) = without_supervisors(dir.path(), Known::default()).await;
        route(&commands, reports);
        let id = AttemptId {
            task: TaskId::new(1, 1),
            number: 1,
        };
        let (live, _stopped) = Live::new(id, Vec::new(), State::default());
        let live = Arc::new(live);
        let now = clock::monotonic();
        for (since, restores, is_tried) in [
            (now, true, true),
            (now.saturating_sub(RESTORING), true, false),
            (now.saturating_sub(RESTORING), false, true),
        ] {
            let runner = OfAttempt {
                undone_since: Arc::new(OnceLock::from(since)),
                ..commands.of(&live, Duration::ZERO, &[])
            };
            let order = Order {
                restores,
                ..order()
            };
            let error = runner.run(order).await.unwrap_err();
            // No supervisor can be started for the command.
            let was_tried = error.kind() == io::ErrorKind::NotConnected;
            assert_eq!(was_tried, is_tried, "{error}");
        }
    }

    #[tokio::test]
    async fn only_a_command_that_no_supervisor_received_is_repeated() {
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
