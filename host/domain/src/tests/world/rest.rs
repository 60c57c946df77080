//! The end of a history: from here on nothing fails, so all tasks end.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{End, Happening, Sign, World};
use crate::{
    attempt::Phase,
    budget::Scope,
    group::Group,
    id::{AttemptId, TaskId},
    step::{Input, spent_by},
};

impl World {
    /// Runs all accepted tasks to their ends without further failures, in a number of rounds
    /// proportional to the number of tasks. On the way, running tasks wait for their descendants
    /// (see [`Self::end_waits`]), and still no task starves.
    pub(in super::super) fn come_to_rest(&mut self) {
        self.lose_next = false;
        for of_agents in [false, true] {
            let lacks = false;
            self.happen(Happening::Code { of_agents, lacks });
        }
        self.happen(Happening::Slots(1));
        self.happen(Happening::Pause(false));
        for name in 0..2 {
            self.happen(Happening::Group(name, Group::default()));
        }
        for _ in 0..10 * self.made + 20 {
            self.round();
            if self.board.tasks.is_empty() && self.processes.is_empty() {
                break;
            }
        }
        self.happen(Happening::Turn);
        self.happen(Happening::Commit);
        let left: Vec<_> = self.board.tasks.values().collect();
        assert!(left.is_empty(), "tasks that never ended: {left:#?}");
        for id in &self.promised {
            assert!(self.disk.tasks[id].is_done(), "lost: {id}");
        }
        assert!(
            self.processes.is_empty(),
            "attempts that were never released: {:?}",
            self.processes
        );
        self.check_ledger();
    }

    /// Checks that each cost is in the ledger exactly once: the sums of the ledger equal the sums
    /// of the rows.
    fn check_ledger(&self) {
        let mut graphs: BTreeMap<TaskId, u64> = BTreeMap::new();
        let mut all = 0;
        for task in self.disk.tasks.values() {
            let spent = spent_by(&task.attempts);
            all += spent;
            if let Some(budget) = task.request.graph_budget {
                *graphs.entry(budget.graph).or_default() += spent;
            }
        }
        let mut days = 0;
        for (scope, spent) in &self.disk.spent {
            match scope {
                Scope::Day(_) => days += spent,
                Scope::Graph(graph) => assert_eq!(graphs.remove(graph), Some(*spent)),
            }
        }
        assert_eq!(days, all, "the sums of the days differ from the spending");
        assert!(graphs.into_values().all(|spent| spent == 0));
    }

    fn round(&mut self) {
        self.happen(Happening::Release(0));
        self.happen(Happening::Turn);
        self.happen(Happening::Commit);
        for number in 0..self.processes.len() {
            self.happen(Happening::Sign(number, Sign::Alive));
            self.happen(Happening::Sign(number, Sign::AccountWorks));
        }
        self.deliver_all();
        self.begin_waits();
        self.end_waits();
        for number in 0..self.processes.len() {
            let attempt = self.processes.keys().nth(number).unwrap();
            if !self.waits(attempt.task) {
                self.happen(Happening::End(number, End::Success));
            }
        }
        self.deliver_all();
        // All rounds together last longer than any wait, even than a wait that began while the wall
        // clock had jumped ahead.
        self.happen(Happening::Pass(Duration::from_hours(12)));
    }

    fn deliver_all(&mut self) {
        while !self.mail.is_empty() {
            self.happen(Happening::Deliver(0));
        }
    }

    fn waits(&self, task: TaskId) -> bool {
        self.board.suspended.contains(&task)
    }

    /// Lets each running task wait for its descendants. A task whose executor has answered does not
    /// wait, since it is already ending.
    fn begin_waits(&mut self) {
        let parents = self.board.descendants.keys();
        let running = parents.filter(|id| {
            self.board.running.contains(id) && !self.waits(**id) && !self.has_answered(**id)
        });
        let attempts = running.filter_map(|id| self.board.attempt_id(*id));
        let attempts: Vec<AttemptId> = attempts.collect();
        for attempt in attempts {
            self.step(Input::WaitBegins { attempt }).unwrap();
            self.check();
        }
    }

    /// Ends the wait of each task whose descendants have ended. The wait is also ended if the
    /// task's executor has answered, or if a descendant depends on a task that waits, since
    /// otherwise tasks could wait for each other for ever.
    fn end_waits(&mut self) {
        let waiting: Vec<TaskId> = self.board.suspended.iter().copied().collect();
        for task in waiting {
            let below = self.board.descendants.get(&task);
            let goes_on = self.has_answered(task)
                || below.is_none_or(|below| below.iter().any(|id| self.needs_one_that_waits(*id)));
            if goes_on {
                let attempt = self.board.attempt_id(task).unwrap();
                self.step(Input::WaitEnds { attempt }).unwrap();
                self.check();
            }
        }
    }

    fn has_answered(&self, id: TaskId) -> bool {
        let task = self.board.tasks.get(&id);
        let phase = task.and_then(|task| task.phase());
        matches!(phase, Some(Phase::Finishing | Phase::Settling))
    }

    fn needs_one_that_waits(&self, id: TaskId) -> bool {
        let mut reached = BTreeSet::new();
        let mut next = vec![id];
        while let Some(id) = next.pop() {
            let Some(task) = self.board.tasks.get(&id).filter(|_| reached.insert(id)) else {
                continue;
            };
            next.extend(task.dependencies.iter().map(|edge| edge.task));
        }
        reached.remove(&id);
        reached.into_iter().any(|id| self.waits(id))
    }
}
