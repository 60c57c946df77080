//! Request and answer of an action on several tasks.

use claudine_domain::{
    id::TaskId,
    step::{Answer, Cancelling},
    task::Task,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    app::{
        error::{AppError, ErrorKind},
        request::{ListFilter, ResumeOptions, RetryOptions, TaskRef},
        select::FoundGraph,
        unended::{Unended, unendable_text},
        view::{GraphName, Retried, Still},
    },
    store::{Status, phase_word},
};

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Action {
    Cancel,
    Retry,
    Resume,
    Hold,
    Release,
}

impl Action {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Cancel => "cancel",
            Self::Retry => "retry",
            Self::Resume => "resume",
            Self::Hold => "hold",
            Self::Release => "release",
        }
    }

    pub(crate) fn past(self) -> &'static str {
        match self {
            Self::Cancel => "cancelled",
            Self::Retry => "retried",
            Self::Resume => "resumed",
            Self::Hold => "held",
            Self::Release => "released",
        }
    }
}

/// An action on several tasks, which are named or found by a filter.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TaskActions {
    pub(crate) action: Action,
    /// Ids or names, at most [`IDS_MAX`](super::IDS_MAX).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) ids: Vec<TaskRef>,
    /// Selects the tasks to which the action applies. For a retry or resume these are unsuccessful
    /// tasks, unless the filter names states.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) filter: Option<ListFilter>,
    /// Expected number of tasks. If the actual number differs by more than a tenth, nothing is
    /// done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) expect: Option<usize>,
    /// Only report the tasks.
    #[serde(default)]
    pub(crate) dry_run: bool,
    /// Reason for a cancel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) retry: Option<RetryOptions>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) resume: Option<ResumeOptions>,
}

impl TaskActions {
    pub(crate) fn of(action: Action) -> Self {
        Self {
            action,
            ids: Vec::new(),
            filter: None,
            expect: None,
            dry_run: false,
            reason: None,
            retry: None,
            resume: None,
        }
    }

    /// Refuses ambiguous requests.
    pub(super) fn check(&self, most: usize) -> Result<(), AppError> {
        let invalid = |message: String| Err(AppError::new(ErrorKind::Invalid, message));
        let word = self.action.word();
        match (&self.filter, self.ids.len()) {
            (None, 0) => return invalid(format!("nothing to {word}: give `ids` or a `filter`")),
            (Some(_), 1..) => return invalid("`ids` and `filter` exclude each other".to_owned()),
            (None, count) if count > most => {
                let message =
                    format!("{count} tasks are named; {most} is the limit of one request");
                return Err(AppError::new(ErrorKind::Limit, message).hint(
                    "name the others in further requests, or select tasks by a `filter` instead",
                ));
            }
            (Some(filter), _) if filter.before.is_some() || filter.limit.is_some() => {
                return invalid(format!(
                    "`before` and `limit` do not select tasks to {word}"
                ));
            }
            _ => {}
        }
        for (field, is_given, of) in [
            ("reason", self.reason.is_some(), Action::Cancel),
            ("retry", self.retry.is_some(), Action::Retry),
            ("resume", self.resume.is_some(), Action::Resume),
        ] {
            if is_given && self.action != of {
                return invalid(format!("`{field}` does not apply to the action `{word}`"));
            }
        }
        Ok(())
    }
}

/// Results for all tasks.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub(crate) struct TasksActed {
    /// Number of tasks to act on.
    pub(crate) found: usize,
    /// Number of tasks acted on; in a dry run, number of tasks without a known error.
    pub(crate) done: usize,
    /// Number of tasks with an error.
    pub(crate) failed: usize,
    /// The graph that was selected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) graph: Option<GraphName>,
    pub(crate) tasks: Vec<TaskActed>,
}

impl TasksActed {
    /// Adds the results for further tasks.
    pub(crate) fn add(&mut self, more: Self) {
        self.found += more.found;
        self.done += more.done;
        self.failed += more.failed;
        self.tasks.extend(more.tasks);
    }

    pub(super) fn of(tasks: Vec<TaskActed>, graph: Option<&FoundGraph>) -> Self {
        let failed = tasks.iter().filter(|task| task.error.is_some()).count();
        Self {
            found: tasks.len(),
            done: tasks.len() - failed,
            failed,
            graph: graph.map(|graph| GraphName {
                id: graph.id.to_string(),
                name: graph.name.clone(),
            }),
            tasks,
        }
    }
}

/// Result for one task.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub(crate) struct TaskActed {
    /// Id of the task, or the text in the request if there is no such task.
    pub(crate) id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
    /// State, phase or outcome before the action.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) was: Option<String>,
    /// In a dry run, the start of the prompt, script or command line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) summary: Option<String>,
    /// Whether a client has submitted the task that runs again, and the settings for MCP clients
    /// would refuse it now.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) beyond_settings: bool,
    /// Whether nothing changed, because the task was already stopping, was already held by the same
    /// person, or was revived together with another task.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) already: bool,
    /// What a cancelled task still does, if it has not ended at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) still: Option<Still>,
    /// After a release, those who still hold the task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) held_by: Option<String>,
    /// Number of unfinished descendants, if a cancelled task had already ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) descendants: Option<usize>,
    /// Number of the next attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) attempt: Option<u32>,
    /// Number of dependants that will run again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) downstream: Option<usize>,
    /// Whether the task is held and must be released before it starts.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) held: bool,
    /// Why the next attempt does not start yet, even if there is room for it, and when it starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) waits: Option<String>,
    /// A possible problem of the next attempt; after a cancel of a task that was already stopping,
    /// what keeps it from ending, such as its processes that cannot be ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) warning: Option<String>,
    /// Error of the action for this task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<AppError>,
}

impl TaskActed {
    pub(super) fn of(task: &Task, error: Option<AppError>) -> Self {
        let was = phase_word(task).filter(|word| *word != "live");
        Self {
            id: task.id.to_string(),
            name: task.request.name.clone(),
            was: Some(was.unwrap_or(Status::of(task).as_str()).to_owned()),
            summary: Some(task.request.summary.clone()),
            error,
            ..Self::default()
        }
    }

    pub(super) fn forgotten(id: TaskId) -> Self {
        Self {
            id: id.to_string(),
            ..Self::default()
        }
    }

    pub(super) fn missing(reference: &str, error: AppError) -> Self {
        Self {
            id: reference.to_owned(),
            error: Some(error),
            ..Self::default()
        }
    }

    pub(super) fn note(&mut self, answer: &Answer) {
        match answer {
            Answer::Cancelling { how, .. } => {
                self.already = *how == Cancelling::Already;
                self.still = Still::of(*how);
            }
            Answer::CancellingBelow {
                descendants,
                already,
                ..
            } => {
                self.already = *already;
                self.descendants = Some(*descendants);
            }
            Answer::Changed(count) => self.already = *count == 0,
            other => tracing::error!(?other, "unexpected answer to one of several commands"),
        }
    }

    /// Whether a cancelled task was already stopping.
    pub(super) fn was_stopping(&self) -> bool {
        self.already && self.descendants.is_none()
    }

    /// Notes the task's own ones of these processes, which cannot be ended.
    pub(super) fn note_unended(&mut self, unended: &[Unended]) {
        let own = unended.iter().filter(|one| one.task == self.id);
        let own: Vec<Unended> = own.cloned().collect();
        self.warning = unendable_text(&own);
    }

    pub(super) fn note_retried(&mut self, retried: &Retried) {
        self.attempt = Some(retried.attempt);
        self.downstream = Some(retried.downstream);
        self.held = retried.held;
        self.waits.clone_from(&retried.waits);
        self.warning.clone_from(&retried.warning);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use serde_json::json;

    use super::*;

    #[test]
    fn a_task_that_was_already_stopping_is_told_with_its_processes_that_cannot_be_ended() {
        let acted = |id: &str, answer: &Answer| {
            let mut acted = TaskActed {
                id: id.to_owned(),
                ..TaskActed::default()
            };
            acted.note(answer);
            acted
        };
        let task = TaskId::new(0, 1);
        let cancelling = |how| Answer::Cancelling { task, how };
        let below = Answer::CancellingBelow {
            task,
            descendants: 1,
            already: true,
        };
        for (how, still) in [
            (Cancelling::Ended, None),
            (Cancelling::Stopping, Some(Still::Stopping)),
            (Cancelling::Settling, Some(Still::Settling)),
        ] {
            let acted = acted("task_1", &cancelling(how));
            assert!(!acted.was_stopping(), "{how:?}");
            assert_eq!(acted.still, still, "{how:?}");
        }
        assert!(!acted("task_1", &below).was_stopping());
        let unended = [Unended::sample(8, 'D')];
        let warning = |id: &str| {
            let mut acted = acted(id, &cancelling(Cancelling::Already));
            assert!(acted.was_stopping());
            acted.note_unended(&unended);
            acted.warning.unwrap_or_default()
        };
        assert!(warning("task_1").starts_with("process 8 cannot be ended now"));
        assert_eq!(warning("task_2"), "");
    }

    #[test]
    fn ambiguous_requests_are_refused() {
        let check = |request: serde_json::Value, expected: Option<&str>| {
            let asked: TaskActions = serde_json::from_value(request).unwrap();
            let refused = asked.check(2).err();
            assert!(
                refused
                    .as_ref()
                    .is_none_or(|it| it.kind != ErrorKind::Limit || it.hint.is_some())
            );
            let refused = refused.map(|error| error.message);
            assert_eq!(refused.as_deref(), expected);
        };
        check(json!({"action": "cancel", "ids": ["a", "b"]}), None);
        check(json!({"action": "cancel", "filter": {}}), None);
        check(
            json!({"action": "cancel", "filter": {"label": "a=b"}, "reason": "late"}),
            None,
        );
        check(
            json!({"action": "retry", "ids": ["a"], "retry": {"downstream": true}}),
            None,
        );
        check(
            json!({"action": "hold"}),
            Some("nothing to hold: give `ids` or a `filter`"),
        );
        check(
            json!({"action": "hold", "ids": ["a"], "filter": {}}),
            Some("`ids` and `filter` exclude each other"),
        );
        check(
            json!({"action": "hold", "ids": ["a", "b", "c"]}),
            Some("3 tasks are named; 2 is the limit of one request"),
        );
        check(
            json!({"action": "release", "filter": {"limit": 3}}),
            Some("`before` and `limit` do not select tasks to release"),
        );
        check(
            json!({"action": "hold", "ids": ["a"], "reason": "late"}),
            Some("`reason` does not apply to the action `hold`"),
        );
        check(
            json!({"action": "retry", "ids": ["a"], "resume": {}}),
            Some("`resume` does not apply to the action `retry`"),
        );
    }
}
