//! The effect of each input on the board. Pure: the same board, time and input give the same
//! decisions, byte for byte.

mod admit;
mod by_hand;
mod cancel;
mod clock;
mod code;
mod conclude;
mod cycle;
mod hold;
mod learn;
mod now;
mod place;
mod prune;
mod queue;
mod recover;
mod report;
mod restore;
mod retry;
mod revise;
mod spend;
mod submit;
mod tick;

use std::{collections::BTreeMap, sync::Arc};

pub use crate::attempt::{Cause, Ending};
pub use revise::Revision;
pub use spend::spent_by;

use crate::{
    attempt::Leader,
    batch::BatchNumber,
    board::Board,
    budget::Spent,
    capacity::{Reading, Slots},
    dependency::{Dependency, End},
    group::NewLimit,
    id::{AttemptId, TaskId},
    outcome::Outcome,
    principal::{Principal, names_of_holders},
    session::Session,
    task::{Request, Task},
    time::{Now, Timestamp},
    worktree::Merge,
};

/// A change outside the board (a report, a reading, the passing of time), or a command.
#[derive(Clone, Debug)]
pub enum Input {
    /// A command with its author, who is recorded with everything that the command causes.
    Asked {
        by: Arc<Principal>,
        command: Box<Input>,
    },
    /// Commands to carry out in this order, with no start in between. If one is refused, the others
    /// are still carried out.
    Each(Vec<Input>),
    /// Tasks that are accepted or refused together.
    Submit(Submit),
    /// A submission to check without accepting it.
    CheckSubmit(Submit),
    Cancel {
        task: TaskId,
        reason: Option<String>,
    },
    /// Run a finished task again. The task is passed as stored.
    Retry(Box<Retry>),
    /// Start a task at once although it is waiting for a time.
    TryNow {
        task: TaskId,
    },
    /// Record that somebody merged the work of a task by hand after its merge had failed.
    MergedByHand(Box<MergedByHand>),
    /// Keep queued tasks from starting until they are released.
    Hold {
        tasks: Vec<TaskId>,
    },
    Release {
        tasks: Vec<TaskId>,
    },
    /// Change a group. If `paused` is `None`, the pause is left unchanged.
    SetGroup {
        name: String,
        limit: NewLimit,
        paused: Option<bool>,
        /// Whether to create the group if it does not exist, which means that it has neither
        /// settings nor an unfinished task.
        make: bool,
    },
    /// Remove a group without unfinished tasks.
    RemoveGroup {
        name: String,
    },
    /// Pause the whole queue, or end the pause.
    Pause(bool),
    Report {
        attempt: AttemptId,
        report: Report,
    },
    Reading(Reading),
    /// The code of an executor cannot be had at the moment, for this reason, or (`None`) can be had
    /// again. Tasks of an executor without code are not started.
    Code {
        executor: Arc<str>,
        lacks: Option<Arc<str>>,
    },
    /// Set the number of slots; `None` restores the configured one.
    SetSlots(Option<Slots>),
    /// Forget what was learned from an executor's attempts.
    ForgetProfiles {
        executor: String,
    },
    /// An attempt begins to wait for its own descendants (`WaitBegins`), or its last such wait ends
    /// (`WaitEnds`). While the attempt waits, its slot counts as free. After the wait the attempt
    /// gets a slot back at once, so for a while more attempts may run than there are slots. A
    /// repetition of one of these inputs changes nothing.
    WaitBegins {
        attempt: AttemptId,
    },
    WaitEnds {
        attempt: AttemptId,
    },
    /// The known state of an attempt that an earlier host started, or that this host started before
    /// a commit failed. Each task of a loaded board with a running or reserved attempt gets this
    /// input before the first admission and the first command. Until then nobody knows whether a
    /// reserved attempt was started.
    Recovered {
        task: TaskId,
        found: Found,
    },
    /// All tasks on the board come from the backup that was made at this time. Another host may
    /// have continued them since.
    Restored {
        taken_at: Timestamp,
    },
    /// Remove old rows.
    Prune(Prune),
    /// Start nothing from now on; running attempts go on.
    Drain,
    /// End the drain: queued tasks may start again.
    Undrain,
    /// Time has passed.
    Tick,
    /// The wall clock was set back, or its earlier time is unknown.
    ClockSetBack,
}

impl Input {
    /// The command itself, without its author.
    pub fn command(&self) -> &Self {
        match self {
            Self::Asked { command, .. } => command.command(),
            other => other,
        }
    }
}

/// Ends of tasks that are not on the board, as stored.
#[derive(Clone, Debug, Default)]
pub struct Ends {
    /// The last batch that was on disk before the ends were read. The tasks that are passed
    /// together with the ends were not read earlier.
    pub as_of: BatchNumber,
    pub ends: BTreeMap<TaskId, End>,
}

#[derive(Clone, Debug, Default)]
pub struct Submit {
    pub tasks: Vec<Submission>,
    /// Ends of the tasks' dependencies, one for each that had ended when the ends were read.
    pub ended: Ends,
}

#[derive(Clone, Debug)]
pub struct Retry {
    pub task: Task,
    /// Tasks to run again after the task: dependants that could not run because of the task and, on
    /// request, dependants that had run.
    pub downstream: Vec<Task>,
    /// Ends of the downstream tasks' dependencies, one for each that had ended when the ends were
    /// read.
    pub ended: Ends,
    /// Message for the next attempt, UTF-8, if that attempt is to continue the last one.
    pub resume: Option<Arc<[u8]>>,
    /// Changes to the task itself that apply from its next attempt on.
    pub revision: Option<Box<Revision>>,
}

#[derive(Clone, Debug)]
pub struct MergedByHand {
    /// The task as stored.
    pub task: Task,
    /// Tasks that can run now, but could not as long as the task's work was not merged.
    pub downstream: Vec<Task>,
    /// Ends of the downstream tasks' dependencies, one for each that had ended when the ends were
    /// read.
    pub ended: Ends,
    pub merge: Merge,
}

/// Rows that were found to be old.
#[derive(Clone, Debug, Default)]
pub struct Prune {
    /// Finished tasks.
    pub tasks: Vec<TaskId>,
    /// Number of the last event to remove; 0 for none.
    pub events_to: u64,
    pub older_than: Timestamp,
    /// The last batch that was on disk before these rows were read.
    pub as_of: BatchNumber,
    /// Latest end of those of the tasks in which unrestrained principals have used sessions of
    /// agents.
    pub sessions_to: Option<Timestamp>,
    /// Latest end of those of the tasks in which anybody has used sessions of agents.
    pub all_sessions_to: Option<Timestamp>,
}

#[derive(Clone, Debug)]
pub struct Submission {
    pub id: TaskId,
    pub request: Request,
    /// Dependencies in any order. Tasks of one submission may depend on each other.
    pub dependencies: Vec<Dependency>,
    /// Whether the task is held until somebody releases it.
    pub held: bool,
    /// Parent: the task whose attempt submits this task. It is passed as stored, since it may have
    /// left the board. The request's `parent` and `above_parent` are set from this field only.
    pub parent: Option<Task>,
    /// The document for the executor, JSON. The board stores it and never reads it.
    pub spec: Arc<[u8]>,
}

/// A report by an attempt.
#[derive(Clone, PartialEq, Debug)]
pub enum Report {
    /// The attempt's preparation is done. Its first process is started by a later `Action::Spawn`.
    Prepared,
    /// The attempt's leader process runs, or the attempt needs none.
    Started {
        leader: Option<Leader>,
    },
    /// The first sign of life.
    Alive,
    /// The attempt's cost so far, in millionths of a US dollar.
    Cost(u64),
    Session(Session),
    /// Branch of the attempt's worktree, which has been made.
    Branch(Box<str>),
    /// The attempt's current activity, for display. Each report replaces the last.
    Doing(String),
    /// The account's service answered, so no usage limit applies.
    AccountWorks,
    Progress {
        kind: String,
        data: String,
    },
    /// State from which the executor wants to be resumed. The attempt numbers its checkpoints from
    /// 1. A report that is repeated after a reload has the same number.
    Checkpoint {
        number: u64,
        state: Arc<[u8]>,
    },
    /// The executor has answered. The attempt's output is being drained and its leftover processes
    /// are being ended.
    Finishing,
    /// No process of the attempt is alive, and its executor has not answered, because the
    /// executor's code cannot be had yet.
    Over,
    /// The executor is about to start a process although no other is alive.
    GoesOn,
    /// The attempt's ending is known, and its work is to be settled.
    Settling(Box<Ending>),
    Ended(Box<Ending>),
}

/// State of an attempt after a time without a host. An attempt whose supervisor is dead counts as
/// known if the supervisor's notes name it: a supervisor notes each start before it starts the
/// process. An attempt that is not in the notes counts as never received.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Found {
    /// The attempt's supervisor knows it, alive or ended.
    Known,
    /// The attempt's supervisor knows it, and nothing of it is alive. Nobody had stopped it.
    Over,
    /// The attempt's supervisor was asked, and never received the start.
    NeverReceived,
    /// The attempt's supervisor no longer exists.
    Orphaned,
}

/// Answer to a command, given once its batch is durable.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// Result of each command.
    Each(Vec<Result<Answer, Refused>>),
    /// The accepted tasks, in the order of the submission.
    Accepted(Vec<Accepted>),
    Cancelling {
        task: TaskId,
        how: Cancelling,
    },
    /// The task itself has ended. Its unfinished descendants are cancelled.
    CancellingBelow {
        task: TaskId,
        descendants: usize,
        /// Whether the attempts of all these descendants were already stopping.
        already: bool,
    },
    Retrying {
        task: TaskId,
        attempt: u32,
        /// Number of other tasks that run again after this one.
        downstream: usize,
        /// Whether the task is still held. If so, it starts only after it is released.
        held: bool,
    },
    /// The task has succeeded by a further attempt.
    MergedByHand {
        task: TaskId,
        attempt: u32,
        /// Number of other tasks that can run now because of the merge.
        downstream: usize,
    },
    /// Number of changed tasks.
    Changed(usize),
    /// Number of profiles that were removed.
    Forgotten(usize),
    /// Tasks that were removed.
    Pruned(Vec<TaskId>),
    /// Answer to an input that needs none.
    Noted,
    /// The input was ignored: its attempt is not running, or it ends a wait that never began.
    Stale,
}

/// What a cancel does with an unfinished task.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cancelling {
    /// The task did not run, and has ended as cancelled.
    Ended,
    /// The attempt was asked to stop. The task ends as cancelled unless the attempt had succeeded
    /// before that.
    Stopping,
    /// The attempt has succeeded, and its work is being settled. The task succeeds if its work is
    /// settled nevertheless, and ends as cancelled if not.
    Settling,
    /// The attempt was already stopping, so nothing changes.
    Already,
}

/// An accepted task, or the earlier one under the same idempotency key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Accepted {
    pub task: TaskId,
    pub existing: bool,
}

/// Reason why a command is refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refused {
    #[error("task {task:#} has already ended: {}", .outcome.as_str())]
    AlreadyDone { task: TaskId, outcome: Outcome },
    #[error("no task {task:#}")]
    Unknown { task: TaskId },
    #[error("task {task:#} is {state}, not done")]
    NotDone { task: TaskId, state: &'static str },
    #[error("idempotency key `{key}` was used for {task:#} with a different request")]
    IdempotencyConflict { key: String, task: TaskId },
    #[error("two tasks of the request have the idempotency key `{key}`")]
    KeyTwice { key: String },
    #[error("a task at depth {depth} would be nested deeper than {limit}")]
    TooDeep { depth: usize, limit: usize },
    #[error(
        "task {ancestor:#} would have more than {limit} unfinished descendants; {limit} is the limit"
    )]
    TooManyDescendants { ancestor: TaskId, limit: usize },
    #[error("more than {limit} tasks would be unfinished; {limit} is the limit")]
    QueueFull { limit: usize },
    #[error("task {task:#} depends on {count} others; {limit} is the limit")]
    TooManyDependencies {
        task: TaskId,
        count: usize,
        limit: usize,
    },
    #[error("there are already {limit} groups, which is the limit; remove one first")]
    TooManyGroups { limit: usize },
    #[error("there is no group `{}`", .name.escape_debug())]
    NoGroup { name: String },
    #[error("group `{}` has {tasks} unfinished tasks", .name.escape_debug())]
    GroupInUse { name: String, tasks: usize },
    #[error(
        "task {task:#} has had {limit} attempts, which is the limit; submit the task again as a new one"
    )]
    TooManyAttempts { task: TaskId, limit: usize },
    #[error("task {task:#} depends on {upstream:#} under two conditions")]
    TwoConditions { task: TaskId, upstream: TaskId },
    /// The tasks from the first back to itself, each of which depends on the next.
    #[error("dependency cycle: {}", path_text(.path))]
    Cycle { path: Vec<TaskId> },
    /// Data that was read beforehand has changed and must be read again.
    #[error("task {task:#} has changed since it was read; try again")]
    Moved { task: TaskId },
    #[error("task {task:#} could not run because of {culprit:#}; retry {culprit:#} first")]
    UpstreamStands { task: TaskId, culprit: TaskId },
    #[error("task {task:#} has no attempt that can be continued; retry the task instead")]
    NothingToResume { task: TaskId },
    #[error("task {task:#} did not fail because of its merge")]
    NotFailedByMerge { task: TaskId },
    /// The task's budget is spent.
    #[error("task {task:#} cannot run: {spent}")]
    OverBudget { task: TaskId, spent: Spent },
    #[error("task {task:#} is {state} and cannot be held")]
    NotQueued { task: TaskId, state: &'static str },
    #[error("task {task:#} is {state}, not held")]
    NotHeld { task: TaskId, state: &'static str },
    #[error("task {task:#} is held by {}: only its holders or the owner may release it", names_of_holders(.holders))]
    HeldByOthers {
        task: TaskId,
        holders: Vec<Arc<Principal>>,
    },
}

fn path_text(path: &[TaskId]) -> String {
    let ids: Vec<String> = path.iter().map(|id| format!("{id:#}")).collect();
    ids.join(" → ")
}

impl Board {
    /// Takes one input. The decisions are added to the batch that [`Board::seal`] closes.
    pub fn step(&mut self, now: Now, input: Input) -> Result<Answer, Refused> {
        match input {
            Input::Asked { by, command } => {
                let outer = self.by.replace(by);
                let answer = self.step(now, *command);
                self.by = outer;
                answer
            }
            Input::Each(commands) => {
                let each = commands.into_iter();
                Ok(Answer::Each(each.map(|one| self.step(now, one)).collect()))
            }
            Input::Submit(submit) => self.submit(now, submit),
            Input::CheckSubmit(submit) => self.check_submit(now, submit),
            Input::Cancel { task, reason } => self.cancel(now, task, reason),
            Input::Retry(retry) => self.retry(now, *retry),
            Input::TryNow { task } => self.try_now(now, task),
            Input::MergedByHand(merged) => self.merged_by_hand(now, *merged),
            Input::Hold { tasks } => self.hold(now, &tasks),
            Input::Release { tasks } => self.release(now, &tasks),
            Input::SetGroup {
                name,
                limit,
                paused,
                make,
            } => self.set_group(name, limit, paused, make),
            Input::RemoveGroup { name } => self.remove_group(name),
            Input::Pause(paused) => Ok(self.pause(now, paused)),
            Input::Report { attempt, report } => Ok(self.report(now, attempt, report)),
            Input::Reading(reading) => {
                self.capacity.observe(reading);
                Ok(Answer::Noted)
            }
            Input::Code { executor, lacks } => Ok(self.set_code(now, executor, lacks)),
            Input::SetSlots(slots) => Ok(self.set_slots(slots)),
            Input::ForgetProfiles { executor } => Ok(self.forget_profiles(&executor)),
            Input::WaitBegins { attempt } => Ok(self.wait_begins(attempt)),
            Input::WaitEnds { attempt } => Ok(self.wait_ends(attempt)),
            Input::Recovered { task, found } => Ok(self.recover(now, task, found)),
            Input::Restored { taken_at } => Ok(self.restored(now, taken_at)),
            Input::Prune(prune) => Ok(self.prune(prune)),
            Input::Drain => {
                self.drain = true;
                Ok(Answer::Noted)
            }
            Input::Undrain => {
                self.drain = false;
                Ok(Answer::Noted)
            }
            Input::Tick => {
                self.tick(now);
                Ok(Answer::Noted)
            }
            Input::ClockSetBack => Ok(self.clock_set_back(now)),
        }
    }

    fn wait_begins(&mut self, attempt: AttemptId) -> Answer {
        if !self.runs(attempt) {
            return Answer::Stale;
        }
        self.suspended.insert(attempt.task);
        Answer::Noted
    }

    fn wait_ends(&mut self, attempt: AttemptId) -> Answer {
        if self.runs(attempt) && self.suspended.remove(&attempt.task) {
            Answer::Noted
        } else {
            Answer::Stale
        }
    }

    /// Whether this attempt has or will have a process.
    fn runs(&self, attempt: AttemptId) -> bool {
        self.running.contains(&attempt.task) && self.attempt_id(attempt.task) == Some(attempt)
    }
}
