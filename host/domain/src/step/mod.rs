//! What each input does to the board. Pure: the same board, time and input give the same decisions,
//! byte for byte.

mod admit;
mod by_hand;
mod cancel;
mod clock;
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
    attempt::{Leader, Session},
    batch::BatchNumber,
    board::Board,
    budget::Spent,
    capacity::{Reading, Slots},
    dependency::{Dependency, End},
    group::NewLimit,
    id::{AttemptId, TaskId},
    outcome::Outcome,
    principal::{Principal, names_of_holders},
    task::{Request, Task},
    time::{Now, Timestamp},
    worktree::Merge,
};

/// Something that happened, or that somebody asks for.
#[derive(Clone, Debug)]
pub enum Input {
    /// A command, and who gives it. What is recorded of it names them.
    Asked {
        by: Arc<Principal>,
        command: Box<Input>,
    },
    /// Commands that are carried out in this order, with nothing started in between. One that is
    /// refused keeps none of the others from being carried out.
    Each(Vec<Input>),
    /// Tasks that are taken or refused together.
    Submit(Submit),
    /// Would this submission be taken? Nothing is.
    CheckSubmit(Submit),
    Cancel {
        task: TaskId,
        reason: Option<String>,
    },
    /// A finished task, as the store has it, is to run again.
    Retry(Box<Retry>),
    /// A task that waits for a time is not to wait any longer.
    TryNow {
        task: TaskId,
    },
    /// Somebody merged the work of a task that had failed by its merge.
    MergedByHand(Box<MergedByHand>),
    /// Queued tasks are not to be started until they are released.
    Hold {
        tasks: Vec<TaskId>,
    },
    Release {
        tasks: Vec<TaskId>,
    },
    /// A pause that is not given stays as it is.
    SetGroup {
        name: String,
        limit: NewLimit,
        paused: Option<bool>,
        /// It may be a group that is neither set nor has an unfinished task.
        make: bool,
    },
    /// A group without unfinished tasks is not to be there any more.
    RemoveGroup {
        name: String,
    },
    /// Nothing of the whole queue is to be started, or all of it may be again.
    Pause(bool),
    Report {
        attempt: AttemptId,
        report: Report,
    },
    Reading(Reading),
    /// How many run at once from here on; `None` goes back to what is configured.
    SetSlots(Option<Slots>),
    /// What was learned of an executor's attempts is not to be gone by any more.
    ForgetProfiles {
        executor: String,
    },
    /// The attempt begins to wait for its own descendants, or ends its last wait for them.
    /// Meanwhile its slot counts as free; afterwards it has it back at once, so that for a while
    /// more may run than there are slots. Repeating either changes nothing.
    WaitBegins {
        attempt: AttemptId,
    },
    WaitEnds {
        attempt: AttemptId,
    },
    /// What is left of an attempt that an earlier host started, or this one before a commit failed.
    /// Each task that a loaded board has as running, assigned ones included, gets this before the
    /// first admission and the first command: until then nobody knows whether an assignment was
    /// started.
    Recovered {
        task: TaskId,
        found: Found,
    },
    /// All that the board holds comes from the backup of that time: another host may have gone on
    /// with it since.
    Restored {
        taken_at: Timestamp,
    },
    /// What is old is to be forgotten.
    Prune(Prune),
    /// Nothing new is started from here on; what runs goes on.
    Drain,
    /// The drain is lifted: what is queued may start again.
    Undrain,
    /// Time has passed.
    Tick,
    /// The wall clock shows less than it did, or nobody knows what it showed.
    ClockSetBack,
}

impl Input {
    /// The command itself, without who gives it.
    pub fn command(&self) -> &Self {
        match self {
            Self::Asked { command, .. } => command.command(),
            other => other,
        }
    }
}

/// How tasks that the board does not hold have ended, as the store has it.
#[derive(Clone, Debug, Default)]
pub struct Ends {
    /// The last batch on disk when nothing of it had been read yet, nor of what it is given with.
    pub as_of: BatchNumber,
    pub ends: BTreeMap<TaskId, End>,
}

#[derive(Clone, Debug, Default)]
pub struct Submit {
    pub tasks: Vec<Submission>,
    /// Of what they depend on: all that had ended when it was looked up.
    pub ended: Ends,
}

#[derive(Clone, Debug)]
pub struct Retry {
    pub task: Task,
    /// What is to run after it again: those that could not run because of it, and, where that was
    /// asked for, those that had run.
    pub downstream: Vec<Task>,
    /// Of what those depend on: all that had ended when it was looked up.
    pub ended: Ends,
    /// Where its next attempt is to go on from where the last one ended: what somebody has to say
    /// about that, UTF-8.
    pub resume: Option<Arc<[u8]>>,
    /// What of the task itself is different from its next attempt on.
    pub revision: Option<Box<Revision>>,
}

#[derive(Clone, Debug)]
pub struct MergedByHand {
    /// As the store has it.
    pub task: Task,
    /// What is to run now: those that could not run because of it.
    pub downstream: Vec<Task>,
    /// Of what those depend on: all that had ended when it was looked up.
    pub ended: Ends,
    pub merge: Merge,
}

/// What was found to be old.
#[derive(Clone, Debug, Default)]
pub struct Prune {
    /// Finished tasks.
    pub tasks: Vec<TaskId>,
    /// The number of the last event that may go; 0 where none may.
    pub events_to: u64,
    pub older_than: Timestamp,
    /// The last batch on disk when nothing of it had been read yet.
    pub as_of: BatchNumber,
}

#[derive(Clone, Debug)]
pub struct Submission {
    pub id: TaskId,
    pub request: Request,
    /// In any order. Members of one submission may depend on each other.
    pub dependencies: Vec<Dependency>,
    /// It is held until somebody releases it.
    pub held: bool,
    /// The task from whose attempt it is submitted, as the store has it: on the board it may not be
    /// any more. It alone decides what the request has for a parent and for ancestors.
    pub parent: Option<Task>,
    /// What the executor is asked to do, JSON; stored, never read here.
    pub spec: Arc<[u8]>,
}

/// What an attempt tells.
#[derive(Clone, PartialEq, Debug)]
pub enum Report {
    /// All that it needs is there: its first process may be started as soon as the board says so.
    Prepared,
    /// A process leads it, or it needs none.
    Started {
        leader: Option<Leader>,
    },
    /// The first sign of life.
    Alive,
    /// What it has cost up to now, in millionths of a US dollar.
    Cost(u64),
    Session(Session),
    /// The branch of its worktree, which is made.
    Branch(Box<str>),
    /// What it is doing at the moment, for whoever watches; the next one takes its place.
    Doing(String),
    /// The account's service answered, so no usage limit is in force.
    AccountWorks,
    Progress {
        kind: String,
        data: String,
    },
    /// What the executor wants to be resumed from. The attempt counts its checkpoints from 1; one
    /// that is told again after a reload has its number again.
    Checkpoint {
        number: u64,
        state: Arc<[u8]>,
    },
    /// The executor has answered; output is drained and leftovers are ended.
    Finishing,
    /// It has ended like this, and its work is to be settled.
    Settling(Box<Ending>),
    Ended(Box<Ending>),
}

/// What became of an attempt while no host was there. For an assignment whose supervisor is gone, a
/// trace of a start (a line in the log of exits, a process that carried its marker) makes it known;
/// without one it counts as never started.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Found {
    /// Its supervisor knows it, whether it lives or has ended.
    Known,
    /// Its supervisor was asked and never got the start.
    NeverReceived,
    /// The supervisor that had it is gone.
    Orphaned,
}

/// What a command is answered, once its batch is durable.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// What became of each command.
    Each(Vec<Result<Answer, Refused>>),
    /// In the order of the submission.
    Accepted(Vec<Accepted>),
    Cancelling {
        task: TaskId,
        already: bool,
    },
    /// The task itself is over. What it submitted and has not ended is cancelled.
    CancellingBelow {
        task: TaskId,
        descendants: usize,
        /// All of them were stopping already.
        already: bool,
    },
    Retrying {
        task: TaskId,
        attempt: u32,
        /// How many others run after it again.
        downstream: usize,
        /// Somebody holds it still: it does not start before it is released.
        held: bool,
    },
    /// The task has succeeded, by a further attempt.
    MergedByHand {
        task: TaskId,
        attempt: u32,
        /// How many others run now.
        downstream: usize,
    },
    /// How many tasks changed.
    Changed(usize),
    /// So many profiles were removed.
    Forgotten(usize),
    /// These tasks are gone.
    Pruned(Vec<TaskId>),
    /// For inputs that nobody waits for.
    Noted,
    /// A report of an attempt that is over, or an end of something that never began: dropped.
    Stale,
}

/// A task that was taken, or, under an idempotency key, the one that was taken first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Accepted {
    pub task: TaskId,
    pub existing: bool,
}

/// Why a command is not carried out.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refused {
    #[error("task {task:#} has already ended: {}", .outcome.as_str())]
    AlreadyDone { task: TaskId, outcome: Outcome },
    #[error("no task {task}")]
    Unknown { task: TaskId },
    #[error("task {task:#} is {state}, not done")]
    NotDone { task: TaskId, state: &'static str },
    #[error("idempotency key `{key}` was used for {task:#} with a different request")]
    IdempotencyConflict { key: String, task: TaskId },
    #[error("two tasks of the request have the idempotency key `{key}`")]
    KeyTwice { key: String },
    #[error("a task at depth {depth} would be nested deeper than {limit}")]
    TooDeep { depth: usize, limit: usize },
    #[error("task {ancestor:#} has {limit} unfinished descendants, which is the limit")]
    TooManyDescendants { ancestor: TaskId, limit: usize },
    #[error("{limit} tasks may be unfinished at once")]
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
    #[error("task {task:#} has had {limit} attempts, which is the limit: submit it anew")]
    TooManyAttempts { task: TaskId, limit: usize },
    #[error("task {task:#} depends on {upstream:#} under two conditions")]
    TwoConditions { task: TaskId, upstream: TaskId },
    /// From the first to itself, each depending on the next.
    #[error("the dependencies go in a circle: {}", path_text(.path))]
    Cycle { path: Vec<TaskId> },
    /// What was looked up beforehand is not so any more: look again.
    #[error("task {task:#} has changed meanwhile")]
    Moved { task: TaskId },
    #[error("task {task:#} is blocked by {culprit:#}; retry {culprit:#} first")]
    UpstreamStands { task: TaskId, culprit: TaskId },
    #[error("task {task:#} has no attempt to go on from: retry it")]
    NothingToResume { task: TaskId },
    #[error("task {task:#} did not fail by its merge")]
    NotFailedByMerge { task: TaskId },
    /// Nothing is left to spend.
    #[error("task {task:#} cannot run: {spent}")]
    OverBudget { task: TaskId, spent: Spent },
    #[error("task {task:#} is {state} and cannot be held")]
    NotQueued { task: TaskId, state: &'static str },
    #[error("task {task:#} is {state}, not held")]
    NotHeld { task: TaskId, state: &'static str },
    #[error("task {task:#} is held by {}: only they or the owner may release it", names_of_holders(.holders))]
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
    /// Takes one input. Whatever it decides stands in the batch that [`Board::seal`] closes.
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

    /// Whether this very attempt holds a process, or will.
    fn runs(&self, attempt: AttemptId) -> bool {
        self.running.contains(&attempt.task) && self.attempt_id(attempt.task) == Some(attempt)
    }
}
