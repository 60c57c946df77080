//! The engine's requests: starting attempts, taking them over, stopping them, and forgetting them
//! once their end is durable.

use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use claudine_domain::{
    attempt::{Attempt, StopWhy},
    id::{AttemptId, TaskId},
    step::Found,
    task::Task,
};
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use super::{
    code::{self, Loader},
    commands::{Commands, TO_THE_END},
    found::Known,
    inputs::Inputs,
    launcher::Launcher,
    live::{Live, State},
    registry::Registry,
    reporter::Reporter,
    requests::Requests,
    standby::{StandBy, StandingBy},
    workspaces::Workspaces,
};
use crate::{
    aside,
    ceiling::places::Places,
    checkpoint, clock,
    config::McpCeiling,
    engine::{Attempts, Launch, ReportSender},
    environment::Environments,
    fsx,
    layout::Layout,
    plugin::{Catalog, StopRequest},
    store::Store,
    supervise::{
        self, Handover, SuperviseError, Supervisors,
        peer::{Forebear, Side},
    },
    transcript::Transcripts,
    worktree::Worktrees,
};

/// The time that an executor has, in addition to the waits of the stop ladder, to finish its
/// answer. It has at least this time after the end of its last process.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// The runner of attempts that the engine uses. It has a registry of the attempts in progress, a
/// launcher that runs them, and a reporter that sends their reports to the engine.
pub(crate) struct Runner {
    launcher: Arc<Launcher>,
    registry: Arc<Registry>,
    requests: Arc<Requests>,
    standing_by: StandingBy,
}

/// The parts of a runner.
pub(crate) struct RunnerParts {
    pub(crate) plugins: Arc<Catalog>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) supervisors: Supervisors,
    pub(crate) environments: Arc<Environments>,
    pub(crate) worktrees: Arc<Worktrees>,
    pub(crate) layout: Layout,
    pub(crate) reports: ReportSender,
    pub(crate) known: Known,
    /// How long settling the work of an attempt may take.
    pub(crate) settle_timeout: Duration,
    /// The present limits of restrained principals.
    pub(crate) ceiling: McpCeiling,
    /// The configuration file, whether it exists or not.
    pub(crate) settings_file: PathBuf,
    /// The present output limit of tasks that request no other, which is also the highest limit of
    /// a restrained principal's task.
    pub(crate) most_output: u64,
    /// The space to keep free on the disk of the data directory.
    pub(crate) disk_reserve_bytes: u64,
}

impl Runner {
    pub(crate) fn new(parts: RunnerParts) -> Arc<Self> {
        let RunnerParts {
            plugins,
            store,
            supervisors,
            environments,
            worktrees,
            layout,
            reports,
            known,
            settle_timeout,
            ceiling,
            settings_file,
            most_output,
            disk_reserve_bytes,
        } = parts;
        let inputs = Inputs {
            store,
            environments: environments.clone(),
            transcripts: Transcripts::new(plugins.clone(), layout.clone()),
            layout: layout.clone(),
            places: Arc::new(Places::of_host(
                layout.root(),
                &settings_file,
                &ceiling.directories,
            )),
            ceiling: Arc::new(ceiling),
            most_output,
        };
        let workspaces = Workspaces {
            worktrees,
            environments,
        };
        let (registry, tasks) = (Arc::new(Registry::new(known)), TaskTracker::new());
        let commands = Arc::new(Commands {
            registry: registry.clone(),
            supervisors: supervisors.clone(),
            layout: layout.clone(),
            tasks: tasks.clone(),
            next: AtomicU64::new(0),
            patience: settle_timeout.min(TO_THE_END),
            disk_reserve_bytes,
        });
        let requests = Arc::new(Requests::new(commands.clone()));
        let reporter = Reporter::new(reports);
        let loader = Loader {
            requests: requests.clone(),
            reporter: reporter.clone(),
            tasks: tasks.clone(),
        };
        let launcher = Launcher {
            plugins,
            supervisors,
            layout,
            inputs,
            workspaces,
            commands,
            loader,
            reporter,
            tasks,
        };
        Arc::new(Self {
            launcher: Arc::new(launcher),
            registry,
            requests,
            standing_by: StandingBy::default(),
        })
    }

    /// Loads the code of executors again whenever it could not be had. Does not end.
    pub(crate) async fn keep_executors_loaded(&self) {
        let Launcher {
            plugins, reporter, ..
        } = &*self.launcher;
        code::keep_all_loaded(plugins, reporter).await;
    }

    /// Tells the engine which plugins this host cannot use while their tasks wait.
    pub(crate) async fn tell_of_unread_plugins(&self) {
        let Launcher {
            plugins, reporter, ..
        } = &*self.launcher;
        code::tell_of_unread(plugins, reporter).await;
    }

    /// The runner of commands for requests.
    pub(crate) fn requests(&self) -> Arc<Requests> {
        self.requests.clone()
    }

    /// Begins the attempt if it stands by. If not, returns the launch.
    fn begin_standing_by(&self, launch: Launch) -> Result<(), Launch> {
        let Some(StandBy { live, .. }) = self.standing_by.take(launch.attempt) else {
            return Err(launch);
        };
        self.registry.begin(live, launch.task);
        Ok(())
    }

    /// If the queue to the supervisor is full, waits in the background until it has room for the
    /// order.
    fn see_to(&self, attempt: AttemptId, order: Handover) {
        if order.waits() {
            self.see_to_all(attempt, order.done());
        }
    }

    fn see_to_all(
        &self,
        attempt: AttemptId,
        orders: impl Future<Output = Result<(), SuperviseError>> + Send + 'static,
    ) {
        self.launcher.tasks.spawn(async move {
            if let Err(error) = orders.await {
                tracing::debug!(%attempt, %error, "the host ends before the supervisor has received the order");
            }
        });
    }

    /// Removes the input files of an attempt that is over. The engine must not wait for a file
    /// system.
    fn see_to_files(&self, attempt: AttemptId, given: bool, input_files: u16) {
        let layout = self.launcher.layout.clone();
        let remove = move || remove_files(&layout, attempt, given, input_files);
        let removed = aside::run(remove);
        self.launcher.tasks.spawn(async move {
            if let Err(error) = removed.await {
                tracing::warn!(%attempt, %error, "the input of an attempt cannot be removed");
            }
        });
    }

    /// The attempt to which a process belongs, and the side that started the process. `line` is the
    /// process, followed by its ancestors below the supervisor.
    pub(crate) async fn attempt_of(&self, line: &[Forebear]) -> Option<(AttemptId, Side)> {
        self.registry.attempt_of(line).await
    }

    /// Why the output of an attempt in progress cannot be written at the moment. An attempt that no
    /// supervisor is known to have waits for those that do not answer, one of which may have it.
    pub(crate) fn held_back(&self, attempt: AttemptId) -> Option<String> {
        if self.registry.knows(attempt) {
            return self.registry.held_back(attempt);
        }
        self.launcher.supervisors.silent().into_iter().next()
    }

    /// The number of attempts whose output cannot be written at the moment, and one of the reasons.
    /// `None` if there are no such attempts. `silent` has the reasons of supervisors that do not
    /// answer.
    pub(crate) fn all_held_back(&self, silent: &[String]) -> Option<(usize, String)> {
        self.registry.all_held_back(silent)
    }

    /// Passes the reports of supervisors to their attempts until the channel is closed.
    pub(crate) async fn route(&self, reports: mpsc::Receiver<supervise::Report>) {
        let Launcher {
            supervisors,
            reporter,
            ..
        } = &*self.launcher;
        self.registry.route(reports, supervisors, reporter).await;
    }

    /// Ends the attempts whose tasks' rows cannot be read, because nothing else would end them.
    pub(crate) async fn end_unreadable(&self) -> Result<(), SuperviseError> {
        for attempt in self.registry.unreadable() {
            tracing::warn!(%attempt, "the attempt is ended, because its task cannot be read");
            self.end_found(attempt).await?;
        }
        Ok(())
    }

    /// Stops an attempt that only its supervisor knows, and lets the supervisor forget it.
    fn end_found(
        &self,
        attempt: AttemptId,
    ) -> impl Future<Output = Result<(), SuperviseError>> + Send + use<> {
        let key = supervise::AttemptKey::new(attempt.to_string());
        let ladder = vec![supervise::Rung {
            signal: supervise::Signal::Term,
            wait: LAST_WORDS,
        }];
        let why = supervise::StopWhy::Cancelled;
        self.launcher.supervisors.stop_and_ack(key, why, ladder)
    }

    /// Waits until the attempts that had ended before this host began are stored as ended, unless
    /// the code of an executor cannot be had: nobody knows when its attempts are stored.
    pub(crate) async fn written_off(&self) {
        tokio::select! {
            () = self.registry.written_off() => {}
            () = code::until_any_lacks(&self.launcher.plugins) => {}
        }
    }
}

/// Removes the input files of an attempt that is over.
fn remove_files(layout: &Layout, attempt: AttemptId, given: bool, input_files: u16) {
    if given && let Err(error) = checkpoint::files::remove(&layout.inputs(attempt)) {
        tracing::warn!(%attempt, %error, "the attempt's files of other tasks cannot be removed");
    }
    for index in 0..input_files {
        let path = layout.stdin_file(attempt, index);
        if let Err(error) = fsx::remove_file(&path) {
            tracing::warn!(path = %path.display(), %error, "an input file cannot be removed");
        }
    }
}

/// The stop ladder of a task. Unknown signals would be left out, but there are none, because the
/// manifest was checked when the plugin was loaded.
fn ladder_of(task: &Task) -> Vec<supervise::Rung> {
    let rungs = task.request.ladder.iter();
    rungs
        .filter_map(|rung| {
            let signal = rung.signal.parse().ok()?;
            Some(supervise::Rung {
                signal,
                wait: Duration::from_millis(rung.wait_ms),
            })
        })
        .collect()
}

impl Attempts for Runner {
    fn prepare(&self, launch: Launch) {
        let Launch { attempt, task, .. } = &launch;
        let executor = self.launcher.plugins.executor(&task.request.executor);
        let may = executor.is_ok_and(|executor| executor.manifest().standby);
        // An attempt stands by only if its executor allows it and none of its inputs can still
        // change.
        let request = &task.request;
        let may_change =
            request.worktree.is_some() || task.reads_others() || request.budget_micro_usd.is_some();
        if !may || attempt.number != 1 || may_change {
            return;
        }
        let (live, stopped) = Live::new(*attempt, ladder_of(task), State::default());
        let live = Arc::new(live);
        let work = self
            .launcher
            .set_to_work(launch, live.clone(), false, stopped);
        self.standing_by.insert(StandBy { live, work });
    }

    fn dismiss(&self, attempt: AttemptId) {
        if let Some(StandBy { work, .. }) = self.standing_by.take(attempt) {
            work.abort();
        }
    }

    fn start(&self, launch: Launch) {
        if let Err(launch) = self.begin_standing_by(launch) {
            let ladder = ladder_of(&launch.task);
            let (live, stopped) = Live::new(launch.attempt, ladder, State::default());
            let live = Arc::new(live);
            self.registry.begin(live.clone(), launch.task.clone());
            self.launcher.set_to_work(launch, live, false, stopped);
        }
    }

    fn resume(&self, launch: Launch) {
        if let Some(live) = self.registry.get(launch.attempt) {
            let reporter = self.launcher.reporter.clone();
            self.launcher
                .tasks
                .spawn(async move { reporter.tell_again(&live).await });
        } else {
            let ladder = ladder_of(&launch.task);
            let last = launch.task.last_attempt();
            let has_started = last.is_some_and(|last| last.leader.is_some());
            let (live, stopped) = self.registry.take_over(launch.attempt, ladder, has_started);
            live.begin(launch.task.clone());
            self.launcher.set_to_work(launch, live, true, stopped);
        }
    }

    fn spawn(&self, attempt: AttemptId) {
        if let Some(live) = self.registry.get(attempt) {
            live.change(|state| {
                if !std::mem::replace(&mut state.may_spawn, true) {
                    state.began = Some(clock::monotonic_ms());
                }
            });
        }
    }

    fn settle(&self, attempt: AttemptId) {
        if let Some(live) = self.registry.get(attempt) {
            live.change(|state| state.may_settle = true);
        }
    }

    fn stop(&self, attempt: AttemptId, why: StopWhy) {
        let Some(live) = self.registry.get(attempt) else {
            tracing::debug!(%attempt, "the attempt to stop is not in progress");
            return;
        };
        let ladder = live.ladder.clone();
        let grace: Duration = ladder
            .iter()
            .map(|rung: &supervise::Rung| rung.wait)
            .sum::<Duration>()
            + LAST_WORDS;
        let (reason, asked) = match &why {
            StopWhy::Cancelled { .. } | StopWhy::Budget { .. } => {
                ("cancelled", supervise::StopWhy::Cancelled)
            }
            StopWhy::IdleTimeout => ("timed_out", supervise::StopWhy::Idle),
            StopWhy::Timeout
            | StopWhy::StartTimeout
            | StopWhy::PrepareTimeout
            | StopWhy::SettleTimeout => ("timed_out", supervise::StopWhy::TimedOut),
        };
        let children = live.change(|state| {
            state.stop = Some(why);
            !state.has_ended()
        });
        // Before the executor is asked, so that no order of the executor comes first: a process
        // that ends because of such an order has not ended by itself.
        if children {
            let supervisors = &self.launcher.supervisors;
            self.see_to(attempt, supervisors.stop(live.key.clone(), asked, ladder));
        }
        live.ask_to_stop(StopRequest {
            reason: reason.to_owned(),
            grace,
            last_words: LAST_WORDS,
        });
    }

    fn acknowledge(&self, attempt: AttemptId, number: u64) {
        if let Some(live) = self.registry.get(attempt) {
            live.told.acknowledge(number);
        }
    }

    fn release(&self, attempt: AttemptId) {
        let live = self.registry.release(attempt);
        let (children, input_files, given) = live.map_or((true, 1, true), |live| {
            live.look(|state| (!state.children.is_empty(), state.input_files, state.given))
        });
        if children {
            let key = supervise::AttemptKey::new(attempt.to_string());
            self.see_to(attempt, self.launcher.supervisors.ack(key));
        }
        if given || input_files > 0 {
            self.see_to_files(attempt, given, input_files);
        }
    }

    fn checkpoint_stored(&self, attempt: AttemptId, number: u64) {
        if let Some(live) = self.registry.get(attempt) {
            live.change(|state| state.checkpoint_stored(number));
        }
    }

    fn load(&self, executor: &str) {
        let (launcher, name) = (self.launcher.clone(), executor.to_owned());
        self.launcher.tasks.spawn(async move {
            let Launcher {
                loader, plugins, ..
            } = &*launcher;
            loader.look_for_code(plugins, &name).await;
        });
    }

    fn begun(&self, attempts: &BTreeSet<AttemptId>, unreadable: &BTreeSet<TaskId>) {
        for (attempt, is_over) in self.registry.take_others(attempts, unreadable) {
            if is_over {
                self.release(attempt);
                continue;
            }
            tracing::warn!(%attempt, "the attempt is ended: the store does not know it");
            self.see_to_all(attempt, self.end_found(attempt));
            self.see_to_files(attempt, true, 1);
        }
        self.launcher.commands.see_to_earlier();
    }

    fn found(&self, attempt: AttemptId, task: &Task) -> Option<Found> {
        if self.registry.has_ended_by_itself(attempt) {
            return Some(Found::Over);
        }
        let is_known = self.registry.knows(attempt);
        let may_turn_up = !self.launcher.supervisors.silent().is_empty();
        found(
            is_known,
            task.last_attempt(),
            &clock::boot_id(),
            may_turn_up,
        )
    }
}

/// What happened to an attempt, according to the supervisors. `None` if a supervisor that has not
/// answered yet may have the attempt. If no supervisor is known to have the attempt and the attempt
/// began before a reboot, it is orphaned, because no process survives a reboot.
fn found(
    is_known: bool,
    attempt: Option<&Attempt>,
    boot_id: &str,
    may_turn_up: bool,
) -> Option<Found> {
    let started = attempt.and_then(|attempt| attempt.started_monotonic.as_ref());
    if is_known {
        Some(Found::Known)
    } else if started.is_some_and(|(_, boot)| **boot != *boot_id) {
        Some(Found::Orphaned)
    } else if may_turn_up {
        None
    } else {
        Some(Found::NeverReceived)
    }
}

#[cfg(test)]
mod tests {
    use claudine_domain::time::{MonotonicMs, Timestamp};

    use super::*;

    #[test]
    fn an_attempt_unknown_to_supervisors_is_orphaned_only_after_a_reboot() {
        let check = |is_known: bool, boot: Option<&str>, may_turn_up: bool, expected| {
            let attempt = Attempt {
                started_monotonic: boot.map(|boot| (MonotonicMs(1), boot.into())),
                ..Attempt::new(1, Timestamp(0))
            };
            let found = found(is_known, Some(&attempt), "this", may_turn_up);
            assert_eq!(found, expected, "{is_known} {boot:?} {may_turn_up}");
        };
        for boot in [None, Some("this"), Some("another")] {
            check(true, boot, true, Some(Found::Known));
            check(true, boot, false, Some(Found::Known));
        }
        // No supervisor of another boot can still have the attempt.
        check(false, Some("another"), true, Some(Found::Orphaned));
        check(false, Some("another"), false, Some(Found::Orphaned));
        for boot in [None, Some("this")] {
            check(false, boot, true, None);
            check(false, boot, false, Some(Found::NeverReceived));
        }
    }
}
