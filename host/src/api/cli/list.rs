//! `claudine list`

use std::process::ExitCode;

use clap::Args;
use claudine_domain::{id::TaskId, time::Timestamp};

use super::{
    failure::Failure,
    output,
    session::Session,
    terminal::{Colour, Look, Painted, fit, harmless},
    text,
};
use crate::{
    app::{ListFilter, TaskRow},
    text::columns,
};

/// Show tasks, the newest first.
#[derive(Debug, Args)]
#[command(
    visible_alias = "ls",
    after_help = "\
Examples:
  claudine list --state running
  claudine list --label pr=17 --limit 10
  claudine cancel \"$(claudine list -q --name nightly --limit 1)\""
)]
pub(super) struct List {
    /// Only tasks in this state (blocked, waiting, ready, held, running, done) or with this outcome (succeeded, failed, timed_out,
    /// cancelled, skipped, upstream_failed, lost).
    #[arg(short, long, value_name = "STATE")]
    state: Option<String>,
    /// Only tasks of this name.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Only tasks of this executor.
    #[arg(short, long, value_name = "NAME")]
    executor: Option<String>,
    /// Only tasks with this label.
    #[arg(short, long, value_name = "NAME=VALUE")]
    label: Option<String>,
    /// Only tasks that were submitted from within this one.
    #[arg(long, value_name = "ID")]
    parent: Option<TaskId>,
    /// Only tasks older than this one: the last id of the page before.
    #[arg(long, value_name = "ID")]
    before: Option<TaskId>,
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
            state: self.state,
            name: self.name,
            executor: self.executor,
            label: self.label,
            parent: self.parent,
            before: self.before,
            limit: Some(self.limit),
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

const HEADINGS: [&str; 7] = ["ID", "STATE", "NAME", "EXECUTOR", "AGE", "TIME", "WHAT"];
const NAME_COLUMNS: usize = 24;
/// What is asked is cut to fit, but never to less than this.
const LEAST_COLUMNS: usize = 16;

/// A line a task, in columns; the last one takes what the terminal has left.
fn table(tasks: &[TaskRow], look: Look, now: Timestamp) -> Painted {
    let mut table = Painted::default();
    if tasks.is_empty() {
        return table;
    }
    let rows: Vec<[String; 7]> = tasks.iter().map(|task| row(task, now)).collect();
    let width = |column: usize| {
        let cells = rows.iter().map(|row| columns(&row[column]));
        cells.chain([HEADINGS[column].len()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..6).map(width).collect();
    let left = look.columns.map(|columns| {
        columns
            .saturating_sub(widths.iter().sum::<usize>() + 12)
            .max(LEAST_COLUMNS)
    });
    let headings = HEADINGS.map(str::to_owned);
    line(&mut table, &headings, &widths, |table, _, text| {
        look.paint(table, Colour::Grey, text);
    });
    for (task, mut row) in tasks.iter().zip(rows) {
        if let Some(left) = left {
            row[6] = fit(&row[6], left);
        }
        let colour = text::colour(task);
        line(&mut table, &row, &widths, |table, column, text| {
            if column == 1 {
                look.paint(table, colour, text);
            } else {
                table.push(text);
            }
        });
    }
    table
}

fn row(task: &TaskRow, now: Timestamp) -> [String; 7] {
    [
        task.id.clone(),
        text::state(task),
        fit(&harmless(task.name.as_deref().unwrap_or("-")), NAME_COLUMNS),
        harmless(&task.executor),
        text::ago(&task.created_at, now),
        text::ran(task, now).unwrap_or_else(|| "-".to_owned()),
        harmless(&task.summary),
    ]
}

fn line(
    table: &mut Painted,
    row: &[String; 7],
    widths: &[usize],
    paint: impl Fn(&mut Painted, usize, &str),
) {
    let last = row.iter().rposition(|cell| !cell.trim_end().is_empty());
    let shown = last.map_or(0, |last| last + 1);
    for (column, text) in row.iter().take(shown).enumerate() {
        let is_last = column + 1 == shown;
        paint(table, column, if is_last { text.trim_end() } else { text });
        if let (Some(width), false) = (widths.get(column), is_last) {
            table.push(&" ".repeat(width.saturating_sub(columns(text)) + 2));
        }
    }
    table.push("\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::cli::exit::tests::task;

    fn tasks() -> Vec<TaskRow> {
        vec![
            task(serde_json::json!({
                "name": "nightly\u{1b}[2J", "executor": "claude", "state": "running", "phase": "live", "outcome": null,
                "started_at": "2026-11-22T14:51:34.042Z", "summary": "Make the tests pass,\nall of them, and then the others as well",
            }))
            .row,
            task(serde_json::json!({
                "outcome": "failed", "started_at": "2026-11-22T14:51:34.042Z", "finished_at": "2026-11-22T14:51:34.992Z",
                "summary": "cargo test",
            }))
            .row,
        ]
    }

    #[test]
    fn a_table_fits_the_terminal() {
        let now = Timestamp(1_795_359_153_042);
        let terminal = table(
            &tasks(),
            Look {
                colours: false,
                columns: Some(110),
            },
            now,
        );
        let terminal = terminal.as_str();
        insta::assert_snapshot!("terminal", terminal);
        assert!(terminal.lines().all(|line| line.chars().count() <= 110));
    }

    #[test]
    fn nothing_is_cut_in_a_pipe() {
        let now = Timestamp(1_795_359_153_042);
        let pipe = table(
            &tasks(),
            Look {
                colours: false,
                columns: None,
            },
            now,
        );
        let pipe = pipe.as_str();
        assert!(
            pipe.contains("all of them, and then the others as well"),
            "{pipe}"
        );
        assert!(!pipe.contains('\u{1b}'), "{pipe}");
    }

    #[test]
    fn colours_are_only_on_the_state() {
        let coloured = table(
            &tasks(),
            Look {
                colours: true,
                columns: Some(110),
            },
            Timestamp(1_795_359_153_042),
        );
        let coloured = coloured.as_str();
        assert!(coloured.contains("\x1b[36mrunning\x1b[0m"), "{coloured}");
        assert!(coloured.contains("\x1b[31mfailed\x1b[0m"), "{coloured}");
    }
}
