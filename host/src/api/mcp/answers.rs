//! What the tools answer. Names and times of the first seven fields of a task are those of the original Claudine, so that what was written
//! for it goes on working: times are milliseconds since 1970.

use schemars::JsonSchema;
use serde::Serialize;

use super::fitted::{ANSWER_BYTES, Fitted};
use crate::{
    app::{AppError, TaskRow, TaskView},
    text::shortened,
};

/// How much of a reason or an error is told: a list has a hundred of them.
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
    /// In the order of the tasks.
    pub(super) task_ids: Vec<String>,
}

/// One task, or, where none was named, several.
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
    /// Pass it as `before` for older tasks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) next: Option<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Task {
    #[serde(rename = "taskId")]
    pub(super) id: String,
    /// queued, running, completed, failed or cancelled.
    pub(super) status: String,
    /// The beginning of what was asked.
    pub(super) prompt: String,
    /// Milliseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) start_time: Option<i64>,
    /// Milliseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) end_time: Option<i64>,
    /// Milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) duration: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) exit_code: Option<i32>,
    pub(super) working_directory: String,
    pub(super) executor: String,
    /// Who submitted it: `owner`, `owner via mcp`, `agent task_… via mcp`, …
    pub(super) by: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<String>,
    pub(super) priority: String,
    /// blocked, waiting, ready, held, running or done.
    pub(super) state: String,
    /// What it is doing at the moment, where its executor tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) doing: Option<String>,
    /// Once it is done: succeeded, failed, timed_out, cancelled, skipped, upstream_failed or lost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) outcome: Option<String>,
    /// Why it did not succeed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<String>,
    /// An agent's result, else the end of standard output.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) output: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cost_usd: Option<f64>,
    /// The branch of its worktree, where it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) branch: Option<String>,
    /// What became of the work in its worktree.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) merge: Option<String>,
}

impl From<TaskRow> for Task {
    fn from(row: TaskRow) -> Self {
        let (start_time, end_time) = (
            millis(row.started_at.as_deref()),
            millis(row.finished_at.as_deref()),
        );
        Self {
            duration: start_time.zip(end_time).map(|(start, end)| end - start),
            start_time,
            end_time,
            status: status_word(&row).to_owned(),
            id: row.id,
            prompt: row.summary,
            exit_code: row.exit_code,
            working_directory: row.cwd,
            executor: row.executor,
            by: row.by.to_string(),
            name: row.name,
            priority: row.priority,
            state: row.state,
            doing: row.doing,
            outcome: row.outcome,
            reason: row
                .reason
                .map(|reason| shortened(&reason.message, MESSAGE_CHARS)),
            output: None,
            cost_usd: row.cost_usd,
            branch: None,
            merge: None,
        }
    }
}

impl From<TaskView> for Task {
    fn from(task: TaskView) -> Self {
        let whole = if task.output_truncated {
            format!("`claudine logs {}`", task.id)
        } else {
            format!("`claudine status {} --json`", task.id)
        };
        let fitted = |output: String| Fitted::end_of(&output, ANSWER_BYTES).told(0, &whole);
        Self {
            output: task.output.map(fitted),
            branch: task.worktree.map(|worktree| worktree.branch),
            merge: task
                .merge
                .map(|merge| format!("{}: {}", merge.state.as_str(), merge.detail))
                .map(|merge| shortened(&merge, MESSAGE_CHARS)),
            ..task.row.into()
        }
    }
}

/// The original's five words.
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
    /// The last lines of standard output.
    pub(super) output: String,
    /// The last lines of standard error.
    pub(super) errors: String,
    pub(super) line_count: LineCount,
}

/// How many lines the answer has.
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
    /// The same id: a retry is another attempt of the same task.
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

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Waited {
    pub(super) success: bool,
    /// Whether the task has ended. If not, call again.
    pub(super) done: bool,
    #[serde(flatten)]
    pub(super) task: Task,
}

/// What went wrong, in place of any of these.
#[derive(Debug, Serialize)]
pub(super) struct Failed {
    success: bool,
    error: String,
}

impl Failed {
    /// Two plain fields: there is nothing in them that JSON cannot hold.
    pub(super) fn to_json(&self) -> String {
        serde_json::json!(self).to_string()
    }
}

impl From<AppError> for Failed {
    fn from(error: AppError) -> Self {
        let error = match error.hint {
            Some(hint) => format!("{} ({hint})", error.message),
            None => error.message,
        };
        Self {
            success: false,
            error: shortened(&error, MESSAGE_CHARS),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::{api::cli::task, app::ErrorKind};

    #[test]
    fn a_task_is_told_in_the_originals_words() {
        let task = task(serde_json::json!({
            "started_at": "2026-11-22T14:51:33.042Z", "finished_at": "2026-11-22T14:51:34.542Z", "exit_code": 0, "output": "done",
        }));
        insta::assert_json_snapshot!(
            "status",
            One {
                success: true,
                task: task.into()
            }
        );
    }

    #[test]
    fn each_state_and_outcome_has_one_of_the_originals_five_words() {
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
    fn an_error_carries_what_to_do() {
        let failed = Failed::from(
            AppError::new(ErrorKind::NotFound, "no such task").hint("look at ListTasks"),
        );
        assert_eq!(
            failed.to_json(),
            r#"{"error":"no such task (look at ListTasks)","success":false}"#
        );
    }
}
