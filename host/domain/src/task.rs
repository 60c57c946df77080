//! A task: the request, and its state.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    attempt::{Attempt, Phase},
    budget::GraphBudget,
    dependency::{Condition, Dependency, End},
    id::{AccountKey, AttemptId, TaskId},
    ladder::{self, Rung},
    outcome::{Outcome, Reason},
    principal::{Authority, Principal},
    retry_policy::{self, RetryPolicy},
    revision::{Requested, Revised},
    time::{MonotonicMs, Timestamp},
    worktree::Worktree,
};

/// Priority; P0 is the highest.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Debug,
    Default,
    Serialize,
    Deserialize,
    JsonSchema,
)]
pub enum Priority {
    P0,
    #[default]
    P1,
    P2,
}

/// Kind of executor. It determines the expected needs of an attempt until something better is
/// known.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    Agent,
    Command,
}

/// A key under which a repeated submission returns the first task, and the digest of the first
/// submission.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Idempotency {
    pub key: String,
    pub payload_digest: String,
}

/// The graph with which a task was submitted.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct InGraph {
    /// First of the tasks that were submitted together.
    pub first: TaskId,
    /// Name of the graph. Only the graph's first task stores it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// The request, with the additions from its executor's manifest. The request changes only if it is
/// revised between attempts, or if its start time is removed. The document for the executor (the
/// prompt, the argv) is in the store, since it may be megabytes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Request {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    pub executor: Arc<str>,
    pub class: Class,
    #[serde(default)]
    pub priority: Priority,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    pub cwd: Arc<str>,
    /// Tasks whose outputs this task receives. This task depends on each of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub with_output_of: Vec<TaskId>,
    /// Budget of all the task's attempts together, in millionths of a US dollar.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget_micro_usd: Option<u64>,
    /// Budget that the task shares with other tasks of its graph.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub graph_budget: Option<GraphBudget>,
    /// The task's graph; none if the task was submitted alone, in a request without a name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub graph: Option<Arc<InGraph>>,
    /// The task's own git worktree, if it works in one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worktree: Option<Box<Worktree>>,
    /// Whether the task's agent may succeed even if it was denied tools and changed nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_denied: bool,
    /// Text for lists: the start of the task's prompt, script or command line.
    pub summary: String,
    /// Principal who submitted the task.
    #[serde(default, skip_serializing_if = "is_owner_at_terminal")]
    pub by: Arc<Principal>,
    /// Authority of the task, according to its executor; `None` if the executor was not asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authority: Option<Arc<Authority>>,
    /// Names of the variables that a restrained principal has set. Earlier versions stored none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set_variables: Option<Arc<BTreeSet<String>>>,
    /// Session that the agent is to continue. Earlier versions did not store it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resumes_session: Option<Box<str>>,
    /// Task whose attempt submitted this task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<TaskId>,
    /// The parent's ancestors, the nearest first. They are stored with this task because they may
    /// have ended and been removed long before it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub above_parent: Vec<TaskId>,
    /// Number of tasks in `above_parent` whose cancellation cancels this task too, if this task is
    /// not detached. If the parent is detached, the number is 0. Otherwise the tasks up to and
    /// including the nearest detached task are counted.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub attached_above: usize,
    /// Whether the task is detached. A detached task is not cancelled with its parent.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub detached: bool,
    /// Earliest time at which the task may start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_at: Option<Timestamp>,
    /// Maximum time for which the task may be ready without being started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_timeout: Option<Duration>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retries: Option<Box<RetryPolicy>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_timeout: Option<Duration>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_timeout: Option<Duration>,
    pub max_output_bytes: u64,
    /// Name of the file that holds the task's environment: the file's digest.
    pub env_digest: Arc<str>,
    /// The submitter's umask, if it was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub umask: Option<u16>,
    /// The submitter's resource limits and niceness as text, if they were given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bounds: Option<Arc<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<AccountKey>,
    /// Attempts that share this key start one at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial_start: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency: Option<Box<Idempotency>>,
    #[serde(default = "ladder::usual", skip_serializing_if = "ladder::is_usual")]
    pub ladder: Arc<[Rung]>,
}

impl Request {
    /// A plain task for this executor, with no option set.
    pub fn new(executor: impl Into<Arc<str>>, class: Class) -> Self {
        Self {
            name: None,
            executor: executor.into(),
            class,
            priority: Priority::default(),
            labels: BTreeMap::new(),
            group: None,
            cwd: "/".into(),
            with_output_of: Vec::new(),
            budget_micro_usd: None,
            graph_budget: None,
            graph: None,
            worktree: None,
            allow_denied: false,
            summary: String::new(),
            by: Arc::default(),
            authority: None,
            set_variables: None,
            resumes_session: None,
            parent: None,
            above_parent: Vec::new(),
            attached_above: 0,
            detached: false,
            start_at: None,
            queue_timeout: None,
            retries: None,
            timeout: None,
            idle_timeout: None,
            start_timeout: None,
            max_output_bytes: 1 << 30,
            env_digest: "".into(),
            umask: None,
            bounds: None,
            account: None,
            serial_start: None,
            idempotency: None,
            ladder: Arc::default(),
        }
    }

    /// Whether attempts have a preparation phase. They have one if a worktree must be made before
    /// their first process, if their start has a time limit, or if it waits for its turn. For other
    /// tasks, such as short commands, the phase would cost an additional commit and show little.
    pub fn is_prepared_first(&self) -> bool {
        self.worktree.is_some() || self.start_timeout.is_some() || self.serial_start.is_some()
    }

    /// All ancestors, the parent first.
    pub fn ancestors(&self) -> impl Iterator<Item = TaskId> {
        self.parent
            .into_iter()
            .chain(self.above_parent.iter().copied())
    }

    /// Number of ancestors.
    pub fn depth(&self) -> usize {
        self.ancestors().count()
    }

    /// Ancestors whose cancellation cancels this task too.
    pub fn attached_to(&self) -> impl Iterator<Item = TaskId> {
        let attached = if self.detached {
            0
        } else {
            1 + self.attached_above
        };
        self.ancestors().take(attached)
    }

    /// Shares equal parts with another request, so that these parts are in memory once. For
    /// example, a graph of a hundred thousand tasks has one environment.
    pub(crate) fn share(&mut self, other: &Self) {
        share(&mut self.executor, &other.executor);
        share(&mut self.cwd, &other.cwd);
        share(&mut self.env_digest, &other.env_digest);
        share(&mut self.ladder, &other.ladder);
        share(&mut self.by, &other.by);
        share_if_any(&mut self.authority, other.authority.as_ref());
        share_if_any(&mut self.bounds, other.bounds.as_ref());
        share_if_any(&mut self.set_variables, other.set_variables.as_ref());
        share_if_any(&mut self.graph, other.graph.as_ref());
    }

    /// Puts the request into the graph whose first task is `first`.
    pub(crate) fn place_in(&mut self, first: TaskId) {
        if let Some(graph) = &mut self.graph
            && graph.first != first
        {
            *graph = Arc::new(InGraph { first, name: None });
        }
    }

    /// Puts the request under its parent, whether or not the parent has ended.
    pub(crate) fn place_under(&mut self, parent: Option<&Task>) {
        self.parent = parent.map(|parent| parent.id);
        self.above_parent =
            parent.map_or_else(Vec::new, |parent| parent.request.ancestors().collect());
        // A task must not be able to spend more by submitting other tasks.
        if let Some(above) = parent.and_then(|parent| parent.request.graph_budget) {
            self.graph_budget = Some(above);
        }
        self.attached_above = parent.map_or(0, |parent| parent.request.attached_to().count());
    }
}

fn share<T: PartialEq + ?Sized>(mine: &mut Arc<T>, other: &Arc<T>) {
    if mine == other {
        *mine = other.clone();
    }
}

fn share_if_any<T: ?Sized + PartialEq>(mine: &mut Option<Arc<T>>, other: Option<&Arc<T>>) {
    if let (Some(mine), Some(other)) = (mine, other) {
        share(mine, other);
    }
}

fn is_owner_at_terminal(by: &Principal) -> bool {
    by.is_owner_at_terminal()
}

#[allow(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// Reason why a task waits for a time.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WaitingFor {
    /// The task's account is at a usage limit.
    Account(AccountKey),
    /// The task's earliest start is still to come.
    StartTime,
    /// The delay before the task's next attempt has not passed.
    Retry,
}

/// State of a task. Each state holds its own data, so that impossible combinations cannot be
/// written in code.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum State {
    /// A dependency has not ended.
    Blocked {
        since: Timestamp,
    },
    Waiting {
        until: Timestamp,
        why: WaitingFor,
    },
    /// The task is held until it is released.
    Held {
        since: Timestamp,
    },
    Ready {
        since: Timestamp,
        /// Start of the task's queue timeout: the monotonic time, and the clock from which it was
        /// read.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        clock: Option<(MonotonicMs, Arc<str>)>,
    },
    Running {
        phase: Phase,
        since: Timestamp,
    },
    Done {
        at: Timestamp,
        outcome: Outcome,
        reason: Option<Reason>,
        /// The task whose end kept this task from running.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        culprit: Option<TaskId>,
    },
}

impl State {
    /// State in one word, as shown to people. A reserved attempt has not begun, so its task is
    /// still `ready`.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Blocked { .. } => "blocked",
            Self::Waiting { .. } => "waiting",
            Self::Held { .. } => "held",
            Self::Ready { .. }
            | Self::Running {
                phase: Phase::Assigned,
                ..
            } => "ready",
            Self::Running { .. } => "running",
            Self::Done { .. } => "done",
        }
    }
}

/// A task, in the form in which the board and the store hold it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Task {
    pub id: TaskId,
    pub request: Arc<Request>,
    pub created_at: Timestamp,
    pub state: State,
    /// The task's dependencies, sorted. They are stored beside the row, since they never change and
    /// there may be a hundred thousand.
    #[serde(skip, default = "no_dependencies")]
    pub dependencies: Arc<[Dependency]>,
    /// Whether the task was ever started. If so, its dependencies no longer matter.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub has_begun: bool,
    /// Principals who hold the task. If a held task has no holders, it is held by the owner, or
    /// because it was restored from a backup.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub holders: Vec<Arc<Principal>>,
    /// Time of the backup from which the task was restored, until somebody releases the task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restored_from: Option<Timestamp>,
    /// Time of the first hold. Only a release clears this time; the end of the task or a retry does
    /// not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<Timestamp>,
    /// Earliest time of the task's next attempt. It outlives a cancellation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_at: Option<Timestamp>,
    /// Number of the attempt that the next attempt continues, if somebody resumed the task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resumes: Option<u32>,
    /// Whether a restricted principal asked to run the task again. If so, it is started like this
    /// principal's own tasks, even if another principal submitted it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub restrained: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<Attempt>,
    /// Changes to the task's request between attempts, the oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub revised: Vec<Revised>,
    /// Requests to run the task again, the oldest first. A request is left out if the requester of
    /// the attempt would be the same without it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub requested: Vec<Requested>,
}

fn no_dependencies() -> Arc<[Dependency]> {
    Arc::default()
}

impl Task {
    /// A newly submitted task. None of its dependencies is known to have ended.
    pub fn blocked(
        id: TaskId,
        request: Arc<Request>,
        dependencies: Arc<[Dependency]>,
        since: Timestamp,
    ) -> Self {
        Self {
            id,
            request,
            created_at: since,
            state: State::Blocked { since },
            dependencies,
            has_begun: false,
            holders: Vec::new(),
            restored_from: None,
            held: None,
            retry_at: None,
            resumes: None,
            restrained: false,
            attempts: Vec::new(),
            revised: Vec::new(),
            requested: Vec::new(),
        }
    }

    pub fn is_done(&self) -> bool {
        matches!(self.state, State::Done { .. })
    }

    /// How the task ended, if it has ended.
    pub fn end(&self) -> Option<End> {
        match self.state {
            State::Done {
                outcome, culprit, ..
            } => Some(End { outcome, culprit }),
            _ => None,
        }
    }

    /// Whether the next attempt is started like an attempt of a task of a restrained principal.
    pub fn is_restrained(&self) -> bool {
        self.restrained || self.request.by.restrained
    }

    /// Whether a principal may release the task. The owner always may, others only if they are
    /// among the holders.
    pub fn may_be_released_by(&self, by: &Principal) -> bool {
        by.is_person() || self.holders.iter().any(|holder| holder.is_same_as(by))
    }

    /// The principal who requested an attempt: whoever last asked to run the task again before that
    /// attempt, or else its submitter.
    pub fn requester_of(&self, attempt: u32) -> &Arc<Principal> {
        let mut latest_first = self.requested.iter().rev();
        let last = latest_first.find(|requested| requested.from_attempt <= attempt);
        last.map_or(&self.request.by, |requested| &requested.by)
    }

    /// Records who has requested the next attempt.
    pub(crate) fn note_requester(&mut self, by: &Arc<Principal>) {
        let from_attempt = self.next_attempt();
        // An earlier request for the same attempt has come to nothing.
        self.requested.retain(|it| it.from_attempt < from_attempt);
        if !self.requester_of(from_attempt).is_same_as(by) {
            self.requested.push(Requested {
                from_attempt,
                by: by.clone(),
            });
        }
    }

    /// The task's condition on this dependency.
    pub(crate) fn condition_on(&self, upstream: TaskId) -> Option<Condition> {
        let found = self
            .dependencies
            .binary_search_by_key(&upstream, |dependency| dependency.task);
        found.ok().map(|index| self.dependencies[index].condition)
    }

    pub fn phase(&self) -> Option<&Phase> {
        match &self.state {
            State::Running { phase, .. } => Some(phase),
            _ => None,
        }
    }

    /// Whether the task has an attempt that has not ended: a running or a reserved one.
    pub fn has_open_attempt(&self) -> bool {
        let last = self.last_attempt();
        !self.is_done() && last.is_some_and(|last| last.ended.is_none())
    }

    /// Whether the task's attempts read stored results of other attempts.
    pub fn reads_others(&self) -> bool {
        !self.request.with_output_of.is_empty() || self.resumes.is_some()
    }

    /// Whether the task's next attempt was reserved before all its dependencies had ended.
    pub(crate) fn is_chosen(&self) -> bool {
        matches!(self.state, State::Blocked { .. }) && self.has_open_attempt()
    }

    /// Number of attempts that may still begin automatically, according to its retry policy.
    pub fn attempts_left(&self) -> u32 {
        let request = &self.request;
        let limit = request.retries.as_ref().map_or(0, |policy| policy.limit);
        let used = retry_policy::used(&self.attempts, request.account.is_some());
        let left = limit.saturating_add(1).saturating_sub(used);
        match &self.state {
            State::Done { .. } => 0,
            State::Running { phase, .. } if *phase != Phase::Assigned => left.saturating_sub(1),
            // An attempt that somebody asked for does not count against the retries.
            _ => left.max(1),
        }
    }

    /// The running attempt, or the last one.
    pub fn last_attempt(&self) -> Option<&Attempt> {
        self.attempts.last()
    }

    /// The last attempt that an executor ran or runs: the one with output.
    pub fn last_run(&self) -> Option<&Attempt> {
        self.attempts.iter().rev().find(|attempt| !attempt.by_hand)
    }

    /// Branch of the task's worktree: the branch that was made or, if none was, the planned one.
    pub fn branch(&self) -> Option<String> {
        let worktree = self.request.worktree.as_ref()?;
        let made = self.made_branch().map(str::to_owned);
        Some(made.unwrap_or_else(|| worktree.planned_branch(self.id)))
    }

    /// The branch that was made for the task, if it was reported. Earlier versions did not report
    /// it.
    pub fn made_branch(&self) -> Option<&str> {
        let mut latest_first = self.attempts.iter().rev();
        latest_first.find_map(|attempt| attempt.branch.as_deref())
    }

    /// Whether the task failed only because its work could not be merged.
    pub fn failed_by_its_merge(&self) -> bool {
        let deciding = self.deciding_attempt();
        let ended = deciding.and_then(|attempt| attempt.ended.as_ref());
        ended.is_some_and(|ended| {
            let merge = ended.merge.as_ref();
            self.is_done() && merge.is_some_and(|merge| merge.state.is_failure())
        })
    }

    /// The attempt that decided the task's state: the last one. None if the task was run again and
    /// ended before another attempt began.
    pub fn deciding_attempt(&self) -> Option<&Attempt> {
        let last = self.last_attempt();
        let State::Done { at, outcome, .. } = &self.state else {
            return last;
        };
        last.filter(|last| {
            let ended = last.ended.as_ref();
            ended.is_some_and(|ended| (ended.at, ended.outcome) == (*at, *outcome))
        })
    }

    /// Id of the running attempt, or of the last one.
    pub fn last_attempt_id(&self) -> Option<AttemptId> {
        self.last_attempt().map(|attempt| AttemptId {
            task: self.id,
            number: attempt.number,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn request_is_stored_unchanged() {
        let check = |attached_above: usize, is_written: bool| {
            let request = Request {
                attached_above,
                ..Request::new("shell", Class::Command)
            };
            let text = serde_json::to_string(&request).unwrap();
            assert_eq!(text.contains("attached_above"), is_written, "{text}");
            assert_eq!(serde_json::from_str::<Request>(&text).unwrap(), request);
        };
        check(0, false);
        check(2, true);
    }

    #[test]
    fn variables_and_session_of_a_request_are_stored_and_absent_in_requests_without_them() {
        let plain = Request::new("claude", Class::Agent);
        let text = serde_json::to_string(&plain).unwrap();
        for field in ["set_variables", "resumes_session"] {
            assert!(!text.contains(field), "{text}");
        }
        assert_eq!(serde_json::from_str::<Request>(&text).unwrap(), plain);
        let request = Request {
            set_variables: Some(Arc::new(BTreeSet::from(["CI".to_owned()]))),
            resumes_session: Some("0b6b".into()),
            ..plain
        };
        let text = serde_json::to_string(&request).unwrap();
        assert_eq!(serde_json::from_str::<Request>(&text).unwrap(), request);
    }

    #[test]
    fn requests_share_exactly_their_equal_parts() {
        let one = Request::new("shell", Class::Command);
        let mut same = Request::new("shell", Class::Command);
        same.share(&one);
        assert!(Arc::ptr_eq(&same.executor, &one.executor));
        assert!(Arc::ptr_eq(&same.cwd, &one.cwd));
        assert!(Arc::ptr_eq(&same.env_digest, &one.env_digest));
        let named = |name: &str| Request {
            set_variables: Some(Arc::new(BTreeSet::from([name.to_owned()]))),
            ..Request::new("shell", Class::Command)
        };
        let (first, mut second, mut third) = (named("CI"), named("CI"), named("DEBUG"));
        second.share(&first);
        third.share(&first);
        let names = |request: &Request| request.set_variables.clone().unwrap();
        assert!(Arc::ptr_eq(&names(&second), &names(&first)));
        assert_eq!(*names(&third), BTreeSet::from(["DEBUG".to_owned()]));
        let mut other = Request::new("claude", Class::Agent);
        other.share(&one);
        assert_eq!(&*other.executor, "claude");
    }
}
