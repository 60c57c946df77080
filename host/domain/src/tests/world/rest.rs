//! The end of a history: the world behaves from here on, and so everything comes to an end.

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
    /// Whatever has happened: with the world behaving from here on, everything that was accepted
    /// comes to an end, in a number of rounds that goes by the number of tasks. Who waits for its
    /// own descendants waits on until they have ended, and yet nothing starves.
    pub(in super::super) fn come_to_rest(&mut self) {
        self.lose_next = false;
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
        assert!(left.is_empty(), "never came to an end: {left:#?}");
        for id in &self.promised {
            assert!(self.disk.tasks[id].is_done(), "lost: {id}");
        }
        assert!(
            self.processes.is_empty(),
            "never released: {:?}",
            self.processes
        );
        self.check_ledger();
    }

    /// Each cost is in the ledger once: what the rows say was spent is what the sums say.
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
        assert_eq!(days, all, "what the days sum up to is not what was spent");
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
        // Longer than any wait, even one from a wall clock that had jumped ahead.
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

    /// Whatever runs waits for what it has submitted. Where the executor has answered, what is left
    /// of the attempt is being ended.
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

    /// Whoever waits goes on once nothing is left to wait for; or where what is left waits for who
    /// waits, by an edge: nobody can help that.
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
