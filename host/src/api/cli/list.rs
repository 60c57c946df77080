//! `claudine list`

use std::process::ExitCode;

use clap::Args;
use claudine_domain::time::Timestamp;

use super::{
    failure::Failure,
    output,
    select::Selectors,
    session::Session,
    table::{Cell, Column, Goes, Table},
    terminal::{Look, Painted},
    text, times,
};
use crate::app::{ListFilter, TaskRef, TaskRow};

/// Show tasks, the newest first.
#[derive(Debug, Args)]
#[command(
    visible_alias = "ls",
    after_help = "\
Examples:
  claudine list --active
  claudine list --failed --since yesterday --until 9:00
  claudine list -s failed,timed_out --label pr=17 --name 'test*'
  claudine list --graph release
  claudine cancel \"$(claudine list -q --name nightly --limit 1)\""
)]
pub(super) struct List {
    #[command(flatten)]
    which: Selectors,
    /// Only tasks older than this one: the last id of the page before.
    #[arg(long, value_name = "ID")]
    before: Option<String>,
    /// At most so many, 1000 at the utmost.
    #[arg(short = 'n', long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
    /// Only ids, one a line.
    #[arg(short, long)]
    quiet: bool,
}

impl List {
    pub(super) async fn run(self, session: &Session) -> Result<ExitCode, Failure> {
        let filter = ListFilter {
            before: self.before.map(TaskRef),
            limit: Some(self.limit),
            ..self.which.filter()
        };
        let page = session.client().list(&filter).await?;
        if session.json {
            output::json(&page)?;
            return Ok(ExitCode::SUCCESS);
        }
        if self.quiet {
            for task in &page.tasks {
                output::line(&task.id)?;
            }
            return Ok(ExitCode::SUCCESS);
        }
        output::painted(&table(&page.tasks, Look::of_stdout(), text::now()))?;
        if page.tasks.is_empty() {
            output::say("no tasks");
        }
        if let Some(next) = page.next {
            output::say(&format!("there are more: --before {next}"));
        }
        Ok(ExitCode::SUCCESS)
    }
}

const COLUMNS: [Column; 9] = [
    Column::new("ID"),
    Column::new("STATE").cut(16, 6),
    Column::new("NAME").optional().cut(24, 6),
    Column::new("EXECUTOR").goes(Goes::Early(1)),
    Column::new("AGE").goes(Goes::Early(2)),
    Column::new("TIME").right().goes(Goes::Late(2)),
    Column::new("COST").right().optional().goes(Goes::Late(1)),
    Column::new("ENDED").optional().goes(Goes::Late(3)),
    Column::new("WHAT").cut(24, 8),
];

/// A line a task, in columns; the last one takes what the terminal has left.
fn table(tasks: &[TaskRow], look: Look, now: Timestamp) -> Painted {
    let mut table = Table::new(&COLUMNS);
    for task in tasks {
        table.row(row(task, now));
    }
    table.shown(look)
}

fn row(task: &TaskRow, now: Timestamp) -> [Cell; 9] {
    let state = format!("{} {}", text::mark(task), text::state(task));
    let name = task.name.as_deref().unwrap_or_default();
    let ended = task.finished_at.as_deref();
    let cost = task.cost_usd.filter(|cost| *cost > 0.0);
    [
        Cell::new(&task.id),
        Cell::painted(text::colour(task), &state),
        Cell::new(name),
        Cell::new(&task.executor),
        Cell::new(&times::ago(&task.created_at, now)),
        Cell::new(&times::ran(task, now).unwrap_or_default()),
        Cell::new(&cost.map_or_else(String::new, text::usd)),
        Cell::new(&ended.map_or_else(String::new, |ended| times::at(ended, now))),
        Cell::new(&task.summary),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{api::cli::exit::tests::task, text::columns as width};

    fn tasks() -> Vec<TaskRow> {
        let at = |time: &str| format!("2026-11-22T14:{time}.042Z");
        let rows = [
            serde_json::json!({
                "name": "nightly\u{1b}[2J", "executor": "claude", "state": "running", "phase": "live", "outcome": null,
                "started_at": at("51:34"), "summary": "Make the tests pass,\nall of them, and then the others as well",
                "cost_usd": 1.25,
            }),
            serde_json::json!({"state": "running", "phase": "stopping", "outcome": null, "started_at": at("52:30"), "summary": "sleep 60"}),
            serde_json::json!({"name": "deploy-everything-to-production", "state": "blocked", "outcome": null, "summary": "./deploy"}),
            serde_json::json!({"name": "漢字漢字", "state": "held", "outcome": null, "summary": "make 漢字"}),
            serde_json::json!({
                "state": "waiting", "outcome": null, "executor": "claude", "started_at": at("51:34"), "ran_ms": 2_000,
                "summary": "Review the change", "cost_usd": 0.02,
            }),
            serde_json::json!({
                "outcome": "failed", "started_at": at("51:34"), "finished_at": at("51:35"), "ran_ms": 950, "summary": "cargo test",
            }),
            serde_json::json!({"outcome": "cancelled", "finished_at": "2026-11-21T17:02:00.000Z", "summary": "true"}),
            serde_json::json!({"outcome": "upstream_failed", "finished_at": at("51:36"), "summary": "cargo publish"}),
            serde_json::json!({
                "outcome": "succeeded", "started_at": at("51:34"), "finished_at": at("51:35"), "ran_ms": 1_000, "summary": "cargo build",
            }),
        ];
        rows.map(|row| task(row).row).into()
    }

    fn shown(colours: bool, columns: Option<usize>) -> String {
        let shown = table(
            &tasks(),
            Look { colours, columns },
            Timestamp(1_795_359_153_042),
        );
        shown.as_str().replace('\u{1b}', "␛")
    }

    #[test]
    fn a_list_fits_the_terminal() {
        insta::assert_snapshot!("at_80", shown(false, Some(80)));
        insta::assert_snapshot!("at_120", shown(false, Some(120)));
        insta::assert_snapshot!("at_120_in_colour", shown(true, Some(120)));
        for columns in 20..150 {
            let shown = shown(false, Some(columns));
            assert!(shown.lines().all(|line| width(line) <= columns), "{shown}");
        }
    }

    #[test]
    fn nothing_is_cut_in_a_pipe() {
        insta::assert_snapshot!("in_a_pipe", shown(false, None));
    }
}
