//! `claudine status`

use std::process::ExitCode;

use clap::Args;
use claudine_domain::{
    revision::listed,
    time::Timestamp,
    worktree::{Merge, MergeState},
};

use super::{
    failure::Failure,
    named, output,
    session::Session,
    terminal::{Colour, Look, Painted, harmless},
    text, times, transcript,
};
use crate::{
    app::{
        AttemptView, ENDED_PHASE, EndQuery, GitView, LogEnd, Step, TaskView, WorktreeView,
        graph::Shade,
    },
    text::{columns, shell_word, short_id},
};

/// Number of digits of a commit's hash that are shown.
const COMMIT_DIGITS: usize = 10;
/// The executor whose sessions a person can continue.
const CLAUDE: &str = "claude";
/// Width limit of a command with its purpose, so that both fit next to the labels.
const STEP_COLUMNS: usize = 80 - 11;
/// Limit of the uncommitted files that are named.
const NAMED: usize = 5;
/// Limit of the last output lines that are shown.
const END_LINES: u64 = 20;
/// Limit of the lines that are read in addition because they may belong to the result.
const LONGEST_RESULT_LINES: usize = 500;

/// Show a task's state, request, attempts and result.
#[derive(Debug, Args)]
#[command(
    visible_alias = "show",
    after_help = "\
Examples:
  claudine status nightly
  claudine status x7tqrp --json | jq -r .output"
)]
pub(super) struct Status {
    /// Id, end of an id, or name [default: the newest].
    #[arg(value_name = "ID")]
    task: Option<String>,
}

impl Status {
    pub(super) async fn run(self, session: &Session) -> Result<ExitCode, Failure> {
        let task = session.client().status(&named::or_last(self.task)).await?;
        if session.json {
            output::json(&task)?;
        } else {
            // The result is shown in full below the last lines of the output, so these lines leave
            // the result out. As many additional lines are read as the result has.
            let result = result(&task).map_or(0, |result| result.lines().count());
            let query = EndQuery {
                lines: Some(END_LINES + result.min(LONGEST_RESULT_LINES) as u64),
            };
            let end = session.client().log_end(&task.id, query).await?;
            let (look, now) = (Look::of_stdout(), text::now());
            let mut shown = describe(&task, look, now);
            shown.append(&written(&task, &end, look, now));
            output::painted(&shown)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The result of an agent.
fn result(task: &TaskView) -> Option<&str> {
    let outputs = task.outputs.as_ref();
    let result = outputs.and_then(|outputs| outputs.get("result")?.as_str());
    result.filter(|result| !result.trim().is_empty())
}

/// The last lines of the output, followed by the whole result of an agent.
fn written(task: &TaskView, end: &LogEnd, look: Look, now: Timestamp) -> Painted {
    let result = result(task);
    let mut text = transcript::end_of(end, result, look, now);
    if let Some(result) = result {
        text.push(&format!("\nResult:\n{}\n", result.trim_end()));
    }
    text
}

/// The fields that are set, one per line.
fn describe(task: &TaskView, look: Look, now: Timestamp) -> Painted {
    let mut lines = Lines::default();
    lines.add("Task", &task.id);
    lines.add_some("Name", task.name.as_deref());
    lines.add_painted("State", &state(task, look, now));
    lines.add_some("Queue", super::pause::head(&task.queue).as_deref());
    lines.add_some("Doing", task.doing.as_deref());
    let reason = reason(task).map(|reason| times::in_text(&reason, now));
    lines.add_some("Reason", reason.as_deref());
    lines.add_steps(&task.steps);
    let until = task.until.as_deref();
    let until = until.map(|until| times::at_and_distance(until, now));
    lines.add_some("Until", until.as_deref());
    lines.add_some("Held by", task.held_by.as_deref());
    lines.add_some("Culprit", task.culprit.as_deref());
    lines.add("Executor", &task.executor);
    let request = match &*task.executor {
        "claude" => "Prompt",
        "shell" => "Command",
        _ => "Request",
    };
    lines.add(request, &task.summary);
    lines.add("Directory", &task.cwd);
    lines.add_some("Worktree", worktree_line(task).as_deref());
    for (name, command) in ways_in(task) {
        lines.add(name, &command);
    }
    if task.priority != "P1" {
        lines.add("Priority", &task.priority);
    }
    lines.add_some("Group", task.group.as_deref());
    lines.add_some("Graph", task.graph_name.as_deref());
    lines.add_some("Parent", task.parent.as_deref());
    let labels: Vec<String> = task
        .labels
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    lines.add_some(
        "Labels",
        (!labels.is_empty()).then(|| labels.join(" ")).as_deref(),
    );
    lines.add("By", &task.by.to_string());
    lines.add_some(
        "May",
        task.authority.as_ref().map(ToString::to_string).as_deref(),
    );
    for (name, time) in moments(task, now) {
        lines.add(name, &time);
    }
    for (place, attempt) in (1..).zip(&task.attempts) {
        let is_unrecorded = task.has_ended() && place == task.attempts.len();
        lines.add_painted(
            &format!("Attempt {}", attempt.number),
            &attempt_line(attempt, is_unrecorded, look, now),
        );
        let revised = (!attempt.revised.is_empty()).then(|| listed(&attempt.revised));
        lines.add_some("With", revised.as_deref());
        lines.add_some("Git", attempt.git.as_ref().map(git_line).as_deref());
        // A failed merge is already shown as the reason of the attempt.
        let merge = attempt.merge.as_ref();
        let merge = merge.filter(|merge| !merge.state.is_failure());
        lines.add_some("Merge", merge.map(merge_line).as_deref());
    }
    // A merge requested after the last attempt had ended.
    let last = task.attempts.last().and_then(|last| last.merge.as_ref());
    let later = task.merge.as_ref().filter(|merge| Some(*merge) != last);
    lines.add_some("Merge", later.map(merge_line).as_deref());
    if let Some(cost) = cost(task) {
        let mut painted = Painted::default();
        if text::is_over_budget(task) {
            look.paint(&mut painted, Colour::Red, &cost);
        } else {
            painted.push(&cost);
        }
        lines.add_painted("Cost", &painted);
    }
    lines.add_some(
        "Usage",
        task.usage
            .map(|usage| usage_line(usage.wall_ms, usage.cpu_ms, usage.peak_rss_bytes))
            .as_deref(),
    );
    lines.add_some("Files", files(task).as_deref());
    lines.add_some("Denied", denied(task).as_deref());
    lines.add_some("Hint", task.hint.as_deref());
    lines.text
}

fn state(task: &TaskView, look: Look, now: Timestamp) -> Painted {
    let mut state = Painted::default();
    let word = format!("{} {}", text::mark(task), text::state(task));
    look.paint(&mut state, text::colour(task), &word);
    let mut parts = vec![if task.merged_by_hand {
        " (merged by hand)".to_owned()
    } else {
        String::new()
    }];
    match (task.exit_code, task.signal) {
        (_, Some(signal)) => parts.push(format!("signal {signal}")),
        (Some(code), None) if code != 0 => parts.push(format!("exit code {code}")),
        _ => {}
    }
    // The run time of an earlier attempt says nothing about a task that waits for its next attempt.
    let word = match &*task.state {
        "done" if !task.merged_by_hand => Some("after"),
        "running" => Some("for"),
        _ => None,
    };
    if let Some((word, ran)) = word.zip(text::ran(task, now)) {
        parts.push(format!("{word} {ran}"));
    }
    state.push(&parts.join(", "));
    state
}

/// Times of submission and of the last attempt, and how long the task was queued before its first
/// attempt.
fn moments(task: &TaskView, now: Timestamp) -> Vec<(&'static str, String)> {
    let at = |time: &str| times::at_and_distance(time, now);
    let mut moments = vec![("Created", at(&task.created_at))];
    let first = task.attempts.first();
    let begun = first.and_then(|attempt| attempt.started_at.as_deref());
    let queued_to = begun.or(task.finished_at.as_deref());
    let queued = times::took(Some(&task.created_at), queued_to, now);
    moments.extend(queued.map(|queued| ("Queued for", queued)));
    let times = [
        ("Started", task.started_at.as_deref()),
        ("Ended", task.finished_at.as_deref()),
    ];
    moments.extend(
        times
            .into_iter()
            .filter_map(|(name, time)| Some((name, at(time?)))),
    );
    moments
}

/// The line of an attempt: `✓ 3.8s  $0.02  session 0b6b, claude-opus`.
///
/// `is_unrecorded` says that the attempt's process has ended and nobody has recorded this.
fn attempt_line(attempt: &AttemptView, is_unrecorded: bool, look: Look, now: Timestamp) -> Painted {
    let outcome = attempt.outcome.as_deref();
    let state = if is_unrecorded { "waiting" } else { "running" };
    let shade = Shade::of(outcome, state, None);
    let mut line = Painted::default();
    line.push_in(look.colours.then_some(shade.ansi()), shade.mark());
    let started = attempt.started_at.as_deref();
    let took = times::took(started, attempt.finished_at.as_deref(), now);
    if let Some(took) = took.filter(|_| !is_unrecorded) {
        line.push(&format!(" {took}"));
    }
    if let Some(cost) = attempt.cost_usd.filter(|cost| *cost > 0.0) {
        let assumed = if attempt.cost_is_assumed {
            " assumed"
        } else {
            ""
        };
        line.push(&format!("  {}{assumed}", text::usd(cost)));
    }
    if attempt.cost_is_unknown {
        line.push("  cost unknown");
    }
    let ended = (outcome != Some("succeeded") || attempt.reason.is_some()).then(|| end_of(attempt));
    let ended = if is_unrecorded {
        Some(ENDED_PHASE.to_owned())
    } else {
        ended
    };
    let by_hand = attempt.by_hand.then(|| "merged by hand".to_owned());
    let by = attempt.by.as_ref().map(|by| format!("requested by {by}"));
    let pid = attempt.pid.filter(|_| outcome.is_none());
    let pid = pid.map(|pid| format!("pid {pid}"));
    let session = attempt.session_id.as_ref();
    let session = session.map(|session| format!("session {session}"));
    let parts = [ended, by_hand, by, pid, session, attempt.model.clone()];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    if !parts.is_empty() {
        line.push(&harmless(&format!("  {}", parts.join(", "))));
    }
    line
}

/// The reason. Its class is added if no steps to resolve the reason are shown.
fn reason(task: &TaskView) -> Option<String> {
    let reason = task.reason.as_ref()?;
    // The line of the state already shows this message.
    if task.outcome.as_deref() == Some(&*reason.message) {
        return None;
    }
    Some(if task.steps.is_empty() {
        format!("{} ({})", reason.message, reason.class)
    } else {
        reason.message.clone()
    })
}

/// The end of an attempt, without the details of a merge, which are shown elsewhere.
fn end_of(attempt: &AttemptView) -> String {
    let outcome = attempt.outcome.as_deref().unwrap_or("running");
    let state = attempt.merge.as_ref().map(|merge| merge.state);
    let message = match (&attempt.reason, state) {
        (None, _) => return outcome.to_owned(),
        (Some(_), Some(MergeState::Conflict)) => "merge conflict",
        (Some(_), Some(MergeState::Refused)) => "not merged",
        (Some(reason), _) => &reason.message,
    };
    format!("{outcome}: {message}")
}

/// Commands that lead to the worktree, the changes and the session, for a person to copy.
fn ways_in(task: &TaskView) -> Vec<(&'static str, String)> {
    let id = short_id(&task.id);
    let path = task.worktree.as_ref().and_then(|it| it.path.as_ref());
    let mut ways = Vec::new();
    if path.is_some() && task.steps.is_empty() {
        ways.push(("Enter", format!("claudine enter {id}")));
    }
    let branch = task.worktree.as_ref().filter(|_| !task.attempts.is_empty());
    if branch.is_some() && task.steps.is_empty() {
        ways.push(("Changes", format!("claudine diff {id}")));
    }
    let mut sessions = task.attempts.iter().rev();
    let session = sessions.find_map(|attempt| attempt.session_id.as_ref());
    // A session can be continued only after the task has ended.
    let is_free = task.finished_at.is_some() && task.executor == CLAUDE;
    if let Some(session) = session.filter(|_| is_free) {
        let inside = task.worktree.as_ref().map_or("", |it| it.inside.as_str());
        let dir = match path {
            Some(path) if inside.is_empty() => path.clone(),
            Some(path) => format!("{path}/{inside}"),
            None => task.cwd.clone(),
        };
        let dir = shell_word(&dir);
        let session = shell_word(session);
        ways.push(("Session", format!("cd {dir} && claude --resume {session}")));
    }
    ways
}

fn worktree_line(task: &TaskView) -> Option<String> {
    let WorktreeView {
        path,
        branch,
        base,
        merge,
        ..
    } = task.worktree.as_ref()?;
    let place = match path {
        Some(path) => path.as_str(),
        None if task.attempts.is_empty() => "not created yet",
        None => "removed",
    };
    Some(format!(
        "{place} (branch {branch} from {base}, merge {})",
        merge.as_str()
    ))
}

/// The result of a merge. If the merge succeeded, this is its detail alone, because the detail says
/// that the merge succeeded.
pub(super) fn merge_line(merge: &Merge) -> String {
    match merge.state {
        MergeState::Merged => merge.detail.clone(),
        MergeState::Nothing => format!("none ({})", merge.detail),
        state => format!("{}: {}", state.as_str(), merge.detail),
    }
}

pub(super) fn git_line(git: &GitView) -> String {
    if let Some(error) = &git.error {
        return error.clone();
    }
    let branch = git.branch.as_deref().unwrap_or("no branch");
    let commit = git.commit.as_deref().map_or_else(
        || "no commit yet".to_owned(),
        |commit| commit.chars().take(COMMIT_DIGITS).collect(),
    );
    let dirty = match git.dirty_count {
        0 => "clean".to_owned(),
        count => {
            let named: Vec<&str> = git.dirty.iter().take(NAMED).map(String::as_str).collect();
            let more = if count > named.len() as u64 {
                ", …"
            } else {
                ""
            };
            format!("{count} not committed: {}{more}", named.join(", "))
        }
    };
    format!("{branch} at {commit}, {dirty}")
}

fn usage_line(wall_ms: u64, cpu_ms: Option<u64>, peak_rss_bytes: Option<u64>) -> String {
    let span = |millis| text::span(std::time::Duration::from_millis(millis));
    let mut parts = vec![format!("{} wall", span(wall_ms))];
    parts.extend(cpu_ms.map(|millis| format!("{} CPU", span(millis))));
    parts.extend(peak_rss_bytes.map(|bytes| format!("{} peak", text::bytes(bytes))));
    parts.join(" · ")
}

/// Tools that the agent was denied. Denials are often the reason why a success is incomplete.
pub(super) fn denied(task: &TaskView) -> Option<String> {
    let denials = task.outputs.as_ref()?.get("denials")?.as_array()?;
    let tools: Vec<String> = denials.iter().map(denial).collect();
    (!tools.is_empty()).then(|| tools.join("; "))
}

fn denial(denial: &serde_json::Value) -> String {
    let tool = denial
        .get("tool")
        .and_then(serde_json::Value::as_str)
        .unwrap_or("?");
    let input = denial.get("input");
    let what = input.and_then(|input| input.get("command").or_else(|| input.get("file_path")));
    match what.and_then(serde_json::Value::as_str) {
        Some(what) => format!("{tool}: {what}"),
        None => tool.to_owned(),
    }
}

#[derive(Default)]
struct Lines {
    text: Painted,
}

impl Lines {
    fn add(&mut self, name: &str, value: &str) {
        self.text.push(&format!("{name:<10} {}\n", harmless(value)));
    }

    fn add_some(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.add(name, value);
        }
    }

    /// Lists the steps, one per line, as commands to copy.
    fn add_steps(&mut self, steps: &[Step]) {
        for (index, step) in steps.iter().enumerate() {
            let number = index + 1;
            let line = format!("{number}. {}", harmless(&step.command));
            let with_purpose = format!("{line}  # {}", step.purpose);
            // The purpose after `#` is a comment for the shell, so it may be copied too.
            let line = if columns(&with_purpose) <= STEP_COLUMNS {
                with_purpose
            } else {
                line
            };
            self.text.push(&format!("{:<10} {line}\n", ""));
        }
    }

    fn add_painted(&mut self, name: &str, value: &Painted) {
        self.text.push(&format!("{name:<10} "));
        self.text.append(value);
        self.text.push("\n");
    }
}

/// Number of files that a task has changed in its worktree.
fn files(task: &TaskView) -> Option<String> {
    let count = task.files_changed?;
    Some(match count {
        0 => "none changed".to_owned(),
        count => format!("{count} changed"),
    })
}

/// The cost and the budget, and whether the cost was reported.
fn cost(task: &TaskView) -> Option<String> {
    let unknown = task.attempts.iter().filter(|it| it.cost_is_unknown).count();
    let unknown = text::unknown_cost(unknown);
    let cost = match (task.cost_usd, task.budget_usd) {
        (cost, Some(budget)) => format!(
            "{} of {}",
            text::usd(cost.unwrap_or(0.0)),
            text::usd(budget)
        ),
        (Some(cost), None) => text::usd(cost),
        (None, None) => return unknown,
    };
    let notes = [task.assumed_usd.map(text::assumed), unknown];
    let notes: Vec<String> = notes.into_iter().flatten().collect();
    Some(if notes.is_empty() {
        cost
    } else {
        format!("{cost} ({})", notes.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::cli::exit::tests::task;

    const PLAIN: Look = Look {
        colours: false,
        columns: None,
    };

    #[test]
    fn a_long_label_is_separated_from_its_value() {
        let mut lines = Lines::default();
        lines.add("Attempt 100", "failed");
        lines.add("Usage", "none");
        assert_eq!(lines.text.as_str(), "Attempt 100 failed\nUsage      none\n");
    }

    #[test]
    fn the_status_of_a_finished_task_is_shown() {
        let task = task(serde_json::json!({
            "name": "fix", "executor": "claude", "outcome": "failed", "exit_code": 1, "priority": "P0", "labels": {"pr": "17"},
            "reason": {"class": "no_result", "message": "it ended without a result"}, "summary": "Make the tests pass",
            "started_at": "2026-11-22T14:51:34.042Z", "finished_at": "2026-11-22T14:52:36.042Z", "cost_usd": 0.0123,
            "usage": {"wall_ms": 62_000, "cpu_ms": 4_200, "peak_rss_bytes": 471_859_200},
            "outputs": {"denials": [{"tool": "Bash", "input": {"command": "git push"}}, {"tool": "WebFetch"}]},
            "attempts": [
                {"number": 1, "pid": 17, "started_at": "2026-11-22T14:51:34.042Z", "finished_at": "2026-11-22T14:51:37.842Z", "outcome": "lost", "reason": null, "exit_code": null,
                 "signal": null, "session_id": null, "model": null, "cost_usd": null, "usage": null},
                {"number": 2, "by": {"kind": "owner", "via": "mcp", "restrained": true}, "pid": 18, "started_at": "2026-11-22T14:51:38.042Z", "finished_at": "2026-11-22T14:52:36.042Z", "outcome": "failed",
                 "reason": {"class": "no_result", "message": "it ended without a result"}, "exit_code": 1, "signal": null,
                 "session_id": "0b6b", "model": "claude-opus", "cost_usd": 0.0123, "usage": null,
                 "git": {"branch": "fix", "commit": "d7249d3e1aa58acfc8c4d3429c396a8f7be9efcf", "dirty_count": 7,
                         "dirty": ["src/a.rs", "b", "c", "d", "e", "f", "g"]}},
            ],
        }));
        insta::assert_snapshot!(
            "failed",
            describe(&task, PLAIN, Timestamp(1_795_359_153_042)).as_str()
        );
    }

    #[test]
    fn an_assumed_cost_is_shown_as_assumed() {
        let check = |assumed: Option<f64>, expected: [&str; 2]| {
            let mut task = task(serde_json::json!({
                "cost_usd": 4.9, "budget_usd": 5.0,
                "attempts": [{"number": 1, "outcome": "succeeded", "cost_usd": 4.9}],
            }));
            task.row.assumed_usd = assumed;
            task.attempts[0].cost_is_assumed = assumed.is_some();
            let shown = describe(&task, PLAIN, Timestamp(1_795_359_153_042));
            for line in expected {
                let mut lines = shown.as_str().lines();
                assert!(lines.any(|it| it.ends_with(line)), "{}", shown.as_str());
            }
        };
        check(None, ["  $4.90", "$4.90 of $5.00"]);
        let whole = "$4.90 of $5.00 ($4.90 is assumed: no cost was reported)";
        check(Some(4.9), ["  $4.90 assumed", whole]);
    }

    #[test]
    fn an_unknown_cost_is_shown_as_unknown() {
        let check = |cost: Option<f64>, expected: [&str; 2]| {
            let task = task(serde_json::json!({
                "cost_usd": cost,
                "attempts": [
                    {"number": 1, "outcome": "lost", "cost_usd": cost, "cost_is_unknown": true},
                ],
            }));
            let shown = describe(&task, PLAIN, Timestamp(1_795_359_153_042));
            for line in expected {
                let mut lines = shown.as_str().lines();
                assert!(lines.any(|it| it.contains(line)), "{}", shown.as_str());
            }
        };
        let unknown = "cost unknown of 1 attempt: no cost was reported";
        check(None, ["  cost unknown  lost", unknown]);
        let all = format!("$0.50 ({unknown})");
        check(Some(0.5), ["  $0.50  cost unknown  lost", &all]);
    }

    #[test]
    fn the_status_of_a_running_task_is_shown() {
        let task = task(serde_json::json!({
            "state": "running", "phase": "live", "outcome": null, "started_at": "2026-11-22T14:51:34.042Z", "summary": "sleep 60",
            "doing": "Bash: sleep 60",
            "attempts": [{"number": 1, "pid": 17, "started_at": "2026-11-22T14:51:34.042Z", "finished_at": null, "outcome": null, "reason": null,
                "exit_code": null, "signal": null, "session_id": null, "model": null, "cost_usd": null, "usage": null}],
        }));
        insta::assert_snapshot!(
            "running",
            describe(&task, PLAIN, Timestamp(1_795_359_153_042)).as_str()
        );
    }
}
