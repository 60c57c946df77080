//! Answers of the tools. A task has the fields of the original Claudine, so that programs written
//! for the original still work, and in addition the fields of `claudine --json` with the same
//! names.

use claudine_domain::worktree::Merge;
use schemars::JsonSchema;
use serde::Serialize;

use super::{fitted::Fitted, wording};
use crate::{
    app::{AppError, TaskRow, TaskView, WorktreeView},
    text::{plain, shortened},
};

/// Length limit of a reason or an error, since a list may have a hundred of them.
const MESSAGE_CHARS: usize = 2_000;

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Delegated {
    pub(super) success: bool,
    pub(super) task_id: String,
    pub(super) message: String,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Submitted {
    pub(super) success: bool,
    /// Ids in the order of the given tasks.
    pub(super) task_ids: Vec<String>,
}

/// One task, or a list if no id was given.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum Status {
    One(Box<One>),
    Several(Several),
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct One {
    pub(super) success: bool,
    #[serde(flatten)]
    pub(super) task: Task,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Several {
    pub(super) success: bool,
    pub(super) tasks: Vec<Task>,
    /// Pass it as `before` to get older tasks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) next: Option<String>,
}

/// A task, with the fields of the original Claudine and those of `claudine --json`.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Task {
    #[serde(flatten)]
    original: Original,
    #[serde(flatten)]
    row: TaskRow,
    /// The result of an agent. If there is none, the last lines of the transcript once the agent is
    /// done. For a script, the end of standard output.
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<String>,
    /// The worktree, if the task has its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    worktree: Option<WorktreeView>,
    /// Result of merging the worktree.
    #[serde(skip_serializing_if = "Option::is_none")]
    merge: Option<Merge>,
    /// Reasons why the task waits, or how it ended without success and what to do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    why: Vec<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Original {
    task_id: String,
    /// queued, running, completed, failed or cancelled.
    status: &'static str,
    /// The beginning of the prompt or command.
    prompt: String,
    /// Milliseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    start_time: Option<i64>,
    /// Milliseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    end_time: Option<i64>,
    /// Milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    duration: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exit_code: Option<i32>,
    working_directory: String,
}

impl Original {
    fn of(row: &TaskRow) -> Self {
        let (start_time, end_time) = (
            millis(row.started_at.as_deref()),
            millis(row.finished_at.as_deref()),
        );
        Self {
            task_id: row.id.clone(),
            status: status_word(row),
            prompt: row.summary.clone(),
            start_time,
            end_time,
            duration: start_time.zip(end_time).map(|(start, end)| end - start),
            exit_code: row.exit_code,
            working_directory: row.cwd.clone(),
        }
    }
}

impl From<TaskRow> for Task {
    fn from(mut row: TaskRow) -> Self {
        if let Some(reason) = &mut row.reason {
            reason.message = shortened(&reason.message, MESSAGE_CHARS);
        }
        Self {
            original: Original::of(&row),
            row,
            output: None,
            worktree: None,
            merge: None,
            why: Vec::new(),
        }
    }
}

impl Task {
    /// The task with the part of its output that fits in this many bytes.
    pub(super) fn of(task: TaskView, why: Vec<String>, output_bytes: usize) -> Self {
        let whole = if task.output_truncated {
            format!("`claudine logs {}`", task.id)
        } else {
            format!("`claudine status {} --json`", task.id)
        };
        let fitted = |output: String| Fitted::end_of(&plain(&output), output_bytes).told(0, &whole);
        let shorter = |merge: Merge| Merge {
            detail: shortened(&merge.detail, MESSAGE_CHARS),
            ..merge
        };
        let fault = task.log_fault.as_ref();
        let fault = fault.map(|fault| format!("Output may be missing: {fault}"));
        Self {
            output: task.output.map(fitted),
            worktree: task.worktree,
            merge: task.merge.map(shorter),
            why: why
                .iter()
                .chain(&fault)
                .map(|why| shortened(why, MESSAGE_CHARS))
                .collect(),
            ..task.row.into()
        }
    }
}

/// The status as one of the five words of the original Claudine.
fn status_word(row: &TaskRow) -> &'static str {
    match (row.outcome.as_deref(), row.state.as_str()) {
        (Some("succeeded"), _) => "completed",
        (Some("cancelled" | "skipped"), _) => "cancelled",
        (Some(_), _) => "failed",
        (None, "running") => "running",
        (None, _) => "queued",
    }
}

fn millis(time: Option<&str>) -> Option<i64> {
    time?
        .parse::<jiff::Timestamp>()
        .ok()
        .map(jiff::Timestamp::as_millisecond)
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Logs {
    pub(super) success: bool,
    pub(super) task_id: String,
    /// The last lines of an agent's transcript, or of a command's standard output, without colours.
    pub(super) output: String,
    /// The last lines of standard error.
    pub(super) errors: String,
    pub(super) line_count: LineCount,
}

/// Number of lines in the answer.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct LineCount {
    pub(super) output: u64,
    pub(super) errors: u64,
}

#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Cancelled {
    pub(super) success: bool,
    pub(super) message: String,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Retried {
    pub(super) success: bool,
    pub(super) message: String,
    /// The same id, because a retry is another attempt of the same task.
    pub(super) new_task_id: String,
    pub(super) retry_count: u32,
    pub(super) parent_task_id: String,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Resumed {
    pub(super) success: bool,
    pub(super) message: String,
    pub(super) task_id: String,
    pub(super) attempt_number: u32,
}

/// One task, or a list if several ids were given.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum Waited {
    One(Box<WaitedForOne>),
    Several(WaitedForSeveral),
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct WaitedForOne {
    pub(super) success: bool,
    /// Whether the task has ended. If not, call again.
    pub(super) done: bool,
    #[serde(flatten)]
    pub(super) task: Task,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct WaitedForSeveral {
    pub(super) success: bool,
    /// Whether all tasks have ended, or, with `any`, at least one. If not, call again.
    pub(super) done: bool,
    /// The tasks in the order of `taskIds`.
    pub(super) tasks: Vec<Task>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Diff {
    pub(super) success: bool,
    pub(super) task_id: String,
    pub(super) branch: String,
    /// Commit that the changes start from.
    pub(super) from: String,
    /// Commit that the changes end at; absent if uncommitted changes are included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) to: Option<String>,
    /// A line for each changed file; empty without changes.
    pub(super) stat: String,
    /// The patch. If stat and patch exceed 40,000 bytes, they are cut, with a note about the cut.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) patch: Option<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Merged {
    pub(super) success: bool,
    pub(super) message: String,
    pub(super) task_id: String,
    /// Result of the merge.
    pub(super) merge: Merge,
    /// Number of the attempt that succeeded by this merge, if the task had failed because of its
    /// merge.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) attempt_number: Option<u32>,
    /// Number of dependants that can run again because of the merge.
    pub(super) revived: usize,
}

/// An error, in place of any other answer.
#[derive(Debug, Serialize)]
pub(super) struct Failed {
    success: bool,
    error: String,
}

impl Failed {
    /// Writes the error as JSON. This cannot fail, because both fields are plain JSON values.
    pub(super) fn to_json(&self) -> String {
        serde_json::json!(self).to_string()
    }
}

impl From<AppError> for Failed {
    fn from(error: AppError) -> Self {
        let candidates = error.candidates.iter().map(|it| {
            let name = it.name.as_deref().unwrap_or(&it.summary);
            format!("{} ({}, {name})", it.id, it.state)
        });
        let mut parts = vec![wording::message(&error.message)];
        parts.extend(candidates);
        let text = parts.join("; ");
        let hint = error.hint.as_deref().map(wording::hint);
        let note = wording::note(&format!(
            "{} {}",
            parts[0],
            hint.as_deref().unwrap_or_default()
        ));
        let advice: Vec<&str> = hint.as_deref().into_iter().chain(note).collect();
        let text = match advice.as_slice() {
            [] => text,
            advice => format!("{text} ({})", advice.join("; ")),
        };
        Self {
            success: false,
            error: shortened(&text, MESSAGE_CHARS),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::{api::cli::task, app::ErrorKind};

    #[test]
    fn a_task_has_the_fields_of_the_original_claudine() {
        let task = task(serde_json::json!({
            "started_at": "2026-11-22T14:51:33.042Z", "finished_at": "2026-11-22T14:51:34.542Z", "exit_code": 0, "output": "done",
        }));
        insta::assert_json_snapshot!(
            "status",
            One {
                success: true,
                task: Task::of(task, vec!["it ended".to_owned()], 100),
            }
        );
    }

    #[test]
    fn each_state_and_outcome_maps_to_a_status_of_the_original_claudine() {
        let check = |state: &str, outcome: Option<&str>, expected: &str| {
            let task = task(serde_json::json!({"state": state, "outcome": outcome}));
            assert_eq!(status_word(&task), expected, "{state} {outcome:?}");
        };
        for state in ["blocked", "waiting", "held", "ready"] {
            check(state, None, "queued");
        }
        check("running", None, "running");
        check("done", Some("succeeded"), "completed");
        for outcome in ["failed", "timed_out", "lost", "upstream_failed"] {
            check("done", Some(outcome), "failed");
        }
        check("done", Some("cancelled"), "cancelled");
        check("done", Some("skipped"), "cancelled");
    }

    #[test]
    fn an_error_contains_its_hint_and_its_candidates() {
        let failed = Failed::from(
            AppError::new(ErrorKind::NotFound, "no such task").hint("look at ListTasks"),
        );
        assert_eq!(
            failed.to_json(),
            r#"{"error":"no such task (look at ListTasks)","success":false}"#
        );
        let list = AppError::new(ErrorKind::NotFound, "no task").hint("`claudine doctor` says why");
        assert_eq!(
            Failed::from(list).to_json(),
            r#"{"error":"no task (`claudine doctor` says why; a person can run the command)","success":false}"#
        );
        let mut ambiguous = AppError::new(ErrorKind::Ambiguous, "two match").hint("say more");
        let candidate = crate::app::Candidate {
            id: "task_1".to_owned(),
            state: "failed".to_owned(),
            name: None,
            summary: "make".to_owned(),
            created_at: "2026-11-22T14:51:33.042Z".to_owned(),
        };
        ambiguous.candidates.push(candidate);
        assert_eq!(
            Failed::from(ambiguous).to_json(),
            r#"{"error":"two match; task_1 (failed, make) (say more)","success":false}"#
        );
    }
}
