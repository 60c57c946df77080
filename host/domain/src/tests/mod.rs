//! Tests of the rules: tables of cases, mostly with a file for each verb, and properties of random
//! histories.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod accounts;
mod admission;
mod asking;
mod batches;
mod budgets;
mod by_hand;
mod cancelling;
mod capacity;
mod choosing;
mod clocks;
mod depending;
mod groups;
mod hastening;
mod history;
mod holding;
mod keys;
mod learning;
mod machine;
mod outbox;
mod pausing;
mod phases;
mod preparing;
mod pruning;
mod recovery;
mod reports;
mod restoring;
mod retrying;
mod sessions;
mod several;
mod submitting;
mod world;

use std::{collections::BTreeMap, time::Duration};

use crate::{
    attempt::{Leader, Phase, StopWhy},
    batch::{Action, Batch, Effect},
    board::{Board, Bounds, Stored},
    capacity::{Limits, Refusal, Slots},
    event::Fact,
    id::{AttemptId, TaskId},
    lane::Lane,
    outcome::ReasonClass,
    step::{Answer, Cause, Ending, Ends, Found, Input, Refused, Report, Retry, Submission, Submit},
    task::{Class, Request, State, Task},
    time::{MonotonicMs, Now, Timestamp},
    worktree::{Merge, MergeState, MergeStrategy, Worktree},
};

const BOOT: &str = "boot-1";

fn request() -> Request {
    Request {
        summary: "true".to_owned(),
        ..Request::new("shell", Class::Command)
    }
}

fn submission(id: TaskId, request: Request) -> Submission {
    Submission {
        id,
        request,
        dependencies: Vec::new(),
        held: false,
        parent: None,
        spec: b"{}".as_slice().into(),
    }
}

fn fixed(slots: u32) -> Limits {
    Limits {
        slots: Slots::Fixed(slots),
        ..Limits::default()
    }
}

/// The word stored for a value.
pub(crate) fn stored(value: impl serde::Serialize) -> String {
    let json = serde_json::to_value(value).unwrap();
    json.as_str().unwrap().to_owned()
}

pub(crate) fn ending(cause: Cause) -> Ending {
    Ending::new(cause, "m")
}

fn success() -> Report {
    Report::Ended(Box::new(ending(Cause::Success)))
}

fn failure(class: ReasonClass) -> Report {
    Report::Ended(Box::new(ending(Cause::Class(class))))
}

fn limited(retry_after: Option<Duration>) -> Report {
    Report::Ended(Box::new(Ending {
        retry_after,
        ..ending(Cause::Class(ReasonClass::RateLimit))
    }))
}

fn never_received() -> Report {
    Report::Ended(Box::new(Ending {
        never_received: true,
        ..ending(Cause::Class(ReasonClass::Lost))
    }))
}

fn started(pid: u32) -> Report {
    Report::Started {
        leader: Some(Leader { pid, start_time: 7 }),
    }
}

/// A board whose batches are durable as soon as they are sealed, with a clock that the test sets.
struct Desk {
    board: Board,
    now: Now,
    made: u64,
    /// Tasks in their state after the last batch that changed them.
    stored: BTreeMap<TaskId, Task>,
    facts: Vec<(TaskId, Fact)>,
    /// Whether [`Self::turn`] reports attempts in preparation as prepared at once, so that the test
    /// does not see their preparation.
    prepares: bool,
}

impl Desk {
    fn new(slots: u32) -> Self {
        Self::with(fixed(slots), Bounds::default())
    }

    fn with(limits: Limits, bounds: Bounds) -> Self {
        Self {
            board: Board::new(Stored::default(), limits, bounds, BOOT.into()),
            now: Now {
                wall: Timestamp(1_000_000_000),
                monotonic: MonotonicMs(50_000),
            },
            made: 0,
            stored: BTreeMap::new(),
            facts: Vec::new(),
            prepares: true,
        }
    }

    fn step(&mut self, input: Input) -> Result<Answer, Refused> {
        self.board.step(self.now, input)
    }

    fn refusals(&self) -> BTreeMap<Lane, Refusal> {
        self.board.refusals(self.now)
    }

    fn try_submit(&mut self, edit: impl FnOnce(&mut Request)) -> Result<Answer, Refused> {
        let mut request = request();
        edit(&mut request);
        self.made += 1;
        let id = TaskId::new(self.now.wall.0, self.made.into());
        let parent = request.parent.and_then(|parent| self.find(parent));
        let submission = Submission {
            parent,
            ..submission(id, request)
        };
        self.submit_all(vec![submission])
    }

    /// Submits tasks together with the ends of all finished tasks, which callers of the board look
    /// up.
    fn submit_all(&mut self, tasks: Vec<Submission>) -> Result<Answer, Refused> {
        let ended = self.ends();
        self.step(Input::Submit(Submit { tasks, ended }))
    }

    fn ends(&self) -> Ends {
        let stored = self.stored.values();
        Ends {
            as_of: self.board.pending_batch() - 1,
            ends: stored
                .filter_map(|task| Some((task.id, task.end()?)))
                .collect(),
        }
    }

    fn submit(&mut self, edit: impl FnOnce(&mut Request)) -> TaskId {
        match self.try_submit(edit) {
            Ok(Answer::Accepted(accepted)) if !accepted[0].existing => accepted[0].task,
            other => panic!("the task was not accepted: {other:?}"),
        }
    }

    fn cancel(&mut self, task: TaskId) -> Result<Answer, Refused> {
        self.step(Input::Cancel { task, reason: None })
    }

    fn retry(&mut self, copy: &Task) -> Result<Answer, Refused> {
        self.retry_with(copy, Vec::new())
    }

    fn retry_with(&mut self, copy: &Task, downstream: Vec<Task>) -> Result<Answer, Refused> {
        let retry = Retry {
            task: copy.clone(),
            downstream,
            ended: self.ends(),
            resume: None,
            revision: None,
        };
        self.step(Input::Retry(Box::new(retry)))
    }

    fn report(&mut self, task: TaskId, report: Report) -> Answer {
        let attempt = self.attempt(task);
        self.report_of(attempt, report)
    }

    fn report_of(&mut self, attempt: AttemptId, report: Report) -> Answer {
        self.step(Input::Report { attempt, report }).unwrap()
    }

    fn recovered(&mut self, task: TaskId, found: Found) -> Answer {
        self.step(Input::Recovered { task, found }).unwrap()
    }

    /// Admits tasks, and makes all decisions durable.
    fn turn(&mut self) -> Vec<Action> {
        self.board.admit(self.now);
        let mut actions = self.settle();
        if self.prepares && self.prepare() {
            self.board.admit(self.now);
            let more = self.settle().into_iter();
            actions.extend(more.filter(|action| !matches!(action, Action::Spawn(_))));
        }
        actions
    }

    /// Reports all attempts in preparation as prepared. Returns whether there were any.
    fn prepare(&mut self) -> bool {
        let preparing = |task: &Task| task.phase() == Some(&Phase::Preparing);
        let preparing = self.board.ids_where(preparing);
        for task in &preparing {
            self.report(*task, Report::Prepared);
        }
        !preparing.is_empty()
    }

    /// Makes all decisions durable, without admission.
    fn settle(&mut self) -> Vec<Action> {
        let (batch, effects) = self.board.seal();
        self.keep(&batch);
        effects.into_iter().map(|effect| effect.action).collect()
    }

    fn keep(&mut self, batch: &Batch) {
        for task in &batch.tasks {
            self.stored.insert(task.id, Task::clone(task));
        }
        self.facts.extend(
            batch
                .events
                .iter()
                .map(|event| (event.task, event.fact.clone())),
        );
    }

    fn pass(&mut self, time: Duration) {
        self.now.wall = self.now.wall.after(time);
        self.now.monotonic = self.now.monotonic.after(time);
        self.step(Input::Tick).unwrap();
    }

    /// Loads the board again on the same boot, as another host does, or as the same host does after
    /// a failed commit.
    fn reload(&mut self) {
        self.reload_on(BOOT);
    }

    fn reload_on(&mut self, boot: &str) {
        let done = |task: &&Task| !task.is_done();
        let stored = Stored {
            unfinished: self.stored.values().filter(done).cloned().collect(),
            accounts: self
                .board
                .parked()
                .iter()
                .map(|(key, parked)| (key.clone(), parked.clone()))
                .collect(),
            groups: self.board.groups().clone().into_iter().collect(),
            queue: self.board.queue().clone(),
            remembered: Vec::new(),
            spent: self.board.spent.clone().into_iter().collect(),
            profiles: self
                .board
                .capacity()
                .profiles()
                .iter()
                .map(|(key, profile)| (key.clone(), profile.clone()))
                .collect(),
            unreadable: Vec::new(),
            last_batch: self.board.pending_batch() - 1,
        };
        let limits = Limits {
            slots: self.board.configured_slots(),
            ..self.board.capacity().limits
        };
        self.board = Board::new(stored, limits, self.board.bounds, boot.into());
    }

    fn task(&self, id: TaskId) -> Task {
        self.find(id).unwrap()
    }

    fn find(&self, id: TaskId) -> Option<Task> {
        let on_board = self.board.task(id).map(|task| Task::clone(task));
        let finished = self.board.pending.finished.get(&id);
        on_board
            .or_else(|| finished.map(|task| Task::clone(task)))
            .or_else(|| self.stored.get(&id).cloned())
    }

    fn attempt(&self, id: TaskId) -> AttemptId {
        self.task(id).last_attempt_id().unwrap()
    }

    /// State in a word or two: `ready`, `live`, `stopping:cancelled`, `failed:exit`.
    fn word(&self, id: TaskId) -> String {
        match self.task(id).state {
            State::Running { phase, .. } => phase_word(&phase).to_owned(),
            State::Done {
                outcome, reason, ..
            } => reason.map_or(outcome.as_str().to_owned(), |reason| {
                format!("{}:{}", outcome.as_str(), reason.class.as_str())
            }),
            queued => queued.as_str().to_owned(),
        }
    }

    fn words(&self, ids: &[TaskId]) -> Vec<String> {
        ids.iter().map(|id| self.word(*id)).collect()
    }

    fn facts_of(&self, id: TaskId) -> Vec<&Fact> {
        let facts = self.facts.iter();
        facts
            .filter(|(task, _)| *task == id)
            .map(|(_, fact)| fact)
            .collect()
    }

    /// Makes a desk with one task in the named phase; everything so far is durable.
    fn in_phase(word: &str) -> (Self, TaskId) {
        let mut desk = Self::new(1);
        let id = match word {
            "ready" => {
                let mut full = Self::new(0);
                let id = full.submit(|_| {});
                desk = full;
                id
            }
            "assigned" => {
                let mut full = Self::new(0);
                let id = full.submit(|_| {});
                full.turn();
                desk = full;
                id
            }
            _ => {
                // If there is a start timeout, `starting` lasts until the first sign of life.
                let id = desk.submit(|request| {
                    request.start_timeout = Some(Duration::from_mins(2));
                    request.timeout = Some(Duration::from_hours(1));
                });
                desk.turn();
                id
            }
        };
        match word {
            "preparing" => {
                desk = Self::new(1);
                desk.prepares = false;
                let preparing = desk.submit(worktree);
                desk.turn();
                assert_eq!(desk.word(preparing), word);
                return (desk, preparing);
            }
            "settling" => {
                let ending = Box::new(ending(Cause::Success));
                desk.report(id, Report::Settling(ending));
            }
            "waiting" => {
                desk = Self::new(1);
                let parked = desk.submit(agent);
                desk.turn();
                desk.report(parked, limited(None));
                desk.settle();
                return (desk, parked);
            }
            "ready" | "assigned" | "starting" => {}
            "live" => _ = desk.report(id, Report::Alive),
            "finishing" => _ = desk.report(id, Report::Finishing),
            "stopping:cancelled" => _ = desk.cancel(id).unwrap(),
            "stopping:start_timeout" => desk.pass(Duration::from_mins(2)),
            "succeeded" => _ = desk.report(id, success()),
            other => panic!("unknown phase {other}"),
        }
        desk.settle();
        assert_eq!(desk.word(id), word);
        (desk, id)
    }
}

/// Turns the request into one for an agent with the account `a`.
fn agent(request: &mut Request) {
    request.class = Class::Agent;
    request.account = Some(crate::id::AccountKey("a".to_owned()));
}

/// Gives the request a worktree and a start timeout.
fn worktree(request: &mut Request) {
    request.start_timeout = Some(Duration::from_mins(2));
    request.timeout = Some(Duration::from_hours(1));
    request.worktree = Some(Box::new(a_worktree()));
}

fn a_worktree() -> Worktree {
    Worktree {
        repository: "/r/.git".to_owned(),
        checkout: None,
        inside: String::new(),
        branch: None,
        base: None,
        base_commit: "c0".to_owned(),
        merge: MergeStrategy::Auto,
        keep: false,
        stem: Some("fix".to_owned()),
        message: None,
    }
}

fn a_merge(state: MergeState) -> Merge {
    Merge::new(MergeStrategy::Auto, state, "m")
}

fn phase_word(phase: &Phase) -> &'static str {
    match phase {
        Phase::Assigned => "assigned",
        Phase::Preparing => "preparing",
        Phase::Settling => "settling",
        Phase::Stopping(StopWhy::PrepareTimeout) => "stopping:prepare_timeout",
        Phase::Stopping(StopWhy::SettleTimeout) => "stopping:settle_timeout",
        Phase::Starting => "starting",
        Phase::Live => "live",
        Phase::Finishing => "finishing",
        Phase::Stopping(StopWhy::Cancelled { .. }) => "stopping:cancelled",
        Phase::Stopping(StopWhy::Timeout) => "stopping:timeout",
        Phase::Stopping(StopWhy::StartTimeout) => "stopping:start_timeout",
        Phase::Stopping(StopWhy::IdleTimeout) => "stopping:idle_timeout",
        Phase::Stopping(StopWhy::Budget { .. }) => "stopping:budget",
    }
}

/// Kinds of the actions, without their targets.
fn kinds(actions: &[Action]) -> Vec<&'static str> {
    let kind = |action: &Action| match action {
        Action::Start(_) => "start",
        Action::Spawn(_) => "spawn",
        Action::Settle(_) => "settle",
        Action::Resume(_) => "resume",
        Action::Stop { .. } => "stop",
        Action::Release(_) => "release",
        Action::CheckpointStored { .. } => "checkpoint",
    };
    actions.iter().map(kind).collect()
}

fn starts(actions: &[Action]) -> Vec<TaskId> {
    let start = |action: &Action| match action {
        Action::Start(attempt) => Some(attempt.task),
        _ => None,
    };
    actions.iter().filter_map(start).collect()
}

fn actions(effects: Vec<Effect>) -> Vec<Action> {
    effects.into_iter().map(|effect| effect.action).collect()
}
