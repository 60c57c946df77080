//! Parses the command line into a checked [`Cli`].

use std::{
    ffi::OsString,
    io::{self, IsTerminal},
};

use clap::{
    Args, Command, CommandFactory, FromArgMatches, Parser,
    error::{ContextKind, ContextValue, ErrorKind},
};

use super::{
    Asking, Cli, Common, Local, Verb, cancel::Cancel, delegate::Delegate, down::Down,
    failure::Failure, list::List, logs::Logs, mcp::Mcp, run::Run, serve::Serve, status::Status,
    submit_file::Submit, terminal::ColourWhen, up::Up, wait::Wait, why::Why,
};
use crate::{
    app::{self, AppError},
    text::{shell_line, shell_word},
};

/// Options that take several tasks, each as a separate word.
const TAKE_TASKS: [&str; 4] = [
    "--depends-on",
    "--depends-on-success",
    "--depends-on-any",
    "--with-output-of",
];
/// Commands that take one task.
const TAKE_ONE_TASK: [&str; 8] = [
    "checkpoint",
    "diff",
    "enter",
    "logs",
    "status",
    "why",
    "worktree merge",
    "worktree resolve",
];

/// Parses the arguments. Checks first that every argument is valid UTF-8 without a NUL character,
/// because the errors of clap do not say which argument is invalid.
pub(super) fn parse(arguments: Vec<OsString>) -> Result<Cli, Failure> {
    check(&arguments)?;
    let known = start_in_background(&arguments).or_else(|| frequent(&arguments));
    if let Some(cli) = known {
        return Ok(cli);
    }
    Cli::try_parse_from(&arguments).or_else(|error| {
        let meant = with_prompt_found(&arguments, &error);
        let meant = meant.or_else(|| without_command(&arguments, &error));
        meant.ok_or_else(|| {
            command_among_tasks(&arguments, &error)
                .or_else(|| graph_for_one_task(&arguments, &error))
                .unwrap_or(Failure::Clap(error))
        })
    })
}

/// The error for `--graph` with a command that takes one task.
fn graph_for_one_task(arguments: &[OsString], error: &clap::Error) -> Option<Failure> {
    let Some(ContextValue::String(option)) = error.get(ContextKind::InvalidArg) else {
        return None;
    };
    let command = command(arguments);
    if option != "--graph" || !TAKE_ONE_TASK.contains(&command.as_str()) {
        return None;
    }
    let mut words = arguments.iter().filter_map(|word| word.to_str());
    let graph = words.find_map(|word| word.strip_prefix("--graph"))?;
    let graph = graph.strip_prefix('=').or_else(|| words.next());
    let graph = graph.filter(|word| !word.starts_with('-'));
    let graph = graph.map_or_else(|| "NAME".to_owned(), shell_word);
    let message = format!("`claudine {command}` takes one task, not a graph");
    let error = AppError::new(app::ErrorKind::Invalid, message);
    let hint = format!("`claudine list --graph {graph}` lists the tasks of a graph");
    Some(Failure::App(error.hint(hint)))
}

/// The error for a command line of `run` in which clap took the command for further tasks of the
/// option before it, as in `run --depends-on tests make`.
fn command_among_tasks(arguments: &[OsString], error: &clap::Error) -> Option<Failure> {
    let is_separated = arguments.iter().any(|argument| argument == "--");
    if error.kind() != ErrorKind::MissingRequiredArgument
        || is_separated
        || command(arguments) != "run"
    {
        return None;
    }
    let at = arguments
        .iter()
        .rposition(|argument| TAKE_TASKS.iter().any(|option| argument == option))?;
    let taken: Vec<&str> = arguments[at..]
        .iter()
        .filter_map(|it| it.to_str())
        .collect();
    let [option, _, words @ ..] = taken.as_slice() else {
        return None;
    };
    let is_option = |word: &&str| word.starts_with('-');
    if words.is_empty() || words.iter().any(is_option) {
        return None;
    }
    let words = shell_line(words);
    Some(Failure::Usage(format!(
        "there is no command: `{words}` was taken for tasks of {option}; `--` separates the \
         command from them: `-- {words}`"
    )))
}

fn start_in_background(arguments: &[OsString]) -> Option<Cli> {
    let (serve, data_dir) = Serve::in_background(arguments)?;
    let common = Common {
        data_dir: Some(data_dir),
        json: None,
        color: ColourWhen::default(),
    };
    let verb = Verb::Local(Local::Serve(serve));
    Some(Cli { common, verb })
}

/// Parses a frequent command, or one that starts a host, with the definition of this command alone.
/// Building the definition of all commands takes longer than most requests, and the code for it
/// would stay in the memory of a host. Returns none for other commands, for an invalid command line
/// and for help, because these need the definition of all commands.
fn frequent(arguments: &[OsString]) -> Option<Cli> {
    // Global options may stand before the command. If the value of a global option is also the name
    // of a frequent command, parsing may fail here. The caller then parses with all definitions.
    let mut typed = arguments.iter().skip(1).filter_map(|word| word.to_str());
    let (name, define) = typed.find_map(definition)?;
    let command = Common::augment_args(Command::new("claudine"));
    let command = command.subcommand(define(Command::new(name)));
    let matches = command.try_get_matches_from(arguments).ok()?;
    Cli::from_arg_matches(&matches).ok()
}

/// Adds the arguments of a command.
type Define = fn(Command) -> Command;

/// The name and the definition of the frequent command with this name or alias.
fn definition(typed: &str) -> Option<(&'static str, Define)> {
    Some(match typed {
        "cancel" | "stop" | "kill" => ("cancel", Cancel::augment_args),
        "delegate" => ("delegate", Delegate::augment_args),
        "down" => ("down", Down::augment_args),
        "list" | "ls" | "ps" => ("list", List::augment_args),
        "logs" | "log" => ("logs", Logs::augment_args),
        "mcp" => ("mcp", Mcp::augment_args),
        "run" => ("run", Run::augment_args),
        "serve" => ("serve", Serve::augment_args),
        "status" | "show" => ("status", Status::augment_args),
        "submit" => ("submit", Submit::augment_args),
        "up" => ("up", Up::augment_args),
        "wait" => ("wait", Wait::augment_args),
        "why" => ("why", Why::augment_args),
        _ => return None,
    })
}

/// If no command is given and the output goes to a terminal, returns `top --once`. A program that
/// gives no command gets the error instead.
fn without_command(arguments: &[OsString], error: &clap::Error) -> Option<Cli> {
    let is_missing = matches!(
        error.kind(),
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand
    );
    if !is_missing || !io::stdout().is_terminal() {
        return None;
    }
    let mut arguments = arguments.to_vec();
    arguments.extend(["top".into(), "--once".into()]);
    let mut cli = Cli::try_parse_from(arguments).ok()?;
    if let Verb::Asking(Asking::Top(top)) = &mut cli.verb {
        top.points_to_help = true;
    }
    Some(cli)
}

/// Tries to find the prompt of `delegate` among arguments that clap took for something else.
fn with_prompt_found(arguments: &[OsString], error: &clap::Error) -> Option<Cli> {
    if arguments.iter().any(|argument| argument == "--") {
        return None;
    }
    match error.kind() {
        ErrorKind::MissingRequiredArgument => with_prompt_among_tasks(arguments),
        ErrorKind::UnknownArgument => with_last_as_prompt(arguments),
        _ => None,
    }
}

/// Takes the last argument as the prompt if the argument begins with a dash and contains white
/// space.
fn with_last_as_prompt(arguments: &[OsString]) -> Option<Cli> {
    let (last, before) = arguments.split_last()?;
    let text = last.to_str()?;
    if !text.starts_with('-') || !text.contains(char::is_whitespace) {
        return None;
    }
    delegated(before, last.clone())
}

/// Handles a prompt that clap took for one of the tasks of the option before the prompt:
/// `delegate --depends-on tests 'Fix it'`. A later look-up of the tasks shows which value is the
/// prompt.
fn with_prompt_among_tasks(arguments: &[OsString]) -> Option<Cli> {
    let maybe = last_values(arguments);
    if maybe.is_empty() {
        return None;
    }
    let mut cli = delegated(arguments, "?".into())?;
    if let Verb::Asking(Asking::Delegate(delegate)) = &mut cli.verb {
        delegate.prompt = None;
        delegate.maybe_prompts = maybe;
    }
    Some(cli)
}

/// Parses the arguments with this prompt appended. Returns none if the arguments are invalid or
/// their command is not `delegate`.
fn delegated(before: &[OsString], prompt: OsString) -> Option<Cli> {
    let mut separated = before.to_vec();
    separated.extend(["--".into(), prompt]);
    let cli = Cli::try_parse_from(separated).ok()?;
    matches!(cli.verb, Verb::Asking(Asking::Delegate(_))).then_some(cli)
}

/// For each option that takes tasks and was given several values, the last of these values.
fn last_values(arguments: &[OsString]) -> Vec<String> {
    let mut found = Vec::new();
    let mut values: Vec<&str> = Vec::new();
    let mut takes_tasks = false;
    // The `--` appended here ends the values of an option at the end of the line.
    let arguments = arguments.iter().filter_map(|argument| argument.to_str());
    for argument in arguments.chain(["--"]) {
        if argument != "-" && argument.starts_with('-') {
            if let [_, .., last] = values.as_slice() {
                found.push((*last).to_owned());
            }
            values.clear();
            takes_tasks = TAKE_TASKS.contains(&argument);
        } else if takes_tasks {
            values.push(argument);
        }
    }
    found
}

/// The full name of the command, without aliases: `worktree merge`.
pub(super) fn command(arguments: &[OsString]) -> String {
    let command = Cli::command().ignore_errors(true);
    let Ok(matches) = command.try_get_matches_from(arguments) else {
        return String::new();
    };
    let mut path = Vec::new();
    let mut at = &matches;
    while let Some((name, below)) = at.subcommand() {
        path.push(name);
        at = below;
    }
    path.join(" ")
}

/// Whether a command line that cannot be parsed asks for JSON.
pub(super) fn asks_for_json(arguments: &[OsString]) -> bool {
    let own = arguments.iter().take_while(|argument| *argument != "--");
    let mut own = own.filter_map(|argument| argument.to_str());
    own.any(|argument| argument == "--json" || argument.starts_with("--json="))
}

/// Checks that every argument is valid UTF-8, because arguments are stored, shown, and sent as
/// JSON. Also refuses NUL characters, because an argument of a program cannot contain them.
fn check(arguments: &[OsString]) -> Result<(), Failure> {
    for (position, argument) in arguments.iter().enumerate().skip(1) {
        match argument.to_str() {
            None => {
                let shown: String = argument.to_string_lossy().chars().take(60).collect();
                return Err(Failure::Usage(format!(
                    "argument {position} is not valid UTF-8: {shown:?}"
                )));
            }
            Some(text) => {
                if let Some(at) = text.find('\0') {
                    return Err(Failure::Usage(format!(
                        "argument {position} has a NUL character at byte {at}"
                    )));
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    #[test]
    fn clap_accepts_the_definition_of_the_command_line() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_definition_of_a_frequent_command_gives_the_same_result_as_all_definitions() {
        let lines = [
            "cancel a b --json",
            "delegate --name x -- Fix",
            "down --kill",
            "list",
            "list --json=id,state --data-dir /tmp/x",
            "ls -s failed --limit 3",
            "ps --color never",
            "--data-dir /tmp/x --json status a",
            "logs a --tail 3",
            "mcp",
            "run --name x make -j2 --help",
            "run --wait -- make --json",
            "serve --data-dir /tmp/x",
            "status a",
            "submit plan.yaml --wait",
            "up",
            "wait a b --timeout 3s",
            "why a",
        ];
        for line in lines {
            let words: Vec<OsString> = ["claudine"]
                .into_iter()
                .chain(line.split(' '))
                .map(OsString::from)
                .collect();
            let alone = frequent(&words).map(|cli| format!("{cli:?}"));
            let whole = Cli::try_parse_from(&words).unwrap();
            assert_eq!(alone, Some(format!("{whole:?}")), "{line}");
        }
        let others = [
            "--data-dir list --json status a",
            "list --help",
            "list --limt 3",
            "run -h",
            "run",
            "-V",
            "top",
            "help list",
        ];
        for line in others {
            let words = ["claudine"].into_iter().chain(line.split(' '));
            let words: Vec<OsString> = words.map(OsString::from).collect();
            assert!(frequent(&words).is_none(), "{line}");
        }
    }

    #[test]
    fn a_start_in_the_background_is_parsed_as_by_all_definitions() {
        let words = |line: &str| -> Vec<OsString> {
            let words = ["claudine"].into_iter().chain(line.split(' '));
            words.map(OsString::from).collect()
        };
        let lines = [
            "serve --background --data-dir /tmp/x",
            "serve --background --data-dir /tmp/x --asked --slots 3 --keep 36h",
            "serve --background --data-dir /tmp/x --slots auto --paused",
            "serve --background --data-dir /tmp/x --draining",
            "serve --background --data-dir /tmp/x --keep 1h --killing",
        ];
        for line in lines {
            let alone = start_in_background(&words(line)).map(|cli| format!("{cli:?}"));
            let whole = Cli::try_parse_from(words(line)).unwrap();
            assert_eq!(alone, Some(format!("{whole:?}")), "{line}");
        }
        let others = [
            "serve",
            "serve --background --data-dir",
            "serve --background --slots 3 --data-dir /tmp/x",
            "serve --background --data-dir /tmp/x --slots",
            "serve --background --data-dir /tmp/x --slots -1",
            "serve --background --data-dir /tmp/x --paused --killing",
            "serve --background --data-dir /tmp/x --help",
            "up --background --data-dir /tmp/x",
        ];
        for line in others {
            assert!(start_in_background(&words(line)).is_none(), "{line}");
        }
    }

    #[test]
    fn every_alias_of_a_frequent_command_leads_to_its_definition() {
        for command in Cli::command().get_subcommands() {
            let name = command.get_name();
            let Some((found, _)) = definition(name) else {
                continue;
            };
            assert_eq!(found, name);
            for alias in command.get_all_aliases() {
                assert_eq!(
                    definition(alias).map(|(name, _)| name),
                    Some(name),
                    "{alias}"
                );
            }
        }
    }

    #[test]
    fn a_prompt_that_clap_took_for_a_dependency_is_found() {
        let check = |arguments: &[&str], expected: Option<(Option<&str>, &[&str])>| {
            let words = ["claudine", "delegate"].iter().chain(arguments);
            let found = match parse(words.map(OsString::from).collect()) {
                Ok(cli) => match cli.verb {
                    Verb::Asking(Asking::Delegate(delegate)) => {
                        Some((delegate.prompt, delegate.maybe_prompts))
                    }
                    _ => None,
                },
                Err(_) => None,
            };
            let expected = expected.map(|(prompt, maybe)| {
                let maybe: Vec<String> = maybe.iter().map(|it| (*it).to_owned()).collect();
                (prompt.map(str::to_owned), maybe)
            });
            assert_eq!(found, expected, "{arguments:?}");
        };
        let is = |prompt: &'static str| Some((Some(prompt), &[][..]));
        check(&["Fix it"], is("Fix it"));
        check(&["Fix it", "--depends-on", "a", "b"], is("Fix it"));
        check(&["--depends-on=a", "Fix it"], is("Fix it"));
        check(&["--depends-on", "a", "--", "Fix it"], is("Fix it"));
        let front = "--- \ntitle: x\n--- \nDo it.";
        check(&[front], is(front));
        check(&["- do this"], is("- do this"));
        check(&["--depends-on", "a", "- do this"], is("- do this"));
        let one_of = |prompts: &'static [&'static str]| Some((None, prompts));
        check(&["--depends-on", "a", "b", "Fix it"], one_of(&["Fix it"]));
        check(&["--with-output-of", "a", "Fix"], one_of(&["Fix"]));
        check(&["--with-output-of", "a", "-"], one_of(&["-"]));
        check(
            &["--depends-on", "a", "Fix it", "--name", "x"],
            one_of(&["Fix it"]),
        );
        check(
            &[
                "--depends-on",
                "a",
                "b",
                "--hold",
                "--with-output-of",
                "c",
                "Fix",
            ],
            one_of(&["b", "Fix"]),
        );
        check(&["--depends-on", "a"], None);
        check(&["--depends-on", "a", "--hold"], None);
        check(&["--depends-on", "Fix it"], None);
        check(&["--name", "x"], None);
        check(&["--colour=red"], None);
        check(&[], None);
    }

    #[test]
    fn the_error_for_a_negative_number_gives_the_reason() {
        let check = |arguments: &[&str], expected: &str| {
            let words = ["claudine"].iter().chain(arguments);
            let refused = parse(words.map(OsString::from).collect()).unwrap_err();
            let refused = refused.to_string();
            assert!(refused.contains(expected), "{arguments:?}: {refused}");
        };
        check(
            &["run", "--retries", "-1", "--", "true"],
            "-1 is not in 0..=1000",
        );
        check(
            &["run", "--retries", "99999999999", "--", "true"],
            "99999999999 is not in 0..=1000",
        );
        check(&["list", "-n", "-1"], "-1 is not in 1..=1000");
        check(&["logs", "--attempt", "-2"], "invalid value '-2'");
        // `-q` is parsed as an option, and not as the value of `--name`.
        check(&["list", "--name", "-q"], "a value is required");
        check(&["list", "-1"], "unexpected argument '-1'");
    }

    #[test]
    fn run_needs_no_double_dash_before_the_command() {
        let check = |arguments: &[&str], expected: Option<&[&str]>| {
            let words = ["claudine", "run"].iter().chain(arguments);
            let found = match parse(words.map(OsString::from).collect()) {
                Ok(cli) => match cli.verb {
                    Verb::Asking(Asking::Run(run)) => Some(run.command),
                    _ => None,
                },
                Err(_) => None,
            };
            assert_eq!(
                found.as_deref(),
                expected
                    .map(|it| it.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>())
                    .as_deref(),
                "{arguments:?}"
            );
        };
        check(&["cargo", "test"], Some(&["cargo", "test"]));
        check(&["--", "cargo", "test"], Some(&["cargo", "test"]));
        check(&["--hold", "make", "-j2"], Some(&["make", "-j2"]));
        // Everything after the first word belongs to the command, even if it looks like an option.
        check(
            &["cargo", "test", "--wait", "--", "--nocapture"],
            Some(&["cargo", "test", "--wait", "--", "--nocapture"]),
        );
        check(
            &["--", "cargo", "test", "--", "-q"],
            Some(&["cargo", "test", "--", "-q"]),
        );
        check(&["--", "--odd"], Some(&["--odd"]));
        check(&["--wiat", "make"], None);
        check(&["--script", "true", "make"], None);
        check(&[], None);
    }

    #[test]
    fn a_command_that_was_taken_for_tasks_is_named_in_the_error() {
        let check = |arguments: &[&str], expected: &str| {
            let words = ["claudine", "run"].iter().chain(arguments);
            let refused = parse(words.map(OsString::from).collect()).unwrap_err();
            let refused = refused.to_string();
            assert!(refused.contains(expected), "{arguments:?}: {refused}");
        };
        check(
            &["--depends-on-success", "a", "echo", "hi there"],
            "`echo 'hi there'` was taken for tasks of --depends-on-success",
        );
        check(&["--hold", "--depends-on", "a", "make"], "`-- make`");
        check(&["--depends-on", "a"], "required arguments");
        check(&["--depends-on", "a", "b", "--hold"], "required arguments");
    }

    #[test]
    fn a_command_for_one_task_refuses_a_graph_and_names_the_command_that_lists_its_tasks() {
        let check = |line: &str, expected: Option<&str>| {
            let words = ["claudine"].into_iter().chain(line.split(' '));
            let refused = parse(words.map(OsString::from).collect()).unwrap_err();
            let hint = match &refused {
                Failure::App(error) => error.hint.as_deref(),
                _ => None,
            };
            let expected = expected
                .map(|graph| format!("`claudine list --graph {graph}` lists the tasks of a graph"));
            assert_eq!(hint, expected.as_deref(), "{line}: {refused}");
        };
        for command in TAKE_ONE_TASK {
            check(&format!("{command} --graph release"), Some("release"));
            check(
                &format!("{command} a --graph=release --json"),
                Some("release"),
            );
        }
        check("log --graph a;b", Some("'a;b'"));
        check("why --graph", Some("NAME"));
        check("why --graph --json", Some("NAME"));
        check("why --limit 3 --graph release", None);
        check("capacity --graph release", None);
    }

    #[test]
    fn an_argument_with_invalid_utf8_or_a_nul_is_refused_with_its_position() {
        let check = |arguments: &[&[u8]], expected: &str| {
            let arguments = arguments
                .iter()
                .map(|argument| OsString::from_vec(argument.to_vec()))
                .collect();
            assert_eq!(parse(arguments).unwrap_err().to_string(), expected);
        };
        check(
            &[b"claudine", b"run", b"--", b"echo", b"a\xFFb"],
            "argument 4 is not valid UTF-8: \"a\u{FFFD}b\"",
        );
        check(
            &[b"claudine", b"delegate", b"a\0b"],
            "argument 2 has a NUL character at byte 1",
        );
    }
}
