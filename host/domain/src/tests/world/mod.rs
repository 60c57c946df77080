//! A simulated world around the board: a store that may fail, a host that may die, a supervisor
//! that outlives the host or dies with it, a machine that restarts, reports that come late, out of
//! order and twice, and clocks that jump. The world drives the board as the engine does, and checks
//! the board's invariants after every step: see [`World::check`].

mod check;
mod disk;
mod indexes;
mod rest;
mod submit;
mod supervisor;
mod written;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::fixed;
use crate::{
    account::Parked,
    batch::{Action, Batch, BatchNumber, Effect},
    board::{Board, Bounds, Stored},
    budget::Scope,
    capacity::{Limits, Slots},
    dependency::{Condition, Dependency},
    group::{Group, NewLimit},
    id::{AccountKey, AttemptId, TaskId},
    profile::{Profile, ProfileKey},
    queue::Queue,
    step::{Answer, Ending, Input, Refused, Report},
    task::{Priority, State, Task},
    time::{MonotonicMs, Now, Timestamp},
};

/// Number of steps in all worlds of this process.
static STEPS: AtomicU64 = AtomicU64::new(0);

pub(super) fn steps() -> u64 {
    STEPS.load(Ordering::Relaxed)
}

/// The executor of agents.
const AGENTS: &str = "agent";

/// Something that happens in the world. A number in it selects one of the tasks, attempts or
/// reports that exist at that moment.
#[derive(Clone, Debug)]
pub(super) enum Happening {
    /// All of the tasks are submitted, or none.
    Submit(Vec<Wish>),
    Cancel(usize),
    /// A finished task is retried, with all its finished dependants or only with those that could
    /// not run because of the task.
    Retry(usize, bool),
    /// A task that waits for a time stops waiting.
    TryNow(usize),
    /// Somebody merges the work of a task by hand after its merge had failed.
    MergeByHand(usize),
    Hold(usize),
    Release(usize),
    Group(u8, Group),
    Pause(bool),
    /// A running process reports something.
    Sign(usize, Sign),
    End(usize, End),
    /// A report in transit arrives.
    Deliver(usize),
    /// A report that has arrived arrives again.
    Repeat(usize),
    Pass(Duration),
    /// Somebody sets the clock.
    WallJumps(u64),
    /// The machine sleeps: the monotonic clock stands still.
    Suspend(Duration),
    WaitBegins(usize),
    WaitEnds(usize),
    Slots(u32),
    /// The next start is lost before it reaches the supervisor.
    LoseNextStart,
    /// The code of the agents' executor, or of the other one, cannot be had any more, or again.
    Code {
        of_agents: bool,
        lacks: bool,
    },
    /// The engine does the work that follows each round of inputs.
    Turn,
    Commit,
    FailCommit,
    /// The host dies in the middle of a commit, and another host starts. The store then holds
    /// either the whole interrupted batch or nothing of it. No command in this batch or in a later
    /// one was answered.
    Crash {
        committed: bool,
        dies: Dies,
    },
    /// The supervisor dies, but the host does not.
    SupervisorDies,
}

/// The parts of the world that die together with the host.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Dies {
    Alone,
    WithSupervisor,
    /// The machine restarts: monotonic time begins again, and no earlier process runs.
    WithMachine,
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
    /// Numbers that select among all tasks that were submitted earlier or in the same submission.
    pub(super) dependencies: Vec<(usize, Condition)>,
    pub(super) held: bool,
    pub(super) group: Option<u8>,
    pub(super) retries: Option<u32>,
    pub(super) start_in: Option<Duration>,
    pub(super) queue_timeout: bool,
    pub(super) label: Option<u8>,
    pub(super) worktree: bool,
    /// Budget in millionths of a dollar. One sign of cost costs one millionth.
    pub(super) budget: Option<u8>,
    /// Number that selects one of the graphs with a budget.
    pub(super) graph: Option<u8>,
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
    /// The attempt's cost rises by a millionth of a dollar.
    Cost,
    Doing,
    Progress,
    /// No process of the attempt is alive, but its executor may start another one.
    Over,
    GoesOn,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum End {
    Success,
    Exit,
    /// The executor ended the attempt because the attempt's budget was spent.
    Budget,
    Limit(Option<Duration>),
    /// The attempt succeeds, but merging its work conflicts if there is a worktree.
    Conflict,
}

/// State of an attempt that the supervisor keeps until the attempt's end is released.
#[derive(Clone, Debug, Default)]
struct Process {
    pid: u32,
    alive: bool,
    cost_micro_usd: u64,
    ended: Option<Ending>,
    /// Whether the attempt's work is still to be settled.
    settles: bool,
    conflicts: bool,
}

#[derive(Default)]
struct Disk {
    tasks: BTreeMap<TaskId, Task>,
    /// Edges of each task, written with the task and never changed.
    edges: BTreeMap<TaskId, Arc<[Dependency]>>,
    accounts: BTreeMap<AccountKey, Parked>,
    groups: BTreeMap<String, Group>,
    queue: Queue,
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
    /// Attempts that the current host prepares. `cut_short` holds the ones that ended before they
    /// had a process, because they were stopped or their executor had no code.
    preparing: BTreeSet<AttemptId>,
    cut_short: BTreeMap<AttemptId, Ending>,
    /// Attempts whose start did not arrive and whose end is not released yet.
    lost: BTreeSet<AttemptId>,
    /// Attempts whose supervisor died before the current host began.
    orphans: BTreeSet<AttemptId>,
    lose_next: bool,
    /// The executors whose code cannot be had.
    without_code: BTreeSet<Arc<str>>,
    mail: Vec<(AttemptId, Report)>,
    told: Vec<(AttemptId, Report)>,
    /// Edges of the graph when it was last searched for cycles.
    edges: BTreeMap<TaskId, Arc<[Dependency]>>,
    /// Finished rows, even old ones, that readers may still hold, each with the number of the last
    /// batch that was on disk when the row was read.
    copies: Vec<(BatchNumber, Task)>,
    /// Each task after the last step that changed it.
    history: BTreeMap<TaskId, Arc<Task>>,
    made: u32,
    /// Parent of each task, and whether the task is detached.
    lineage: BTreeMap<TaskId, (TaskId, bool)>,
    boot: u32,
    /// Decisions batch by batch, if requested.
    pub(super) transcript: Option<String>,
}

/// A low daily budget, so that it is spent on some days.
fn limits(slots: u32) -> Limits {
    Limits {
        daily_micro_usd: Some(12),
        ..fixed(slots)
    }
}

/// Few ends are remembered, so that some are forgotten.
fn bounds() -> Bounds {
    Bounds {
        remembered_ends: 2,
        ..Bounds::default()
    }
}

fn boot_id(boot: u32) -> Arc<str> {
    format!("boot-{boot}").into()
}

fn pick<T>(things: &[T], number: usize) -> Option<&T> {
    things.get(number.checked_rem(things.len())?)
}
impl World {
    pub(super) fn new(slots: u32) -> Self {
        let boot = boot_id(1);
        Self {
            board: Board::new(Stored::default(), limits(slots), bounds(), boot),
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
            preparing: BTreeSet::new(),
            cut_short: BTreeMap::new(),
            lost: BTreeSet::new(),
            orphans: BTreeSet::new(),
            lose_next: false,
            without_code: BTreeSet::new(),
            mail: Vec::new(),
            told: Vec::new(),
            edges: BTreeMap::new(),
            copies: Vec::new(),
            history: BTreeMap::new(),
            made: 0,
            lineage: BTreeMap::new(),
            boot: 1,
            transcript: None,
        }
    }

    fn note(&mut self, what: impl FnOnce(&mut String) -> std::fmt::Result) {
        if let Some(transcript) = &mut self.transcript {
            what(transcript).unwrap();
        }
    }

    pub(super) fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Submit(wishes) => self.submit(&wishes),
            Happening::Cancel(number) => {
                let ids: Vec<TaskId> = self.board.tasks.keys().copied().collect();
                // One task, or two tasks in one command.
                let count = 1 + number % 2;
                let picked =
                    (0..count).filter_map(|more| pick(&ids, number.wrapping_add(more)).copied());
                let tasks: Vec<TaskId> = picked.collect();
                let cancel = |task: &TaskId| Input::Cancel {
                    task: *task,
                    reason: None,
                };
                self.step(Input::Each(tasks.iter().map(cancel).collect()))
                    .unwrap();
                for task in tasks {
                    self.check_cancelled(task);
                }
            }
            Happening::Retry(number, all) => {
                if let Some((as_of, task)) = pick(&self.copies, number).cloned() {
                    let resume = number.is_multiple_of(3);
                    self.retry(as_of, task, all, resume);
                }
            }
            Happening::MergeByHand(number) => {
                if let Some((as_of, task)) = pick(&self.copies, number).cloned() {
                    self.merge_by_hand(as_of, task);
                }
            }
            Happening::TryNow(number) => {
                let waits = |task: &&Arc<Task>| matches!(task.state, State::Waiting { .. });
                let waiting = self.board.unfinished().filter(waits);
                let ids: Vec<TaskId> = waiting.map(|task| task.id).collect();
                if let Some(task) = pick(&ids, number) {
                    self.step(Input::TryNow { task: *task }).unwrap();
                    let state = &self.board.tasks[task].state;
                    assert!(
                        !matches!(state, State::Waiting { .. }),
                        "the task still waits: {state:?}"
                    );
                }
            }
            Happening::Hold(number) => {
                let ids: Vec<TaskId> = self.board.tasks.keys().copied().collect();
                if let Some(task) = pick(&ids, number) {
                    // A hold of a running task is refused.
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
                    make: true,
                })
                .unwrap();
            }
            Happening::Pause(paused) => {
                self.step(Input::Pause(paused)).unwrap();
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
            Happening::WallJumps(to) => {
                let is_back = Timestamp(to) < self.now.wall;
                self.now.wall = Timestamp(to);
                if is_back {
                    self.step(Input::ClockSetBack).unwrap();
                }
            }
            Happening::Suspend(time) => self.now.wall = self.now.wall.after(time),
            Happening::WaitBegins(number) => {
                self.wait(number, |attempt| Input::WaitBegins { attempt });
            }
            Happening::WaitEnds(number) => self.wait(number, |attempt| Input::WaitEnds { attempt }),
            Happening::Slots(slots) => {
                let slots = Some(Slots::Fixed(slots));
                self.step(Input::SetSlots(slots)).unwrap();
            }
            Happening::LoseNextStart => self.lose_next = true,
            Happening::Code { of_agents, lacks } => self.code(of_agents, lacks),
            Happening::Turn => self.turn(),
            Happening::Commit => self.commit(),
            Happening::FailCommit => {
                if self.in_flight.take().is_some() {
                    self.load();
                }
            }
            Happening::Crash { committed, dies } => self.crash(committed, dies),
            Happening::SupervisorDies => self.supervisor_dies(),
        }
        STEPS.fetch_add(1, Ordering::Relaxed);
        self.check();
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
        // Each reported end causes one release, and nothing else causes a release.
        let after = releases(&self.board);
        assert_eq!(after, [before, end.into_iter().collect()].concat());
        answer
    }

    fn turn(&mut self) {
        let (monotonic, wall) = self.board.next_tick();
        if monotonic.is_some_and(|at| at <= self.now.monotonic)
            || wall.is_some_and(|at| at <= self.now.wall)
        {
            let (deaf, over) = (self.deaf_starts(), self.over());
            self.step(Input::Tick).unwrap();
            self.check_deaf(&deaf);
            self.check_over(&over);
        }
        let (in_use, running) = (self.board.slots_in_use(), self.board.running.clone());
        self.board.admit(self.now);
        self.check_admission(in_use);
        self.check_started(&running);
        // Only the admission looks at the day, whose budget tasks may wait for.
        let (monotonic, wall) = self.board.next_tick();
        assert!(
            monotonic.is_none_or(|at| at > self.now.monotonic),
            "a clock is still due after the round"
        );
        assert!(
            wall.is_none_or(|at| at > self.now.wall),
            "a wait is still due after the round"
        );
        let released = self.board.take_released(self.durable);
        self.perform(released);
        if self.in_flight.is_none() && self.board.has_pending() {
            let (batch, effects) = self.board.seal();
            assert!(effects.iter().all(|effect| effect.after <= batch.number));
            self.note(|transcript| writeln!(transcript, "{batch:?} {effects:?}"));
            self.in_flight = Some((batch, effects));
        }
    }
}
