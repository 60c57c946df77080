//! What is true at every instant, and looked at as a whole after every step: each row by itself,
//! the indexes against the rows, the board against the disk, promises, processes, and circles.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::World;
use crate::{
    attempt::{Attempt, Phase},
    capacity::{Refusal, Slots},
    dependency::{Dependency, End},
    id::{AccountKey, TaskId},
    task::{Class, State, Task, WaitingFor},
};

fn ended(task: &Task) -> impl Iterator<Item = &Attempt> {
    task.attempts.iter().filter(|it| it.ended.is_some())
}

impl World {
    /// What is true after each step.
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
        assert!(board.prepared.iter().all(is_preparing));
        for task in board.unfinished() {
            self.check_row(task);
            self.check_reason(task);
        }
        self.check_serial_starts();
        self.check_promises();
    }

    /// Nothing waits for itself. Without a row that was not there before, and without one whose
    /// edges are others than before, there is no new circle: the graph is gone through where there
    /// is such a row.
    fn check_circles(&mut self) {
        let tasks = &self.board.tasks;
        let is_known = |task: &Arc<Task>| {
            let known = self.edges.get(&task.id);
            known.is_some_and(|edges| *edges == task.dependencies)
        };
        if tasks.values().all(is_known) {
            return;
        }
        // Takes away what depends on nothing that is left, again and again, until nothing is left.
        let mut left: BTreeSet<TaskId> = tasks.keys().copied().collect();
        while !left.is_empty() {
            let waits = |id: &TaskId| {
                let mut edges = tasks[id].dependencies.iter();
                edges.any(|edge| left.contains(&edge.task))
            };
            let waiting: BTreeSet<TaskId> = left.iter().copied().filter(waits).collect();
            assert!(waiting.len() < left.len(), "wait for each other: {left:?}");
            left = waiting;
        }
        let edges = tasks
            .values()
            .map(|task| (task.id, task.dependencies.clone()));
        self.edges = edges.collect();
    }

    /// No attempt that has ended changes or goes: there are only more and more of them. A failed
    /// commit takes back what was never told.
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
                    "its history was rewritten: {before:?} {task:?}"
                );
            }
            let numbers = task.attempts.iter().map(|it| it.number);
            assert!(
                numbers
                    .clone()
                    .zip(numbers.skip(1))
                    .all(|(one, next)| one < next),
                "a number was given out twice: {task:?}"
            );
            self.history.insert(task.id, task.clone());
        }
    }

    /// Nothing that was answered is lost: it is unfinished, or its end is on disk or on its way
    /// there.
    fn check_promises(&self) {
        let batch = self.in_flight.as_ref().map(|(batch, _)| batch);
        for id in &self.promised {
            let board = &self.board;
            let known = board.tasks.contains_key(id)
                || board.pending.finished.contains_key(id)
                || self.disk.tasks[id].is_done()
                || batch.is_some_and(|batch| batch.tasks.iter().any(|task| task.id == *id));
            assert!(known, "lost: {id}");
        }
    }

    /// An attempt is open as long as its task runs, and a task that had ended is there again by a
    /// retry only.
    fn check_row(&self, task: &Task) {
        assert!(!task.is_done());
        let ended = task.last_attempt().map(|last| last.ended.is_some());
        let idle = |attempt: &Attempt| attempt.ended.is_none() || attempt.doing.is_none();
        assert!(task.attempts.iter().all(idle), "it does nothing any more");
        let answered = task.attempts.iter().any(|one| one.answered.is_some());
        let may_have = matches!(task.phase(), Some(Phase::Settling | Phase::Stopping(_)));
        assert!(may_have || !answered, "it is over: {task:?}");
        let is_preparing = task.phase() == Some(&Phase::Preparing);
        let last = task.last_attempt();
        let has_started = last.is_some_and(|last| last.started_at.is_some());
        assert!(
            !(is_preparing && has_started),
            "nothing was started: {task:?}"
        );
        assert_eq!(
            task.phase().is_some() || self.board.chosen.contains_key(&task.id),
            ended == Some(false),
            "an attempt is open as long as its task runs or is chosen: {task:?}"
        );
        assert_eq!(
            task.held,
            match task.state {
                State::Held { since } => Some(since),
                _ => None,
            },
            "what is held does not wait for anything else, and only what is held is: {task:?}"
        );
        let at_its_end = self.disk.tasks.get(&task.id).is_some_and(Task::is_done);
        assert!(
            !at_its_end || self.board.ended_again.was_revived(task.id),
            "left its end by itself: {task:?}"
        );
    }

    /// What a task waits for is so.
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
                assert!(told, "waits without a reason: {task:?}");
            }
            _ if task.has_begun => {}
            // It may depend on something that was retried while it was held.
            State::Held { .. } => self.check_ended(task),
            State::Blocked { .. } => self.check_dependencies(task, true),
            // What is chosen ahead is ready.
            _ => self.check_dependencies(task, false),
        }
    }

    /// A task is blocked as long as something it depends on is unfinished, and whatever has ended
    /// of that allows it to run.
    fn check_dependencies(&self, task: &Task, blocked: bool) {
        let mut edges = task.dependencies.iter();
        let open = edges.any(|edge| self.board.tasks.contains_key(&edge.task));
        assert_eq!(open, blocked, "what it waits for: {task:?}");
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
                    "{task:?} waits in vain for {dependency:?}: {end:?}"
                );
            }
        }
    }

    /// As it was decided last, on disk or not.
    pub(super) fn end_of(&self, id: TaskId) -> End {
        let pending = self.board.pending.finished.get(&id).map(|task| &**task);
        let mut in_flight = self.in_flight.iter().flat_map(|(batch, _)| &batch.tasks);
        let newest = pending
            .or_else(|| in_flight.find(|task| task.id == id).map(|task| &**task))
            .unwrap_or_else(|| &self.disk.tasks[&id]);
        newest.end().unwrap()
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

    /// By what the world remembers of who submitted whom, the board's own account left aside.
    pub(super) fn check_cancelled(&self, cancelled: TaskId) {
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

    pub(super) fn check_admission(&self, in_use_before: usize) {
        let Slots::Fixed(slots) = self.board.capacity.limits.slots else {
            panic!("the slots are fixed here")
        };
        let in_use = self.board.slots_in_use();
        assert!(
            in_use <= in_use_before.max(slots as usize),
            "more than the slots were filled"
        );
        let is_paused = self.board.queue.paused.is_some();
        assert!(
            !is_paused || in_use <= in_use_before,
            "something was started of a queue that is paused"
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
}
