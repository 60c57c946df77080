//! `claudine submit`

use std::{
    collections::BTreeSet,
    io::{self, IsTerminal},
    path::PathBuf,
    process::ExitCode,
};

use clap::Args;
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    environment, exit,
    failure::{Failure, unless_closed},
    follow,
    graph_file::GraphFile,
    help::Layout as _,
    output, parse,
    session::Session,
    submit,
    table::{Column, Table},
    terminal::{Look, Painted, harmless},
    text, wait, watch,
};
use crate::{
    api::{client::ClientError, status},
    app::{
        Delegated, GraphQuery, Origin, Submit as Request, Submitted,
        graph::{self, Graph, TextLook},
    },
    text::{ShortIds, short_id},
};

/// Output of `--example`. `claudine schema graph` prints its schema.
const EXAMPLE: &str = "\
# Three tasks: `claudine submit FILE` hands them over, all or none.
- name: test
  argv: [cargo, test]
  timeout: 30m
- name: review
  prompt: Review the changes on this branch. List what is wrong, worst first.
  model: opus
  budget_usd: 2
  dependencies: [test]
- name: report
  script: echo \"tests and review are done\"
  dependencies:
    - task: review
      condition: any
";

/// Submit a graph of tasks from a file, all or nothing.
///
/// The file is a JSON or YAML list, or JSON objects, one per line. A task has one of `argv`,
/// `script`, `prompt` and `spec`, and may have a `name` and `dependencies`: names of tasks in the
/// file, or names or ids of other tasks. A dependency is met by success; `{task, condition}` sets
/// the condition `succeeded`, `completed` or `any`. The other fields are options of `delegate` and
/// `run` with underscores: `executor`, `group`, `priority`, `working_directory`, `env`, `timeout`,
/// `retries`, `hold`, `after`, `labels`, `model`, …
///
/// Prints the ids in the order of the file, one per line; on a terminal a table with the names.
#[derive(Debug, Args)]
#[command(options_first(&["name", "wait", "dry-run", "example", "working-directory", "budget-usd"]))]
#[command(after_long_help = "\
Examples:
  claudine submit pipeline.yaml --name release
  claudine submit --dry-run pipeline.yaml
  claudine submit --example > pipeline.yaml
  jq -c '.jobs[]' jobs.json | claudine submit -

A pipeline:
  - {name: test,   argv: [cargo, test]}
  - {name: build,  argv: [cargo, build, --release], dependencies: [test]}
  - {name: notify, script: 'echo done | mail me',
     dependencies: [{task: build, condition: any}]}")]
pub(super) struct Submit {
    /// File, or `-` for standard input.
    #[arg(value_name = "FILE", required_unless_present = "example")]
    file: Option<PathBuf>,
    /// Name of the graph, for `--graph NAME`.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Wait for all tasks.
    ///
    /// Exits with the code of the first task that did not succeed. A terminal shows the graph
    /// meanwhile. Ctrl-C leaves the tasks running.
    #[arg(long, conflicts_with = "dry_run")]
    wait: bool,
    /// Only check the file and print its graph.
    #[arg(long)]
    dry_run: bool,
    /// Print an example file.
    #[arg(long, exclusive = true)]
    example: bool,
    /// Working directory [default: the current one].
    ///
    /// Tasks without a directory of their own run in it; relative directories in the file are below
    /// it.
    #[arg(short, long, value_name = "DIR")]
    working_directory: Option<PathBuf>,
    /// Budget in USD of the whole graph.
    ///
    /// Once the budget is spent, running agents are stopped and agents that wait fail.
    #[arg(long, value_name = "USD", value_parser = parse::dollars)]
    budget_usd: Option<f64>,
    /// Start tasks with a minimal environment.
    ///
    /// The minimal environment has HOME, PATH, USER, LOGNAME, SHELL, LANG, LC_ALL, TERM, TMPDIR and
    /// the variables of the file. Without this option, the tasks have the environment of this
    /// command.
    #[arg(long, help_heading = "Execution")]
    env_clean: bool,
}

impl Submit {
    pub(super) fn is_dry_run(&self) -> bool {
        self.dry_run
    }

    pub(super) async fn run(self, session: &Session) -> Result<ExitCode, Failure> {
        let Some(path) = &self.file else {
            output::text(EXAMPLE)?;
            return Ok(ExitCode::SUCCESS);
        };
        let directory = submit::directory(self.working_directory.clone())?;
        let file = GraphFile::read(path)?;
        let request = Request {
            environment: environment::of_this_process(self.env_clean),
            origin: Origin::Cli,
            name: self.name,
            budget_usd: self.budget_usd,
            tasks: file.tasks(&directory)?,
        };
        let located = |error: ClientError| file.located(error.into());
        let client = session.client();
        if self.dry_run {
            let graph = client.plan(&request).await.map_err(located)?;
            return show(session, &graph);
        }
        let submitted = client.submit(&request).await.map_err(located)?;
        warned(&submitted).for_each(submit::say_warning);
        let written = if session.json {
            output::json(&submitted)
        } else if self.wait {
            Ok(())
        } else if io::stdout().is_terminal() {
            let names = request.tasks.iter().map(|task| task.name.as_deref());
            output::painted(&taken(&submitted, names, Look::of_stdout()))
        } else {
            let mut tasks = submitted.tasks.iter();
            tasks.try_for_each(|task| output::line(&task.id))
        };
        if let Err(failure) = unless_closed(written) {
            output::say(&detached(&submitted));
            return Err(failure);
        }
        if self.wait {
            return wait(session, &submitted).await;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The first task with each warning: all tasks of a file may continue the same session, or have the
/// same repository.
fn warned(submitted: &Submitted) -> impl Iterator<Item = &Delegated> {
    let mut seen = BTreeSet::new();
    let tasks = submitted.tasks.iter();
    tasks.filter(move |task| task.warning.as_deref().is_some_and(|it| seen.insert(it)))
}

const COLUMNS: [Column; 2] = [Column::new("ID"), Column::new("NAME").cut(24, 6)];

/// The heading `release: 12 tasks`, and one line for each task.
fn taken<'a>(
    submitted: &Submitted,
    names: impl Iterator<Item = Option<&'a str>>,
    look: Look,
) -> Painted {
    let tasks = &submitted.tasks;
    let short = ShortIds::among(tasks.iter().map(|task| task.id.as_str()));
    let count = text::tasks(tasks.len());
    let graph = submitted.graph.as_ref();
    let name = graph.and_then(|graph| graph.name.as_deref());
    let mut shown = Painted::default();
    shown.push(&match name {
        Some(name) => format!("{}: {count}\n", harmless(name)),
        None => format!("{count}\n"),
    });
    let mut table = Table::new(&COLUMNS);
    for (task, name) in tasks.iter().zip(names) {
        table.row([short.of(&task.id).into(), name.unwrap_or("-").into()]);
    }
    shown.append(&table.shown(look));
    shown
}

/// The message if the command ends before the tasks, with the command to look at the graph again.
fn detached(submitted: &Submitted) -> String {
    let graph = submitted.graph.as_ref().map(|graph| graph.id.as_str());
    let id = graph.or_else(|| Some(submitted.tasks.first()?.id.as_str()));
    let id = short_id(id.unwrap_or_default());
    format!("detached; the tasks continue: `claudine graph --graph {id} -f` shows them")
}

/// Limit of the tasks of a graph that is drawn while the command waits.
const DRAWN: usize = 1_000;

/// Waits until all tasks have ended; returns the exit code of the first task that did not succeed.
async fn wait(session: &Session, submitted: &Submitted) -> Result<ExitCode, Failure> {
    let ids: Vec<&str> = submitted
        .tasks
        .iter()
        .map(|task| task.id.as_str())
        .collect();
    let is_shown = !session.json && io::stdout().is_terminal();
    let mut interrupts = watch::interrupts()?;
    let ended = async {
        match &submitted.graph {
            Some(graph) if is_shown && ids.len() <= DRAWN => {
                let query = GraphQuery {
                    graph: Some(graph.id.clone()),
                    ..GraphQuery::default()
                };
                follow::to_its_end(session, &query, true).await?;
            }
            _ => follow::to_their_ends(session, &ids).await?,
        }
        Ok::<(), Failure>(())
    };
    tokio::select! {
        ended = ended => ended?,
        _ = interrupts.recv() => {
            output::say(&detached(submitted));
            return Ok(status::INTERRUPTED.into());
        }
    }
    let mut code = 0;
    for id in ids {
        let task = session.client().status(id).await?;
        if !session.json && !is_shown {
            unless_closed(wait::tell_end(&task))?;
        }
        if code == 0 {
            code = exit::of_task(&task);
        }
    }
    Ok(code.into())
}

/// Answer to a submitted file.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "only its schema is used")]
pub(super) enum Answer {
    Submitted(Submitted),
    /// The graph of the file, for `--dry-run`.
    Planned(Graph),
}

/// Shows the graph that would be submitted.
fn show(session: &Session, graph: &Graph) -> Result<ExitCode, Failure> {
    if session.json {
        output::json(graph)?;
    } else {
        let Look { colours, columns } = Look::of_stdout();
        output::painted(&graph::text(graph, TextLook { colours, columns }))?;
    }
    output::say("nothing was submitted");
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::path::Path;

    use super::*;
    use crate::api::cli::terminal::in_each_look;

    #[test]
    fn the_example_file_is_a_valid_graph() {
        let tasks = GraphFile::of("example", EXAMPLE).tasks(Path::new("/work"));
        assert_eq!(tasks.map(|tasks| tasks.len()), Ok(3));
    }

    #[test]
    fn a_warning_about_several_tasks_of_a_file_is_given_once() {
        let task = |id: &str, warning: Option<&str>| {
            let warning = serde_json::json!(warning);
            serde_json::json!({"id": id, "existing": false, "warning": warning})
        };
        let submitted: Submitted = serde_json::from_value(serde_json::json!({
            "tasks": [
                task("a", None), task("b", Some("one")), task("c", Some("two")),
                task("d", Some("one")),
            ],
        }))
        .unwrap();
        let ids: Vec<&str> = warned(&submitted).map(|task| task.id.as_str()).collect();
        assert_eq!(ids, ["b", "c"]);
    }

    #[test]
    fn the_submitted_tasks_fit_the_width_of_the_terminal() {
        let task = |id: &str| serde_json::json!({"id": id, "existing": false});
        let submitted: Submitted = serde_json::from_value(serde_json::json!({
            "graph": {"id": "task_01kb2m8r4zq8w3v5x7y9abcdef", "name": "release\u{1b}[2J"},
            "tasks": [
                task("task_01kb2m8r4zq8w3v5x7y9abcdef"),
                task("task_01kb2m8r4zq8w3v5x7y9abcdeg"),
                task("task_01kb2m8r4zq8w3v5x7y8abcdef"),
            ],
        }))
        .unwrap();
        let long = "publish-".repeat(12);
        let names = [Some("test"), Some(long.as_str()), None];
        let drawn = in_each_look(|look| taken(&submitted, names.into_iter(), look));
        insta::assert_snapshot!("submitted", drawn);
    }
}
