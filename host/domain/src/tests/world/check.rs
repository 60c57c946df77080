//! Invariants, checked after every step: each row by itself, the indexes against the rows, the
//! board against the disk, submissions that were answered, processes, and cycles.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::World;
use crate::{
    attempt::{Attempt, Phase, StopWhy},
    capacity::{Refusal, Slots},
    dependency::{Dependency, End},
    id::{AccountKey, TaskId},
    task::{Class, State, Task, WaitingFor},
};

fn ended(task: &Task) -> impl Iterator<Item = &Attempt> {
    task.attempts.iter().filter(|it| it.ended.is_some())
}

impl World {
    /// Checks all invariants.
    pub(super) fn check(&mut self) {
        self.check_circles();
        self.check_indexes();
        self.check_written();
        self.check_history();
        let board = &self.board;
        let runs = |task: &&Arc<Task>| matches!(&task.state, State::Running { phase, .. } if *phase != Phase::Assigned);
        let running = board.tasks.values().filter(runs).count();
        assert_eq!(board.running_count(), running);
        assert_eq!(board.queued_count(), board.tasks.len() - running);
        let waits = |task| board.running.contains(task);
        assert!(board.suspended.iter().all(waits));
        assert!(board.starting.values().all(|starting| starting.len() == 1));
        let phase = |task: &TaskId| board.tasks[task].phase();
        let has_limit = |task: &TaskId| {
            let phase = phase(task);
            matches!(
                phase,
                Some(Phase::Preparing | Phase::Starting | Phase::Settling)
            )
        };
        assert!(board.phase_clocks.keys().all(has_limit));
        let is_preparing = |task: &TaskId| phase(task) == Some(&Phase::Preparing);
        assert!(board.prepared.keys().all(is_preparing));
        for task in board.unfinished() {
            self.check_row(task);
            self.check_reason(task);
        }
        self.check_serial_starts();
        self.check_promises();
    }

    /// Checks that there is no cycle. A cycle can only come with a new row or changed edges, so the
    /// graph is searched only then.
    fn check_circles(&mut self) {
        let tasks = &self.board.tasks;
        let is_known = |task: &Arc<Task>| {
            let known = self.edges.get(&task.id);
            known.is_some_and(|edges| *edges == task.dependencies)
        };
        if tasks.values().all(is_known) {
            return;
        }
        // Removes tasks without remaining dependencies until none is left.
        let mut left: BTreeSet<TaskId> = tasks.keys().copied().collect();
        while !left.is_empty() {
            let waits = |id: &TaskId| {
                let mut edges = tasks[id].dependencies.iter();
                edges.any(|edge| left.contains(&edge.task))
            };
            let waiting: BTreeSet<TaskId> = left.iter().copied().filter(waits).collect();
            assert!(waiting.len() < left.len(), "cycle: {left:?}");
            left = waiting;
        }
        let edges = tasks
            .values()
            .map(|task| (task.id, task.dependencies.clone()));
        self.edges = edges.collect();
    }

    /// Checks that an attempt that has ended is neither changed nor removed. Only a failed commit
    /// may undo an end, and only if this end was not yet acknowledged.
    fn check_history(&mut self) {
        let pending = self.board.pending.finished.values();
        for task in self.board.tasks.values().chain(pending) {
            if let Some(before) = self.history.get(&task.id) {
                if Arc::ptr_eq(before, task) {
                    continue;
                }
                let mut now = ended(task);
                assert!(
                    ended(before).all(|one| now.next() == Some(one)),
                    "history was rewritten: {before:?} {task:?}"
                );
            }
            let numbers = task.attempts.iter().map(|it| it.number);
            assert!(
                numbers
                    .clone()
                    .zip(numbers.skip(1))
                    .all(|(one, next)| one < next),
                "an attempt number was used twice: {task:?}"
            );
            self.history.insert(task.id, task.clone());
        }
    }

    /// Checks that no submission that was answered is lost: its task is unfinished, or the task's
    /// end is on disk or in a batch that is not durable yet.
    fn check_promises(&self) {
        let batch = self.in_flight.as_ref().map(|(batch, _)| batch);
        for id in &self.promised {
            let board = &self.board;
            let known = board.tasks.contains_key(id)
                || board.pending.finished.contains_key(id)
                || self.disk.tasks[id].is_done()
                || batch.is_some_and(|batch| batch.tasks.iter().any(|task| task.id == *id));
            assert!(known, "an answered submission is lost: {id}");
        }
    }

    /// Checks that a task has an open attempt exactly while it runs or the attempt is reserved, and
    /// that an ended task runs again only after a retry.
    fn check_row(&self, task: &Task) {
        assert!(!task.is_done());
        let ended = task.last_attempt().map(|last| last.ended.is_some());
        let idle = |attempt: &Attempt| attempt.ended.is_none() || attempt.doing.is_none();
        assert!(
            task.attempts.iter().all(idle),
            "an ended attempt has an activity"
        );
        let answered = task.attempts.iter().any(|one| one.answered.is_some());
        let may_have = matches!(task.phase(), Some(Phase::Settling | Phase::Stopping(_)));
        assert!(may_have || !answered, "unexpected answer: {task:?}");
        let is_preparing = task.phase() == Some(&Phase::Preparing);
        let last = task.last_attempt();
        let has_started = last.is_some_and(|last| last.started_at.is_some());
        assert!(
            !(is_preparing && has_started),
            "an attempt started during its preparation: {task:?}"
        );
        assert_eq!(
            task.phase().is_some() || self.board.chosen.contains_key(&task.id),
            ended == Some(false),
            "open attempt does not match the state: {task:?}"
        );
        assert_eq!(
            task.held,
            match task.state {
                State::Held { since } => Some(since),
                _ => None,
            },
            "held time does not match the state: {task:?}"
        );
        let at_its_end = self.disk.tasks.get(&task.id).is_some_and(Task::is_done);
        assert!(
            !at_its_end || self.board.ended_again.was_revived(task.id),
            "a task ran again without a retry: {task:?}"
        );
    }

    /// Checks the reason for which a task waits.
    fn check_reason(&self, task: &Task) {
        match &task.state {
            State::Waiting { until, why } => {
                let told = match why {
                    WaitingFor::StartTime => task.request.start_at == Some(*until),
                    WaitingFor::Retry => task.retry_at == Some(*until),
                    WaitingFor::Account(account) => {
                        task.request.account.as_ref() == Some(account)
                            && self.board.accounts.contains_key(account)
                    }
                };
                assert!(told, "a task waits without a reason: {task:?}");
            }
            _ if task.has_begun => {}
            // A dependency may have been retried while the task was held.
            State::Held { .. } => self.check_ended(task),
            State::Blocked { .. } => self.check_dependencies(task, true),
            // A task with a reserved attempt is shown as ready.
            _ => self.check_dependencies(task, false),
        }
    }

    /// Checks that a task is blocked exactly while a dependency is unfinished, and that the
    /// dependencies that have ended allow the task to run.
    fn check_dependencies(&self, task: &Task, blocked: bool) {
        let mut edges = task.dependencies.iter();
        let open = edges.any(|edge| self.board.tasks.contains_key(&edge.task));
        assert_eq!(
            open, blocked,
            "the open dependencies do not match the state: {task:?}"
        );
        self.check_ended(task);
    }

    fn check_ended(&self, task: &Task) {
        for dependency in task.dependencies.iter() {
            let Dependency {
                task: on,
                condition,
            } = dependency;
            if !self.board.tasks.contains_key(on) {
                let end = self.end_of(*on);
                assert!(
                    condition.is_met_by(end.outcome),
                    "a task waits in vain: {task:?} {dependency:?} {end:?}"
                );
            }
        }
    }

    /// The task's last decided end, on disk or not.
    pub(super) fn end_of(&self, id: TaskId) -> End {
        let pending = self.board.pending.finished.get(&id).map(|task| &**task);
        let mut in_flight = self.in_flight.iter().flat_map(|(batch, _)| &batch.tasks);
        let newest = pending
            .or_else(|| in_flight.find(|task| task.id == id).map(|task| &**task))
            .unwrap_or_else(|| &self.disk.tasks[&id]);
        newest.end().unwrap()
    }

    /// Checks that at most one of the attempts with the same `serial_start` has a process without a
    /// sign of life.
    fn check_serial_starts(&self) {
        let mut silent = BTreeMap::new();
        for (attempt, process) in &self.processes {
            let request = &self.disk.tasks[&attempt.task].request;
            if let Some(key) = &request.serial_start
                && !process.alive
                && process.ended.is_none()
            {
                let first = silent.insert(key, attempt);
                assert_eq!(first, None, "an attempt starts beside {attempt}");
            }
        }
    }

    /// Checks that the attached descendants of a cancelled task are cancelled. Uses the world's own
    /// record of parents, which is independent of the board's.
    pub(super) fn check_cancelled(&self, cancelled: TaskId) {
        for task in self.board.unfinished() {
            let mut below = task.id;
            while let Some((parent, false)) = self.lineage.get(&below).copied() {
                if parent == cancelled {
                    assert!(
                        self.board.stopping.contains(&task.id),
                        "{cancelled} was cancelled but not its descendant {task:?}"
                    );
                }
                below = parent;
            }
        }
    }

    pub(super) fn check_admission(&self, in_use_before: usize) {
        let Slots::Fixed(slots) = self.board.capacity.limits.slots else {
            panic!("the slots are not fixed")
        };
        let in_use = self.board.slots_in_use();
        assert!(
            in_use <= in_use_before.max(slots as usize),
            "more attempts than slots"
        );
        let is_paused = self.board.queue.paused.is_some();
        assert!(
            !is_paused || in_use <= in_use_before,
            "a paused queue started a task"
        );
        for (lane, line) in self.board.lanes.iter() {
            let refusal = self.board.refusal_of_lane(lane, self.now);
            let true_reason = match &refusal {
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
                Some(Refusal::DailyBudget { level, until }) => {
                    lane.profile.class == Class::Agent
                        && self.board.day_is_over(self.now) == Some(*level)
                        && *until > self.now.wall
                }
                Some(Refusal::GroupPaused { group }) => self.board.groups[group].paused,
                Some(Refusal::Paused { since }) => {
                    let pause = self.board.queue.paused.as_ref();
                    pause.is_some_and(|pause| pause.since == *since)
                }
                Some(Refusal::NoCode { executor, .. }) => {
                    *lane.profile.executor == *executor.as_str()
                        && self.without_code.contains(executor.as_str())
                }
                Some(Refusal::EndsFirst { executor }) => {
                    *lane.profile.executor == *executor.as_str()
                        && lane.profile.class == Class::Agent
                        && self.board.must_tell_ends(self.now, executor)
                }
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
                "a lane is refused for a wrong reason: {refusal:?} {lane:?} {line:?}"
            );
        }
    }

    /// The attempts that have not given a sign of life and cannot, since their executors have no
    /// code.
    pub(super) fn deaf_starts(&self) -> Vec<TaskId> {
        self.unfinished_that(|task| {
            task.phase() == Some(&Phase::Starting)
                && self.without_code.contains(&task.request.executor)
        })
    }

    /// Checks that none of these attempts was stopped for its silence.
    pub(super) fn check_deaf(&self, deaf: &[TaskId]) {
        let silent = Phase::Stopping(StopWhy::StartTimeout);
        let is_right = |phase: Option<&Phase>| phase != Some(&silent);
        self.check_phases(deaf, is_right, "nobody could hear it");
    }

    /// The attempts whose processes have ended, although nobody has asked their executors how.
    pub(super) fn over(&self) -> Vec<TaskId> {
        self.unfinished_that(|task| {
            let last = task.last_attempt();
            task.phase() == Some(&Phase::Finishing) && last.is_some_and(|last| last.is_over)
        })
    }

    /// Checks that no time limit has stopped any of these attempts.
    pub(super) fn check_over(&self, over: &[TaskId]) {
        let is_right = |phase: Option<&Phase>| phase == Some(&Phase::Finishing);
        self.check_phases(over, is_right, "nothing of it was alive");
    }

    fn unfinished_that(&self, is_meant: impl Fn(&Task) -> bool) -> Vec<TaskId> {
        let meant = self.board.unfinished().filter(|task| is_meant(task));
        meant.map(|task| task.id).collect()
    }

    /// Checks that none of these attempts was stopped in spite of the given reason.
    fn check_phases(
        &self,
        tasks: &[TaskId],
        is_right: impl Fn(Option<&Phase>) -> bool,
        reason: &str,
    ) {
        for id in tasks {
            let phase = self.board.tasks.get(id).and_then(|task| task.phase());
            assert!(
                is_right(phase),
                "{id} was stopped although {reason}: {phase:?}"
            );
        }
    }

    /// Checks that no task has been started whose executor has no code.
    pub(super) fn check_started(&self, running_before: &BTreeSet<TaskId>) {
        for id in self.board.running.difference(running_before) {
            let executor = &self.board.tasks[id].request.executor;
            assert!(
                !self.without_code.contains(executor),
                "{id} was started without the code of {executor}"
            );
        }
    }
}
