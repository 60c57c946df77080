//! Charges the cost of attempts to the budgets of their task, their graph and the day.

use super::Refused;
use crate::{
    attempt::{Attempt, Phase, StopWhy},
    board::Board,
    budget::{Day, Level, Scope, Spent},
    id::TaskId,
    outcome::{Outcome, Reason, ReasonClass},
    task::{Class, Request, State, Task},
    time::{Now, Timestamp},
};

impl Board {
    /// Notes the cost so far of a running attempt, and stops the attempt if a budget is spent.
    pub(super) fn costs(&mut self, now: Now, id: TaskId, micro_usd: u64) {
        self.book(now, id, micro_usd);
        let Some(task) = self.tasks.get(&id).cloned() else {
            return;
        };
        let over = self
            .over(&task.request, &task.attempts)
            .or_else(|| self.day_is_over(now).map(Spent::Day));
        if let Some(over) = over {
            self.stop_over_budget(now, id, over.to_string());
        }
        self.end_graph_over_budget(now, &task.request);
    }

    /// Ends the unfinished agents of a graph if its budget is spent.
    pub(super) fn end_graph_over_budget(&mut self, now: Now, request: &Request) {
        if let Some(over @ Spent::Graph(graph, _)) = self.over_graph(request) {
            self.end_graph(now, graph, &over.to_string());
        }
    }

    /// Adds the attempt's cost since its last report to the ledger.
    pub(super) fn book(&mut self, now: Now, id: TaskId, micro_usd: u64) {
        let Some(task) = self.tasks.get(&id) else {
            return;
        };
        let known = task.last_attempt().and_then(Attempt::cost_micro_usd);
        let more = micro_usd.saturating_sub(known.unwrap_or(0));
        if more == 0 {
            return;
        }
        let graph = task.request.graph_budget.map(|budget| budget.graph);
        self.change(id, |task| {
            if let Some(last) = task.attempts.last_mut() {
                last.cost_so_far_micro_usd = Some(micro_usd);
            }
        });
        let day = Scope::Day(Day::of(now.wall));
        for scope in graph.map(Scope::Graph).into_iter().chain([day]) {
            let spent = self.spent.entry(scope).or_default();
            *spent = spent.saturating_add(more);
            self.pending.spent.insert(scope);
        }
    }

    /// Amount that an attempt may cost if it starts now: the smallest amount that is left of any of
    /// its budgets.
    pub(super) fn left_for(&self, now: Now, task: &Task) -> Option<u64> {
        let request = &task.request;
        let own = own_level(request, &task.attempts);
        let of_agents = [
            self.graph_level(request).map(|(_, level)| level),
            self.day_level(now),
        ];
        let of_agents = of_agents
            .into_iter()
            .flatten()
            .filter(|_| request.class == Class::Agent);
        let all = own.into_iter().chain(of_agents);
        all.map(Level::left_micro_usd).min()
    }

    /// The budget that ended the attempt, in words.
    pub(super) fn budget_met(&self, now: Now, id: TaskId) -> Option<String> {
        let task = self.tasks.get(&id)?;
        let over = self.over(&task.request, &task.attempts);
        let over = over.or_else(|| self.day_is_over(now).map(Spent::Day));
        over.map(|over| over.to_string())
    }

    /// Time at which a task may run again after its attempt ended because of a spent budget: the
    /// next day, if only the day's budget is spent. None if another budget is spent too.
    pub(super) fn next_day_for(&self, now: Now, id: TaskId) -> Option<Timestamp> {
        let task = self.tasks.get(&id)?;
        let is_only_reason = self.has_budget_left(task) && self.day_is_over(now).is_some();
        is_only_reason.then(|| Day::of(now.wall).end())
    }

    /// Time before which the task is not retried automatically, if the cost of its last attempt is
    /// unknown: the end of the day whose budget this attempt may have spent. Nothing was charged
    /// for the attempt, so without this wait each retry could spend the rest of the day once more.
    pub(super) fn rest_after(&self, now: Now, id: TaskId) -> Option<Timestamp> {
        self.day_level(now)?;
        let last = self.tasks.get(&id)?.last_attempt()?;
        let today = Day::of(now.wall);
        let began = Day::of(last.started_at?);
        (last.cost_is_unknown() && began >= today).then(|| today.end())
    }

    /// The budget that prevents another attempt, if any. A graph's budget applies only to agents; a
    /// task's own budget applies to every executor that reports costs.
    fn over(&self, request: &Request, attempts: &[Attempt]) -> Option<Spent> {
        let own = own_level(request, attempts);
        let own = own.filter(|level| level.is_spent()).map(Spent::Task);
        own.or_else(|| {
            let agents = self.over_graph(request);
            agents.filter(|_| request.class == Class::Agent)
        })
    }

    fn over_graph(&self, request: &Request) -> Option<Spent> {
        let (graph, level) = self.graph_level(request)?;
        level.is_spent().then_some(Spent::Graph(graph, level))
    }

    fn graph_level(&self, request: &Request) -> Option<(TaskId, Level)> {
        let budget = request.graph_budget?;
        let level = Level {
            spent_micro_usd: self.spent_on(Scope::Graph(budget.graph)),
            budget_micro_usd: budget.micro_usd,
        };
        Some((budget.graph, level))
    }

    /// The day's budget if it is spent.
    pub(crate) fn day_is_over(&self, now: Now) -> Option<Level> {
        let level = self.day_level(now)?;
        level.is_spent().then_some(level)
    }

    /// The day's budget, if there is one, and the amount spent of it.
    pub fn day_level(&self, now: Now) -> Option<Level> {
        let budget_micro_usd = self.capacity.limits.daily_micro_usd?;
        Some(Level {
            spent_micro_usd: self.spent_on(Scope::Day(Day::of(now.wall))),
            budget_micro_usd,
        })
    }

    fn spent_on(&self, scope: Scope) -> u64 {
        self.spent.get(&scope).copied().unwrap_or(0)
    }

    /// Refuses a task whose budgets are spent.
    pub(super) fn can_pay(
        &self,
        id: TaskId,
        request: &Request,
        attempts: &[Attempt],
    ) -> Result<(), Refused> {
        match self.over(request, attempts) {
            Some(over) => Err(Refused::OverBudget {
                task: id,
                spent: over,
            }),
            None => Ok(()),
        }
    }

    /// Ends a task that would run again but whose budget is spent. Returns whether the task was
    /// ended.
    pub(super) fn end_over_budget(&mut self, now: Now, id: TaskId) -> bool {
        let task = self.tasks.get(&id);
        let Some(over) = task.and_then(|task| self.over(&task.request, &task.attempts)) else {
            return false;
        };
        let reason = Reason::new(ReasonClass::Budget, over.to_string());
        self.finish(now, id, Outcome::Failed, Some(reason));
        true
    }

    /// Whether something is left of the task's budget and of its graph's budget.
    pub(super) fn has_budget_left(&self, task: &Task) -> bool {
        self.over(&task.request, &task.attempts).is_none()
    }

    fn stop_over_budget(&mut self, now: Now, id: TaskId, message: String) {
        let phase = self.tasks.get(&id).and_then(|task| task.phase());
        if matches!(
            phase,
            Some(Phase::Preparing | Phase::Starting | Phase::Live)
        ) {
            self.stop(now, id, StopWhy::Budget { message });
        }
    }

    /// Ends the agents of a graph whose budget is spent. Running agents are stopped, all others end
    /// without another attempt. A task whose budget has been raised goes on.
    fn end_graph(&mut self, now: Now, graph: TaskId, message: &str) {
        let is_of_graph = |task: &Task| {
            let request = &task.request;
            let over = self.over_graph(request);
            request.class == Class::Agent
                && matches!(over, Some(Spent::Graph(of, _)) if of == graph)
        };
        for id in self.ids_where(is_of_graph) {
            let Some(task) = self.tasks.get(&id) else {
                // The task has already ended because of a task earlier in this loop.
                continue;
            };
            // No attempt of an agent is reserved, so a running agent has a process or will have
            // one.
            if let State::Running { .. } = &task.state {
                self.stop_over_budget(now, id, message.to_owned());
            } else {
                let reason = Reason::new(ReasonClass::Budget, message);
                self.finish(now, id, Outcome::Failed, Some(reason));
            }
        }
    }
}

/// Whether an attempt of the task may have an unknown cost: the task is a person's own and has only
/// the budget of the day, so the attempt would be charged all that is left of the day.
pub(super) fn may_be_unknown(task: &Task) -> bool {
    let request = &task.request;
    let has_budget = request.budget_micro_usd.is_some() || request.graph_budget.is_some();
    !has_budget && !task.is_restrained()
}

fn own_level(request: &Request, attempts: &[Attempt]) -> Option<Level> {
    let budget_micro_usd = request.budget_micro_usd?;
    Some(Level {
        spent_micro_usd: spent_by(attempts),
        budget_micro_usd,
    })
}

/// Total cost of all attempts.
pub fn spent_by(attempts: &[Attempt]) -> u64 {
    let costs = attempts.iter().filter_map(Attempt::cost_micro_usd);
    costs.fold(0, u64::saturating_add)
}
