//! The registry: the attempts in progress in this host, and the attempts that supervisors had when
//! this host began. The registry passes each report of a supervisor to the attempt that the report
//! is about.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard},
};

use claudine_domain::{
    attempt::Leader,
    id::{AttemptId, TaskId},
    task::Task,
};
use tokio::sync::{Notify, mpsc, oneshot, watch};

use super::{
    found::{Found, Known},
    live::{ChildState, Live, State},
    reporter::Reporter,
};
use crate::{
    lock::lock,
    plugin::StopRequest,
    supervise::{AttemptKey, ChildId, Report, Rung, Supervisors},
};

/// The attempts and commands of this host. While one of the two locks is held, the other lock is
/// not taken, and nothing is awaited.
pub(crate) struct Registry {
    attempts: Mutex<Attempts>,
    /// The commands that this host or an earlier host runs for attempts and for requests.
    commands: Mutex<BTreeMap<AttemptKey, Arc<watch::Sender<State>>>>,
    /// Notified after each release.
    released: Notify,
}

#[derive(Default)]
struct Attempts {
    /// The attempts in progress.
    live: BTreeMap<AttemptId, Arc<Live>>,
    /// The attempts that supervisors had when this host connected; each is removed when it is taken
    /// over.
    known: BTreeMap<AttemptId, Found>,
    /// Attempts that supervisors had, but whose tasks' rows cannot be read. These attempts are
    /// kept, because they may still run.
    unreadable: BTreeMap<AttemptId, Found>,
}

impl Attempts {
    fn have(&self, attempt: AttemptId) -> bool {
        self.live.contains_key(&attempt) || self.known.contains_key(&attempt)
    }
}

impl Registry {
    pub(super) fn new(found: Known) -> Self {
        let commands = found.commands.into_iter();
        let commands =
            commands.map(|(key, one)| (key, Arc::new(watch::Sender::new(State::from(one)))));
        Self {
            attempts: Mutex::new(Attempts {
                known: found.attempts,
                ..Attempts::default()
            }),
            commands: Mutex::new(commands.collect()),
            released: Notify::new(),
        }
    }

    fn attempts(&self) -> MutexGuard<'_, Attempts> {
        lock(&self.attempts)
    }

    /// Registers an attempt, and only then begins it. The order matters, because an instance that
    /// stood by continues at once, and its supervisor may report before this function returns.
    pub(super) fn begin(&self, live: Arc<Live>, task: Arc<Task>) {
        self.attempts().live.insert(live.id, live.clone());
        live.begin(task);
    }

    pub(super) fn get(&self, attempt: AttemptId) -> Option<Arc<Live>> {
        self.attempts().live.get(&attempt).cloned()
    }

    /// All attempts in progress.
    pub(super) fn all(&self) -> Vec<Arc<Live>> {
        self.attempts().live.values().cloned().collect()
    }

    /// Registers a command that is about to be started.
    pub(super) fn expect_command(&self, key: AttemptKey) -> Arc<watch::Sender<State>> {
        let state = State {
            children: vec![ChildState::Sent],
            ..State::default()
        };
        let state = Arc::new(watch::Sender::new(state));
        lock(&self.commands).insert(key, state.clone());
        state
    }

    pub(super) fn no_command(&self, key: &AttemptKey) {
        lock(&self.commands).remove(key);
    }

    pub(super) fn all_commands(&self) -> Vec<(AttemptKey, Arc<watch::Sender<State>>)> {
        let commands = lock(&self.commands);
        let all = commands.iter();
        all.map(|(key, state)| (key.clone(), state.clone()))
            .collect()
    }

    /// Registers an attempt of an earlier host as in progress. This is one step, because a report
    /// of the attempt's supervisor may arrive at any moment, and is not repeated. `has_started`
    /// says whether the store has a process of the attempt. If no supervisor has the attempt then,
    /// its process is lost: without a child, the executor would start the attempt's work again.
    pub(super) fn take_over(
        &self,
        id: AttemptId,
        ladder: Vec<Rung>,
        has_started: bool,
    ) -> (Arc<Live>, oneshot::Receiver<StopRequest>) {
        let mut attempts = self.attempts();
        let found = attempts.known.remove(&id);
        let is_untraced = has_started && found.is_none();
        let mut state = State::from(found.unwrap_or_default());
        if is_untraced {
            state.children.push(ChildState::Lost);
            state.is_untraced = true;
        }
        let (live, stopped) = Live::new(id, ladder, state);
        let live = Arc::new(live);
        attempts.live.insert(id, live.clone());
        (live, stopped)
    }

    /// Removes an attempt whose end is durable.
    pub(super) fn release(&self, attempt: AttemptId) -> Option<Arc<Live>> {
        let live = self.attempts().live.remove(&attempt);
        self.released.notify_waiters();
        live
    }

    /// Removes and returns the found attempts that are not in `begun` and whose tasks are not in
    /// `unreadable`. The flag tells whether no process of the attempt is alive.
    pub(super) fn take_others(
        &self,
        begun: &BTreeSet<AttemptId>,
        unreadable: &BTreeSet<TaskId>,
    ) -> Vec<(AttemptId, bool)> {
        let mut attempts = self.attempts();
        let mut aside = std::mem::take(&mut attempts.unreadable);
        attempts.known.append(&mut aside);
        let others = attempts.known.extract_if(.., |id, _| !begun.contains(id));
        let (kept, over): (BTreeMap<_, _>, BTreeMap<_, _>) =
            others.partition(|(id, _)| unreadable.contains(&id.task));
        attempts.unreadable = kept;
        let over = over.into_iter();
        over.map(|(id, found)| (id, found.is_over())).collect()
    }

    /// The attempts of tasks whose rows cannot be read.
    pub(super) fn unreadable(&self) -> Vec<AttemptId> {
        self.attempts().unreadable.keys().copied().collect()
    }

    /// Whether the attempt is in progress here, or was found at a supervisor.
    pub(super) fn knows(&self, attempt: AttemptId) -> bool {
        self.attempts().have(attempt)
    }

    /// Whether the attempt has ended and nobody has stopped it.
    pub(super) fn has_ended_by_itself(&self, attempt: AttemptId) -> bool {
        let attempts = self.attempts();
        let live = attempts.live.get(&attempt);
        let found = attempts.known.get(&attempt);
        live.is_some_and(|live| live.look(State::has_ended_by_itself))
            || found.is_some_and(Found::has_ended_by_itself)
    }

    /// Waits until the attempts that had ended before this host began are stored as ended, so that
    /// they are not shown as running.
    pub(crate) async fn written_off(&self) {
        let over = self.ended_before();
        loop {
            let released = self.released.notified();
            if !self.has_any(&over) {
                return;
            }
            released.await;
        }
    }

    /// The attempts that had ended before this host began, whether they were already taken over or
    /// not.
    fn ended_before(&self) -> Vec<AttemptId> {
        let attempts = self.attempts();
        let resumed = attempts
            .live
            .iter()
            .filter(|(_, live)| live.look(State::is_to_be_told))
            .map(|(id, _)| *id);
        let found = attempts
            .known
            .iter()
            .filter(|(_, known)| known.is_over())
            .map(|(id, _)| *id);
        resumed.chain(found).collect()
    }

    fn has_any(&self, of: &[AttemptId]) -> bool {
        let attempts = self.attempts();
        of.iter().any(|id| attempts.have(*id))
    }

    /// Why the attempt's output cannot be written at the moment.
    pub(crate) fn held_back(&self, attempt: AttemptId) -> Option<String> {
        let live = self.get(attempt);
        live.and_then(|live| live.look(|state| state.held.clone()))
    }

    /// The number of attempts whose output cannot be written at the moment, and one of the reasons.
    /// `None` if there are no such attempts. Attempts with one of the reasons in `silent` are left
    /// out: whether their output is written is unknown, because their supervisors do not answer.
    pub(crate) fn all_held_back(&self, silent: &[String]) -> Option<(usize, String)> {
        let attempts = self.attempts();
        let live = attempts.live.values();
        let held = live.filter_map(|live| live.look(|state| state.held.clone()));
        let reasons: Vec<String> = held.filter(|reason| !silent.contains(reason)).collect();
        Some((reasons.len(), reasons.into_iter().next()?))
    }

    /// Passes supervisors' reports to their attempts until the channel is closed.
    pub(super) async fn route(
        &self,
        mut reports: mpsc::Receiver<Report>,
        supervisors: &Supervisors,
        reporter: &Reporter,
    ) {
        while let Some(report) = reports.recv().await {
            if let Report::Reached { number, found } = report {
                self.turned_up(Known::of(found));
                // Must come after the attempts are known: if no supervisor is silent, an attempt
                // that is not known counts as never received.
                if let Some(number) = number {
                    supervisors.heard_of(number);
                }
                reporter.reached().await;
            } else {
                self.hand_on(report);
            }
        }
    }

    /// Adds the attempts and commands of a supervisor that has answered only after this host began.
    fn turned_up(&self, found: Known) {
        self.attempts().known.extend(found.attempts);
        let mut commands = lock(&self.commands);
        for (key, one) in found.commands {
            let state = || Arc::new(watch::Sender::new(State::from(one)));
            commands.entry(key).or_insert_with(state);
        }
    }

    fn hand_on(&self, report: Report) {
        match report {
            Report::Started {
                child,
                pid,
                start_time,
            } => {
                self.set(
                    &child,
                    ChildState::Running(Leader { pid, start_time }),
                    false,
                );
            }
            Report::NotStarted {
                child,
                class,
                message,
            } => {
                let index = usize::from(child.index());
                self.with(child.attempt(), |state| {
                    state.hear(index, ChildState::NotStarted { class, message }, false);
                    // Belongs to the same change. Otherwise the instance could see the failure
                    // first, and the attempt would be told to finish before its end is known.
                    state.end_if_nothing_began();
                });
            }
            Report::Exited { child, exit, ended } => {
                self.set(&child, ChildState::Exited(exit), ended);
            }
            Report::Ended {
                attempt,
                swept,
                alive,
            } => {
                if alive > 0 {
                    tracing::error!(%attempt, alive, "processes of the attempt could not be ended");
                }
                if swept > 0 {
                    tracing::info!(
                        %attempt, swept,
                        "the attempt left processes behind, and they were ended"
                    );
                }
                self.with(&attempt, |state| state.ended = true);
            }
            Report::Held { attempt, message } => {
                if let Some(message) = &message {
                    tracing::warn!(%attempt, message, "the attempt's output is held back");
                } else {
                    tracing::info!(%attempt, "the attempt's output is written again");
                }
                self.with(&attempt, |state| {
                    state.was_held |= message.is_some();
                    state.held = message;
                });
            }
            Report::SupervisorLost { attempts, children } => self.lost(&attempts, &children),
            // `route` handles this report itself.
            Report::Reached { .. } => {}
        }
    }

    fn set(&self, child: &ChildId, new: ChildState, ended: bool) {
        let index = usize::from(child.index());
        self.with(child.attempt(), |state| state.hear(index, new, ended));
    }

    fn lost(&self, attempts: &[AttemptKey], children: &[ChildId]) {
        // Must come first, because the loss of a child counts as the end of its attempt.
        for attempt in attempts {
            self.with(attempt, State::lose);
        }
        for child in children {
            self.set(child, ChildState::Lost, true);
        }
    }

    /// Changes the state of a command, of an attempt in progress, or of a found attempt that is not
    /// taken over yet.
    fn with(&self, key: &AttemptKey, change: impl FnOnce(&mut State)) {
        let command = lock(&self.commands).get(key).cloned();
        if let Some(command) = command {
            command.send_modify(change);
            return;
        }
        let Ok(attempt) = key.as_str().parse::<AttemptId>() else {
            return;
        };
        let mut attempts = self.attempts();
        if let Some(live) = attempts.live.get(&attempt).cloned() {
            drop(attempts);
            live.change(change);
            return;
        }
        let Attempts {
            known, unreadable, ..
        } = &mut *attempts;
        let found = known.get_mut(&attempt);
        if let Some(known) = found.or_else(|| unreadable.get_mut(&attempt)) {
            let mut state = State {
                children: std::mem::take(&mut known.children),
                ended: known.ended,
                held: known.held.take(),
                output_cut: known.output_cut,
                ..State::default()
            };
            change(&mut state);
            (known.children, known.ended) = (state.children, state.ended);
            (known.held, known.output_cut) = (state.held, state.output_cut);
        } else {
            tracing::debug!(%attempt, "a report on an attempt that is over was ignored");
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::sync::atomic::{AtomicBool, Ordering};

    use super::{
        super::found::tests::{found, running},
        *,
    };
    use crate::supervise::{self, Exit, FoundState, NotStartedClass, Status};

    fn id(number: u128) -> AttemptId {
        AttemptId {
            task: TaskId::new(1, number),
            number: 1,
        }
    }

    fn child(id: AttemptId) -> ChildId {
        ChildId::new(AttemptKey::new(id.to_string()), 0)
    }

    /// The report of the end of the attempt and of its child.
    fn exited(id: AttemptId) -> Report {
        Report::Exited {
            child: child(id),
            exit: Exit::sample(Status::Code(0)),
            ended: true,
        }
    }

    #[test]
    fn a_report_that_arrives_while_its_attempt_is_taken_over_is_not_lost() {
        let ids: Vec<AttemptId> = (1..=2_000).map(id).collect();
        let known = ids.iter().map(|id| found(*id, &[(0, running())]));
        let registry = Registry::new(Known::of(known.collect()));
        for id in ids {
            let reports = AtomicBool::new(false);
            let live = std::thread::scope(|scope| {
                scope.spawn(|| {
                    reports.store(true, Ordering::Relaxed);
                    registry.hand_on(exited(id));
                });
                while !reports.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
                registry.take_over(id, Vec::new(), true).0
            });
            assert!(live.look(State::is_over), "{id}");
        }
    }

    #[test]
    fn an_end_that_was_reported_while_the_row_of_the_task_was_unreadable_is_not_lost() {
        let id = id(1);
        let registry = Registry::new(Known::of(vec![found(id, &[(0, running())])]));
        registry.take_others(&BTreeSet::new(), &BTreeSet::from([id.task]));
        registry.hand_on(exited(id));
        registry.take_others(&BTreeSet::from([id]), &BTreeSet::new());
        let (live, _stopped) = registry.take_over(id, Vec::new(), true);
        assert!(live.look(State::is_over));
    }

    /// An earlier copy of the database was put back, or the notes of the supervisor are gone.
    #[test]
    fn a_started_attempt_that_no_supervisor_knows_is_over_and_its_process_lost() {
        let check = |known: bool, has_started: bool, children: &[ChildState], is_over: bool| {
            let id = id(1);
            let found = known.then(|| found(id, &[(0, running())]));
            let registry = Registry::new(Known::of(found.into_iter().collect()));
            let (live, _stopped) = registry.take_over(id, Vec::new(), has_started);
            let state = live.state();
            assert_eq!(state.children, children);
            assert_eq!(state.is_over(), is_over);
            assert_eq!(state.is_untraced, has_started && !known);
        };
        let runs = [ChildState::Running(Leader {
            pid: 7,
            start_time: 1,
        })];
        check(true, true, &runs, false);
        check(true, false, &runs, false);
        check(false, true, &[ChildState::Lost], true);
        // Its executor may have nothing but its own work, which it continues.
        check(false, false, &[], true);
    }

    #[test]
    fn an_attempt_that_no_task_names_is_returned_as_not_ended_while_it_runs() {
        let ids = [id(1), id(2)];
        let children = [(0, FoundState::Lost), (1, running())];
        // All children of the second attempt have ended, but not all of its processes.
        let over = [(0, FoundState::Exited(Exit::sample(Status::Code(0))))];
        let registry = Registry::new(Known::of(vec![
            found(ids[0], &children),
            found(ids[1], &over),
        ]));
        let others = registry.take_others(&BTreeSet::new(), &BTreeSet::new());
        assert_eq!(others, ids.map(|id| (id, false)));
    }

    #[test]
    fn a_starting_host_waits_only_for_attempts_of_which_nothing_is_alive() {
        let ids = [id(1), id(2), id(3)];
        let exited = [(0, FoundState::Exited(Exit::sample(Status::Code(0))))];
        let over = supervise::Found {
            ended: true,
            ..found(ids[0], &exited)
        };
        // The second attempt has left processes behind.
        let drains = found(ids[1], &exited);
        let runs = found(ids[2], &[(0, running())]);
        let registry = Registry::new(Known::of(vec![over, drains, runs]));
        assert_eq!(registry.ended_before(), [ids[0]]);
        for id in ids {
            let (live, _stopped) = registry.take_over(id, Vec::new(), true);
            live.begin(Arc::new(crate::store::sample_task(1)));
        }
        // This attempt has only just begun in this host.
        let (live, _stopped) = Live::new(id(4), Vec::new(), State::default());
        registry.begin(Arc::new(live), Arc::new(crate::store::sample_task(1)));
        assert_eq!(registry.ended_before(), [ids[0]]);
    }

    #[test]
    fn attempts_of_unreadable_tasks_are_kept() {
        let ids: Vec<AttemptId> = (1..=3).map(id).collect();
        let registry = Registry::new(Known::of(vec![
            found(ids[0], &[]),
            found(ids[1], &[]),
            supervise::Found {
                ended: true,
                ..found(ids[2], &[(0, FoundState::Lost)])
            },
        ]));
        let begun = BTreeSet::from([ids[0]]);
        let over = registry.take_others(&begun, &BTreeSet::from([ids[1].task]));
        assert_eq!(over, [(ids[2], true)]);
        assert_eq!(registry.unreadable(), [ids[1]]);
        assert!(registry.knows(ids[0]) && !registry.knows(ids[1]));
        // Now the row of the second task can be read again.
        let begun = BTreeSet::from([ids[0], ids[1]]);
        assert!(registry.take_others(&begun, &BTreeSet::new()).is_empty());
        assert!(registry.knows(ids[1]));
    }

    #[test]
    fn an_attempt_of_a_silent_supervisor_is_not_counted_as_held_back() {
        let registry = Registry::new(Known::default());
        let (full, silent) = ("No space left on device", "the supervisor does not answer");
        for (number, reason) in [(1, full), (2, silent)] {
            let id = id(number);
            let state = State {
                held: Some(reason.to_owned()),
                ..State::default()
            };
            let (live, _stopped) = Live::new(id, Vec::new(), state);
            registry.begin(Arc::new(live), Arc::new(crate::store::sample_task(1)));
        }
        let found = registry.all_held_back(&[silent.to_owned()]);
        assert_eq!(found, Some((1, full.to_owned())));
        let none = registry.all_held_back(&[full.to_owned(), silent.to_owned()]);
        assert_eq!(none, None);
    }

    /// If the instance saw the failure before the end, it would tell the engine that the attempt
    /// is finishing, and the engine would not start the attempt again.
    #[test]
    fn an_attempt_whose_only_start_failed_has_ended_at_once() {
        let registry = Registry::new(Known::default());
        for number in 1..=2_000 {
            let id = id(number);
            let state = State {
                children: vec![ChildState::Sent],
                ..State::default()
            };
            let (live, _stopped) = Live::new(id, Vec::new(), state);
            let live = Arc::new(live);
            registry.begin(live.clone(), Arc::new(crate::store::sample_task(1)));
            let report = Report::NotStarted {
                child: live.child(0),
                class: NotStartedClass::Supervisor,
                message: "no".to_owned(),
            };
            std::thread::scope(|scope| {
                let instance = scope.spawn(|| {
                    while !live.look(State::has_ended) {
                        std::hint::spin_loop();
                    }
                    live.look(State::is_over)
                });
                registry.hand_on(report);
                assert!(instance.join().unwrap(), "in round {number}");
            });
        }
    }

    #[test]
    fn an_attempt_is_registered_before_its_instance_continues() {
        let registry = Registry::new(Known::default());
        for number in 1..=2_000 {
            let id = id(number);
            let (live, _stopped) = Live::new(id, Vec::new(), State::default());
            let live = Arc::new(live);
            let task = Arc::new(crate::store::sample_task(1));
            std::thread::scope(|scope| {
                let instance = scope.spawn(|| {
                    while !live.has_begun() {
                        std::hint::spin_loop();
                    }
                    registry.knows(id)
                });
                registry.begin(live.clone(), task);
                assert!(instance.join().unwrap(), "in round {number}");
            });
        }
    }
}
