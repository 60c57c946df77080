//! How a command ends: its exit code, and what it says when something went wrong. Decided here, once.

use std::{io, process::ExitCode};

use super::{failure::Failure, output};
use crate::{api::status, app::TaskRow};

/// Says it on standard error; the exit code.
pub(super) fn report(failure: Failure) -> ExitCode {
    match failure {
        Failure::Clap(error) => {
            if error.use_stderr() {
                // What it quotes of the command line is anybody's text.
                output::say(&error.render().to_string());
                return status::USAGE.into();
            }
            // Nobody is left to tell if help cannot be printed.
            drop(error.print());
            ExitCode::SUCCESS
        }
        // The reader of the output has seen enough.
        Failure::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Failure::Output(_) => say(&failure, None, status::CLAUDINE),
        Failure::Usage(_) => say(
            &failure,
            Some("`claudine --help` shows what there is"),
            status::USAGE,
        ),
        Failure::App(ref error) => {
            say(&failure, error.hint.as_deref(), status::of(error.kind).exit)
        }
    }
}

fn say(failure: &Failure, hint: Option<&str>, code: u8) -> ExitCode {
    output::say(&format!("error: {failure}"));
    if let Some(hint) = hint {
        output::say(&format!("hint: {hint}"));
    }
    code.into()
}

/// The exit code that stands for a finished task.
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
        Some("cancelled") => signal.or(own).unwrap_or(status::INTERRUPTED),
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
    fn a_task_has_the_exit_code_of_its_end() {
        let check = |outcome: &str, code: Option<i32>, signal: Option<i32>, expected: u8| {
            let task =
                task(serde_json::json!({"outcome": outcome, "exit_code": code, "signal": signal}));
            assert_eq!(of_task(&task), expected, "{outcome} {code:?} {signal:?}");
        };
        check("succeeded", Some(0), None, 0);
        // An agent's result decides, not its exit code.
        check("succeeded", Some(1), None, 0);
        check("failed", Some(3), None, 3);
        check("failed", Some(0), None, 1);
        check("failed", Some(300), None, 1);
        check("failed", None, None, 1);
        check("failed", None, Some(9), 137);
        check("timed_out", None, Some(15), 124);
        check("cancelled", Some(0), None, 130);
        check("cancelled", None, Some(15), 143);
        check("cancelled", None, None, 130);
        check("lost", None, None, 1);
        check("upstream_failed", None, None, 1);
    }
}
