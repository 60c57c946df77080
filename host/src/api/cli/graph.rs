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

/// Show what waits for what.
///
/// Of the tasks that are named: all that hangs together with them. Of none: all that has not ended, and what it hangs on. Each task has
/// its state, the time it took or has been running, and after `~` the time that the like of it took before (the median of earlier runs
/// of the same executor and name, else of the same executor and request). The critical path decides when the last task ends.
///
/// As text each task is a line below the first of those it waits for, and `↑` leads back to a line above; what stands after `↓` waits for
/// the line above it. An edge waits for success where it does not say otherwise: `[completed]` for having run, well or not, `[any]` for any
/// end at all.
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
    /// Their ids, ends of ids, or names; `-` reads them from standard input.
    #[arg(value_name = "ID", conflicts_with_all = ["all", "submitted"])]
    tasks: Vec<String>,
    /// What was submitted together, by its name or one of its tasks, and what it hangs on.
    #[arg(long = "graph", value_name = "NAME|ID", conflicts_with = "all")]
    submitted: Option<String>,
    /// Draw it again as it changes, until all of it has ended; without a terminal, print it then.
    #[arg(short, long)]
    follow: bool,
    /// All that has not ended, and what it hangs on: what is shown where no ID is given.
    #[arg(long)]
    all: bool,
    /// How to print it.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    format: Format,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Format {
    /// Lines for a terminal
    Text,
    /// For Graphviz
    Dot,
    /// For Markdown
    Mermaid,
    /// A picture
    Svg,
    /// For programs, as with --json
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
            output::say("no tasks");
        }
        Ok(ExitCode::SUCCESS)
    }
}
