//! Costs of tasks by day, label or executor.

use std::collections::{BTreeMap, BTreeSet};

use claudine_domain::{
    attempt::Attempt,
    budget::{Day, Scope},
    id::TaskId,
    task::Task,
    time::Timestamp,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    capacity::BudgetView,
    error::AppError,
    host::Host,
    reader::Reader,
    request::ListFilter,
    select::{Purpose, Selection},
    view::is_zero,
};
use crate::{
    clock::{self, rfc3339},
    units::dollars,
};

/// Name of the group of tasks without a label.
const UNLABELLED: &str = "(no label)";

/// Grouping of costs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum CostBy {
    /// Days in UTC, as for the daily budget.
    #[default]
    Day,
    /// A task with several labels counts for each of them.
    Label,
    Executor,
}

/// Selection of costs.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CostQuery {
    /// Only tasks of this graph.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) graph: Option<String>,
    /// Only attempts that ended at this time or later, or that are unfinished and started at this
    /// time or later; in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) since_ms: Option<u64>,
    #[serde(default)]
    pub(crate) by: CostBy,
}

/// Costs of all tasks that are still stored.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct CostView {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "date-time"))]
    pub(crate) since: Option<String>,
    pub(crate) by: CostBy,
    /// Groups, from the newest day or from the highest cost.
    pub(crate) groups: Vec<CostGroup>,
    pub(crate) tasks: usize,
    pub(crate) attempts: usize,
    pub(crate) cost_usd: f64,
    /// Part of the cost that is assumed, because attempts with a budget ended without a reported
    /// cost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) assumed_usd: Option<f64>,
    /// Number of the attempts that may have cost more, because they reported no cost at their end
    /// and nothing is assumed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) unknown: usize,
    /// Budget of agents for today (UTC), if `budget.daily_usd` is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) budget: Option<BudgetView>,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct CostGroup {
    /// `2026-11-22`, a label (`name=value`), or an executor.
    pub(crate) key: String,
    pub(crate) tasks: usize,
    pub(crate) attempts: usize,
    pub(crate) cost_usd: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) assumed_usd: Option<f64>,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) unknown: usize,
}

impl Host {
    pub(crate) async fn cost(&self, query: CostQuery) -> Result<CostView, AppError> {
        let daily = self.settings.limits.daily_micro_usd;
        self.read_many(move |reader| cost(reader, query, daily))
            .await
    }
}

fn cost(reader: &Reader, query: CostQuery, daily: Option<u64>) -> Result<CostView, AppError> {
    let since = query.since_ms.map(Timestamp);
    let mut sums = Sums::new(query.by, since);
    let filter = ListFilter {
        graph: query.graph,
        since_ms: query.since_ms,
        ..ListFilter::default()
    };
    Selection::of(reader, &filter, Purpose::Show)?.each(reader, |task| {
        sums.add(&task);
        Ok(())
    })?;
    let today = Scope::Day(Day::of(clock::wall()));
    let budget = match daily {
        Some(micro_usd) => Some(BudgetView::of(reader.store.spent_on(today)?, micro_usd)),
        None => None,
    };
    Ok(sums.view(budget))
}

#[derive(Default)]
struct Sum {
    tasks: BTreeSet<TaskId>,
    attempts: usize,
    micro_usd: u64,
    assumed_micro_usd: u64,
    unknown: usize,
}

impl Sum {
    fn add(&mut self, task: TaskId, attempt: &Attempt, micro_usd: u64) {
        self.tasks.insert(task);
        self.attempts += 1;
        self.micro_usd = self.micro_usd.saturating_add(micro_usd);
        let assumed = attempt.assumed_micro_usd().unwrap_or(0);
        self.assumed_micro_usd = self.assumed_micro_usd.saturating_add(assumed);
        self.unknown += usize::from(attempt.cost_is_unknown());
    }

    fn assumed_usd(&self) -> Option<f64> {
        (self.assumed_micro_usd > 0).then(|| dollars(self.assumed_micro_usd))
    }
}

struct Sums {
    by: CostBy,
    since: Option<Timestamp>,
    all: Sum,
    groups: BTreeMap<String, Sum>,
}

impl Sums {
    fn new(by: CostBy, since: Option<Timestamp>) -> Self {
        Self {
            by,
            since,
            all: Sum::default(),
            groups: BTreeMap::new(),
        }
    }

    /// Adds a task. A running attempt, and one of unknown cost, counts with the cost it has
    /// reported so far.
    fn add(&mut self, task: &Task) {
        for attempt in &task.attempts {
            let at = moment(attempt);
            let is_meant = self.since.is_none_or(|since| at >= since);
            let unknown = attempt.cost_is_unknown().then_some(0);
            let cost = attempt.cost_micro_usd().or(unknown);
            let Some(micro_usd) = cost.filter(|_| is_meant) else {
                continue;
            };
            self.all.add(task.id, attempt, micro_usd);
            for key in self.keys(task, at) {
                let sum = self.groups.entry(key).or_default();
                sum.add(task.id, attempt, micro_usd);
            }
        }
    }

    fn keys(&self, task: &Task, at: Timestamp) -> Vec<String> {
        let request = &task.request;
        match self.by {
            CostBy::Day => {
                let day: String = rfc3339(at).chars().take(10).collect();
                vec![day]
            }
            CostBy::Executor => vec![request.executor.to_string()],
            CostBy::Label if request.labels.is_empty() => vec![UNLABELLED.to_owned()],
            CostBy::Label => {
                let labels = request.labels.iter();
                labels
                    .map(|(name, value)| format!("{name}={value}"))
                    .collect()
            }
        }
    }

    fn view(self, budget: Option<BudgetView>) -> CostView {
        let mut groups: Vec<(String, Sum)> = self.groups.into_iter().collect();
        match self.by {
            CostBy::Day => groups.reverse(),
            CostBy::Label | CostBy::Executor => {
                groups.sort_by_key(|(_, sum)| std::cmp::Reverse(sum.micro_usd));
            }
        }
        let groups = groups.into_iter().map(|(key, sum)| CostGroup {
            key,
            tasks: sum.tasks.len(),
            attempts: sum.attempts,
            cost_usd: dollars(sum.micro_usd),
            assumed_usd: sum.assumed_usd(),
            unknown: sum.unknown,
        });
        CostView {
            since: self.since.map(rfc3339),
            by: self.by,
            groups: groups.collect(),
            tasks: self.all.tasks.len(),
            attempts: self.all.attempts,
            cost_usd: dollars(self.all.micro_usd),
            assumed_usd: self.all.assumed_usd(),
            unknown: self.all.unknown,
            budget,
        }
    }
}

/// The time to which the cost of an attempt is assigned.
fn moment(attempt: &Attempt) -> Timestamp {
    let ended = attempt.ended.as_ref().map(|ended| ended.at);
    ended.or(attempt.started_at).unwrap_or(attempt.assigned_at)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use claudine_domain::{attempt::Ended, outcome::Outcome};

    use super::*;
    use crate::store::sample_task;

    const DAY_MS: u64 = 24 * 60 * 60 * 1000;
    const DOLLAR: u64 = 1_000_000;

    fn task(number: u64, labels: &[(&str, &str)], costs: &[(u64, u64)]) -> Task {
        let mut task = sample_task(number);
        let request = Arc::make_mut(&mut task.request);
        request.executor = if labels.is_empty() { "shell" } else { "claude" }.into();
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        request.labels = labels.iter().map(owned).collect();
        let attempt = |(day, dollars): &(u64, u64)| {
            let mut attempt = Attempt::new(1, Timestamp(day * DAY_MS));
            attempt.cost_so_far_micro_usd = (*dollars > 0).then_some(dollars * DOLLAR);
            attempt
        };
        task.attempts = costs.iter().map(attempt).collect();
        task
    }

    #[test]
    fn each_attempt_counts_for_its_day_label_and_executor() {
        let tasks = [
            task(1, &[("kind", "review"), ("pr", "17")], &[(1, 1), (2, 3)]),
            task(2, &[("kind", "review")], &[(2, 2)]),
            task(3, &[], &[(2, 1), (2, 0)]),
        ];
        let check = |by: CostBy, since: Option<u64>, expected: &str| {
            let mut sums = Sums::new(by, since.map(|day| Timestamp(day * DAY_MS)));
            for task in &tasks {
                sums.add(task);
            }
            let view = sums.view(None);
            let line = |key: &str, tasks: usize, attempts: usize, usd: f64| {
                format!("{key} {tasks} {attempts} {usd}")
            };
            let groups = view.groups.iter();
            let lines = groups.map(|it| line(&it.key, it.tasks, it.attempts, it.cost_usd));
            let all = line("all", view.tasks, view.attempts, view.cost_usd);
            let lines: Vec<String> = lines.chain([all]).collect();
            assert_eq!(lines.join(", "), expected, "{by:?} {since:?}");
        };
        check(
            CostBy::Day,
            None,
            "1970-01-03 3 3 6, 1970-01-02 1 1 1, all 3 4 7",
        );
        check(CostBy::Day, Some(2), "1970-01-03 3 3 6, all 3 3 6");
        check(
            CostBy::Label,
            None,
            "kind=review 2 3 6, pr=17 1 2 4, (no label) 1 1 1, all 3 4 7",
        );
        check(
            CostBy::Executor,
            None,
            "claude 2 3 6, shell 1 1 1, all 3 4 7",
        );
        check(CostBy::Executor, Some(9), "all 0 0 0");
    }

    #[test]
    fn the_assumed_part_of_a_cost_is_added_up() {
        let mut sums = Sums::new(CostBy::Executor, None);
        let told = task(1, &[("kind", "review")], &[(1, 1)]);
        sums.add(&told);
        assert_eq!(sums.all.assumed_usd(), None);
        let mut assumed = told;
        assumed.attempts[0].ended = Some(Ended {
            cost_micro_usd: Some(3 * DOLLAR),
            cost_is_assumed: true,
            ..Ended::new(Timestamp(DAY_MS), Outcome::Failed)
        });
        sums.add(&assumed);
        let view = sums.view(None);
        assert_eq!((view.cost_usd, view.assumed_usd), (4.0, Some(3.0)));
        assert_eq!(view.groups[0].assumed_usd, Some(3.0));
    }

    #[test]
    fn attempts_of_unknown_cost_are_counted_with_what_they_have_reported() {
        let mut sums = Sums::new(CostBy::Executor, None);
        let mut killed = task(1, &[], &[(1, 0), (1, 2), (1, 0)]);
        for attempt in &mut killed.attempts[..2] {
            attempt.ended = Some(Ended {
                cost_is_unknown: true,
                cost_micro_usd: attempt.cost_so_far_micro_usd,
                ..Ended::new(Timestamp(DAY_MS), Outcome::Lost)
            });
        }
        sums.add(&killed);
        let view = sums.view(None);
        assert_eq!((view.unknown, view.attempts, view.cost_usd), (2, 2, 2.0));
        assert_eq!(view.groups[0].unknown, 2);
    }
}
