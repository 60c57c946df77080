//! Texts about tasks: state, outcome and their symbols.

use std::fmt::Display;

use claudine_domain::time::Timestamp;

use super::terminal::{Colour, Look, Painted, harmless};
pub(super) use super::times::{ago, now, ran, span};
pub(super) use crate::units::{bytes_text as bytes, dollars_text as usd};
use crate::{
    app::{BudgetView, Counts, HeldBackView, TaskRow, graph::Shade},
    text::short_id,
};

/// The state of a task as one word: the outcome if the task has one, or the phase if the phase says
/// more than `running`.
pub(super) fn state(task: &TaskRow) -> String {
    match (&task.outcome, &task.phase) {
        (Some(outcome), _) => outcome.clone(),
        (None, Some(phase)) if phase != "live" => phase.clone(),
        _ => task.state.clone(),
    }
}

/// The number of tasks: `1 task` or `3 tasks`.
pub(super) fn tasks<N: Display + PartialEq + From<u8>>(count: N) -> String {
    if count == N::from(1) {
        return "1 task".to_owned();
    }
    format!("{count} tasks")
}

/// The message about dependants that wait for tasks that run again: `those` is `it` or `them`.
pub(super) fn wait_again(dependants: usize, those: &str) -> String {
    match dependants {
        1 => format!("1 more task waits for {those} again"),
        _ => format!("{dependants} more tasks wait for {those} again"),
    }
}

/// The message about tasks whose output cannot be written.
pub(super) fn held_back(held: &HeldBackView) -> String {
    let reason = &held.reason;
    match held.tasks {
        1 => format!("1 task does not end before its output can be written: {reason}"),
        count => format!("{count} tasks do not end before their output can be written: {reason}"),
    }
}

/// The hint for tasks whose output cannot be written.
pub(super) fn let_it_be_written(data_dir: &str) -> String {
    format!("if the disk of {data_dir} is full, free space there")
}

/// A symbol for the state.
pub(super) fn mark(task: &TaskRow) -> &'static str {
    Shade::of(task.outcome.as_deref(), &task.state, task.phase.as_deref()).mark()
}

/// Symbol and colour for the word of a state or an outcome.
pub(super) fn look_of_word(word: &str) -> (&'static str, Colour) {
    let shade = match word {
        "blocked" | "waiting" | "ready" | "held" | "running" => Shade::of(None, word, None),
        outcome => Shade::of(Some(outcome), "done", None),
    };
    let colour = match shade {
        Shade::Waiting => Colour::Yellow,
        Shade::Held => Colour::Magenta,
        Shade::Running => Colour::Cyan,
        Shade::Succeeded => Colour::Green,
        Shade::Failed | Shade::UpstreamFailed => Colour::Red,
        Shade::Dropped => Colour::Grey,
    };
    (shade.mark(), colour)
}

pub(super) fn colour(task: &TaskRow) -> Colour {
    match (task.outcome.as_deref(), task.state.as_str()) {
        (Some("succeeded"), _) if !doubts(task).is_empty() => Colour::Yellow,
        (Some("succeeded"), _) => Colour::Green,
        (Some("cancelled" | "skipped"), _) => Colour::Grey,
        (Some(_), _) => Colour::Red,
        (None, "running") if !task.has_ended() => Colour::Cyan,
        (None, "held") => Colour::Magenta,
        _ => Colour::Yellow,
    }
}

/// Reasons to check the success of an agent: `no changes`, `2 denied`.
pub(super) fn doubts(task: &TaskRow) -> Vec<String> {
    if task.outcome.as_deref() != Some("succeeded") {
        return Vec::new();
    }
    let none = (task.files_changed == Some(0)).then(|| "no changes".to_owned());
    let denied = (task.denied > 0).then(|| format!("{} denied", task.denied));
    none.into_iter().chain(denied).collect()
}

/// The daily budget: `$3.20 of $10.00 spent today, $6.80 left`.
pub(super) fn budget(budget: &BudgetView) -> String {
    format!(
        "{} of {} spent today, {} left",
        usd(budget.spent_usd),
        usd(budget.daily_usd),
        usd(budget.left_usd)
    )
}

/// The part of a cost that no executor has reported: `$3.20 is assumed: no cost was reported`.
pub(super) fn assumed(assumed_usd: f64) -> String {
    format!("{} is assumed: no cost was reported", usd(assumed_usd))
}

/// The part of a cost that nobody knows: `cost unknown of 2 attempts: no cost was reported`.
pub(super) fn unknown_cost(attempts: usize) -> Option<String> {
    let of = match attempts {
        0 => return None,
        1 => "1 attempt".to_owned(),
        more => format!("{more} attempts"),
    };
    Some(format!("cost unknown of {of}: no cost was reported"))
}

/// Whether the cost exceeds the budget.
pub(super) fn is_over_budget(task: &TaskRow) -> bool {
    matches!((task.cost_usd, task.budget_usd), (Some(cost), Some(budget)) if cost > budget)
}

/// A short summary of the end: `✓ 15s · $0.02 · 3 files · 2 denied`.
pub(super) fn glance(task: &TaskRow, now: Timestamp) -> String {
    let first = match ran(task, now) {
        Some(ran) => format!("{} {ran}", mark(task)),
        None => mark(task).to_owned(),
    };
    let cost = task.cost_usd.filter(|cost| *cost > 0.0).map(usd);
    let files = match task.files_changed {
        None | Some(0) => None,
        Some(1) => Some("1 file".to_owned()),
        Some(count) => Some(format!("{count} files")),
    };
    let rest = cost.into_iter().chain(files).chain(doubts(task));
    let parts: Vec<String> = std::iter::once(first).chain(rest).collect();
    parts.join(" · ")
}

/// Number of tasks in each state, without zeros: `3 running`, `5 queued`.
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

/// Name and short id of a task: `nightly (x7tqrp)`, `x7tqrp`.
pub(super) fn called(task: &TaskRow) -> String {
    let short = short_id(&task.id);
    match &task.name {
        Some(name) => format!("{name} ({short})"),
        None => short.to_owned(),
    }
}

/// The end of a task: `nightly (x7tqrp) failed: exited with code 3`.
pub(super) fn ended(task: &TaskRow) -> String {
    let mut line = format!("{} {}", called(task), state(task));
    if let Some(reason) = &task.reason {
        line.push_str(": ");
        line.push_str(&reason.message);
    }
    line
}

/// The end of a task with a symbol and colours: `✗ nightly (x7tqrp) failed: exited with code 3`.
pub(super) fn ended_painted(task: &TaskRow, look: Look) -> Painted {
    let mut line = Painted::default();
    look.paint(&mut line, colour(task), mark(task));
    line.push(&format!(" {} ", harmless(&called(task))));
    look.paint(&mut line, colour(task), &state(task));
    if let Some(reason) = &task.reason {
        line.push(&format!(": {}", harmless(&reason.message)));
    }
    line.push("\n");
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::cli::exit::tests::task;

    #[test]
    fn the_end_of_a_task_has_a_symbol_on_a_terminal() {
        let task = task(serde_json::json!({
            "name": "fix", "outcome": "failed", "reason": {"class": "exit", "message": "exited with\ncode 3"},
        }));
        let shown = |colours| {
            let look = Look {
                colours,
                columns: Some(80),
            };
            ended_painted(&task, look).as_str().to_owned()
        };
        assert_eq!(shown(false), "✗ fix (abcdef) failed: exited with code 3\n");
        assert_eq!(
            shown(true),
            "\x1b[31m✗\x1b[0m fix (abcdef) \x1b[31mfailed\x1b[0m: exited with code 3\n"
        );
    }

    #[test]
    fn the_outcome_or_phase_is_the_word_for_the_state() {
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

    #[test]
    fn a_success_with_denials_or_without_changes_is_yellow() {
        let now = Timestamp(1_795_359_153_042);
        let check = |json: serde_json::Value, colour_of: Colour, expected: &str| {
            let mut all = serde_json::json!({
                "outcome": "succeeded", "started_at": "2026-11-22T14:51:33.042Z",
                "finished_at": "2026-11-22T14:51:48.042Z",
            });
            let (all_of_it, more) = (all.as_object_mut(), json.as_object());
            if let (Some(all), Some(more)) = (all_of_it, more) {
                all.extend(more.clone());
            }
            let task = task(all);
            assert_eq!(
                (colour(&task), glance(&task, now).as_str()),
                (colour_of, expected)
            );
        };
        check(serde_json::json!({}), Colour::Green, "✓ 15s");
        check(
            serde_json::json!({"cost_usd": 0.02, "files_changed": 3}),
            Colour::Green,
            "✓ 15s · $0.02 · 3 files",
        );
        check(
            serde_json::json!({"cost_usd": 0.02, "files_changed": 1, "denied": 2}),
            Colour::Yellow,
            "✓ 15s · $0.02 · 1 file · 2 denied",
        );
        check(
            serde_json::json!({"files_changed": 0}),
            Colour::Yellow,
            "✓ 15s · no changes",
        );
        check(
            serde_json::json!({"outcome": "failed", "denied": 2, "files_changed": 0}),
            Colour::Red,
            "✗ 15s",
        );
    }

    #[test]
    fn a_cost_above_the_budget_is_noticed() {
        let check = |cost: Option<f64>, budget: Option<f64>, expected: bool| {
            let task = task(serde_json::json!({"cost_usd": cost, "budget_usd": budget}));
            assert_eq!(is_over_budget(&task), expected, "{cost:?} {budget:?}");
        };
        check(Some(3.5), Some(1.0), true);
        check(Some(1.0), Some(1.0), false);
        check(Some(3.5), None, false);
        check(None, Some(1.0), false);
    }
}
