//! From the words of the command line to a checked [`Cli`].

use std::ffi::OsString;

use clap::{CommandFactory, Parser, error::ErrorKind};

use super::{Asking, Cli, Verb, failure::Failure};

/// Parses, after a look at what no command takes: clap does not say which of the arguments it could not read.
pub(super) fn parse(arguments: Vec<OsString>) -> Result<Cli, Failure> {
    check(&arguments)?;
    Cli::try_parse_from(&arguments)
        .or_else(|error| with_last_as_prompt(&arguments, &error).ok_or(Failure::Clap(error)))
}

/// The same with the last argument of `delegate` as its prompt, if that is what it can only be: one
/// that an option before it took for one of its own (`--depends-on tests 'Fix it'`), or one that
/// begins as an option does and has spaces in it.
fn with_last_as_prompt(arguments: &[OsString], error: &clap::Error) -> Option<Cli> {
    let (last, before) = arguments.split_last()?;
    let text = last.to_str()?;
    let is_prompt = match error.kind() {
        ErrorKind::MissingRequiredArgument => !text.starts_with('-'),
        ErrorKind::UnknownArgument => text.starts_with('-') && text.contains(char::is_whitespace),
        _ => false,
    };
    if !is_prompt || before.iter().any(|argument| argument == "--") {
        return None;
    }
    let mut separated = before.to_vec();
    separated.extend(["--".into(), last.clone()]);
    let mut cli = Cli::try_parse_from(separated).ok()?;
    let Verb::Asking(Asking::Delegate(delegate)) = &mut cli.verb else {
        return None;
    };
    delegate.may_be_a_task = error.kind() == ErrorKind::MissingRequiredArgument;
    Some(cli)
}

/// The command that is meant, by its names and not by aliases: `worktree merge`.
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

/// Whether a command line that cannot be read asks for JSON.
pub(super) fn asks_for_json(arguments: &[OsString]) -> bool {
    let own = arguments.iter().take_while(|argument| *argument != "--");
    let mut own = own.filter_map(|argument| argument.to_str());
    own.any(|argument| argument == "--json" || argument.starts_with("--json="))
}

/// Every argument is text: it is kept with the task, shown, and sent as JSON.
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
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_prompt_that_was_taken_for_something_else_is_the_prompt() {
        let check = |arguments: &[&str], expected: Option<(&str, bool)>| {
            let words = ["claudine", "delegate"].iter().chain(arguments);
            let found = match parse(words.map(OsString::from).collect()) {
                Ok(cli) => match cli.verb {
                    Verb::Asking(Asking::Delegate(delegate)) => {
                        Some((delegate.prompt.unwrap(), delegate.may_be_a_task))
                    }
                    _ => None,
                },
                Err(_) => None,
            };
            let found = found
                .as_ref()
                .map(|(prompt, guessed)| (prompt.as_str(), *guessed));
            assert_eq!(found, expected, "{arguments:?}");
        };
        check(&["Fix it"], Some(("Fix it", false)));
        check(
            &["--depends-on", "a", "b", "Fix it"],
            Some(("Fix it", true)),
        );
        check(&["--with-output-of", "a", "Fix"], Some(("Fix", true)));
        check(
            &["--depends-on", "a", "--", "Fix it"],
            Some(("Fix it", false)),
        );
        check(
            &["--- \ntitle: x\n--- \nDo it."],
            Some(("--- \ntitle: x\n--- \nDo it.", false)),
        );
        check(&["- do this"], Some(("- do this", false)));
        check(&["--depends-on", "a"], None);
        check(&["--depends-on", "a", "--hold"], None);
        check(&["--colour=red"], None);
        check(&[], None);
    }

    #[test]
    fn json_is_asked_for_with_fields_or_without() {
        let check = |arguments: &[&str], expected: Option<(&[&str], &str)>| {
            let words = ["claudine"].iter().chain(arguments).map(OsString::from);
            let words: Vec<OsString> = words.collect();
            let cli = parse(words.clone()).unwrap();
            let found = cli.common.json().then(|| cli.common.fields());
            let found = found.map(|fields| (fields.join(" "), command(&words)));
            let expected = expected.map(|(fields, command)| (fields.join(" "), command.to_owned()));
            assert_eq!(found, expected, "{arguments:?}");
        };
        check(&["list"], None);
        check(&["list", "--json"], Some((&[], "list")));
        check(&["--json", "ls", "-q"], Some((&[], "list")));
        check(&["status", "--json", "fix"], Some((&[], "status")));
        check(
            &["worktree", "merge", "--json=task,", "fix"],
            Some((&["task"], "worktree merge")),
        );
        check(
            &["list", "--json=id, state"],
            Some((&["id", "state"], "list")),
        );
        check(
            &["delegate", "--depends-on", "a", "Fix it", "--json=id"],
            Some((&["id"], "delegate")),
        );
        check(&["run", "--", "x", "--json"], None);
    }

    #[test]
    fn an_argument_that_is_no_text_is_named_by_its_position() {
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
