//! `claudine schema`, and the list of the commands' JSON answers.

use std::process::ExitCode;

use clap::Args;
use schemars::{JsonSchema, generate::SchemaSettings};
use serde_json::Value;

use super::{
    config, doctor, down, enter, exit, failure::Failure, fields, logs, mcp, output, pause, plugin,
    submit::Delegation, submit_file,
};
use crate::{
    api::{member::Member, paragraphs},
    app::{self, AppError, ErrorKind, backup, graph::Graph},
};

/// Print a JSON Schema of output, graph files or errors.
///
/// Later versions only add fields, values and commands. Unset fields are left out.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  claudine schema
  claudine schema list
  claudine schema worktree merge
  claudine schema graph > graph.schema.json")]
pub(super) struct Schema {
    /// Name of a schema: a command, such as `list` or `worktree merge`, or another name.
    ///
    /// Without a name, the names of all schemas are listed.
    #[arg(value_name = "NAME", num_args = 0..=2)]
    name: Vec<String>,
}

/// Makes a schema.
pub(super) type Of = fn() -> schemars::Schema;

/// A published schema.
struct Published {
    /// Command, or another name.
    name: &'static str,
    /// Description, if the name does not say enough.
    what: &'static str,
    schema: Of,
}

/// The schema of a command's answer with `--json`.
const fn answer(name: &'static str, schema: Of) -> Published {
    Published {
        name,
        what: "",
        schema,
    }
}

const PUBLISHED: &[Published] = &[
    answer("backup", of::<backup::BackupTaken>),
    answer("cancel", of::<app::TasksActed>),
    answer("capacity", of::<app::CapacityView>),
    answer("checkpoint", of::<app::CheckpointView>),
    answer("config edit", of::<config::Written>),
    answer("config path", of::<config::Place>),
    answer("config set", of::<config::Written>),
    answer("config show", of::<config::Shown>),
    answer("cost", of::<app::CostView>),
    answer("delegate", of::<Delegation>),
    answer("diff", of::<app::DiffView>),
    answer("doctor", of::<Vec<doctor::Finding>>),
    answer("down", of::<down::Ended>),
    answer("enter", of::<enter::Entered>),
    Published {
        name: "error",
        what: "an error with --json, a line on standard error",
        schema: of::<exit::ErrorAnswer>,
    },
    Published {
        name: "events",
        what: "claudine events --json, a line for each event",
        schema: of::<app::EventView>,
    },
    Published {
        name: "graph",
        what: "a file for claudine submit",
        schema: of_graph_file,
    },
    Published {
        name: "graph-json",
        what: "claudine graph --json",
        schema: of::<Graph>,
    },
    answer("group add", of::<app::GroupView>),
    answer("group list", of::<Vec<app::GroupView>>),
    answer("group pause", of::<app::GroupView>),
    answer("group rm", of::<app::GroupView>),
    answer("group set", of::<app::GroupView>),
    answer("group unpause", of::<app::GroupView>),
    answer("hold", of::<app::TasksActed>),
    answer("list", of::<app::TaskList>),
    Published {
        name: "logs",
        what: "claudine logs --json, a line for each piece",
        schema: of::<logs::Piece>,
    },
    answer("mcp config", of::<mcp::Clients>),
    answer("mcp test", of::<mcp::Tested>),
    answer("pause", of::<pause::Answer>),
    answer("plugin build", of::<plugin::Built>),
    answer("plugin inspect", of::<app::PluginDetail>),
    answer("plugin list", of::<Vec<app::PluginView>>),
    answer("release", of::<app::TasksActed>),
    answer("restore", of::<backup::QueueRestored>),
    answer("resume", of::<app::TasksActed>),
    answer("retry", of::<app::TasksActed>),
    answer("run", of::<Delegation>),
    answer("serve", of::<app::HostInfo>),
    answer("slots", of::<app::SlotsView>),
    answer("status", of::<app::TaskView>),
    answer("submit", of::<submit_file::Answer>),
    answer("top", of::<app::Overview>),
    answer("unpause", of::<pause::Answer>),
    answer("up", of::<app::HostInfo>),
    answer("wait", of::<Vec<app::TaskView>>),
    answer("why", of::<app::Why>),
    answer("worktree clean", of::<app::WorktreesCleaned>),
    answer("worktree list", of::<Vec<app::FoundWorktree>>),
    answer("worktree merge", of::<app::WorktreeMerged>),
    answer("worktree resolve", of::<app::WorktreeResolved>),
];

fn of<T: JsonSchema>() -> schemars::Schema {
    let settings = SchemaSettings::draft2020_12().for_serialize();
    paragraphs::joined(settings)
        .into_generator()
        .into_root_schema_for::<T>()
}

/// The answer to the submission of a task.
pub(super) fn of_submission(waits: bool) -> Of {
    if waits {
        of::<app::TaskView>
    } else {
        of::<app::Delegated>
    }
}

/// The answer to a submitted file.
pub(super) fn of_file(is_dry_run: bool) -> Of {
    if is_dry_run {
        of::<Graph>
    } else {
        of::<app::Submitted>
    }
}

/// The answer to a pause, or to its end.
pub(super) fn of_pause(is_of_group: bool) -> Of {
    if is_of_group {
        of::<app::GroupView>
    } else {
        of::<app::QueuePaused>
    }
}

/// The schema of a graph file. The file is read and not written, so fields with a default are not
/// required.
fn of_graph_file() -> schemars::Schema {
    paragraphs::joined(SchemaSettings::default())
        .into_generator()
        .into_root_schema_for::<Vec<Member>>()
}

impl Schema {
    pub(super) fn run(self, json: bool) -> Result<ExitCode, Failure> {
        if !self.name.is_empty() {
            let published = find(&self.name.join(" "))?;
            output::json((published.schema)().as_value())?;
        } else if json {
            let names: Vec<&str> = PUBLISHED.iter().map(|published| published.name).collect();
            output::json(&names)?;
        } else {
            let names = PUBLISHED.iter().map(|published| published.name.len());
            let width = names.max().unwrap_or_default();
            for Published { name, what, .. } in PUBLISHED {
                let own = format!("claudine {name} --json");
                let what = if what.is_empty() { own.as_str() } else { what };
                output::line(&format!("{name:<width$}  {what}"))?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn find(name: &str) -> Result<&'static Published, Failure> {
    let found = PUBLISHED.iter().find(|published| published.name == name);
    found.ok_or_else(|| {
        AppError::new(ErrorKind::NotFound, format!("there is no schema `{name}`"))
            .hint("`claudine schema` lists the schemas")
            .into()
    })
}

/// The first words of all names, each once.
pub(super) fn first_words() -> Vec<&'static str> {
    let words = PUBLISHED.iter().filter_map(|published| {
        let mut words = published.name.split(' ');
        words.next()
    });
    let mut words: Vec<_> = words.collect();
    words.dedup();
    words
}

/// Refuses fields that the command's answer does not have. `answer` is the schema of the answer if
/// the command's options decide which of several it is.
pub(super) fn check_fields(
    command: &str,
    answer: Option<Of>,
    asked: &[String],
) -> Result<(), Failure> {
    let name = if command == "graph" {
        "graph-json"
    } else {
        command
    };
    let Some(published) = PUBLISHED.iter().find(|published| published.name == name) else {
        let message = format!("`claudine {command}` has no fields for --json to choose from");
        return Err(Failure::Usage(message));
    };
    let schema = Value::from(answer.unwrap_or(published.schema)());
    let Some(known) = fields::of(&schema) else {
        return Ok(());
    };
    let unknown = asked.iter().find(|field| !known.contains(*field));
    match unknown {
        None => Ok(()),
        Some(field) => {
            let known: Vec<String> = known.into_iter().collect();
            let with = if answer.is_some() {
                " with these options"
            } else {
                ""
            };
            let message = format!(
                "`claudine {command} --json` has no field `{field}`{with}; its fields are {}",
                known.join(", ")
            );
            Err(Failure::Usage(message))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::collections::BTreeSet;

    use clap::{Command, CommandFactory};

    use super::{super::Cli, *};

    /// Commands that have no JSON answer, or whose answer is described by a schema from elsewhere.
    const WITHOUT: &[&str] = &["completions", "man", "mcp start", "schema"];

    fn commands(command: &Command, path: &str, into: &mut BTreeSet<String>) {
        for sub in command
            .get_subcommands()
            .filter(|sub| sub.get_name() != "help")
        {
            let path = format!("{path} {}", sub.get_name());
            if sub.has_subcommands() {
                commands(sub, &path, into);
            } else {
                into.insert(path.trim().to_owned());
            }
        }
    }

    #[test]
    fn each_command_has_a_schema() {
        let mut expected = BTreeSet::new();
        commands(&Cli::command(), "", &mut expected);
        let published = |name: &String| {
            let name = match name.as_str() {
                "graph" => "graph-json",
                name => name,
            };
            find(name).is_ok() != WITHOUT.contains(&name)
        };
        let missing: Vec<_> = expected.iter().filter(|name| !published(name)).collect();
        assert!(missing.is_empty(), "{missing:?}");
        assert!(PUBLISHED.is_sorted_by_key(|published| published.name));
    }

    #[test]
    fn the_answer_of_status_has_all_fields_of_a_row_of_list() {
        let row = fields::of(&Value::from(of::<app::TaskList>())).unwrap();
        let whole = fields::of(&Value::from(of::<app::TaskView>())).unwrap();
        assert!(row.is_subset(&whole), "{row:?} {whole:?}");
        assert!(
            row.contains("cost_usd") && !row.contains("attempts"),
            "{row:?}"
        );
        assert!(whole.contains("attempts") && !whole.contains("next"));
        let taken = fields::of(&Value::from(of::<Delegation>())).unwrap();
        assert!(taken.contains("existing") && taken.contains("outcome"));
    }

    #[test]
    fn unknown_fields_are_refused() {
        let check_answer = |command: &str, answer, field: &str, expected: Option<&str>| {
            let found = check_fields(command, answer, &[field.to_owned()]);
            let found = found.err().map(|failure| failure.to_string());
            assert_eq!(
                found
                    .as_deref()
                    .map(|found| found.split(';').next().unwrap()),
                expected,
                "{command} {field}"
            );
        };
        let check = |command, field, expected| check_answer(command, None, field, expected);
        check("list", "id", None);
        check(
            "list",
            "next",
            Some("`claudine list --json` has no field `next`"),
        );
        check("status", "attempts", None);
        check("graph", "nodes", None);
        check("worktree list", "branch", None);
        check(
            "completions",
            "id",
            Some("`claudine completions` has no fields for --json to choose from"),
        );
        let check = |command: &str, answer: Of, field: &str, is_there: bool| {
            let refusal =
                format!("`claudine {command} --json` has no field `{field}` with these options");
            let expected = (!is_there).then_some(refusal.as_str());
            check_answer(command, Some(answer), field, expected);
        };
        for waits in [false, true] {
            for command in ["run", "delegate"] {
                check(command, of_submission(waits), "id", true);
                check(command, of_submission(waits), "existing", !waits);
                check(command, of_submission(waits), "outcome", waits);
            }
        }
        for is_dry_run in [false, true] {
            check("submit", of_file(is_dry_run), "id", !is_dry_run);
            check("submit", of_file(is_dry_run), "tasks", false);
            check("submit", of_file(is_dry_run), "nodes", is_dry_run);
        }
        for is_of_group in [false, true] {
            for command in ["pause", "unpause"] {
                check(command, of_pause(is_of_group), "changed", !is_of_group);
            }
        }
    }
}
