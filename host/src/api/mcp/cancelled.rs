//! The answer to the cancellation of a whole graph.

use super::wording;
use crate::{
    app::{AppError, Still, TaskActed, TasksActed},
    text::{short_id, shortened},
};

/// Limit of the warnings in the answer to one call, and of the reasons of failures.
const SHOWN_TEXTS: usize = 5;
/// Size limit of each of several reasons.
const REASON_CHARS: usize = 300;

/// The message about the cancellation of a graph, as an error if it failed for any task. The error
/// has no hint of its own, because the tasks may have failed for different reasons: each hint is
/// beside its reason in the message.
pub(super) fn graph_cancelled(acted: TasksActed) -> Result<String, AppError> {
    let message = told(&acted);
    match acted.tasks.into_iter().find_map(|task| task.error) {
        Some(first) => Err(AppError {
            message,
            hint: None,
            ..first
        }),
        None => Ok(message),
    }
}

/// Says how many tasks of a graph were cancelled, and with how many this failed, with the first
/// reasons and the first warnings. A hint that several reasons have is given once.
fn told(acted: &TasksActed) -> String {
    let told = match (acted.done, acted.failed) {
        (0, 0) => "No task of the graph is left to cancel".to_owned(),
        (0, _) => "No task of the graph cancelled".to_owned(),
        (1, _) => "1 task of the graph cancelled".to_owned(),
        (count, _) => format!("{count} tasks of the graph cancelled"),
    };
    let is_stopping = |task: &&TaskActed| task.still == Some(Still::Stopping) || task.already;
    let stopping = match acted.tasks.iter().filter(is_stopping).count() {
        0 => String::new(),
        1 => "; 1 of them is still stopping".to_owned(),
        count => format!("; {count} of them are still stopping"),
    };
    let failed = match acted.failed {
        0 => String::new(),
        1 => "; 1 task could not be cancelled".to_owned(),
        count => format!("; {count} tasks could not be cancelled"),
    };
    let mut given: Vec<&str> = Vec::new();
    let errors = acted.tasks.iter().filter_map(|task| {
        let error = task.error.as_ref()?;
        let why = shortened(&error.message, REASON_CHARS);
        let hint = error.hint.as_deref().filter(|hint| !given.contains(hint));
        given.extend(hint);
        let hint = hint.map_or_else(String::new, |hint| format!(" ({})", wording::hint(hint)));
        Some(format!("; task {}: {why}{hint}", short_id(&task.id)))
    });
    let settling = acted.tasks.iter();
    let settling = settling.filter(|task| task.still == Some(Still::Settling));
    let still = Still::may_succeed(settling.count());
    let still = still.map_or_else(String::new, |still| format!("; {still}"));
    let warnings = acted.tasks.iter().filter_map(|task| {
        let warning = task.warning.as_deref()?;
        Some(format!("; task {}: {warning}", short_id(&task.id)))
    });
    // The counts come before the reasons, because a long message is cut at its end.
    told + &stopping
        + &still
        + &failed
        + &first_of(errors, "failure")
        + &first_of(warnings, "warning")
}

/// The first of these texts, and how many more there are of this `kind`.
fn first_of(mut texts: impl Iterator<Item = String>, kind: &str) -> String {
    let first: String = texts.by_ref().take(SHOWN_TEXTS).collect();
    let more = match texts.count() {
        0 => String::new(),
        1 => format!("; 1 more {kind}"),
        more => format!("; {more} more {kind}s"),
    };
    first + &more
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::app::ErrorKind;

    #[test]
    fn the_answer_to_the_cancellation_of_a_graph_counts_its_tasks_and_has_the_warnings() {
        let check = |tasks: usize, warned: usize, expected: &str| {
            let task = |at: usize| TaskActed {
                id: format!("t{at}"),
                warning: (at < warned).then(|| "look out".to_owned()),
                ..TaskActed::default()
            };
            let acted = TasksActed {
                done: tasks,
                tasks: (0..tasks).map(task).collect(),
                ..TasksActed::default()
            };
            assert_eq!(told(&acted), expected);
        };
        check(0, 0, "No task of the graph is left to cancel");
        check(1, 0, "1 task of the graph cancelled");
        let one = "2 tasks of the graph cancelled; task t0: look out";
        check(2, 1, one);
        let first: Vec<String> = (0..SHOWN_TEXTS)
            .map(|at| format!("task t{at}: look out"))
            .collect();
        let first = format!("9 tasks of the graph cancelled; {}", first.join("; "));
        check(9, SHOWN_TEXTS, &first);
        check(9, SHOWN_TEXTS + 1, &format!("{first}; 1 more warning"));
        check(9, SHOWN_TEXTS + 2, &format!("{first}; 2 more warnings"));
        let settling = TaskActed {
            still: Some(Still::Settling),
            ..TaskActed::default()
        };
        let acted = TasksActed {
            done: 2,
            tasks: vec![settling, TaskActed::default()],
            ..TasksActed::default()
        };
        assert_eq!(
            told(&acted),
            "2 tasks of the graph cancelled; 1 of them may still succeed, because their work is \
             being settled"
        );
        let stopping = TaskActed {
            still: Some(Still::Stopping),
            ..TaskActed::default()
        };
        let acted = TasksActed {
            done: 2,
            tasks: vec![stopping, TaskActed::default()],
            ..TasksActed::default()
        };
        assert_eq!(
            told(&acted),
            "2 tasks of the graph cancelled; 1 of them is still stopping"
        );
    }

    #[test]
    fn the_answer_to_the_cancellation_of_a_graph_names_each_of_the_first_failures() {
        let check = |done: usize, failed: usize, expected: &str| {
            let task = |at: usize| TaskActed {
                id: format!("t{at}"),
                error: (at < failed)
                    .then(|| AppError::new(ErrorKind::Conflict, format!("no {at}"))),
                ..TaskActed::default()
            };
            let acted = TasksActed {
                found: done + failed,
                done,
                failed,
                tasks: (0..done + failed).map(task).collect(),
                ..TasksActed::default()
            };
            assert_eq!(told(&acted), expected);
        };
        let one = "No task of the graph cancelled; 1 task could not be cancelled; task t0: no 0";
        check(0, 1, one);
        let two = "3 tasks of the graph cancelled; 2 tasks could not be cancelled; task t0: no 0; \
                   task t1: no 1";
        check(3, 2, two);
        let first: Vec<String> = (0..SHOWN_TEXTS)
            .map(|at| format!("task t{at}: no {at}"))
            .collect();
        let many = format!(
            "1 task of the graph cancelled; 9 tasks could not be cancelled; {}; 4 more failures",
            first.join("; ")
        );
        check(1, 9, &many);
        let long = TaskActed {
            id: "t0".to_owned(),
            error: Some(AppError::new(ErrorKind::Conflict, "x".repeat(9_000))),
            ..TaskActed::default()
        };
        let acted = TasksActed {
            failed: 1,
            tasks: vec![long],
            ..TasksActed::default()
        };
        assert!(told(&acted).chars().count() < 2 * REASON_CHARS);
    }

    #[test]
    fn each_failure_of_the_cancellation_of_a_graph_keeps_its_hint() {
        let failed = |id: &str, hint: Option<&str>| TaskActed {
            id: id.to_owned(),
            error: Some(AppError {
                hint: hint.map(str::to_owned),
                ..AppError::new(ErrorKind::Conflict, "no")
            }),
            ..TaskActed::default()
        };
        let acted = TasksActed {
            failed: 4,
            tasks: vec![
                failed("t0", Some("see `claudine why t0`")),
                failed("t1", Some("see ListTasks")),
                failed("t2", None),
                failed("t3", Some("see ListTasks")),
            ],
            ..TasksActed::default()
        };
        let refused = graph_cancelled(acted).unwrap_err();
        let says = "; task t0: no (see TaskStatus); task t1: no (see ListTasks); task t2: no; \
                    task t3: no";
        assert!(refused.message.ends_with(says), "{refused}");
        assert_eq!(refused.hint, None);
        let acted = TasksActed {
            done: 1,
            ..TasksActed::default()
        };
        let told = graph_cancelled(acted).unwrap();
        assert_eq!(told, "1 task of the graph cancelled");
    }
}
