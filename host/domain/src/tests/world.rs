//! A world for the board to live in: a store that may fail, a host that may die, a supervisor that outlives it, reports that come late,
//! out of order and twice. It drives the board as the engine does, and holds it to what must be true at every instant.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    sync::Arc,
    time::Duration,
};

use super::{BOOT, ending, fixed, never_received, request, started, submission};
use crate::{
    account::Parked,
    attempt::{Attempt, Phase, StopWhy, Usage},
    batch::{Action, Batch, BatchNumber, Effect},
    board::{Board, Bounds, Clock, Remembered, Stored},
    budget::Scope,
    capacity::{Refusal, Slots},
    dependency::{Condition, Dependency},
    event::Fact,
    group::{Group, NewLimit},
    id::{AccountKey, AttemptId, TaskId},
    outcome::ReasonClass,
    profile::{Profile, ProfileKey},
    retry_policy::{Backoff, RetryPolicy},
    step::{
        Accepted, Answer, Cause, Ending, Ends, Found, Input, Refused, Report, Retry, Submission,
        Submit,
    },
    task::{Class, Idempotency, Priority, Request, State, Task},
    time::{MonotonicMs, Now, Timestamp},
};

/// Something that happens. Numbers pick among what there is at that moment.
#[derive(Clone, Debug)]
pub(super) enum Happening {
    /// Together, or none of them.
    Submit(Vec<Wish>),
    Cancel(usize),
    /// With all that had run after it, or only with what could not.
    Retry(usize, bool),
    Hold(usize),
    Release(usize),
    Group(u8, Group),
    /// A running process shows something.
    Sign(usize, Sign),
    End(usize, End),
    /// A report on its way arrives.
    Deliver(usize),
    /// A report that has arrived arrives again.
    Repeat(usize),
    Pass(Duration),
    /// Time passes on one clock only.
    WallJumps(u64),
    WaitBegins(usize),
    WaitEnds(usize),
    Slots(u32),
    /// The next start is lost on its way to the supervisor.
    LoseNextStart,
    /// What the engine does after each round of inputs.
    Turn,
    Commit,
    FailCommit,
    /// The host dies, with the batch in flight on disk or not, and another takes over.
    Crash {
        committed: bool,
    },
}

#[derive(Clone, Debug)]
pub(super) struct Wish {
    pub(super) priority: Priority,
    pub(super) kind: Kind,
    pub(super) parent: Option<usize>,
    pub(super) detached: bool,
    pub(super) start_timeout: bool,
    pub(super) timeout: bool,
    pub(super) key: Option<u8>,
    /// Among those that were submitted before it, the earlier members of its own submission included.
    pub(super) dependencies: Vec<(usize, Condition)>,
    pub(super) held: bool,
    pub(super) group: Option<u8>,
    pub(super) retries: Option<u32>,
    pub(super) start_in: Option<Duration>,
    pub(super) queue_timeout: bool,
    pub(super) label: Option<u8>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Plain,
    Serial,
    Agent(&'static str),
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Sign {
    Alive,
    Finishing,
    AccountWorks,
    Doing,
    Progress,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum End {
    Success,
    Exit,
    Limit(Option<Duration>),
}

/// What the supervisor keeps of an attempt until its end is released.
#[derive(Clone, Debug, Default)]
struct Process {
    pid: u32,
    alive: bool,
    ended: Option<Ending>,
}

#[derive(Default)]
struct Disk {
    tasks: BTreeMap<TaskId, Task>,
    accounts: BTreeMap<AccountKey, Parked>,
    groups: BTreeMap<String, Group>,
    profiles: BTreeMap<ProfileKey, Profile>,
    spent: BTreeMap<Scope, u64>,
    last_batch: BatchNumber,
}

pub(super) struct World {
    board: Board,
    now: Now,
    disk: Disk,
    durable: BatchNumber,
    in_flight: Option<(Batch, Vec<Effect>)>,
    /// Answers that wait for their batch.
    awaiting: Vec<(BatchNumber, TaskId)>,
    promised: BTreeSet<TaskId>,
    processes: BTreeMap<AttemptId, Process>,
    received: BTreeSet<AttemptId>,
    /// Starts that did not arrive and whose end is not released yet.
    lost: BTreeSet<AttemptId>,
    lose_next: bool,
    mail: Vec<(AttemptId, Report)>,
    told: Vec<(AttemptId, Report)>,
    /// Finished rows as readers may still hold them, old ones too.
    copies: Vec<Task>,
    made: u32,
    /// Who was submitted from where, and whether detached.
    lineage: BTreeMap<TaskId, (TaskId, bool)>,
    pub(super) transcript: String,
}

fn pick<T>(things: &[T], number: usize) -> Option<&T> {
    things.get(number.checked_rem(things.len())?)
}

impl World {
    pub(super) fn new(slots: u32) -> Self {
        Self {
            board: Board::new(
                Stored::default(),
                fixed(slots),
                Bounds::default(),
                BOOT.into(),
            ),
            now: Now {
                wall: Timestamp(1_000_000_000),
                monotonic: MonotonicMs(1_000),
            },
            disk: Disk::default(),
            durable: 0,
            in_flight: None,
            awaiting: Vec::new(),
            promised: BTreeSet::new(),
            processes: BTreeMap::new(),
            received: BTreeSet::new(),
            lost: BTreeSet::new(),
            lose_next: false,
            mail: Vec::new(),
            told: Vec::new(),
            copies: Vec::new(),
            made: 0,
            lineage: BTreeMap::new(),
            transcript: String::new(),
        }
    }

    pub(super) fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Submit(wishes) => self.submit(&wishes),
            Happening::Cancel(number) => {
                let ids: Vec<TaskId> = self.board.tasks.keys().copied().collect();
                if let Some(task) = pick(&ids, number) {
                    let (task, reason) = (*task, None);
                    self.step(Input::Cancel { task, reason }).unwrap();
                    self.check_cancelled(task);
                }
            }
            Happening::Retry(number, all) => {
                if let Some(task) = pick(&self.copies, number).cloned() {
                    let retry = Retry {
                        downstream: self.downstream(task.id, all),
                        task,
                        ended: self.ends(),
                        resume: (number % 3 == 0).then(|| Arc::from(&b"and now?"[..])),
                    };
                    // Refused where it is unfinished again, or where something is in its way.
                    drop(self.step(Input::Retry(Box::new(retry))));
                }
            }
            Happening::Hold(number) => {
                let ids: Vec<TaskId> = self.board.tasks.keys().copied().collect();
                if let Some(task) = pick(&ids, number) {
                    // Refused where it runs.
                    drop(self.step(Input::Hold { tasks: vec![*task] }));
                }
            }
            Happening::Release(number) => {
                let held = |task: &&Arc<Task>| matches!(task.state, State::Held { .. });
                let ids: Vec<TaskId> = self
                    .board
                    .unfinished()
                    .filter(held)
                    .map(|task| task.id)
                    .collect();
                if let Some(task) = pick(&ids, number) {
                    self.step(Input::Release { tasks: vec![*task] }).unwrap();
                }
            }
            Happening::Group(name, group) => {
                self.step(Input::SetGroup {
                    name: name.to_string(),
                    limit: group.limit.map_or(NewLimit::Unlimited, NewLimit::Most),
                    paused: Some(group.paused),
                })
                .unwrap();
            }
            Happening::Sign(number, sign) => self.sign(number, sign),
            Happening::End(number, end) => self.end(number, end),
            Happening::Deliver(number) => self.deliver(number),
            Happening::Repeat(number) => {
                if let Some((attempt, report)) = pick(&self.told, number).cloned() {
                    self.step(Input::Report { attempt, report }).unwrap();
                }
            }
            Happening::Pass(time) => {
                self.now.wall = self.now.wall.after(time);
                self.now.monotonic = self.now.monotonic.after(time);
            }
            Happening::WallJumps(to) => self.now.wall = Timestamp(to),
            Happening::WaitBegins(number) => {
                self.wait(number, |attempt| Input::WaitBegins { attempt });
            }
            Happening::WaitEnds(number) => self.wait(number, |attempt| Input::WaitEnds { attempt }),
            Happening::Slots(slots) => {
                self.step(Input::SetSlots(Slots::Fixed(slots))).unwrap();
            }
            Happening::LoseNextStart => self.lose_next = true,
            Happening::Turn => self.turn(),
            Happening::Commit => self.commit(),
            Happening::FailCommit => {
                if self.in_flight.take().is_some() {
                    self.load();
                }
            }
            Happening::Crash { committed } => self.crash(committed),
        }
        self.check();
    }

    /// Whatever has happened: with the world behaving from here on, everything that was accepted comes to an end.
    pub(super) fn come_to_rest(&mut self) {
        self.lose_next = false;
        self.happen(Happening::Slots(2));
        for name in 0..2 {
            self.happen(Happening::Group(name, Group::default()));
        }
        for _ in 0..10 * self.made + 20 {
            self.happen(Happening::Release(0));
            let waiting: Vec<TaskId> = self.board.suspended.keys().copied().collect();
            for task in waiting {
                let attempt = self.board.attempt_id(task).unwrap();
                self.step(Input::WaitEnds { attempt }).unwrap();
            }
            self.happen(Happening::Turn);
            self.happen(Happening::Commit);
            for number in 0..self.processes.len() {
                self.end(number, End::Success);
            }
            while !self.mail.is_empty() {
                self.happen(Happening::Deliver(0));
            }
            // Longer than any wait, even one from a wall clock that had jumped ahead.
            self.happen(Happening::Pass(Duration::from_hours(12)));
        }
        self.happen(Happening::Commit);
        let left: Vec<_> = self.board.tasks.values().collect();
        assert!(left.is_empty(), "never came to an end: {left:#?}");
        for id in &self.promised {
            assert!(self.disk.tasks[id].is_done(), "lost: {id}");
        }
        assert!(
            self.processes.is_empty(),
            "never released: {:?}",
            self.processes
        );
    }

    fn step(&mut self, input: Input) -> Result<Answer, Refused> {
        let end = match &input {
            Input::Report {
                attempt,
                report: Report::Ended(_),
            } => Some(*attempt),
            _ => None,
        };
        let releases = |board: &Board| -> Vec<AttemptId> {
            let release = |effect: &Effect| match effect.action {
                Action::Release(attempt) => Some(attempt),
                _ => None,
            };
            board.pending.effects.iter().filter_map(release).collect()
        };
        let before = releases(&self.board);
        let answer = self.board.step(self.now, input);
        // One for each end that is told, and none otherwise.
        let after = releases(&self.board);
        assert_eq!(after, [before, end.into_iter().collect()].concat());
        answer
    }

    /// What could not run because of a task, or all that depends on it; as the disk has it.
    fn downstream(&self, of: TaskId, all: bool) -> Vec<Task> {
        let mut reached = BTreeSet::from([of]);
        let mut found = Vec::new();
        // Ids are in the order in which tasks were made, and a task depends on earlier ones only.
        for task in self.disk.tasks.values().filter(|task| task.is_done()) {
            let below = task
                .dependencies
                .iter()
                .any(|it| reached.contains(&it.task));
            let spoilt = task.end().unwrap().culprit == Some(of);
            if (all && below) || spoilt {
                reached.insert(task.id);
                found.push(task.clone());
            }
        }
        found
    }

    fn ends(&self) -> Ends {
        let tasks = self.disk.tasks.values();
        tasks
            .filter_map(|task| Some((task.id, task.end()?)))
            .collect()
    }

    fn submit(&mut self, wishes: &[Wish]) {
        let mut tasks: Vec<Submission> = Vec::new();
        for wish in wishes {
            let submission = self.submission(wish, &tasks);
            tasks.push(submission);
        }
        let ids: Vec<TaskId> = tasks.iter().map(|task| task.id).collect();
        let ended = self.ends();
        match self.step(Input::Submit(Submit { tasks, ended })) {
            Ok(Answer::Accepted(accepted)) => {
                let after = self.board.pending_batch() - u64::from(!self.board.has_pending());
                for (Accepted { task, existing }, id) in accepted.into_iter().zip(ids) {
                    assert_eq!(existing, task != id);
                    self.awaiting.push((after, task));
                }
            }
            Err(
                Refused::TooDeep { .. }
                | Refused::TooManyDescendants { .. }
                | Refused::Moved { .. }
                | Refused::TwoConditions { .. }
                | Refused::IdempotencyConflict { .. },
            ) => {}
            other => panic!("{other:?}"),
        }
    }

    fn submission(&mut self, wish: &Wish, earlier: &[Submission]) -> Submission {
        self.made += 1;
        let id = TaskId::new(self.now.wall.0, self.made.into());
        // What was answered already, and what is on its way to the disk.
        let known: Vec<TaskId> = self
            .disk
            .tasks
            .keys()
            .copied()
            .chain(earlier.iter().map(|task| task.id))
            .collect();
        let dependencies = wish.dependencies.iter().filter_map(|(number, condition)| {
            Some(Dependency {
                task: *pick(&known, *number)?,
                condition: *condition,
            })
        });
        let dependencies = dependencies.collect();
        // A process may submit on behalf of an attempt that is over already.
        let begun: Vec<AttemptId> = self.received.iter().copied().collect();
        let parent = wish.parent.and_then(|number| pick(&begun, number));
        let parent = parent.map(|attempt| self.disk.tasks[&attempt.task].clone());
        if let Some(parent) = &parent {
            self.lineage.insert(id, (parent.id, wish.detached));
        }
        let minutes = |limited: bool, minutes| limited.then(|| Duration::from_mins(minutes));
        let mut request = Request {
            priority: wish.priority,
            detached: wish.detached,
            start_timeout: minutes(wish.start_timeout, 2),
            timeout: minutes(wish.timeout, 30),
            queue_timeout: minutes(wish.queue_timeout, 45),
            start_at: wish.start_in.map(|delay| self.now.wall.after(delay)),
            group: wish.group.map(|group| group.to_string()),
            retries: wish.retries.map(|limit| RetryPolicy {
                limit,
                backoff: Backoff::default(),
                on: Vec::new(),
            }),
            labels: wish
                .label
                .map(|label| ("label".to_owned(), label.to_string()))
                .into_iter()
                .collect(),
            idempotency: wish.key.map(|key| Idempotency {
                key: key.to_string(),
                payload_digest: String::new(),
            }),
            ..request()
        };
        match wish.kind {
            Kind::Plain => {}
            Kind::Serial => request.serial_start = Some("serial".to_owned()),
            Kind::Agent(account) => {
                request.class = Class::Agent;
                request.account = Some(AccountKey(account.to_owned()));
                request.serial_start = Some(account.to_owned());
            }
        }
        Submission {
            dependencies,
            held: wish.held,
            parent,
            ..submission(id, request)
        }
    }

    /// In an attempt that runs, or in one that is over and does not know it yet.
    fn wait(&mut self, number: usize, input: impl FnOnce(AttemptId) -> Input) {
        let begun: Vec<AttemptId> = self.received.iter().copied().collect();
        let Some(attempt) = pick(&begun, number).copied() else {
            return;
        };
        let before = self.board.suspended.clone();
        let answer = self.step(input(attempt)).unwrap();
        let runs = self.board.running.contains(&attempt.task)
            && self.board.attempt_id(attempt.task) == Some(attempt);
        if !runs {
            assert_eq!(answer, Answer::Stale);
        }
        if answer == Answer::Stale {
            assert_eq!(self.board.suspended, before, "{attempt} is not its own");
        }
    }

    /// By what the world remembers of who submitted whom, the board's own account left aside.
    fn check_cancelled(&self, cancelled: TaskId) {
        for task in self.board.unfinished() {
            let mut below = task.id;
            while let Some((parent, false)) = self.lineage.get(&below).copied() {
                if parent == cancelled {
                    assert!(
                        self.board.stopping.contains(&task.id),
                        "{cancelled} was cancelled, and not what descends from it: {task:?}"
                    );
                }
                below = parent;
            }
        }
    }

    fn sign(&mut self, number: usize, sign: Sign) {
        let ids: Vec<AttemptId> = self.processes.keys().copied().collect();
        let Some(attempt) = pick(&ids, number).copied() else {
            return;
        };
        let process = self.processes.get_mut(&attempt).unwrap();
        if process.ended.is_some() {
            return;
        }
        let report = match sign {
            Sign::Alive => {
                process.alive = true;
                Report::Alive
            }
            Sign::Finishing => Report::Finishing,
            Sign::AccountWorks => Report::AccountWorks,
            Sign::Doing => Report::Doing("something".to_owned()),
            Sign::Progress => Report::Progress {
                kind: "k".to_owned(),
                data: String::new(),
            },
        };
        self.mail.push((attempt, report));
    }

    fn end(&mut self, number: usize, end: End) {
        let ids: Vec<AttemptId> = self.processes.keys().copied().collect();
        let Some(attempt) = pick(&ids, number).copied() else {
            return;
        };
        let ending = match end {
            End::Success => Ending {
                usage: Usage {
                    wall_ms: 2_000,
                    cpu_ms: Some(100 * u64::from(attempt.number)),
                    peak_rss_bytes: Some(1 << 20),
                },
                ..ending(Cause::Success)
            },
            End::Exit => ending(Cause::Class(ReasonClass::Exit)),
            End::Limit(retry_after) => Ending {
                retry_after,
                ..ending(Cause::Class(ReasonClass::RateLimit))
            },
        };
        self.process_ends(attempt, ending);
    }

    fn process_ends(&mut self, attempt: AttemptId, ending: Ending) {
        let process = self.processes.get_mut(&attempt).unwrap();
        if process.ended.is_none() {
            process.ended = Some(ending.clone());
            self.mail.push((attempt, Report::Ended(Box::new(ending))));
        }
    }

    fn deliver(&mut self, number: usize) {
        let Some(place) = number.checked_rem(self.mail.len()) else {
            return;
        };
        let (attempt, report) = self.mail.remove(place);
        self.told.push((attempt, report.clone()));
        self.step(Input::Report { attempt, report }).unwrap();
    }

    fn turn(&mut self) {
        let (monotonic, wall) = self.board.next_tick();
        if monotonic.is_some_and(|at| at <= self.now.monotonic)
            || wall.is_some_and(|at| at <= self.now.wall)
        {
            self.step(Input::Tick).unwrap();
            let (monotonic, wall) = self.board.next_tick();
            assert!(
                monotonic.is_none_or(|at| at > self.now.monotonic),
                "a tick leaves nothing due"
            );
            assert!(
                wall.is_none_or(|at| at > self.now.wall),
                "a tick leaves nothing due"
            );
        }
        let in_use = self.board.slots_in_use();
        self.board.admit(self.now);
        self.check_admission(in_use);
        let released = self.board.take_released(self.durable);
        self.perform(released);
        if self.in_flight.is_none() && self.board.has_pending() {
            let (batch, effects) = self.board.seal();
            assert!(effects.iter().all(|effect| effect.after <= batch.number));
            writeln!(self.transcript, "{batch:?} {effects:?}").unwrap();
            self.in_flight = Some((batch, effects));
        }
    }

    fn check_admission(&self, in_use_before: usize) {
        let Slots::Fixed(slots) = self.board.capacity.limits.slots else {
            panic!("the slots are fixed here")
        };
        let in_use = self.board.slots_in_use();
        assert!(
            in_use <= in_use_before.max(slots as usize),
            "more than the slots were filled"
        );
        for (lane, line) in &self.board.lanes {
            let refusal = self.board.refusals.get(lane);
            let true_reason = match refusal {
                Some(Refusal::Slots { .. }) => in_use >= slots as usize,
                Some(Refusal::Group {
                    group,
                    running,
                    most,
                }) => {
                    self.board.running_in_group(group) == *running
                        && self.board.groups[group].limit == Some(*most)
                        && *running >= *most as usize
                }
                Some(Refusal::GroupPaused { group }) => self.board.groups[group].paused,
                Some(Refusal::SerialStart { key }) => self.board.starting.contains_key(key),
                Some(Refusal::Probing { account }) => {
                    let parked = &self.board.accounts[&AccountKey(account.clone())];
                    parked.probe.is_some_and(|probe| {
                        self.board.running.contains(&probe.task)
                            && self.board.attempt_id(probe.task) == Some(probe)
                    })
                }
                _ => false,
            };
            assert!(
                true_reason,
                "{lane:?} {line:?} does not run for {refusal:?}"
            );
        }
    }

    fn commit(&mut self) {
        let Some((batch, effects)) = self.in_flight.take() else {
            return;
        };
        self.write(&batch);
        self.durable = batch.number;
        self.perform(effects);
        let durable = self.durable;
        for (_, task) in self.awaiting.extract_if(.., |(after, _)| *after <= durable) {
            assert!(
                self.disk.tasks.contains_key(&task),
                "answered before it was on disk"
            );
            self.promised.insert(task);
        }
    }

    fn write(&mut self, batch: &Batch) {
        assert_eq!(batch.number, self.disk.last_batch + 1);
        self.disk.last_batch = batch.number;
        for task in &batch.tasks {
            let retried = |event: &crate::event::Event| {
                event.task == task.id && matches!(event.fact, Fact::Retried | Fact::Resumed { .. })
            };
            let before = self.disk.tasks.insert(task.id, Task::clone(task));
            if let Some(before) = before.filter(Task::is_done) {
                assert!(
                    batch.events.iter().any(retried),
                    "left its end without a retry: {before:?} {task:?}"
                );
                assert!(task.attempts.starts_with(&before.attempts));
            }
            if task.is_done() {
                self.copies.push(Task::clone(task));
            }
        }
        for (id, dependencies) in &batch.dependencies {
            assert_eq!(self.disk.tasks[id].dependencies, *dependencies);
        }
        self.disk.groups.extend(batch.groups.iter().cloned());
        for (account, parked) in &batch.accounts {
            match parked {
                Some(parked) => self.disk.accounts.insert(account.clone(), parked.clone()),
                None => self.disk.accounts.remove(account),
            };
        }
        for (key, profile) in &batch.profiles {
            match profile {
                Some(profile) => self.disk.profiles.insert(key.clone(), profile.clone()),
                None => self.disk.profiles.remove(key),
            };
        }
        self.disk.spent.extend(batch.spent.iter().copied());
    }

    fn crash(&mut self, committed: bool) {
        if let Some((batch, _)) = self.in_flight.take().filter(|_| committed) {
            self.write(&batch);
        }
        self.mail.clear();
        self.lost.clear();
        // That a start did not arrive was known to the host that died, not to the supervisor.
        self.told.retain(|(_, report)| *report != never_received());
        self.load();
    }

    /// Another board of what is on disk, as after a crash and after a failed commit.
    fn load(&mut self) {
        self.durable = self.disk.last_batch;
        self.awaiting.clear();
        let newest = |copy: &Task| self.disk.tasks[&copy.id] == *copy;
        self.copies.retain(newest);
        let remembered = |task: &Task| {
            let idempotency = task.request.idempotency.clone()?;
            let remembered = Remembered {
                task: task.id,
                payload_digest: idempotency.payload_digest,
                at: task.created_at,
            };
            Some((idempotency.key, remembered))
        };
        let tasks = self.disk.tasks.values();
        let stored = Stored {
            unfinished: tasks
                .clone()
                .filter(|task| !task.is_done())
                .cloned()
                .collect(),
            accounts: self.disk.accounts.clone().into_iter().collect(),
            groups: self.disk.groups.clone().into_iter().collect(),
            remembered: tasks.filter_map(remembered).collect(),
            profiles: self.disk.profiles.clone().into_iter().collect(),
            spent: self.disk.spent.clone().into_iter().collect(),
            last_batch: self.disk.last_batch,
        };
        let limits = self.board.capacity.limits;
        self.board = Board::new(stored, limits, Bounds::default(), BOOT.into());
        let begun: Vec<AttemptId> = self
            .board
            .unfinished()
            .filter(|task| task.phase().is_some())
            .filter_map(|task| task.last_attempt_id())
            .collect();
        for attempt in begun {
            let known = self.processes.contains_key(&attempt) || self.lost.contains(&attempt);
            let found = if known {
                Found::Known
            } else {
                Found::NeverReceived
            };
            let task = attempt.task;
            self.step(Input::Recovered { task, found }).unwrap();
        }
        // Each end that was not released is told again, that of a finished task too.
        for (attempt, process) in &self.processes {
            if let Some(ending) = process.ended.clone() {
                let report = Report::Ended(Box::new(ending));
                self.mail.push((*attempt, report));
            }
        }
    }

    fn perform(&mut self, effects: Vec<Effect>) {
        for Effect { after, action } in effects {
            assert!(after <= self.durable, "{action:?} came before its batch");
            writeln!(self.transcript, "{after} {action:?}").unwrap();
            match action {
                Action::Start(attempt) => self.start(attempt),
                Action::Resume(attempt) => self.resume(attempt),
                Action::Stop { attempt, why } => self.stop(attempt, why),
                Action::Release(attempt) => self.release(attempt),
                Action::CheckpointStored(_) => {}
            }
        }
    }

    fn start(&mut self, attempt: AttemptId) {
        assert_eq!(self.board.attempt_id(attempt.task), Some(attempt));
        if std::mem::take(&mut self.lose_next) {
            self.lost.insert(attempt);
            self.mail.push((attempt, never_received()));
            return;
        }
        assert!(self.received.insert(attempt), "{attempt} was started twice");
        let of_the_same = |(other, process): (&AttemptId, &Process)| {
            other.task == attempt.task && process.ended.is_none()
        };
        assert!(
            !self.processes.iter().any(of_the_same),
            "{attempt} runs beside an older one"
        );
        let pid = u32::try_from(self.received.len()).unwrap();
        let process = Process {
            pid,
            ..Process::default()
        };
        self.processes.insert(attempt, process);
        self.mail.push((attempt, started(pid)));
    }

    fn resume(&mut self, attempt: AttemptId) {
        let Some(process) = self.processes.get(&attempt).cloned() else {
            assert!(
                self.lost.contains(&attempt),
                "nobody knows {attempt}, which is to be taken up"
            );
            self.mail.push((attempt, never_received()));
            return;
        };
        self.mail.push((attempt, started(process.pid)));
        if process.alive {
            self.mail.push((attempt, Report::Alive));
        }
        if let Some(ending) = process.ended {
            self.mail.push((attempt, Report::Ended(Box::new(ending))));
        }
    }

    fn stop(&mut self, attempt: AttemptId, why: StopWhy) {
        if self.processes.contains_key(&attempt) {
            let stopped = Ending {
                stopped: Some(why),
                ..ending(Cause::Class(ReasonClass::Signal))
            };
            self.process_ends(attempt, stopped);
        }
    }

    fn release(&mut self, attempt: AttemptId) {
        if let Some(process) = self.processes.remove(&attempt) {
            assert!(
                process.ended.is_some(),
                "{attempt} was forgotten while it ran"
            );
        }
        self.lost.remove(&attempt);
        let row = &self.disk.tasks[&attempt.task];
        let known = row
            .attempts
            .iter()
            .any(|kept| kept.number == attempt.number && kept.ended.is_some());
        assert!(
            known || !self.received.contains(&attempt),
            "{attempt} was released before its end was on disk: {row:?}"
        );
    }

    /// What is true after each step.
    fn check(&self) {
        let board = &self.board;
        assert_eq!(
            Indexes::of(board, self.now),
            Indexes::of(&self.loaded(), self.now)
        );
        let running = |task: &&Arc<Task>| matches!(&task.state, State::Running { phase, .. } if *phase != Phase::Assigned);
        let rows = board.unfinished();
        assert_eq!(board.running_count(), rows.filter(running).count());
        assert!(
            board
                .suspended
                .keys()
                .all(|task| board.running.contains(task))
        );
        assert!(board.starting.values().all(|starting| starting.len() == 1));
        self.check_serial_starts();
        self.check_dependencies();
        let starting = |task: &TaskId| board.tasks[task].phase() == Some(&Phase::Starting);
        assert!(board.start_clocks.keys().all(starting));
        for task in board.unfinished() {
            assert!(!task.is_done());
            let ended = task.last_attempt().map(|last| last.ended.is_some());
            let idle = |attempt: &Attempt| attempt.ended.is_none() || attempt.doing.is_none();
            assert!(task.attempts.iter().all(idle), "it does nothing any more");
            assert_eq!(
                task.phase().is_some(),
                ended == Some(false),
                "an attempt is open as long as its task runs: {task:?}"
            );
        }
        if !board.has_pending() && self.in_flight.is_none() {
            let stored = self.disk.tasks.values().filter(|task| !task.is_done());
            assert!(
                stored.eq(board.unfinished().map(|task| &**task)),
                "the board is what is on disk"
            );
            assert_eq!(self.disk.accounts, board.accounts);
            assert!(self.disk.profiles.iter().eq(board.capacity.profiles.iter()));
        }
    }

    /// Of those that share a key, no more than one has a process that has given no sign of life.
    fn check_serial_starts(&self) {
        let mut silent = BTreeMap::new();
        for (attempt, process) in &self.processes {
            let request = &self.disk.tasks[&attempt.task].request;
            if let Some(key) = &request.serial_start
                && !process.alive
                && process.ended.is_none()
            {
                let first = silent.insert(key, attempt);
                assert_eq!(first, None, "beside {attempt}");
            }
        }
    }

    /// A task is blocked as long as something it depends on is unfinished, and whatever has ended of that allows it to run.
    fn check_dependencies(&self) {
        let in_flight = self.in_flight.iter().flat_map(|(batch, _)| &batch.tasks);
        let mut ends = self.ends();
        ends.extend(in_flight.filter_map(|task| Some((task.id, task.end()?))));
        let finished = self.board.pending.finished.values();
        ends.extend(finished.filter_map(|task| Some((task.id, task.end()?))));
        for task in self.board.unfinished() {
            if !task.is_waiting_for_others() {
                continue;
            }
            let unfinished = |it: &&Dependency| self.board.tasks.contains_key(&it.task);
            let (open, ended): (Vec<&Dependency>, Vec<&Dependency>) =
                task.dependencies.iter().partition(unfinished);
            for dependency in ended {
                let end = ends[&dependency.task];
                assert!(
                    dependency.condition.is_met_by(end.outcome),
                    "{task:?} waits in vain for {dependency:?}: {end:?}"
                );
            }
            match task.state {
                State::Held { .. } => {}
                State::Blocked { .. } => assert!(!open.is_empty(), "{task:?} waits for nothing"),
                _ => assert!(open.is_empty(), "{task:?} does not wait for {open:?}"),
            }
        }
    }

    fn loaded(&self) -> Board {
        let board = &self.board;
        let stored = Stored {
            unfinished: board.unfinished().map(|task| Task::clone(task)).collect(),
            accounts: board.accounts.clone().into_iter().collect(),
            groups: board.groups.clone().into_iter().collect(),
            profiles: owned(board.capacity.profiles.iter()),
            spent: board.spent.clone().into_iter().collect(),
            ..Stored::default()
        };
        Board::new(stored, board.capacity.limits, board.bounds, BOOT.into())
    }
}

fn owned<'a>(
    profiles: impl Iterator<Item = (&'a ProfileKey, &'a Profile)>,
) -> Vec<(ProfileKey, Profile)> {
    profiles
        .map(|(key, profile)| (key.clone(), profile.clone()))
        .collect()
}

/// What is derived from the tasks.
#[derive(Debug, PartialEq)]
struct Indexes {
    lanes: String,
    running: BTreeSet<TaskId>,
    stopping: BTreeSet<TaskId>,
    starting: BTreeMap<String, BTreeSet<TaskId>>,
    descendants: BTreeMap<TaskId, BTreeSet<TaskId>>,
    dependants: BTreeMap<TaskId, BTreeSet<TaskId>>,
    blocked_at: BTreeMap<TaskId, usize>,
    in_group: BTreeMap<String, BTreeSet<TaskId>>,
    hard_clocks: Vec<(MonotonicMs, TaskId)>,
    waiting: BTreeSet<(Timestamp, TaskId)>,
    settling: BTreeMap<TaskId, MonotonicMs>,
    started: String,
}

impl Indexes {
    fn of(board: &Board, now: Now) -> Self {
        // In which batch an assignment was made is known only to the board that made it.
        let lanes: Vec<_> = board
            .lanes
            .iter()
            .map(|(lane, line)| (lane, &line.ready, line.assigned.keys().collect::<Vec<_>>()))
            .collect();
        let hard = |(at, task, clock): &(MonotonicMs, TaskId, Clock)| {
            (*clock != Clock::Start).then_some((*at, *task))
        };
        let mut capacity = board.capacity.clone();
        capacity.settle(now);
        Self {
            lanes: format!("{lanes:?}"),
            running: board.running.clone(),
            stopping: board.stopping.clone(),
            starting: board.starting.clone(),
            descendants: board.descendants.clone(),
            dependants: board.dependants.clone(),
            blocked_at: board.blocked_at.clone(),
            in_group: board.in_group.clone(),
            hard_clocks: board.clocks.iter().filter_map(hard).collect(),
            waiting: board.waiting.clone(),
            settling: capacity.started.settling().clone(),
            started: format!(
                "{:?} {:?}",
                capacity.started.running_of().collect::<Vec<_>>(),
                capacity.started.settling_of().collect::<Vec<_>>()
            ),
        }
    }
}
