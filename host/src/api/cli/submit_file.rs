//! `claudine submit`

use std::{
    fs::File,
    io::{self, Read},
    path::PathBuf,
    process::ExitCode,
};

use clap::Args;
use serde_json::Value;

use super::{environment, failure::Failure, output, parse, session::Session, submit};
use crate::{
    api::{lenient, member::Member},
    app::{Origin, Submit as Request},
};

/// The host takes no larger request.
const LIMIT_BYTES: u64 = 256 << 20;

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
  jq -c '.jobs[]' jobs.json | claudine submit -

A pipeline:
  - {name: test,   argv: [cargo, test]}
  - {name: build,  argv: [cargo, build, --release], dependencies: [test]}
  - {name: notify, script: 'echo done | mail me', dependencies: [{task: build, condition: any}]}")]
pub(super) struct Submit {
    /// The file, or `-`.
    #[arg(value_name = "FILE")]
    file: PathBuf,
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
        let directory = submit::directory(self.working_directory.clone())?;
        let mut tasks = Vec::new();
        for (index, member) in members(&self.text()?)?.into_iter().enumerate() {
            let task = member.into_task(&directory).map_err(|error| {
                Failure::Usage(format!("task {}: {}", index + 1, error.message))
            })?;
            tasks.push(task);
        }
        if tasks.is_empty() {
            return Err(Failure::Usage("there is no task in it".to_owned()));
        }
        let request = Request {
            environment: environment::of_this_process(self.env_clean),
            origin: Origin::Cli,
            budget_usd: self.budget_usd,
            tasks,
        };
        let submitted = session.client().submit(&request).await?;
        if session.json {
            output::json(&submitted)?;
        } else {
            for task in &submitted.tasks {
                output::id(&task.id)?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }

    fn text(&self) -> Result<String, Failure> {
        let mut bytes = Vec::new();
        let read = |mut from: &mut dyn Read, bytes: &mut Vec<u8>| {
            Read::take(&mut from, LIMIT_BYTES + 1).read_to_end(bytes)
        };
        let shown = self.file.display();
        let done = if self.file.as_os_str() == "-" {
            read(&mut io::stdin().lock(), &mut bytes)
        } else {
            File::open(&self.file).and_then(|mut file| read(&mut file, &mut bytes))
        };
        done.map_err(|error| Failure::Usage(format!("cannot read {shown}: {error}")))?;
        if bytes.len() as u64 > LIMIT_BYTES {
            let mib = LIMIT_BYTES >> 20;
            return Err(Failure::Usage(format!(
                "{shown} is larger than {mib} MiB, which is the limit for one request; split it"
            )));
        }
        String::from_utf8(bytes).map_err(|error| {
            let at = error.utf8_error().valid_up_to();
            Failure::Usage(format!("{shown} is not valid UTF-8 at byte {at}"))
        })
    }
}

/// The tasks of a JSON list, of JSON lines, or of a YAML list.
fn members(text: &str) -> Result<Vec<Member>, Failure> {
    let wrong = |error: String| Failure::Usage(format!("the tasks make no sense: {error}"));
    if let Ok(tasks) = serde_json::from_str::<Vec<Value>>(text) {
        let tasks = tasks.into_iter().enumerate();
        let read = tasks.map(|(index, task)| {
            lenient::read(task).map_err(|why| wrong(format!("task {}: {why}", index + 1)))
        });
        return read.collect();
    }
    match text.trim_start().chars().next() {
        None => Ok(Vec::new()),
        Some('{') => {
            let lines = text.lines().enumerate();
            lines
                .filter(|(_, line)| !line.trim().is_empty())
                .map(|(index, line)| {
                    let read = serde_json::from_str(line).map_err(|error| error.to_string());
                    read.and_then(lenient::read)
                        .map_err(|why| wrong(format!("line {}: {why}", index + 1)))
                })
                .collect()
        }
        Some(_) => serde_saphyr::from_str(text).map_err(|error| wrong(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_graph_is_written_in_three_ways() {
        let check = |text: &str, expected: usize| {
            assert_eq!(
                members(text).map_or(0, |members| members.len()),
                expected,
                "{text}"
            );
        };
        check(
            r#"[{"name": "a", "argv": ["true"]}, {"argv": ["true"], "dependencies": ["a"]}]"#,
            2,
        );
        check("{\"argv\": [\"true\"]}\n\n{\"argv\": [\"true\"]}\n", 2);
        check(
            "# two\n- {name: a, argv: [make]}\n- name: b\n  script: |\n    make\n    make install\n  depends-on: [a]\n",
            2,
        );
        check("[{name: a, argv: [make]}]", 1);
        check("", 0);
        check("a: b", 0);
    }
}
