//! All unfinished work, with the indexes that make each decision cheap.
//!
//! Every index is derived from the tasks in one place ([`Board::index`]), so that no index can
//! disagree with the tasks. A board that is loaded from the store equals a board that reached the
//! same state step by step.

mod batch;
mod clock;
mod ended_again;
mod index;
mod lines;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use rustc_hash::FxHashMap;

use self::clock::clocked;
pub(crate) use self::{
    clock::Clock,
    ended_again::EndedAgain,
    lines::{Line, Lines, Standing},
};

use crate::{
    account::Parked,
    attempt::Phase,
    batch::{Action, BatchNumber, DocumentKey, Effect, Pruned},
    budget::Scope,
    capacity::{Capacity, Limits, Refusal, Slots},
    dependency::Dependency,
    event::{Event, Fact},
    group::Group,
    id::{AccountKey, AttemptId, TaskId},
    id_set::IdSet,
    lane::Lane,
    principal::Principal,
    profile::{Profile, ProfileKey, Profiles},
    queue::Queue,
    refusals::PastRefusals,
    task::{Priority, Request, State, Task},
    time::{MonotonicMs, Now, Timestamp, millis},
};

/// Time after which a waiting task ranks equal to a new task of the next higher priority. So a task
/// of low priority does not wait for ever.
pub const PRIORITY_AGING: Duration = Duration::from_mins(15);
/// Default time limit for preparing an attempt, and for settling its work. Git may have to wait for
/// the network, and for other processes that work in the same repository.
pub const PHASE_LIMIT: Duration = Duration::from_mins(30);
/// Time for which an idempotency key is remembered.
pub const IDEMPOTENCY_WINDOW: Duration = Duration::from_hours(24);

/// Time after which the host ends without the answer of an executor that may have no code, though
/// nobody knows it yet: an executor with code answers sooner.
const LONGEST_ANSWER: Duration = Duration::from_secs(5);

/// Limits on requests.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bounds {
    /// Maximum number of ancestors of a task.
    pub depth: usize,
    /// Maximum number of unfinished descendants of a task.
    pub open_descendants: usize,
    /// Maximum number of unfinished tasks.
    pub unfinished: usize,
    /// Maximum number of dependencies of a task.
    pub dependencies: usize,
    /// Maximum number of attempts of a task, including the attempts that a person asks for. All
    /// attempts are in the task's row, which is rewritten for each attempt.
    pub attempts: usize,
    /// Maximum number of groups with settings.
    pub groups: usize,
    /// Maximum number of remembered ends of tasks that ran again. A copy of such a task must be
    /// read again if it was read from the store before the oldest remembered end.
    pub remembered_ends: usize,
    /// Time limit for preparing an attempt.
    pub prepare: Duration,
    /// Time limit for settling an attempt's work.
    pub settle: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            depth: 5,
            open_descendants: 200,
            unfinished: 1_000_000,
            dependencies: 100_000,
            attempts: 2_000,
            groups: 10_000,
            remembered_ends: 1_024,
            prepare: PHASE_LIMIT,
            settle: PHASE_LIMIT,
        }
    }
}

/// Place in the order of starts. Tasks are sorted by the time at which they became ready, and a
/// lower priority counts as a later time. A place does not change while its task waits, so the
/// tasks never have to be sorted again.
pub(crate) type Rank = (u64, TaskId);

fn unreadable_tasks(rows: &[Unreadable]) -> BTreeMap<TaskId, Unreadable> {
    let rows = rows.iter();
    rows.filter_map(|row| Some((row.task?, row.clone())))
        .collect()
}

pub(crate) fn rank(task: &Task, since: Timestamp) -> Rank {
    let steps = match task.request.priority {
        Priority::P0 => 0,
        Priority::P1 => 1,
        Priority::P2 => 2,
    };
    (
        since.0.saturating_add(steps * millis(PRIORITY_AGING)),
        task.id,
    )
}

/// A submission that was answered under an idempotency key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Remembered {
    pub task: TaskId,
    pub payload_digest: String,
    pub at: Timestamp,
}

/// A row that cannot be read. The row is left unchanged, since another version may be able to read
/// it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unreadable {
    /// Kind of row, in a word: `task`, `group`, `profile`.
    pub what: &'static str,
    pub key: String,
    /// Id of the task, if the row belongs to an unfinished task.
    pub task: Option<TaskId>,
    pub reason: String,
}

/// State that a new host reads from the store.
#[derive(Clone, Debug, Default)]
pub struct Stored {
    pub unfinished: Vec<Task>,
    pub accounts: Vec<(AccountKey, Parked)>,
    pub groups: Vec<(String, Group)>,
    pub queue: Queue,
    pub remembered: Vec<(String, Remembered)>,
    pub profiles: Vec<(ProfileKey, Profile)>,
    /// Sums of the ledger, in millionths of a US dollar.
    pub spent: Vec<(Scope, u64)>,
    /// Rows that could not be read.
    pub unreadable: Vec<Unreadable>,
    /// Number of the last batch.
    pub last_batch: BatchNumber,
}

/// Content so far of the batch being filled.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    pub(crate) number: BatchNumber,
    pub(crate) changed: BTreeSet<TaskId>,
    pub(crate) finished: BTreeMap<TaskId, Arc<Task>>,
    pub(crate) dependencies: Vec<(TaskId, Arc<[Dependency]>)>,
    pub(crate) groups: BTreeSet<String>,
    /// Whether settings of the whole queue have changed.
    pub(crate) queue: bool,
    pub(crate) documents: Vec<(DocumentKey, Arc<[u8]>)>,
    pub(crate) accounts: BTreeSet<AccountKey>,
    pub(crate) profiles: BTreeSet<ProfileKey>,
    pub(crate) spent: BTreeSet<Scope>,
    pub(crate) events: Vec<Event>,
    pub(crate) pruned: Pruned,
    pub(crate) effects: Vec<Effect>,
}

/// All unfinished tasks, with the indexes derived from them. Maps that are read for each edge of a
/// graph are hash maps, and all other maps are sorted.
#[derive(Debug)]
pub struct Board {
    pub(crate) bounds: Bounds,
    /// Name of the clock from which monotonic times are read. The name is stored beside each time,
    /// since times of different clocks cannot be compared. Each boot of a machine has its own
    /// clock.
    pub(crate) clock_id: Arc<str>,
    pub(crate) tasks: FxHashMap<TaskId, Arc<Task>>,
    pub(crate) lanes: Lines,
    /// Tasks whose attempt is preparing, starting, live, stopping, finishing or settling.
    pub(crate) running: BTreeSet<TaskId>,
    pub(crate) stopping: BTreeSet<TaskId>,
    /// Tasks whose attempt is between its start and its first sign of life, by `serial_start` key.
    /// Meanwhile no other attempt with the same key is started.
    pub(crate) starting: BTreeMap<String, BTreeSet<TaskId>>,
    /// Tasks whose running attempt waits for its own descendants. Not stored, since these waits end
    /// when the host ends.
    pub(crate) suspended: BTreeSet<TaskId>,
    /// Unfinished descendants, at any depth, of each task. The task itself may be finished.
    pub(crate) descendants: BTreeMap<TaskId, BTreeSet<TaskId>>,
    /// Unfinished dependants of each task. The task itself may be finished.
    pub(crate) dependants: FxHashMap<TaskId, IdSet>,
    /// First unfinished dependency of each blocked task. All dependencies before it in the task's
    /// list have met their conditions.
    pub(crate) blocked_at: FxHashMap<TaskId, BlockedAt>,
    /// Blocked tasks that have a reserved attempt, each with the batch of the reservation.
    pub(crate) chosen: BTreeMap<TaskId, BatchNumber>,
    /// Running or reserved tasks whose dependants have not yet been considered for a reservation.
    pub(crate) frontier: BTreeSet<TaskId>,
    pub(crate) groups: BTreeMap<String, Group>,
    pub(crate) queue: Queue,
    pub(crate) configured_slots: Slots,
    /// Running tasks of each group.
    pub(crate) in_group: BTreeMap<String, BTreeSet<TaskId>>,
    /// Time from which the time limit of each attempt's phase counts. Not stored, because after a
    /// restart, reports arrive late, and attempts that were being prepared are prepared again.
    pub(crate) phase_clocks: BTreeMap<TaskId, MonotonicMs>,
    /// Prepared attempts that wait for their turn to start, each with the time from which it waits.
    /// Not stored, because after a restart, such an attempt reports again that it is prepared.
    pub(crate) prepared: BTreeMap<TaskId, MonotonicMs>,
    pub(crate) clocks: BTreeSet<(MonotonicMs, TaskId, Clock)>,
    pub(crate) waiting: BTreeSet<(Timestamp, TaskId)>,
    pub(crate) accounts: BTreeMap<AccountKey, Parked>,
    pub(crate) spent: BTreeMap<Scope, u64>,
    pub(crate) remembered: BTreeMap<String, Remembered>,
    pub(crate) remembered_by_age: BTreeSet<(Timestamp, String)>,
    pub(crate) ended_again: EndedAgain,
    /// Unfinished tasks whose rows cannot be read. Their dependants wait.
    pub(crate) unreadable: BTreeMap<TaskId, Unreadable>,
    pub(crate) capacity: Capacity,
    /// The executors whose code cannot be had at the moment, each with the reason. Not stored,
    /// because each host finds out for itself.
    pub(crate) without_code: BTreeMap<Arc<str>, Arc<str>>,
    /// Executors that have attempts whose ends they have still to tell, each with the time until
    /// which its agents wait for these ends. Not stored, since the next host finds the ends again.
    pub(crate) ends_first: BTreeMap<Arc<str>, MonotonicMs>,
    pub(crate) standing: Standing,
    pub(crate) past_refusals: PastRefusals,
    pub(crate) drain: bool,
    /// The principal who asked for the current input, if any.
    pub(crate) by: Option<Arc<Principal>>,
    pub(crate) pending: Pending,
}

/// First unfinished dependency of a blocked task.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct BlockedAt {
    /// Position in the task's list of dependencies.
    pub(crate) place: usize,
    /// The task on which the blocked task depends.
    pub(crate) by: TaskId,
}

impl Board {
    /// Makes a board from the store. A stored monotonic time is valid only if it was read from the
    /// clock with the name `clock_id`.
    pub fn new(stored: Stored, limits: Limits, bounds: Bounds, clock_id: Arc<str>) -> Self {
        let mut board = Self {
            bounds,
            clock_id,
            tasks: FxHashMap::default(),
            lanes: Lines::default(),
            running: BTreeSet::new(),
            stopping: BTreeSet::new(),
            starting: BTreeMap::new(),
            suspended: BTreeSet::new(),
            descendants: BTreeMap::new(),
            dependants: FxHashMap::default(),
            blocked_at: FxHashMap::default(),
            chosen: BTreeMap::new(),
            frontier: BTreeSet::new(),
            groups: stored.groups.into_iter().collect(),
            configured_slots: limits.slots,
            in_group: BTreeMap::new(),
            phase_clocks: BTreeMap::new(),
            prepared: BTreeMap::new(),
            clocks: BTreeSet::new(),
            waiting: BTreeSet::new(),
            accounts: stored.accounts.into_iter().collect(),
            spent: stored.spent.into_iter().collect(),
            remembered: BTreeMap::new(),
            remembered_by_age: BTreeSet::new(),
            ended_again: EndedAgain::since(stored.last_batch),
            unreadable: unreadable_tasks(&stored.unreadable),
            capacity: Capacity::new(
                Limits {
                    slots: stored.queue.slots.unwrap_or(limits.slots),
                    ..limits
                },
                Profiles::new(stored.profiles),
            ),
            queue: stored.queue,
            without_code: BTreeMap::new(),
            ends_first: BTreeMap::new(),
            standing: Standing::default(),
            past_refusals: PastRefusals::default(),
            drain: false,
            by: None,
            pending: Pending {
                number: stored.last_batch,
                ..Pending::default()
            },
        };
        let mut last: Option<Arc<Request>> = None;
        let unfinished = stored.unfinished.into_iter().map(|mut task| {
            if let (Some(last), Some(request)) = (&last, Arc::get_mut(&mut task.request)) {
                request.share(last);
            }
            last = Some(task.request.clone());
            // Rows of earlier versions store the time of the hold only in their state.
            if let State::Held { since } = task.state {
                task.held.get_or_insert(since);
            }
            Arc::new(task)
        });
        board.take_up(unfinished);
        for (key, remembered) in stored.remembered {
            board.remember(key, remembered);
        }
        board.pending.number = stored.last_batch + 1;
        board
    }

    /// Puts all unfinished tasks on a new board.
    pub(crate) fn take_up(&mut self, unfinished: impl Iterator<Item = Arc<Task>>) {
        for task in unfinished {
            self.index(&task);
            self.tasks.insert(task.id, task);
        }
        let tasks: Vec<Arc<Task>> = self.tasks.values().cloned().collect();
        self.index_dependencies(tasks.iter().map(|task| &**task));
        for task in tasks {
            self.look_for_blocker(task.id, 0);
        }
    }

    /// Whether a task is unfinished, or may be unfinished because its row cannot be read.
    pub(crate) fn is_open(&self, id: TaskId) -> bool {
        self.tasks.contains_key(&id) || self.unreadable.contains_key(&id)
    }

    pub fn task(&self, id: TaskId) -> Option<&Arc<Task>> {
        self.tasks.get(&id)
    }

    /// All unfinished tasks, by id.
    pub fn unfinished(&self) -> impl Iterator<Item = &Arc<Task>> {
        let mut tasks: Vec<&Arc<Task>> = self.tasks.values().collect();
        tasks.sort_unstable_by_key(|task| task.id);
        tasks.into_iter()
    }

    /// Ids of the matching unfinished tasks, sorted so that the results are deterministic.
    pub(crate) fn ids_where(&self, wanted: impl Fn(&Task) -> bool) -> Vec<TaskId> {
        let found = self.tasks.values().filter(|task| wanted(task));
        let mut ids: Vec<TaskId> = found.map(|task| task.id).collect();
        ids.sort_unstable();
        ids
    }

    pub fn running_count(&self) -> usize {
        self.running.len()
    }

    /// Whether no attempt runs that the host has to wait for before it ends. It does not wait for
    /// an executor that cannot say how an attempt without a living process has ended, because
    /// nobody knows when that executor's code can be had, and the next host can ask it too.
    pub fn is_at_rest(&self, now: Now) -> bool {
        self.running.iter().all(|id| {
            let task = self.tasks.get(id);
            task.is_none_or(|task| self.waits_for_code(task, now))
        })
    }

    fn waits_for_code(&self, task: &Task, now: Now) -> bool {
        let is_over = task.last_attempt().is_some_and(|last| last.is_over);
        match task.state {
            State::Running {
                phase: Phase::Finishing | Phase::Stopping(_),
                since,
            } if is_over => {
                self.without_code.contains_key(&task.request.executor)
                    // The compiler may be stopped, so that nobody knows yet whether there is code.
                    || since.after(LONGEST_ANSWER) <= now.wall
            }
            _ => false,
        }
    }

    /// Number of slots in use: running attempts, except the ones that wait for their own
    /// descendants.
    pub fn slots_in_use(&self) -> usize {
        self.running.len() - self.suspended.len()
    }

    pub fn queued_count(&self) -> usize {
        self.tasks.len() - self.running.len()
    }

    pub fn capacity(&self) -> &Capacity {
        &self.capacity
    }

    /// Reason why each waiting lane is not admitted. This method looks at every lane, so it is too
    /// slow to be called in each round.
    pub fn refusals(&self, now: Now) -> BTreeMap<Lane, Refusal> {
        let lanes = self.lanes.iter();
        lanes
            .filter_map(|(lane, _)| Some((lane.clone(), self.refusal_of_lane(lane, now)?)))
            .collect()
    }

    /// Reason why this task is not started, if the task waits for a slot and is not admitted.
    pub fn refusal_of(&self, task: &Task, now: Now) -> Option<Refusal> {
        self.refusal_of_lane(&self.lane(task), now)
    }

    pub fn groups(&self) -> &BTreeMap<String, Group> {
        &self.groups
    }

    /// Number of places in use in a group: the group's running attempts, except the ones that wait
    /// for their own descendants.
    pub fn running_in_group(&self, group: &str) -> usize {
        let running = self.in_group.get(group).into_iter().flatten();
        running.filter(|id| !self.suspended.contains(id)).count()
    }

    /// The executors whose code cannot be had at the moment, each with the reason.
    pub fn without_code(&self) -> &BTreeMap<Arc<str>, Arc<str>> {
        &self.without_code
    }

    pub fn past_refusals(&self) -> &PastRefusals {
        &self.past_refusals
    }

    pub fn parked(&self) -> &BTreeMap<AccountKey, Parked> {
        &self.accounts
    }

    pub fn is_draining(&self) -> bool {
        self.drain
    }

    /// Next times at which [`Input::Tick`](crate::step::Input::Tick) changes something, by the
    /// monotonic clock and by the wall clock.
    pub fn next_tick(&self) -> (Option<MonotonicMs>, Option<Timestamp>) {
        let clock = self.clocks.first().map(|(at, ..)| *at);
        let settled = if self.standing.is_empty() {
            None
        } else {
            self.capacity.next_settled()
        };
        let waiting = self.waiting.first().map(|(at, _)| *at);
        (
            clock
                .into_iter()
                .chain(settled)
                .chain(self.standing.ends_first)
                .min(),
            waiting.into_iter().chain(self.standing.next_day).min(),
        )
    }

    /// Changes a task and all indexes derived from it.
    pub(crate) fn change(&mut self, id: TaskId, edit: impl FnOnce(&mut Task)) {
        let Some(mut task) = self.tasks.remove(&id) else {
            return;
        };
        self.unindex(&task);
        let before = clocked(&task);
        edit(Arc::make_mut(&mut task));
        let after = clocked(&task);
        if after.is_none() || after != before {
            self.phase_clocks.remove(&id);
        }
        if after != Some(Clock::Prepare) {
            self.prepared.remove(&id);
        }
        if !matches!(&task.state, State::Running { phase, .. } if *phase != Phase::Assigned) {
            self.suspended.remove(&id);
        }
        if task.is_done() {
            let (batch, limit) = (self.pending.number, self.bounds.remembered_ends);
            self.ended_again.note_end(&task, batch, limit);
            self.unindex_dependencies(&task);
            self.pending.changed.remove(&id);
            self.pending.finished.insert(id, task);
        } else {
            self.index(&task);
            self.tasks.insert(id, task);
            self.pending.changed.insert(id);
            self.look_for_blocker(id, 0);
        }
        if !self.tasks.get(&id).is_some_and(|task| task.is_chosen()) {
            self.chosen.remove(&id);
        }
    }

    /// Changes a part of a task from which no index is derived.
    pub(crate) fn change_unindexed(&mut self, id: TaskId, edit: impl FnOnce(&mut Task)) {
        if let Some(task) = self.tasks.get_mut(&id) {
            edit(Arc::make_mut(task));
            self.pending.changed.insert(id);
        }
    }

    /// Adds a task. Its edges are added by [`Board::index_dependencies`], together with the edges
    /// of the tasks that are added at the same time.
    pub(crate) fn insert(&mut self, task: Task) {
        let task = Arc::new(task);
        self.index(&task);
        self.pending.changed.insert(task.id);
        self.pending.finished.remove(&task.id);
        self.tasks.insert(task.id, task);
    }

    pub(crate) fn record(&mut self, task: TaskId, now: Now, fact: Fact) {
        self.pending.events.push(Event {
            task,
            at: now.wall,
            by: self.by.clone(),
            fact,
        });
    }

    /// Adds an action that follows from the decisions so far. If the batch being filled is still
    /// empty, all these decisions are in earlier batches. Then the action waits only for the last
    /// earlier batch, so that no empty batch has to be committed.
    pub(crate) fn effect(&mut self, action: Action) {
        let after = self.pending.number - u64::from(!self.has_pending());
        self.pending.effects.push(Effect { after, action });
    }

    pub(crate) fn set_account(&mut self, key: AccountKey, parked: Option<Parked>) {
        match parked {
            Some(parked) => self.accounts.insert(key.clone(), parked),
            None => self.accounts.remove(&key),
        };
        self.pending.accounts.insert(key);
    }

    /// Remembers a submission. If two submissions have the same key, the later one is kept, because
    /// the key of the earlier one had expired when the later one was accepted.
    pub(crate) fn remember(&mut self, key: String, remembered: Remembered) {
        if let Some(known) = self.remembered.get(&key) {
            if known.at > remembered.at {
                return;
            }
            self.remembered_by_age.remove(&(known.at, key.clone()));
        }
        self.remembered_by_age.insert((remembered.at, key.clone()));
        self.remembered.insert(key, remembered);
    }

    pub(crate) fn attempt_id(&self, id: TaskId) -> Option<AttemptId> {
        self.tasks.get(&id).and_then(|task| task.last_attempt_id())
    }
}
