//! `claudine graph`

use std::{
    io::{self, IsTerminal},
    process::ExitCode,
};

use clap::{Args, ValueEnum};

use super::{failure::Failure, follow, named, output, session::Session, terminal::Look};
use crate::app::{
    GraphQuery, TaskRef,
    graph::{self, TextLook},
};

/// Show the dependency graph of tasks.
///
/// Shows everything connected to the given tasks, or, if none is given, all unfinished tasks and
/// their dependencies. Each task has its state, its run time, and after `~` the expected time (the
/// median of earlier runs with the same executor and name, or the same request). The critical path
/// determines when the last task ends.
///
/// In the text format, a task is below its first dependency; `↑` points to another dependency
/// above, and `↓` to dependants below. An edge requires success unless it is marked `[completed]`
/// (the dependency has to finish, in success or not) or `[any]` (it has to end, even if it never
/// ran).
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  claudine graph
  claudine graph deploy
  claudine graph --graph release -f
  claudine graph deploy --format svg > deploy.svg
  claudine graph --all --format dot | dot -Tpdf -o graph.pdf
  claudine graph --json | jq -r '.critical_paths[].tasks[]'")]
pub(super) struct Graph {
    /// Ids, ends of ids or names; `-` for standard input.
    #[arg(value_name = "ID", conflicts_with_all = ["all", "submitted"])]
    tasks: Vec<String>,
    /// Graph by name or by one of its tasks, with its dependencies.
    #[arg(long = "graph", value_name = "NAME|ID", conflicts_with = "all")]
    submitted: Option<String>,
    /// Redraw on changes until all tasks have ended.
    ///
    /// Without a terminal the graph is printed at the end.
    #[arg(short, long)]
    follow: bool,
    /// All unfinished tasks and their dependencies (default).
    #[arg(long)]
    all: bool,
    /// Output format.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    format: Format,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Format {
    /// Text for a terminal
    Text,
    /// For Graphviz
    Dot,
    /// For Markdown
    Mermaid,
    /// Image
    Svg,
    /// The same as --json
    Json,
}

impl Graph {
    pub(super) async fn run(self, session: &Session) -> Result<ExitCode, Failure> {
        let query = GraphQuery {
            tasks: named::several(self.tasks)?
                .into_iter()
                .map(TaskRef)
                .collect(),
            graph: self.submitted,
        };
        let is_all = query.tasks.is_empty() && query.graph.is_none();
        let is_drawn = self.format == Format::Text && !session.json;
        let graph = if self.follow {
            follow::to_its_end(session, &query, is_drawn).await?
        } else {
            session.client().graph(&query).await?
        };
        let format = if session.json {
            Format::Json
        } else {
            self.format
        };
        match format {
            Format::Json => output::json(&graph)?,
            Format::Text if self.follow && io::stdout().is_terminal() => {}
            Format::Text => {
                let Look { colours, columns } = Look::of_stdout();
                output::painted(&graph::text(&graph, TextLook { colours, columns }))?;
            }
            Format::Dot => output::text(&graph::dot(&graph))?,
            Format::Mermaid => output::text(&graph::mermaid(&graph))?,
            Format::Svg => output::text(&graph::svg(&graph)?)?,
        }
        if graph.nodes.is_empty() {
            output::say(if is_all {
                "no unfinished tasks; `claudine graph ID` shows what a finished task depended on"
            } else {
                "no tasks"
            });
        }
        Ok(ExitCode::SUCCESS)
    }
}
