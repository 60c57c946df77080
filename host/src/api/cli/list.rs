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
    top::Top,
};
use crate::{
    app::{ListFilter, Overview, TaskRef, TaskRow},
    text::{ShortIds, short_id},
};

/// List active tasks and the last 20 finished ones.
///
/// With --limit, --before or --json, shows a page of tasks, newest first.
#[derive(Debug, Args)]
#[command(
    visible_aliases = ["ls", "ps"],
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
    /// Show tasks older than this one, for the next page.
    #[arg(long, value_name = "ID")]
    before: Option<String>,
    /// Show at most N tasks, newest first (max 1000).
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: Option<u32>,
    /// Print ids only.
    #[arg(short, long)]
    quiet: bool,
    /// Show tasks live, see `claudine top`.
    #[arg(short, long, conflicts_with_all = ["quiet", "limit", "before"])]
    watch: bool,
}

/// Default number of tasks on a page.
const PAGE: u32 = 50;
/// Default number of finished tasks if the list is filtered; otherwise the host decides.
const ENDED: u32 = 50;

impl List {
    pub(super) async fn run(self, session: &Session) -> Result<ExitCode, Failure> {
        let is_page = self.limit.is_some() || self.before.is_some() || session.json;
        let filter = ListFilter {
            before: self.before.map(TaskRef),
            ..self.which.filter()
        };
        if self.watch {
            if filter != ListFilter::default() {
                let message = "--watch cannot be combined with a selection; press / in the live view to filter the tasks";
                return Err(Failure::Usage(message.to_owned()));
            }
            return Top::live().run(session).await;
        }
        if is_page {
            let limit = self.limit.or(Some(PAGE));
            return page(session, ListFilter { limit, ..filter }, self.quiet).await;
        }
        let all = filter == ListFilter::default();
        let limit = (!all).then_some(ENDED);
        let overview = session
            .client()
            .overview(&ListFilter { limit, ..filter })
            .await?;
        if self.quiet {
            return ids(&overview.tasks);
        }
        super::pause::say_head(&overview.queue);
        show(&overview.tasks)?;
        if let Some(foot) = foot(&overview) {
            output::say(&foot);
        }
        Ok(ExitCode::SUCCESS)
    }
}

async fn page(session: &Session, filter: ListFilter, quiet: bool) -> Result<ExitCode, Failure> {
    let page = session.client().list(&filter).await?;
    if session.json {
        output::json(&page)?;
        return Ok(ExitCode::SUCCESS);
    }
    if quiet {
        return ids(&page.tasks);
    }
    super::pause::say_head(&page.queue);
    show(&page.tasks)?;
    if let Some(next) = page.next {
        output::say(&format!(
            "there are more tasks: --before {}",
            short_id(&next)
        ));
    }
    Ok(ExitCode::SUCCESS)
}

fn ids(tasks: &[TaskRow]) -> Result<ExitCode, Failure> {
    for task in tasks {
        output::line(&task.id)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn show(tasks: &[TaskRow]) -> Result<(), Failure> {
    output::painted(&table(tasks, Look::of_stdout(), times::now()))?;
    if tasks.is_empty() {
        output::say("no tasks");
    }
    Ok(())
}

/// The line below the list: `3 running · 5 queued · 36 failed · 42 of 378 shown`.
fn foot(overview: &Overview) -> Option<String> {
    let shown = overview.tasks.len();
    let Some(counts) = overview.counts else {
        return overview
            .has_more
            .then(|| format!("{shown} shown, there are more: --limit N shows the newest"));
    };
    if counts.total == 0 {
        return None;
    }
    let mut parts = text::standing(&counts);
    let total = usize::try_from(counts.total).unwrap_or(usize::MAX);
    parts.push(if total > shown {
        format!("{shown} of {total} shown")
    } else {
        format!("{shown} in all")
    });
    Some(parts.join(" · "))
}

const COLUMNS: [Column; 10] = [
    Column::new("ID"),
    Column::new("STATE").cut(17, 8),
    Column::new("NAME").optional().cut(16, 8),
    Column::new("GROUP")
        .optional()
        .cut(12, 6)
        .goes(Goes::Early(3)),
    Column::new("EXECUTOR").goes(Goes::Early(1)),
    Column::new("AGE").goes(Goes::Early(2)),
    Column::new("TIME").right().goes(Goes::Late(2)),
    Column::new("COST").right().optional().goes(Goes::Late(1)),
    Column::new("ENDED").optional().goes(Goes::Late(3)),
    Column::new("WHAT").cut(24, 12),
];

/// A line for each task; the last column takes the remaining width.
fn table(tasks: &[TaskRow], look: Look, now: Timestamp) -> Painted {
    let short = ShortIds::among(tasks.iter().map(|task| task.id.as_str()));
    let mut table = Table::new(&COLUMNS);
    for task in tasks {
        table.row(row(task, short, now));
    }
    table.shown(look)
}

fn row(task: &TaskRow, short: ShortIds, now: Timestamp) -> [Cell; 10] {
    let state = format!("{} {}", text::mark(task), text::state(task));
    let name = task.name.as_deref().unwrap_or_default();
    let ended = task.finished_at.as_deref();
    let cost = task.cost_usd.filter(|cost| *cost > 0.0);
    [
        Cell::new(short.of(&task.id)),
        Cell::painted(text::colour(task), &state),
        Cell::new(name),
        Cell::new(task.group.as_deref().unwrap_or_default()),
        Cell::new(&task.executor),
        Cell::new(&times::ago(&task.created_at, now)),
        Cell::new(&times::ran(task, now).unwrap_or_default()),
        Cell::new(&cost.map_or_else(String::new, text::usd)),
        Cell::new(&ended.map_or_else(String::new, |ended| times::at(ended, now))),
        Cell::new(&what(task)),
    ]
}

/// The summary. Doubts about the success of the task come before the summary, because they must not
/// be cut off.
fn what(task: &TaskRow) -> String {
    let doubts = text::doubts(task);
    if doubts.is_empty() {
        return task.summary.clone();
    }
    format!("{} · {}", doubts.join(" · "), task.summary)
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
    fn a_list_fits_the_width_of_the_terminal() {
        insta::assert_snapshot!("at_80", shown(false, Some(80)));
        insta::assert_snapshot!("at_120", shown(false, Some(120)));
        insta::assert_snapshot!("at_120_in_colour", shown(true, Some(120)));
        for columns in 20..150 {
            let shown = shown(false, Some(columns));
            assert!(shown.lines().all(|line| width(line) <= columns), "{shown}");
        }
    }

    #[test]
    fn a_list_in_a_pipe_is_not_cut() {
        insta::assert_snapshot!("in_a_pipe", shown(false, None));
    }
}
