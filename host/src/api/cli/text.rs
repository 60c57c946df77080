//! Tasks in words: their state, their times, how they ended.

use std::time::Duration;

use claudine_domain::time::Timestamp;

use super::terminal::Colour;
use crate::{app::TaskRow, clock};
pub(super) use crate::{
    text::span,
    units::{bytes_text as bytes, dollars_text as usd},
};

/// One word for where a task stands: its outcome once it has one, its phase where that says more than `running`.
pub(super) fn state(task: &TaskRow) -> String {
    match (&task.outcome, &task.phase) {
        (Some(outcome), _) => outcome.clone(),
        (None, Some(phase)) if phase != "live" => phase.clone(),
        _ => task.state.clone(),
    }
}

pub(super) fn colour(task: &TaskRow) -> Colour {
    match (task.outcome.as_deref(), task.state.as_str()) {
        (Some("succeeded"), _) => Colour::Green,
        (Some("cancelled" | "skipped"), _) => Colour::Grey,
        (Some(_), _) => Colour::Red,
        (None, "running") => Colour::Cyan,
        _ => Colour::Yellow,
    }
}

/// `task_… failed: exited with code 3`
pub(super) fn ended(task: &TaskRow) -> String {
    let mut line = format!("{} {}", task.id, state(task));
    if let Some(reason) = &task.reason {
        line.push_str(": ");
        line.push_str(&reason.message);
    }
    line
}

/// How long ago an RFC 3339 time was; a time in the future or one that cannot be read is shown as it is.
pub(super) fn ago(time: &str, now: Timestamp) -> String {
    between(Some(time), now).map_or_else(|| time.to_owned(), span)
}

/// How long a task has run, or ran.
pub(super) fn ran(task: &TaskRow, now: Timestamp) -> Option<String> {
    let end = task
        .finished_at
        .as_deref()
        .and_then(millis)
        .map_or(now, Timestamp);
    between(task.started_at.as_deref(), end).map(span)
}

fn between(start: Option<&str>, end: Timestamp) -> Option<Duration> {
    end.0
        .checked_sub(millis(start?)?)
        .map(Duration::from_millis)
}

fn millis(time: &str) -> Option<u64> {
    let time: jiff::Timestamp = time.parse().ok()?;
    u64::try_from(time.as_millisecond()).ok()
}

pub(super) fn now() -> Timestamp {
    clock::wall()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::cli::exit::tests::task;

    #[test]
    fn times_are_told_as_spans() {
        let now = Timestamp(1_795_359_153_042);
        assert_eq!(ago("2026-11-22T14:51:33.042Z", now), "1m00s");
        assert_eq!(ago("soon", now), "soon");
        let mut task = task(serde_json::json!({"started_at": "2026-11-22T14:51:33.042Z"}));
        assert_eq!(ran(&task, now).as_deref(), Some("1m00s"));
        task.finished_at = Some("2026-11-22T14:51:34.542Z".to_owned());
        assert_eq!(ran(&task, now).as_deref(), Some("1.5s"));
    }

    #[test]
    fn a_task_stands_where_its_outcome_or_phase_says() {
        let check =
            |json: serde_json::Value, expected: &str| assert_eq!(state(&task(json)), expected);
        check(serde_json::json!({}), "succeeded");
        check(
            serde_json::json!({"state": "running", "outcome": null, "phase": "live"}),
            "running",
        );
        check(
            serde_json::json!({"state": "running", "outcome": null, "phase": "stopping"}),
            "stopping",
        );
        check(
            serde_json::json!({"state": "ready", "outcome": null}),
            "ready",
        );
    }
}
