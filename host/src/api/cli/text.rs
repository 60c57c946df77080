//! Tasks in words: their state and its sign, how they ended.

use super::terminal::Colour;
pub(super) use super::times::{ago, now, ran, span};
use crate::app::{Counts, TaskRow, graph::Shade};
pub(super) use crate::units::{bytes_text as bytes, dollars_text as usd};

/// One word for where a task stands: its outcome once it has one, its phase where that says more than `running`.
pub(super) fn state(task: &TaskRow) -> String {
    match (&task.outcome, &task.phase) {
        (Some(outcome), _) => outcome.clone(),
        (None, Some(phase)) if phase != "live" => phase.clone(),
        _ => task.state.clone(),
    }
}

/// The same as a sign that is seen at a glance.
pub(super) fn mark(task: &TaskRow) -> &'static str {
    Shade::of(task.outcome.as_deref(), &task.state).mark()
}

pub(super) fn colour(task: &TaskRow) -> Colour {
    match (task.outcome.as_deref(), task.state.as_str()) {
        (Some("succeeded"), _) => Colour::Green,
        (Some("cancelled" | "skipped"), _) => Colour::Grey,
        (Some(_), _) => Colour::Red,
        (None, "running") => Colour::Cyan,
        (None, "held") => Colour::Magenta,
        _ => Colour::Yellow,
    }
}

/// `3 running`, `5 queued`: how many tasks stand where, without those of which there are none.
pub(super) fn standing(counts: &Counts) -> Vec<String> {
    let kinds = [
        (counts.running, "running"),
        (counts.queued, "queued"),
        (counts.held, "held"),
        (counts.failed, "failed"),
    ];
    let kinds = kinds.into_iter().filter(|(count, _)| *count > 0);
    kinds
        .map(|(count, kind)| format!("{count} {kind}"))
        .collect()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::cli::exit::tests::task;

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
