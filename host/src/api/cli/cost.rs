//! `claudine cost`

use std::process::ExitCode;

use clap::{Args, ValueEnum};
use claudine_domain::time::Timestamp;

use super::{
    failure::Failure,
    output, parse,
    session::Session,
    table::{Cell, Column, Table},
    terminal::{Look, Painted},
    text, times,
};
use crate::app::{CostBy, CostQuery, CostView};

/// Show the cost of tasks by day, label or executor.
///
/// Includes all tasks that are still kept (`keep` in the configuration). Days are in UTC, like the
/// daily budget. A task with several labels counts for each of them, and once in the total.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  claudine cost
  claudine cost --since 7d --by label
  claudine cost --since mon --json | jq .cost_usd")]
pub(super) struct Cost {
    /// Attempts that ended since `7d`, `yesterday`, `mon 9am`
    #[arg(long, value_name = "TIME", value_parser = parse::moment)]
    since: Option<Timestamp>,
    /// Sum up by day, label or executor
    #[arg(long, value_name = "WHAT", default_value = "day")]
    by: By,
    /// Only tasks of this graph: its name or one of its tasks
    #[arg(long, value_name = "NAME|ID")]
    graph: Option<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum By {
    Day,
    Label,
    Executor,
}

impl From<By> for CostBy {
    fn from(by: By) -> Self {
        match by {
            By::Day => Self::Day,
            By::Label => Self::Label,
            By::Executor => Self::Executor,
        }
    }
}

impl Cost {
    pub(super) async fn run(self, session: &Session) -> Result<ExitCode, Failure> {
        let query = CostQuery {
            graph: self.graph,
            since_ms: self.since.map(|at| at.0),
            by: self.by.into(),
        };
        let view = session.client().cost(&query).await?;
        if session.json {
            output::json(&view)?;
            return Ok(ExitCode::SUCCESS);
        }
        output::painted(&shown(&view, Look::of_stdout()))?;
        if let Some(foot) = foot(&view, times::now()) {
            output::say(&foot);
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn shown(view: &CostView, look: Look) -> Painted {
    let heading = match view.by {
        CostBy::Day => "DAY",
        CostBy::Label => "LABEL",
        CostBy::Executor => "EXECUTOR",
    };
    let columns = [
        Column::new(heading).cut(24, 8),
        Column::new("TASKS").right(),
        Column::new("ATTEMPTS").right(),
        Column::new("COST").right(),
    ];
    let mut table = Table::new(&columns);
    let row = |key: &str, tasks: usize, attempts: usize, cost_usd: f64| {
        [
            Cell::new(key),
            Cell::new(&tasks.to_string()),
            Cell::new(&attempts.to_string()),
            Cell::new(&text::usd(cost_usd)),
        ]
    };
    for group in &view.groups {
        let cells = row(&group.key, group.tasks, group.attempts, group.cost_usd);
        table.row(cells);
    }
    if view.groups.len() != 1 {
        table.row(row("total", view.tasks, view.attempts, view.cost_usd));
    }
    table.shown(look)
}

/// The line below the table: `$3.20 of $10.00 spent today, $6.80 left`. It also says which part of
/// the cost was not reported, or is unknown.
fn foot(view: &CostView, now: Timestamp) -> Option<String> {
    let since = view.since.as_deref();
    let since = since.map(|since| format!("since {}", times::at(since, now)));
    let budget = view.budget.as_ref().map(text::budget);
    let assumed = view.assumed_usd.map(text::assumed);
    let unknown = text::unknown_cost(view.unknown);
    let parts: Vec<String> = [since, assumed, unknown, budget]
        .into_iter()
        .flatten()
        .collect();
    (!parts.is_empty()).then(|| parts.join(" · "))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::api::cli::terminal::in_each_look;

    fn view(by: &str, groups: serde_json::Value) -> CostView {
        serde_json::from_value(serde_json::json!({
            "since": "2026-11-22T09:00:00Z", "by": by, "groups": groups, "tasks": 3, "attempts": 4, "cost_usd": 7.25,
            "budget": {"spent_usd": 3.2, "daily_usd": 10.0, "left_usd": 6.8},
        }))
        .unwrap()
    }

    #[test]
    fn costs_are_shown_as_a_table_with_a_total() {
        let look = Look {
            colours: false,
            columns: None,
        };
        let lines = |view: &CostView| -> Vec<String> {
            let shown = shown(view, look);
            shown.as_str().lines().map(str::to_owned).collect()
        };
        let group = |key: &str, cost_usd: f64| serde_json::json!({"key": key, "tasks": 2, "attempts": 3, "cost_usd": cost_usd});
        let both = [group("2026-11-22", 6.25), group("2026-11-21", 1.0)];
        let view = view("day", both.to_vec().into());
        assert_eq!(
            lines(&view),
            [
                "DAY         TASKS  ATTEMPTS   COST",
                "2026-11-22      2         3  $6.25",
                "2026-11-21      2         3  $1.00",
                "total           3         4  $7.25",
            ]
        );
        let now = Timestamp(1_795_359_153_042);
        let expected = "since 09:00 · $3.20 of $10.00 spent today, $6.80 left";
        assert_eq!(foot(&view, now).as_deref(), Some(expected));
        let view = CostView {
            assumed_usd: Some(4.9),
            ..view
        };
        let expected = "since 09:00 · $4.90 is assumed: no cost was reported · \
                        $3.20 of $10.00 spent today, $6.80 left";
        assert_eq!(foot(&view, now).as_deref(), Some(expected));
        for (unknown, of) in [(1, "1 attempt"), (2, "2 attempts")] {
            let view = CostView {
                unknown,
                budget: None,
                assumed_usd: None,
                ..view.clone()
            };
            let expected = format!("since 09:00 · cost unknown of {of}: no cost was reported");
            assert_eq!(foot(&view, now), Some(expected));
        }
    }

    #[test]
    fn a_table_has_a_total_except_if_it_has_exactly_one_row() {
        let look = Look {
            colours: false,
            columns: Some(40),
        };
        let count = |groups: serde_json::Value| {
            let shown = shown(&view("label", groups), look);
            shown.as_str().lines().count()
        };
        let one = serde_json::json!([{"key": "\u{1b}[2Jx".repeat(90), "tasks": 3, "attempts": 4, "cost_usd": 7.25}]);
        assert_eq!(count(one), 2);
        assert_eq!(count(serde_json::json!([])), 2);
    }

    #[test]
    fn costs_fit_the_width_of_the_terminal() {
        let groups = serde_json::json!([
            {"key": "team=shop", "tasks": 2, "attempts": 3, "cost_usd": 6.25},
            {"key": format!("kind={}", "review-of-everything ".repeat(4)), "tasks": 1, "attempts": 1, "cost_usd": 1.0},
        ]);
        let view = view("label", groups);
        insta::assert_snapshot!("cost", in_each_look(|look| shown(&view, look)));
    }
}
