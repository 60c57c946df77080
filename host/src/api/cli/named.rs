//! Resolves tasks that the command line does not name: the newest, or those listed on standard
//! input.

use std::io::{self, BufRead, Read};

use super::{failure::Failure, output, session::Session, text};
use crate::app::{AppError, ErrorKind, TaskView};

/// Argument that means the tasks listed on standard input, one per line.
const STDIN: &str = "-";
/// Size limit of a list of tasks, enough for some hundred thousand ids.
const STDIN_LIMIT_BYTES: u64 = 16 << 20;

/// Reference to the task that was submitted last.
const LAST: &str = "@last";
/// Reference to the newest running task.
const RUNNING: &str = "@running";

/// The given task, or the newest.
pub(super) fn or_last(named: Option<String>) -> String {
    named.unwrap_or_else(|| LAST.to_owned())
}

/// Returns the given task. If none is given, returns the newest running task, or the newest task if
/// none runs, and prints a message that names it.
pub(super) async fn or_running(
    session: &Session,
    named: Option<String>,
) -> Result<String, Failure> {
    if let Some(named) = named {
        return Ok(named);
    }
    let running = session.client().status(RUNNING).await;
    let task = match running.map_err(AppError::from) {
        Err(error) if error.kind == ErrorKind::NotFound => session.client().status(LAST).await?,
        running => running?,
    };
    tell(session, &task);
    Ok(task.id.clone())
}

/// Returns the given task. If none is given, returns the newest task and prints a message that
/// names it.
pub(super) async fn or_last_told(
    session: &Session,
    named: Option<String>,
) -> Result<String, Failure> {
    if let Some(named) = named {
        return Ok(named);
    }
    let task = session.client().status(LAST).await?;
    tell(session, &task);
    Ok(task.id.clone())
}

fn tell(session: &Session, task: &TaskView) {
    if !session.json {
        output::say(&text::called(task));
    }
}

/// The given tasks, with `-` replaced by the tasks listed on standard input.
pub(super) fn several(named: Vec<String>) -> Result<Vec<String>, Failure> {
    if !named.iter().any(|task| task == STDIN) {
        return Ok(named);
    }
    let mut listed = Some(lines(&mut io::stdin().lock())?);
    let tasks = named.into_iter().flat_map(|task| {
        if task == STDIN {
            listed.take().unwrap_or_default()
        } else {
            vec![task]
        }
    });
    let tasks: Vec<String> = tasks.collect();
    if tasks.is_empty() {
        return Err(Failure::Usage(
            "standard input names no task; it should have an id or a name on each line".to_owned(),
        ));
    }
    Ok(tasks)
}

/// The lines that are not blank.
fn lines(input: &mut dyn BufRead) -> Result<Vec<String>, Failure> {
    let unread =
        |why: String| Failure::Usage(format!("cannot read the tasks on standard input: {why}"));
    let mut text = String::new();
    let read = input.take(STDIN_LIMIT_BYTES + 1).read_to_string(&mut text);
    read.map_err(|error| unread(error.to_string()))?;
    if text.len() as u64 > STDIN_LIMIT_BYTES {
        return Err(unread(format!(
            "the list is larger than {} MiB",
            STDIN_LIMIT_BYTES >> 20
        )));
    }
    let lines = text.lines().map(str::trim);
    Ok(lines
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn each_line_of_standard_input_names_a_task() {
        let check = |text: &str, expected: &[&str]| {
            assert_eq!(lines(&mut text.as_bytes()).unwrap(), expected, "{text:?}");
        };
        check("task_1\ntask_2\n", &["task_1", "task_2"]);
        check("nightly build\r\n\n  x7tqrp", &["nightly build", "x7tqrp"]);
        check("", &[]);
        assert!(lines(&mut &b"\xff"[..]).is_err());
    }

    #[test]
    fn standard_input_is_not_read_if_no_argument_is_a_dash() {
        let named = vec!["a".to_owned(), "--".to_owned()];
        assert_eq!(several(named.clone()).unwrap(), named);
    }
}
