//! The end of a command: its exit code and its error message, decided in one place.

use std::process::ExitCode;

use schemars::JsonSchema;
use serde::Serialize;

use super::{candidates, failure::Failure, output, terminal::Look, times};
use crate::{
    api::status,
    app::{Candidate, ErrorKind, Mistake, TaskRow},
    stdout,
    text::shortened,
};

/// Length limit of a message in JSON.
const MESSAGE_CHARS: usize = 8_000;

/// Limit of the mistakes that are shown without `--json`.
const MISTAKES: usize = 20;

/// An error as `--json` prints it, on the last line of standard error.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct ErrorAnswer {
    error: ErrorView,
}

#[derive(Debug, Serialize, JsonSchema)]
struct ErrorView {
    class: ErrorKind,
    message: String,
    /// Advice on how to fix the error.
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
    /// All mistakes, if the request may have several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<Mistake>,
    /// Tasks that the name or id may mean, newest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    candidates: Vec<Candidate>,
}

/// Prints the error on standard error, as JSON for a program, and returns the exit code.
pub(super) fn report(failure: Failure, json: bool) -> ExitCode {
    match &failure {
        Failure::Clap(error) if !error.use_stderr() => {
            return match stdout::check().and_then(|()| error.print()) {
                Ok(()) => ExitCode::SUCCESS,
                Err(unwritten) => report(unwritten.into(), json),
            };
        }
        // A reader that closes the pipe has read all it wants.
        failure if failure.is_closed_pipe() => return ExitCode::SUCCESS,
        _ => {}
    }
    let code = match &failure {
        Failure::Clap(_) | Failure::Usage(_) => status::USAGE,
        Failure::Output(_) => status::CLAUDINE,
        Failure::App(error) => status::of(error.kind).exit,
    };
    if json {
        output::error(&ErrorAnswer {
            error: told(failure),
        });
    } else {
        say(&failure);
    }
    code.into()
}

fn say(failure: &Failure) {
    match failure {
        // Printed by `say`, which escapes control characters, because clap quotes the command line.
        Failure::Clap(error) => output::say(&error.render().to_string()),
        Failure::App(error) if !error.errors.is_empty() => {
            error.errors.iter().take(MISTAKES).for_each(say_mistake);
            let more = error.errors.len().saturating_sub(MISTAKES);
            if more > 0 {
                output::say(&format!("error: and {more} more mistakes"));
            }
            if let Some(hint) = &error.hint {
                output::say(&format!("hint: {hint}"));
            }
        }
        Failure::App(error) => {
            output::say(&format!("error: {error}"));
            let choice = candidates::table(&error.candidates, Look::of_stderr(), times::now());
            output::say_painted(&choice);
            if let Some(hint) = &error.hint {
                output::say(&format!("hint: {hint}"));
            }
        }
        Failure::Usage(_) | Failure::Output(_) => output::say(&format!("error: {failure}")),
    }
}

fn say_mistake(mistake: &Mistake) {
    let snippet = mistake.snippet.iter().flat_map(|snippet| ["\n", snippet]);
    output::say(&format!("error: {mistake}{}", snippet.collect::<String>()));
    if let Some(hint) = &mistake.hint {
        output::say(&format!("hint: {hint}"));
    }
}

fn told(failure: Failure) -> ErrorView {
    let (mut errors, mut candidates) = (Vec::new(), Vec::new());
    let (class, message, hint) = match failure {
        Failure::Clap(error) => {
            let (message, hint) = of_clap(&error.render().to_string());
            (ErrorKind::Invalid, message, hint)
        }
        Failure::Usage(message) => (ErrorKind::Invalid, message, None),
        Failure::Output(_) => (ErrorKind::Internal, failure.to_string(), None),
        Failure::App(error) => {
            (errors, candidates) = (error.errors, error.candidates);
            (error.kind, error.message, error.hint)
        }
    };
    ErrorView {
        class,
        message: shortened(&message, MESSAGE_CHARS),
        hint,
        errors,
        candidates,
    }
}

/// Message and tip of clap's error, without the usage below them.
fn of_clap(shown: &str) -> (String, Option<String>) {
    let one_line = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let said = shown.split("\n\nUsage:").next().unwrap_or(shown);
    let said = said.strip_prefix("error: ").unwrap_or(said);
    match said.split_once("\n\n  tip: ") {
        Some((message, tip)) => (one_line(message), Some(one_line(tip))),
        None => (one_line(said), None),
    }
}

/// Exit code for a finished task.
pub(super) fn of_task(task: &TaskRow) -> u8 {
    let own = task
        .exit_code
        .and_then(|code| u8::try_from(code).ok())
        .filter(|code| *code != 0);
    let signal = task
        .signal
        .and_then(|signal| u8::try_from(signal).ok())
        .and_then(|signal| signal.checked_add(128));
    match task.outcome.as_deref() {
        Some("succeeded") => 0,
        Some("timed_out") => status::TIMED_OUT,
        Some("cancelled") if task.started_at.is_some() => status::CANCELLED,
        Some("cancelled") => status::INTERRUPTED,
        _ => signal.or(own).unwrap_or(1),
    }
}

#[cfg(test)]
pub(in crate::api) mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::app::TaskView;

    pub(in crate::api) fn task(json: serde_json::Value) -> TaskView {
        let mut task = serde_json::json!({
            "id": "task_01kb2m8r4zq8w3v5x7y9abcdef", "name": null, "executor": "shell", "state": "done", "phase": null,
            "outcome": "succeeded", "reason": null, "culprit": null, "until": null, "held_by": null,
            "parent": null, "dependencies": [], "group": null, "priority": "P1", "labels": {}, "cwd": "/work",
            "summary": "true", "attempts": [], "created_at": "2026-11-22T14:51:33.042Z", "started_at": null,
            "finished_at": null, "exit_code": null, "signal": null, "output": null, "output_truncated": false,
            "cost_usd": null, "usage": null,
        });
        task.as_object_mut()
            .unwrap()
            .extend(json.as_object().unwrap().clone());
        serde_json::from_value(task).unwrap()
    }

    #[test]
    fn the_usage_is_cut_from_an_error_of_clap() {
        let check = |arguments: &[&str], message: &str, hint: Option<&str>| {
            let command = clap::Command::new("x")
                .arg(clap::arg!(--limit <N>))
                .arg(clap::arg!(<ID>));
            let error = command.try_get_matches_from(arguments).unwrap_err();
            let error = told(Failure::Clap(error));
            assert_eq!(
                (error.message.as_str(), error.hint.as_deref()),
                (message, hint)
            );
        };
        check(
            &["x", "--limt", "3", "a"],
            "unexpected argument '--limt' found",
            Some("a similar argument exists: '--limit'"),
        );
        check(
            &["x"],
            "the following required arguments were not provided: <ID>",
            None,
        );
    }

    #[test]
    fn the_exit_code_depends_on_the_outcome_exit_code_and_signal_of_the_task() {
        let check = |outcome: &str, code: Option<i32>, signal: Option<i32>, expected: u8| {
            let task =
                task(serde_json::json!({"outcome": outcome, "exit_code": code, "signal": signal}));
            assert_eq!(of_task(&task), expected, "{outcome} {code:?} {signal:?}");
        };
        check("succeeded", Some(0), None, 0);
        // The result of an agent counts, not the exit code of its program.
        check("succeeded", Some(1), None, 0);
        check("failed", Some(3), None, 3);
        check("failed", Some(0), None, 1);
        check("failed", Some(300), None, 1);
        check("failed", None, None, 1);
        check("failed", None, Some(9), 137);
        check("timed_out", None, Some(15), 124);
        check("cancelled", None, None, 130);
        check("lost", None, None, 1);
        check("upstream_failed", None, None, 1);
    }

    /// The code does not depend on the way in which the task's process ended.
    #[test]
    fn a_task_that_was_cancelled_while_it_ran_has_its_own_exit_code() {
        let check = |code: Option<i32>, signal: Option<i32>| {
            let task = task(serde_json::json!({
                "outcome": "cancelled", "started_at": "2026-11-22T14:51:34.042Z",
                "exit_code": code, "signal": signal,
            }));
            assert_eq!(of_task(&task), 143, "{code:?} {signal:?}");
        };
        check(Some(0), None);
        check(Some(7), None);
        check(None, Some(15));
        check(None, Some(9));
        check(None, None);
    }
}
