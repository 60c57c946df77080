//! One function per tool, from its parameters to its answer.

use std::ops::RangeInclusive;

use serde_json::{Map, Value, value::RawValue};

use super::{
    answers::{self, Delegated, LineCount, Logs, One, Resumed, Several, Status, Submitted, Task},
    cancelled::graph_cancelled,
    fitted::{self, ANSWER_BYTES, Fitted},
    parameters::{
        CancelTask, DelegateTask, GRAPH_TASKS, ListTasks, MergeStrategy, OUTPUT_BYTES, PAGE,
        Priority, ResumeTask, RetryTask, SubmitGraph, TAIL_LINES, TIMEOUT_MS, TaskLogs, TaskStatus,
    },
    server::{Server, no_host},
    wording,
};
use crate::{
    api::{client::ClientError, lenient, member::Member, words},
    app::{
        Action, AppError, Change, ErrorKind, ListFilter, LogLines, NewTask, Origin, ResumeOptions,
        Retried, Retries, RetryOptions, Still, Submit, TaskActions, TaskRef, TaskRow, WorktreeWish,
    },
    random,
    text::short_id,
};

const DEFAULT_EXECUTOR: &str = "claude";
const DEFAULT_TAIL: u64 = 100;
const DEFAULT_PAGE: u64 = 20;

/// The requested worktree. Options of a worktree are an error if no worktree is requested.
fn worktree(asked: &DelegateTask) -> Result<Option<WorktreeWish>, AppError> {
    let given = [
        ("branchName", asked.branch_name.is_some()),
        ("baseBranch", asked.base_branch.is_some()),
        ("mergeStrategy", asked.merge_strategy.is_some()),
        ("keepWorktree", asked.keep_worktree.is_some()),
    ];
    if asked.use_worktree != Some(true) {
        return match given.into_iter().find(|(_, given)| *given) {
            Some((name, _)) => Err(AppError::new(
                ErrorKind::Invalid,
                format!("{name} needs useWorktree: true"),
            )),
            None => Ok(None),
        };
    }
    Ok(Some(WorktreeWish {
        branch: asked.branch_name.clone(),
        base: asked.base_branch.clone(),
        merge: asked
            .merge_strategy
            .map_or_else(Default::default, Into::into),
        keep: asked.keep_worktree.unwrap_or_default(),
        message: None,
    }))
}

impl Server {
    pub(super) async fn delegate_task(&self, asked: DelegateTask) -> Result<Delegated, AppError> {
        let request = self.request(asked)?;
        let taken = self.client.delegate(&request).await?;
        let message = if taken.existing {
            "A task was delegated before under this idempotencyKey; taskId is its id"
        } else {
            "Task delegated successfully"
        };
        Ok(Delegated {
            success: true,
            task_id: taken.id,
            message: message.to_owned(),
        })
    }

    pub(super) async fn submit_graph(&self, asked: SubmitGraph) -> Result<Submitted, AppError> {
        as_many("tasks", asked.tasks.len(), &GRAPH_TASKS)?;
        let mut tasks = Vec::with_capacity(asked.tasks.len());
        for (index, member) in asked.tasks.into_iter().enumerate() {
            let parsed = lenient::read::<Member>(Value::Object(member)).map_err(|why| {
                AppError::new(ErrorKind::Invalid, format!("task {}: {why}", index + 1))
            })?;
            let mut task = parsed
                .into_task(&self.origins.directory)
                .map_err(|mut error| {
                    error.message = format!("task {}: {}", index + 1, error.message);
                    error
                })?;
            // With a generated key, the client can repeat the request if the host crashes
            // meanwhile.
            if task.idempotency_key.is_none() {
                task.idempotency_key = Some(one_time_key());
            }
            tasks.push(task);
        }
        let taken = self
            .client
            .submit(&Submit {
                environment: self.origins.environment.clone(),
                origin: Origin::Mcp,
                name: asked.name,
                budget_usd: asked.budget_usd,
                tasks,
            })
            .await?;
        Ok(Submitted {
            success: true,
            task_ids: taken.tasks.into_iter().map(|task| task.id).collect(),
        })
    }

    fn request(&self, asked: DelegateTask) -> Result<Submit, AppError> {
        within("timeout", asked.timeout, &TIMEOUT_MS)?;
        within("idleTimeout", asked.idle_timeout, &TIMEOUT_MS)?;
        within("maxOutputBuffer", asked.max_output_buffer, &OUTPUT_BYTES)?;
        let spec = spec(&asked)?;
        let worktree = worktree(&asked)?;
        let both = asked.dependencies.into_iter().chain(asked.depends_on);
        let dependencies = both
            .flatten()
            .map(|dependency| {
                lenient::read(dependency).map_err(|why| {
                    AppError::new(ErrorKind::Invalid, format!("dependencies: {why}"))
                })
            })
            .collect::<Result<_, _>>()?;
        let task = NewTask {
            executor: asked
                .executor
                .unwrap_or_else(|| DEFAULT_EXECUTOR.to_owned()),
            spec,
            name: asked.name,
            priority: asked.priority.map_or_else(Default::default, Into::into),
            working_directory: match &asked.working_directory {
                Some(directory) => self.origins.directory.join(directory),
                None => self.origins.directory.clone(),
            },
            env: std::collections::BTreeMap::new(),
            timeout_ms: asked.timeout,
            idle_timeout_ms: asked.idle_timeout,
            start_timeout_ms: None,
            queue_timeout_ms: None,
            max_output_bytes: asked.max_output_buffer,
            labels: asked.labels.unwrap_or_default(),
            group: asked.group,
            dependencies,
            with_output_of: asked
                .with_output_of
                .unwrap_or_default()
                .into_iter()
                .map(TaskRef)
                .collect(),
            hold: false,
            after_ms: asked.after,
            start_at_ms: None,
            worktree,
            retries: asked.retries.map(|limit| Retries {
                limit,
                on: Vec::new(),
                initial_ms: None,
                factor: None,
                max_ms: None,
            }),
            budget_usd: asked.budget_usd,
            allow_denied: asked.allow_denied.unwrap_or_default(),
            // With a generated key, the client can repeat the request if the host crashes
            // meanwhile.
            idempotency_key: Some(asked.idempotency_key.unwrap_or_else(one_time_key)),
            detached: asked.detach.unwrap_or_default(),
        };
        Ok(Submit {
            environment: self.origins.environment.clone(),
            origin: Origin::Mcp,
            name: None,
            budget_usd: None,
            tasks: vec![task],
        })
    }

    pub(super) async fn task_status(&self, asked: TaskStatus) -> Result<Status, AppError> {
        let Some(task) = asked.task_id else {
            let filter = ListFilter {
                limit: u32::try_from(DEFAULT_PAGE).ok(),
                ..ListFilter::default()
            };
            return Ok(Status::Several(self.several(&filter).await?));
        };
        let view = self.client.status(&task).await?;
        let why = self.why(&view).await?;
        Ok(Status::One(Box::new(One {
            success: true,
            task: Task::of(view, why, ANSWER_BYTES),
        })))
    }

    /// The reasons why a task waits, or how it ended without success. Empty if the task has
    /// succeeded or if its state has changed since `seen`.
    pub(super) async fn why(&self, seen: &TaskRow) -> Result<Vec<String>, AppError> {
        if seen.outcome.as_deref() == Some("succeeded") {
            return Ok(Vec::new());
        }
        let why = self.client.why(&seen.id).await?;
        Ok(if why.state == seen.state {
            let reasons = why.reasons.iter();
            reasons.map(|why| wording::reason(why)).collect()
        } else {
            Vec::new()
        })
    }

    pub(super) async fn task_logs(&self, asked: TaskLogs) -> Result<Logs, AppError> {
        within("tail", asked.tail, &TAIL_LINES)?;
        let lines = self
            .client
            .log_lines(&asked.task_id, asked.tail.unwrap_or(DEFAULT_TAIL))
            .await?;
        Ok(fitted_logs(lines))
    }

    pub(super) async fn cancel_task(
        &self,
        asked: CancelTask,
    ) -> Result<answers::Cancelled, AppError> {
        let task = match (asked.task_id, asked.graph) {
            (Some(task), None) => task,
            (None, Some(graph)) => return self.cancel_graph(graph, asked.reason).await,
            _ => {
                let message = "give taskId, or graph to cancel all tasks of a graph";
                return Err(AppError::new(ErrorKind::Invalid, message));
            }
        };
        let cancelled = match self.client.cancel(&task, asked.reason).await {
            Err(ClientError::NotRunning { .. }) => return Err(self.uncancelled(&task).await?),
            cancelled => cancelled?,
        };
        let id = &cancelled.id;
        let message = match (cancelled.descendants, cancelled.already) {
            (None, false) => match cancelled.still {
                None => format!("Task {id} cancelled"),
                Some(Still::Stopping) => format!("Task {id} is being cancelled"),
                Some(Still::Settling) => format!("Task {id} {}", Still::SETTLES),
            },
            (None, true) => format!("Task {id} is already stopping"),
            (Some(count), already) => {
                let these = match count {
                    1 => "1 task that it submitted is".to_owned(),
                    count => format!("{count} tasks that it submitted are"),
                };
                let now = if already {
                    "already stopping"
                } else {
                    "cancelled"
                };
                format!("Task {id} has already ended; {these} {now}")
            }
        };
        let message = message + &noted(cancelled.warning.as_deref());
        Ok(answers::Cancelled {
            success: true,
            message,
        })
    }

    /// The error for a task that is to be cancelled while no host runs.
    async fn uncancelled(&self, task: &str) -> Result<AppError, AppError> {
        let task = self.client.status(task).await?;
        let id = short_id(&task.id);
        Ok(match &task.outcome {
            Some(outcome) => {
                let message = format!("task {id} has already ended: {outcome}");
                AppError::new(ErrorKind::Conflict, message).hint("TaskStatus shows how it ended")
            }
            None => no_host(&format!(
                "task {id} is {}, and no host runs, so it cannot be cancelled now",
                task.state
            )),
        })
    }

    async fn cancel_graph(
        &self,
        graph: String,
        reason: Option<String>,
    ) -> Result<answers::Cancelled, AppError> {
        let filter = ListFilter {
            graph: Some(graph),
            ..ListFilter::default()
        };
        let asked = TaskActions {
            filter: Some(filter),
            reason,
            ..TaskActions::of(Action::Cancel)
        };
        let acted = match self.client.act(&asked).await {
            Err(ClientError::NotRunning { .. }) => {
                return Err(no_host("no host runs, so no graph can be cancelled now"));
            }
            acted => acted?,
        };
        Ok(answers::Cancelled {
            success: true,
            message: graph_cancelled(acted)?,
        })
    }

    pub(super) async fn retry_task(&self, asked: RetryTask) -> Result<answers::Retried, AppError> {
        let change = change(
            [
                ("model", asked.model.map(Value::from)),
                ("permission_mode", asked.permission_mode.map(Value::from)),
                ("allowed_tools", asked.allowed_tools.map(Value::from)),
                ("max_turns", asked.max_turns.map(Value::from)),
            ],
            asked.budget_usd,
            asked.timeout,
            asked.priority,
        )?;
        let options = RetryOptions {
            now: asked.now.unwrap_or_default(),
            change,
            ..RetryOptions::default()
        };
        let retried = self.client.retry(&asked.task_id, &options).await?;
        Ok(answers::Retried {
            success: true,
            message: format!(
                "Retrying task {} as attempt {}{}",
                retried.id,
                retried.attempt,
                about_next(&retried),
            ),
            new_task_id: retried.id.clone(),
            retry_count: retried.attempt.saturating_sub(1),
            parent_task_id: retried.id,
        })
    }

    pub(super) async fn resume_task(&self, asked: ResumeTask) -> Result<Resumed, AppError> {
        let change = change(
            [
                ("model", asked.model.map(Value::from)),
                ("permission_mode", asked.permission_mode.map(Value::from)),
                ("allowed_tools", asked.allowed_tools.map(Value::from)),
                ("max_turns", asked.max_turns.map(Value::from)),
            ],
            asked.budget_usd,
            asked.timeout,
            asked.priority,
        )?;
        let options = ResumeOptions {
            context: asked.additional_context.unwrap_or_default(),
            change,
        };
        let resumed = self.client.resume(&asked.task_id, &options).await?;
        Ok(Resumed {
            success: true,
            message: format!(
                "Continuing task {} as attempt {}{}",
                resumed.id,
                resumed.attempt,
                about_next(&resumed),
            ),
            task_id: resumed.id,
            attempt_number: resumed.attempt,
        })
    }

    pub(super) async fn list_tasks(&self, asked: ListTasks) -> Result<Several, AppError> {
        within("limit", asked.limit, &PAGE)?;
        let moment = |name: &str, text: Option<String>| {
            let at = text.map(|text| words::moment(&text)).transpose();
            let at = at.map_err(|why| AppError::new(ErrorKind::Invalid, format!("{name}: {why}")));
            Ok::<_, AppError>(at?.map(|at| at.0))
        };
        let filter = ListFilter {
            state: asked.state.into_iter().collect(),
            name: asked.name,
            executor: asked.executor,
            label: asked.label.into_iter().collect(),
            group: asked.group,
            graph: asked.graph,
            since_ms: moment("since", asked.since)?,
            until_ms: moment("until", asked.until)?,
            parent: None,
            before: asked.before.map(TaskRef),
            limit: u32::try_from(asked.limit.unwrap_or(DEFAULT_PAGE)).ok(),
        };
        self.several(&filter).await
    }

    async fn several(&self, filter: &ListFilter) -> Result<Several, AppError> {
        let page = self.client.list(filter).await?;
        let tasks = page.tasks.into_iter().map(Task::from).collect();
        Ok(Several {
            success: true,
            tasks,
            next: page.next,
        })
    }
}

/// Changes that apply from the next attempt on.
fn change(
    spec: [(&str, Option<Value>); 4],
    budget_usd: Option<f64>,
    timeout_ms: Option<u64>,
    priority: Option<Priority>,
) -> Result<Change, AppError> {
    within("timeout", timeout_ms, &TIMEOUT_MS)?;
    let given = spec.into_iter();
    let spec = given.filter_map(|(name, value)| Some((name.to_owned(), value?)));
    Ok(Change {
        spec: spec.collect(),
        timeout_ms,
        priority: priority.map(Into::into),
        budget_usd,
        ..Change::default()
    })
}

fn fitted_ends<const N: usize>(texts: [&str; N]) -> [Fitted; N] {
    let shares = fitted::shares(&texts, ANSWER_BYTES);
    let mut shares = shares.into_iter();
    texts.map(|text| Fitted::end_of(text, shares.next().unwrap_or_default()))
}

/// The last lines that fit an answer.
fn fitted_logs(lines: LogLines) -> Logs {
    let [output, errors] = fitted_ends([&lines.stdout, &lines.stderr]);
    let shown = |fitted: &Fitted, lines: u64| match fitted.left_out {
        0 => lines,
        _ => fitted.text.lines().count() as u64,
    };
    let line_count = LineCount {
        output: shown(&output, lines.stdout_lines),
        errors: shown(&errors, lines.stderr_lines),
    };
    let all = |stream: &str| format!("`claudine logs {} --stream {stream}`", lines.id);
    Logs {
        success: true,
        output: output.told(lines.stdout_cut_bytes, &all("stdout")),
        errors: errors.told(lines.stderr_cut_bytes, &all("stderr")),
        line_count,
        task_id: lines.id,
    }
}

/// The executor's document; the executor's schema decides whether the fields are allowed.
fn spec(asked: &DelegateTask) -> Result<Box<RawValue>, AppError> {
    if asked.prompt.trim().is_empty() {
        return Err(AppError::new(ErrorKind::Invalid, "the prompt is empty")
            .hint("say in it what the task is to do"));
    }
    let mut spec = Map::new();
    let mut set = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            spec.insert(name.to_owned(), value);
        }
    };
    let field = if asked.executor.as_deref() == Some("shell") {
        "script"
    } else {
        "prompt"
    };
    set(field, Some(Value::from(asked.prompt.as_str())));
    set("model", asked.model.as_deref().map(Value::from));
    set(
        "permission_mode",
        asked.permission_mode.as_deref().map(Value::from),
    );
    set(
        "allowed_tools",
        asked.allowed_tools.clone().map(Value::from),
    );
    set(
        "append_system_prompt",
        asked.append_system_prompt.as_deref().map(Value::from),
    );
    set("max_turns", asked.max_turns.map(Value::from));
    set("max_budget_usd", asked.max_budget_usd.map(Value::from));
    set("fail_on_denied", asked.fail_on_denied.map(Value::from));
    set(
        "resume_session",
        asked.resume_session.as_deref().map(Value::from),
    );
    RawValue::from_string(Value::Object(spec).to_string()).map_err(|error| {
        AppError::new(
            ErrorKind::Internal,
            format!("the request cannot be written: {error}"),
        )
    })
}

pub(super) fn within(
    name: &str,
    value: Option<u64>,
    range: &RangeInclusive<u64>,
) -> Result<(), AppError> {
    match value {
        Some(value) if !range.contains(&value) => {
            let message = format!(
                "{name} is {value}, but must be from {} to {}",
                range.start(),
                range.end()
            );
            Err(AppError::new(ErrorKind::Invalid, message))
        }
        _ => Ok(()),
    }
}

/// Checks the number of tasks in a list.
pub(super) fn as_many(
    name: &str,
    tasks: usize,
    range: &RangeInclusive<usize>,
) -> Result<(), AppError> {
    if range.contains(&tasks) {
        return Ok(());
    }
    let message = format!(
        "{name} has {tasks} tasks, but must have from {} to {}",
        range.start(),
        range.end()
    );
    Err(AppError::new(ErrorKind::Invalid, message))
}

/// A warning, as the end of a message.
fn noted(warning: Option<&str>) -> String {
    warning.map_or_else(String::new, |warning| format!("; {warning}"))
}

/// The end of a message about a retried task: what the next attempt waits for, and a warning.
fn about_next(retried: &Retried) -> String {
    noted(retried.waits.as_deref()) + &noted(retried.warning.as_deref())
}

fn one_time_key() -> String {
    format!("mcp-{:032x}", random::bits_128())
}

impl From<MergeStrategy> for claudine_domain::worktree::MergeStrategy {
    fn from(strategy: MergeStrategy) -> Self {
        match strategy {
            MergeStrategy::Pr => Self::Pr,
            MergeStrategy::Auto => Self::Auto,
            MergeStrategy::Manual => Self::Manual,
            MergeStrategy::Patch => Self::Patch,
        }
    }
}

impl From<Priority> for claudine_domain::task::Priority {
    fn from(priority: Priority) -> Self {
        match priority {
            Priority::P0 => Self::P0,
            Priority::P1 => Self::P1,
            Priority::P2 => Self::P2,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn numbers_out_of_range_are_refused_with_their_range() {
        let check = |value, expected: Option<&str>| {
            let found = within("timeout", value, &TIMEOUT_MS)
                .err()
                .map(|error| error.message);
            assert_eq!(found.as_deref(), expected);
        };
        check(None, None);
        check(Some(1_000), None);
        check(Some(86_400_000), None);
        check(
            Some(999),
            Some("timeout is 999, but must be from 1000 to 86400000"),
        );
        check(
            Some(86_400_001),
            Some("timeout is 86400001, but must be from 1000 to 86400000"),
        );
    }

    #[test]
    fn a_prompt_becomes_a_document_for_the_executor() {
        let check = |json: serde_json::Value, expected: &str| {
            let asked = serde_json::from_value(json).unwrap();
            assert_eq!(
                spec(&asked).map_or_else(|error| error.message, |spec| spec.get().to_owned()),
                expected
            );
        };
        check(
            serde_json::json!({"prompt": "do it"}),
            r#"{"prompt":"do it"}"#,
        );
        check(
            serde_json::json!({"prompt": "make", "executor": "shell"}),
            r#"{"script":"make"}"#,
        );
        check(
            serde_json::json!({"prompt": "do it", "allowedTools": ["Bash"], "maxTurns": 3, "failOnDenied": true}),
            r#"{"allowed_tools":["Bash"],"fail_on_denied":true,"max_turns":3,"prompt":"do it"}"#,
        );
        check(serde_json::json!({"prompt": " "}), "the prompt is empty");
    }

    #[test]
    fn generated_keys_are_unique() {
        assert_ne!(one_time_key(), one_time_key());
    }
}
