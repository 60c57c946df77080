//! `claudine submit`

use std::{path::PathBuf, process::ExitCode};

use clap::Args;
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    environment, failure::Failure, graph_file::GraphFile, output, parse, session::Session, submit,
    terminal::Look,
};
use crate::{
    api::client::ClientError,
    app::{
        Origin, Submit as Request, Submitted,
        graph::{self, Graph, TextLook},
    },
};

/// What `--example` prints. Its schema is that of `claudine schema graph`.
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

/// Take on a graph of tasks, all or none.
///
/// The file is a JSON or YAML list, or has a JSON object on each line; `-` reads it from standard input. A task has one of `argv`, `script`,
/// `prompt` and `spec`, a `name`, and `dependencies`: names of tasks of the same file, or names or ids of others; `{task, condition}` with
/// `succeeded` (what a bare name means), `completed` or `any`. The other fields are the options of `delegate` and `run` with
/// underscores: `executor`, `group`, `priority`, `working_directory`, `env`, `timeout`, `retries`, `hold`, `after`, `labels`, `model`, …
///
/// Prints the ids, one a line, in the order of the file.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  claudine submit pipeline.yaml
  claudine submit --dry-run pipeline.yaml
  claudine submit --example > pipeline.yaml
  jq -c '.jobs[]' jobs.json | claudine submit -

A pipeline:
  - {name: test,   argv: [cargo, test]}
  - {name: build,  argv: [cargo, build, --release], dependencies: [test]}
  - {name: notify, script: 'echo done | mail me', dependencies: [{task: build, condition: any}]}")]
pub(super) struct Submit {
    /// The file, or `-`.
    #[arg(value_name = "FILE", required_unless_present = "example")]
    file: Option<PathBuf>,
    /// Check the file and print its graph; nothing is submitted.
    #[arg(long)]
    dry_run: bool,
    /// Print an example of a file.
    #[arg(long, exclusive = true)]
    example: bool,
    /// The directory that tasks run in which name none, and that relative ones are below [default: the current one].
    #[arg(short, long, value_name = "DIR")]
    working_directory: Option<PathBuf>,
    /// What the agents among them may cost together, in US dollars: once it is spent, those that run are stopped and the others end as failed.
    #[arg(long, value_name = "USD", value_parser = parse::dollars)]
    budget_usd: Option<f64>,
    /// Give them only HOME, PATH, USER, LOGNAME, SHELL, LANG, LC_ALL, TERM, TMPDIR and what the file sets, not the environment of this command.
    #[arg(long)]
    env_clean: bool,
}

impl Submit {
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
        submitted.tasks.iter().for_each(submit::say_warning);
        if session.json {
            output::json(&submitted)?;
        } else {
            for task in &submitted.tasks {
                output::id(&task.id)?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// What is answered to a file.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "only its schema is used")]
pub(super) enum Answer {
    Submitted(Submitted),
    /// With --dry-run.
    Planned(Graph),
}

/// The graph that would be submitted.
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
    use std::path::Path;

    use super::*;

    #[test]
    fn the_example_is_a_graph() {
        let tasks = GraphFile::of("example", EXAMPLE).tasks(Path::new("/work"));
        assert_eq!(tasks.map(|tasks| tasks.len()), Ok(3));
    }
}
