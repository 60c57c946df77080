//! Shell completion: a shell passes the words typed so far, and gets candidates for the last word.
//!
//! Tasks, groups and labels come from the running host, or from the database if no host runs. No
//! host is started for a completion.

use std::{
    collections::BTreeSet,
    ffi::{OsStr, OsString},
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use clap::{Arg, Command, CommandFactory, ValueHint, builder::PossibleValuesParser};
use clap_complete::{
    engine::{ArgValueCompleter, CompletionCandidate},
    env::Shells,
};
use claudine_domain::outcome::ReasonClass;

use super::{Cli, Common, output, schema, session::Session, terminal::ColourWhen, text};
use crate::{
    api::{
        Wiring,
        client::{Client, ClientError},
    },
    app::{ListFilter, TaskRow},
    clock,
    config::{self, process_environment},
    text::{ShortIds, one_line},
};

/// Variable that a shell's completion script sets to the name of the shell.
pub(super) const VARIABLE: &str = "CLAUDINE_COMPLETE";
/// Time limit for the host's answer: the user is waiting for the key to take effect.
const PATIENCE: Duration = Duration::from_millis(200);
/// Limit of the tasks that are read. The candidates are chosen from this many newest tasks.
const TASKS: u32 = 200;
/// Length limit of a task's description.
const ABOUT_CHARS: usize = 60;

/// Claude Code's permission modes.
const PERMISSION_MODES: [&str; 6] = [
    "default",
    "acceptEdits",
    "plan",
    "dontAsk",
    "auto",
    "bypassPermissions",
];
/// The built-in executors.
const EXECUTORS: [&str; 2] = ["claude", "shell"];

/// Answers a shell's completion request. Returns none if this process was started for another
/// purpose than completion.
pub(super) fn answer(arguments: &[OsString], wiring: Wiring) -> Option<ExitCode> {
    let shell = process_environment(VARIABLE)?;
    let at = arguments.iter().position(|argument| argument == "--")?;
    let words = arguments[at + 1..].to_vec();
    let shells = Shells::builtins();
    let Some(shell) = shells.completer(&shell.to_string_lossy()) else {
        return Some(ExitCode::FAILURE);
    };
    let source = Source(Arc::new(Place {
        data_dir: data_dir(&words),
        wiring,
    }));
    let mut command = with_values(Cli::command(), Some(&source));
    let directory = std::env::current_dir().ok();
    let mut told = Vec::new();
    let written = shell.write_complete(&mut command, words, directory.as_deref(), &mut told);
    Some(match written {
        Ok(()) if output::bytes(&told).is_ok() => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

/// The data directory given on the command line.
fn data_dir(words: &[OsString]) -> Option<PathBuf> {
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let word = word.to_str()?;
        if word == "--data-dir" {
            return words.next().map(PathBuf::from);
        }
        if let Some(dir) = word.strip_prefix("--data-dir=") {
            return Some(dir.into());
        }
    }
    None
}

/// Adds the possible values of the arguments to a command. Without a source, values that only a
/// host knows are left out.
fn with_values(command: Command, source: Option<&Source>) -> Command {
    below(command, "", source)
}

fn below(command: Command, path: &str, source: Option<&Source>) -> Command {
    let command = command.mut_args(|argument| of_argument(argument, path, source));
    command.mut_subcommands(|sub| {
        let path = format!("{path} {}", sub.get_name());
        below(sub, path.trim_start(), source)
    })
}

/// Adds the values of one argument, chosen by the command, the argument's name and the name of its
/// value.
fn of_argument(argument: Arg, path: &str, source: Option<&Source>) -> Arg {
    let name = argument.get_long().unwrap_or(argument.get_id().as_str());
    let value = argument
        .get_value_names()
        .and_then(|names| names.first())
        .map_or("", |name| name.as_str());
    let words = |argument: Arg, words: Vec<&'static str>| {
        argument.value_parser(PossibleValuesParser::new(words))
    };
    let asked = |argument: Arg, what: What| match source {
        Some(source) => {
            let source = source.clone();
            let completer = move |typed: &OsStr| source.values(what, typed);
            argument.add(ArgValueCompleter::new(completer))
        }
        None => argument,
    };
    match (path, name, value) {
        (_, "permission-mode", _) => words(argument, PERMISSION_MODES.to_vec()),
        (_, "merge", _) => words(argument, vec!["auto", "manual", "patch", "pr"]),
        (_, "priority", _) => words(argument, vec!["P0", "P1", "P2"]),
        (_, "retry-on", _) => words(
            argument,
            ReasonClass::all().map(ReasonClass::as_str).collect(),
        ),
        ("slots", "slots", _) => words(argument, vec!["auto", "default"]),
        ("config set", "name", _) => words(argument, config::NAMES.to_vec()),
        ("schema", _, "NAME") => words(argument, schema::first_words()),
        ("run", "command", _) => argument.value_hint(ValueHint::CommandWithArguments),
        (_, _, "GROUP") | (_, "group", _) => asked(argument, What::Groups),
        (path, _, "NAME") if path.starts_with("group") => asked(argument, What::Groups),
        (_, "label", _) => asked(argument, What::Labels),
        (_, _, "EXECUTOR") | (_, "executor", _) | ("plugin inspect", _, "NAME") => {
            asked(argument, What::Executors)
        }
        (path, _, "ID") => asked(argument, What::Tasks(Which::of(path))),
        ("list" | "cancel" | "retry" | "resume" | "hold" | "release" | "wait", "name", _) => {
            asked(argument, What::Names)
        }
        (_, _, "NAME|ID") => asked(argument, What::Tasks(Which::All)),
        (_, _, "DIR") => argument.value_hint(ValueHint::DirPath),
        (_, _, "FILE") => argument.value_hint(ValueHint::FilePath),
        (_, _, "PATH") => argument.value_hint(ValueHint::AnyPath),
        _ => argument,
    }
}

/// A kind of value that the host is asked for.
#[derive(Clone, Copy)]
enum What {
    Tasks(Which),
    Names,
    Groups,
    Labels,
    Executors,
}

/// The tasks that a command applies to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Which {
    All,
    Unfinished,
    Finished,
    Held,
}

impl Which {
    fn of(command: &str) -> Self {
        match command {
            "cancel" | "hold" => Self::Unfinished,
            "retry" | "resume" => Self::Finished,
            "release" => Self::Held,
            _ => Self::All,
        }
    }

    fn has(self, task: &TaskRow) -> bool {
        match self {
            Self::All => true,
            Self::Unfinished => task.outcome.is_none(),
            Self::Finished => task.outcome.is_some(),
            Self::Held => task.held_by.is_some(),
        }
    }
}

/// Source of the values that only a host knows.
#[derive(Clone)]
struct Source(Arc<Place>);

struct Place {
    data_dir: Option<PathBuf>,
    wiring: Wiring,
}

impl Source {
    fn values(&self, what: What, typed: &OsStr) -> Vec<CompletionCandidate> {
        let Some(typed) = typed.to_str() else {
            return Vec::new();
        };
        match what {
            What::Tasks(which) => of_tasks(&self.tasks(), which, typed),
            What::Names => plain(self.tasks().into_iter().filter_map(|task| task.name), typed),
            What::Labels => {
                let labels = self.tasks().into_iter().flat_map(|task| task.labels);
                plain(labels.map(|(name, value)| format!("{name}={value}")), typed)
            }
            What::Groups => {
                let groups = self.ask(async |client| client.groups().await);
                let groups = groups.unwrap_or_default().into_iter();
                plain(groups.map(|group| group.name), typed)
            }
            What::Executors => {
                let used = self.tasks().into_iter().map(|task| task.executor);
                plain(EXECUTORS.map(str::to_owned).into_iter().chain(used), typed)
            }
        }
    }

    fn tasks(&self) -> Vec<TaskRow> {
        let filter = ListFilter {
            limit: Some(TASKS),
            ..ListFilter::default()
        };
        let page = self.ask(async |client| client.list(&filter).await);
        page.map_or_else(Vec::new, |page| page.tasks)
    }

    /// Asks the host a read-only question.
    fn ask<T>(&self, question: impl AsyncFnOnce(&Client) -> Result<T, ClientError>) -> Option<T> {
        let common = Common {
            data_dir: self.0.data_dir.clone(),
            json: None,
            color: ColourWhen::default(),
        };
        let session = Session::new(&common, self.0.wiring).ok()?;
        // A warning would be written between the words that the user types.
        let client = session.client_with(|start| start.say = |_| {});
        let asking = async { clock::within(PATIENCE, question(&client)).await };
        session.wait(asking)??.ok()
    }
}

/// Candidates for tasks, each with the task's state and summary. A task is offered by its name if
/// the name needs no quotes, by the end of its id if there is no such name or something is typed,
/// and by its whole id if `task_` is typed.
fn of_tasks(tasks: &[TaskRow], which: Which, typed: &str) -> Vec<CompletionCandidate> {
    let short = ShortIds::among(tasks.iter().map(|task| task.id.as_str()));
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for task in tasks.iter().filter(|task| which.has(task)) {
        let about = format!("{} · {}", text::state(task), task.summary);
        let about = one_line(&about, ABOUT_CHARS);
        let name = task.name.as_deref().filter(|name| is_plain(name));
        let end = Some(short.of(&task.id)).filter(|_| name.is_none() || !typed.is_empty());
        let whole = Some(task.id.as_str()).filter(|_| typed.starts_with("task_"));
        for value in [name, end, whole].into_iter().flatten() {
            if value.starts_with(typed) && seen.insert(value.to_owned()) {
                found.push(CompletionCandidate::new(value).help(Some(about.clone().into())));
            }
        }
    }
    found
}

fn plain(values: impl Iterator<Item = String>, typed: &str) -> Vec<CompletionCandidate> {
    let values: BTreeSet<String> = values
        .filter(|value| is_plain(value) && value.starts_with(typed))
        .collect();
    values.into_iter().map(CompletionCandidate::new).collect()
}

/// Whether a shell takes the value as one word without quotes.
fn is_plain(value: &str) -> bool {
    !value.is_empty()
        && !value.starts_with('-')
        && value
            .chars()
            .all(|c| c.is_alphanumeric() || "-_./@+=,".contains(c))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use clap_complete::engine::complete;

    use super::*;
    use crate::api::cli::exit::tests::task;

    /// The completions of the last of these words.
    fn offered(words: &[&str]) -> Vec<String> {
        let mut command = with_values(Cli::command(), None);
        let words: Vec<OsString> = words.iter().map(OsString::from).collect();
        let last = words.len() - 1;
        let found = complete(&mut command, words, last, None).unwrap();
        let found = found.iter().filter(|it| !it.is_hide_set());
        found
            .map(|it| it.get_value().to_string_lossy().into_owned())
            .collect()
    }

    #[test]
    fn an_argument_is_completed_with_values_of_its_kind() {
        let check = |words: &[&str], expected: &[&str]| {
            assert_eq!(offered(words), expected, "{words:?}");
        };
        check(
            &["claudine", "run", "--merge", ""],
            &["auto", "manual", "patch", "pr"],
        );
        check(&["claudine", "run", "-p", "P"], &["P0", "P1", "P2"]);
        check(
            &["claudine", "delegate", "--permission-mode", "a"],
            &["acceptEdits", "auto"],
        );
        check(
            &["claudine", "list", "--state", "failed,timed"],
            &["failed,timed_out"],
        );
        check(&["claudine", "config", "set", "ke"], &["keep"]);
        check(&["claudine", "schema", "work"], &["worktree"]);
        check(&["claudine", "work"], &["worktree"]);
        assert!(offered(&["claudine", "cancel", "--"]).contains(&"--json".to_owned()));
    }

    fn rows() -> Vec<TaskRow> {
        let row = |json: serde_json::Value| task(json).row;
        vec![
            row(serde_json::json!({
                "id": "task_01kb2m8r4zq8w3v5x7y9abcde1", "name": "fix-tests", "state": "running",
                "phase": "live", "outcome": null, "summary": "Make the\ntests pass",
            })),
            row(serde_json::json!({
                "id": "task_01kb2m8r4zq8w3v5x7y9abcde2", "name": "two words", "state": "held",
                "held_by": "owner", "outcome": null, "summary": "x\u{1b}[2J",
            })),
            row(serde_json::json!({"id": "task_01kb2m8r4zq8w3v5x7y9abcde3", "outcome": "failed"})),
            row(serde_json::json!({
                "id": "task_01kb2m8r4zq8w3v5x7y9abcde4", "name": "fix-tests", "outcome": "failed",
            })),
        ]
    }

    #[test]
    fn tasks_are_completed_by_name_or_id() {
        let check = |which, typed: &str, expected: &[&str]| {
            let found = of_tasks(&rows(), which, typed);
            let found: Vec<_> = found.iter().map(CompletionCandidate::get_value).collect();
            assert_eq!(found, expected, "{which:?} {typed}");
        };
        check(Which::All, "", &["fix-tests", "abcde2", "abcde3"]);
        check(Which::Unfinished, "", &["fix-tests", "abcde2"]);
        check(Which::Finished, "", &["abcde3", "fix-tests"]);
        check(Which::Held, "", &["abcde2"]);
        check(Which::All, "fix", &["fix-tests"]);
        check(Which::All, "abcde1", &["abcde1"]);
        check(
            Which::All,
            "task_01kb2m8r4zq8w3v5x7y9abcde4",
            &["task_01kb2m8r4zq8w3v5x7y9abcde4"],
        );
        check(Which::All, "two", &[]);
        let about = of_tasks(&rows(), Which::All, "");
        let about: Vec<_> = about
            .iter()
            .map(|it| it.get_help().unwrap().to_string())
            .collect();
        assert_eq!(about[0], "running · Make the tests pass");
        assert!(!about[1].contains('\u{1b}'), "{about:?}");
    }

    #[test]
    fn values_that_need_quotes_are_not_offered() {
        for value in ["fix-tests", "a.b/c@d+e=f,g", "漢字"] {
            assert!(is_plain(value), "{value}");
        }
        for value in [
            "", "-x", "a b", "a;b", "a'b", "$(x)", "a\nb", "a:b", "a\u{1b}b",
        ] {
            assert!(!is_plain(value), "{value:?}");
        }
    }

    #[test]
    fn the_data_directory_is_taken_from_the_words_typed_so_far() {
        let check = |words: &[&str], expected: Option<&str>| {
            let words: Vec<OsString> = words.iter().map(OsString::from).collect();
            assert_eq!(data_dir(&words), expected.map(PathBuf::from));
        };
        check(&["claudine", "logs", ""], None);
        check(&["claudine", "--data-dir", "/d", "logs", ""], Some("/d"));
        check(&["claudine", "logs", "--data-dir=/d", ""], Some("/d"));
    }
}
