//! A task of a graph in a file or an MCP call: a command, a script or a prompt, with its
//! dependencies.

use std::{collections::BTreeMap, path::Path, time::Duration};

use claudine_domain::{
    dependency::Condition,
    outcome::ReasonClass,
    task::Priority,
    time::{Timestamp, millis},
};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, de::Error};
use serde_json::{Map, Value, value::RawValue};

use super::{lenient, words};
use crate::app::{AppError, DependencyRef, ErrorKind, NewTask, Retries, TaskRef, WorktreeWish};

/// A task of a graph. It has one of `argv`, `script`, `prompt` and `spec`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Task")]
pub(super) struct Member {
    /// Name of the task, for other tasks to refer to.
    #[serde(default)]
    name: Option<String>,
    /// Executor. Default: `shell` for `argv` and `script`, `claude` for `prompt`.
    #[serde(default)]
    executor: Option<String>,
    /// Command and its arguments, run without a shell.
    #[serde(default)]
    argv: Option<Vec<String>>,
    /// Shell script.
    #[serde(default)]
    script: Option<String>,
    /// Shell of `script`.
    #[serde(default)]
    shell: Option<String>,
    /// Prompt for an agent.
    #[serde(default)]
    prompt: Option<String>,
    /// Request to the executor, as defined by its schema.
    #[serde(default)]
    spec: Option<Map<String, Value>>,
    /// Tasks to wait for: names of tasks in the same file, or names or ids of other tasks.
    #[serde(
        default,
        alias = "depends_on",
        alias = "dependsOn",
        alias = "depends-on",
        deserialize_with = "or_default"
    )]
    #[schemars(with = "Vec<Edge>")]
    dependencies: Vec<DependencyRef>,
    /// Tasks that must succeed first, and whose output is passed on.
    #[serde(
        default,
        alias = "withOutputOf",
        alias = "with-output-of",
        deserialize_with = "or_default"
    )]
    #[schemars(with = "Vec<String>")]
    with_output_of: Vec<TaskRef>,
    /// Group whose limit applies.
    #[serde(default)]
    group: Option<String>,
    /// Priority, `P0` (highest) to `P2`.
    #[serde(default, deserialize_with = "priority")]
    #[schemars(with = "Priority")]
    priority: Priority,
    /// Working directory; a relative path is below the working directory of the submission.
    #[serde(default, alias = "workingDirectory", alias = "cwd")]
    working_directory: Option<String>,
    /// Environment variables.
    #[serde(default, deserialize_with = "or_default")]
    env: BTreeMap<String, String>,
    /// Time limit: `90s`, `10m`, `1h30m`, or a number of seconds.
    #[serde(default, deserialize_with = "duration")]
    #[schemars(with = "Option<Word>")]
    timeout: Option<Duration>,
    /// The task is killed after this long without output.
    #[serde(default, alias = "idleTimeout", deserialize_with = "duration")]
    #[schemars(with = "Option<Word>")]
    idle_timeout: Option<Duration>,
    /// The task fails if there is no output this long after its start.
    #[serde(default, alias = "startTimeout", deserialize_with = "duration")]
    #[schemars(with = "Option<Word>")]
    start_timeout: Option<Duration>,
    /// The task is given up if it has not started within this time.
    #[serde(default, alias = "queueTimeout", deserialize_with = "duration")]
    #[schemars(with = "Option<Word>")]
    queue_timeout: Option<Duration>,
    /// Run in its own git worktree: `true`, or an object with options.
    #[serde(default, deserialize_with = "worktree")]
    #[schemars(with = "Option<OwnWorktree>")]
    worktree: Option<WorktreeWish>,
    /// Limit of retries after failures.
    #[serde(default)]
    retries: Option<u32>,
    /// Classes of failures that are retried.
    #[serde(default, alias = "retryOn", deserialize_with = "or_default")]
    #[schemars(with = "Vec<ReasonClass>")]
    retry_on: Vec<String>,
    /// Delay before retries: `1s`, `500msx3`, `1sx2..5m`.
    #[serde(default, deserialize_with = "backoff")]
    #[schemars(with = "Option<Word>")]
    backoff: Option<words::Backoff>,
    /// Budget in USD, over all attempts.
    #[serde(default, alias = "budgetUsd", deserialize_with = "dollars")]
    #[schemars(with = "Option<Word>")]
    budget_usd: Option<f64>,
    /// Labels to filter by.
    #[serde(default, deserialize_with = "or_default")]
    labels: BTreeMap<String, String>,
    /// Output limit: `10M`, `1G`, or a number of bytes.
    #[serde(default, alias = "maxOutput", deserialize_with = "size")]
    #[schemars(with = "Option<Word>")]
    max_output: Option<u64>,
    /// Hold the task until it is released.
    #[serde(default, deserialize_with = "or_default")]
    hold: bool,
    /// Delay of the start.
    #[serde(default, deserialize_with = "duration")]
    #[schemars(with = "Option<Word>")]
    after: Option<Duration>,
    /// Earliest start: `18:00`, `tomorrow 06:00`, or RFC 3339.
    #[serde(default, deserialize_with = "time")]
    #[schemars(with = "Option<Word>")]
    at: Option<Timestamp>,
    /// Do not cancel the task along with the task that submits it.
    #[serde(default, deserialize_with = "or_default")]
    detach: bool,
    /// Return the existing task if the key was used within 24 hours.
    #[serde(default, alias = "idempotencyKey")]
    idempotency_key: Option<String>,
    /// For agents: the model.
    #[serde(default)]
    model: Option<String>,
    /// For agents: permission mode.
    #[serde(default, alias = "permissionMode")]
    permission_mode: Option<String>,
    /// For agents: tools that need no approval.
    #[serde(default, alias = "allowedTools")]
    allowed_tools: Option<Vec<String>>,
    /// For agents: text to append to the system prompt.
    #[serde(default, alias = "appendSystemPrompt")]
    append_system_prompt: Option<String>,
    /// For agents: turn limit.
    #[serde(default, alias = "maxTurns")]
    max_turns: Option<u32>,
    /// For agents: budget of each attempt in USD.
    #[serde(default, alias = "maxBudgetUsd", deserialize_with = "dollars")]
    #[schemars(with = "Option<Word>")]
    max_budget_usd: Option<f64>,
    /// For agents: fail if a tool was denied.
    #[serde(default, alias = "failOnDenied")]
    fail_on_denied: Option<bool>,
    /// For agents: succeed even if tools were denied and the worktree has no changes.
    #[serde(default, alias = "allowDenied", deserialize_with = "or_default")]
    allow_denied: bool,
    /// For agents: session to continue.
    #[serde(default, alias = "resumeSession")]
    resume_session: Option<String>,
}

impl Member {
    /// Refuses a task that refers to its own name. Names mean the tasks of the same graph first,
    /// even if the graph has only this task and an older task has the same name.
    fn depends_on_others(&self) -> Result<(), AppError> {
        let Some(name) = &self.name else {
            return Ok(());
        };
        let dependencies = self.dependencies.iter().map(|edge| &edge.task);
        let mut others = dependencies.chain(&self.with_output_of);
        if !others.any(|task| task.0 == *name) {
            return Ok(());
        }
        let error = invalid(&format!("dependency cycle: {name} → {name}"));
        Err(error.hint("the id of an older task with the same name refers to that task"))
    }

    /// The request for this task. A relative working directory is below `directory`.
    pub(super) fn into_task(mut self, directory: &Path) -> Result<NewTask, AppError> {
        let spec = self.document()?;
        let spec = RawValue::from_string(Value::Object(spec).to_string()).map_err(|error| {
            AppError::new(
                ErrorKind::Internal,
                format!("the request cannot be written: {error}"),
            )
        })?;
        let ms = |limit: Option<Duration>| limit.map(millis);
        if self.retries.is_none() && (!self.retry_on.is_empty() || self.backoff.is_some()) {
            return Err(invalid("`retry_on` and `backoff` need `retries`"));
        }
        self.depends_on_others()?;
        let (on, backoff) = (self.retry_on, self.backoff);
        Ok(NewTask {
            executor: self.executor.unwrap_or_else(|| "claude".to_owned()),
            spec,
            name: self.name,
            priority: self.priority,
            working_directory: self
                .working_directory
                .map_or_else(|| directory.to_owned(), |own| directory.join(own)),
            env: self.env,
            timeout_ms: ms(self.timeout),
            idle_timeout_ms: ms(self.idle_timeout),
            start_timeout_ms: ms(self.start_timeout),
            queue_timeout_ms: ms(self.queue_timeout),
            max_output_bytes: self.max_output,
            labels: self.labels,
            group: self.group,
            idempotency_key: self.idempotency_key,
            detached: self.detach,
            dependencies: self.dependencies,
            with_output_of: self.with_output_of,
            hold: self.hold,
            after_ms: ms(self.after),
            start_at_ms: self.at.map(|at| at.0),
            worktree: self.worktree,
            allow_denied: self.allow_denied,
            retries: self.retries.map(|limit| Retries {
                limit,
                on,
                initial_ms: backoff.map(|backoff| backoff.initial_ms),
                factor: backoff.and_then(|backoff| backoff.factor),
                max_ms: backoff.and_then(|backoff| backoff.max_ms),
            }),
            budget_usd: self.budget_usd,
        })
    }

    /// The document for the executor. If the task names no executor, sets `executor` to the default
    /// for its kind of work.
    fn document(&mut self) -> Result<Map<String, Value>, AppError> {
        let work = [
            ("argv", self.argv.take().map(Value::from)),
            ("script", self.script.take().map(Value::from)),
            ("prompt", self.prompt.take().map(Value::from)),
        ];
        let mut work = work
            .into_iter()
            .filter_map(|(field, value)| Some((field, value?)));
        let mut spec = match (work.next(), work.next(), self.spec.take()) {
            (None, None, Some(spec)) => spec,
            (Some((field, value)), None, None) => {
                self.executor.get_or_insert_with(|| {
                    let default = if field == "prompt" { "claude" } else { "shell" };
                    default.to_owned()
                });
                // If the executor is `shell`, the prompt is the script to run, as on the command
                // line.
                let is_script = field == "prompt" && self.executor.as_deref() == Some("shell");
                let field = if is_script { "script" } else { field };
                Map::from_iter([(field.to_owned(), value)])
            }
            _ => {
                return Err(invalid(
                    "a task has one of `argv`, `script`, `prompt` and `spec`",
                ));
            }
        };
        let options = [
            ("shell", self.shell.take().map(Value::from)),
            ("model", self.model.take().map(Value::from)),
            (
                "permission_mode",
                self.permission_mode.take().map(Value::from),
            ),
            ("allowed_tools", self.allowed_tools.take().map(Value::from)),
            (
                "append_system_prompt",
                self.append_system_prompt.take().map(Value::from),
            ),
            ("max_turns", self.max_turns.map(Value::from)),
            ("max_budget_usd", self.max_budget_usd.map(Value::from)),
            ("fail_on_denied", self.fail_on_denied.map(Value::from)),
            (
                "resume_session",
                self.resume_session.take().map(Value::from),
            ),
        ];
        for (name, value) in options {
            if let Some(value) = value {
                spec.insert(name.to_owned(), value);
            }
        }
        Ok(spec)
    }
}

fn invalid(message: &str) -> AppError {
    AppError::new(ErrorKind::Invalid, message)
}

/// Reads `true` or an object with options.
fn worktree<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<WorktreeWish>, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::Null => Ok(None),
        Value::Bool(wanted) => Ok(wanted.then(WorktreeWish::default)),
        object @ Value::Object(_) => lenient::read(object).map(Some).map_err(D::Error::custom),
        _ => Err(D::Error::custom(
            "`worktree` is true or {branch, base, merge, keep, message}",
        )),
    }
}

/// Schema of a dependency.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "only its schema is used")]
enum Edge {
    /// Id or name of a task that must succeed.
    Name(String),
    With {
        task: String,
        condition: Option<Condition>,
    },
}

/// Schema of `worktree`.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "only its schema is used")]
enum OwnWorktree {
    Wanted(bool),
    With(WorktreeWish),
}

/// A string, or a number that is read as a string: `90` is `"90"`.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
enum Word {
    Text(String),
    Whole(u64),
    Number(f64),
}

/// Reads null as the default.
fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

fn parsed<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    parse: fn(&str) -> Result<T, String>,
) -> Result<Option<T>, D::Error> {
    let text = match Option::deserialize(deserializer)? {
        None => return Ok(None),
        Some(Word::Text(text)) => text,
        Some(Word::Whole(number)) => number.to_string(),
        Some(Word::Number(number)) => number.to_string(),
    };
    parse(&text).map(Some).map_err(D::Error::custom)
}

/// Reads an amount of US dollars. Refuses infinite numbers and NaN, because they would be written
/// to JSON as null, which means no limit.
fn dollars<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    parsed(deserializer, words::dollars)
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    parsed(deserializer, words::duration)
}

fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    parsed(deserializer, words::size)
}

fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
    parsed(deserializer, words::time)
}

fn backoff<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<words::Backoff>, D::Error> {
    parsed(deserializer, words::backoff)
}

fn priority<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Priority, D::Error> {
    Ok(parsed(deserializer, words::priority)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn task(json: Value) -> Result<NewTask, String> {
        let member: Member = lenient::read(json)?;
        member
            .into_task(Path::new("/work"))
            .map_err(|error| error.message)
    }

    #[test]
    fn the_kind_of_work_decides_the_executor() {
        let check = |json: Value, executor: &str, spec: &str| {
            let task = task(json).unwrap();
            assert_eq!((task.executor.as_str(), task.spec.get()), (executor, spec));
        };
        check(
            serde_json::json!({"argv": ["make", "-j2"]}),
            "shell",
            r#"{"argv":["make","-j2"]}"#,
        );
        check(
            serde_json::json!({"script": "make", "shell": "bash"}),
            "shell",
            r#"{"script":"make","shell":"bash"}"#,
        );
        check(
            serde_json::json!({"prompt": "do it", "model": "opus"}),
            "claude",
            r#"{"model":"opus","prompt":"do it"}"#,
        );
        check(
            serde_json::json!({"prompt": "make", "executor": "shell"}),
            "shell",
            r#"{"script":"make"}"#,
        );
        check(
            serde_json::json!({"spec": {"steps": []}, "executor": "mock"}),
            "mock",
            r#"{"steps":[]}"#,
        );
    }

    #[test]
    fn values_are_parsed_as_on_the_command_line() {
        let task = task(serde_json::json!({
            "argv": ["true"], "timeout": "1h30m", "queue_timeout": 90, "after": "10m", "priority": "p0", "max_output": "1M",
            "retries": 3, "backoff": "2sx3..1m", "working_directory": "sub",
            "dependencies": ["a", {"task": "b", "condition": "any"}, {"taskId": "c"}],
        }))
        .unwrap();
        assert_eq!(task.timeout_ms, Some(5_400_000));
        assert_eq!(task.queue_timeout_ms, Some(90_000));
        assert_eq!(task.after_ms, Some(600_000));
        assert_eq!(task.max_output_bytes, Some(1 << 20));
        assert_eq!(task.priority, Priority::P0);
        assert_eq!(task.working_directory, Path::new("/work/sub"));
        let retries = task.retries.unwrap();
        assert_eq!(
            (
                retries.limit,
                retries.initial_ms,
                retries.factor,
                retries.max_ms
            ),
            (3, Some(2_000), Some(3), Some(60_000))
        );
        let edges: Vec<_> = task
            .dependencies
            .iter()
            .map(|edge| (edge.task.0.as_str(), edge.condition.as_str()))
            .collect();
        assert_eq!(
            edges,
            [("a", "succeeded"), ("b", "any"), ("c", "succeeded")]
        );
    }

    #[test]
    fn null_means_the_default() {
        let all = [
            "name",
            "executor",
            "dependencies",
            "with_output_of",
            "group",
            "priority",
            "cwd",
            "env",
            "timeout",
            "idle_timeout",
            "worktree",
            "retries",
            "retry_on",
            "backoff",
            "budget_usd",
            "labels",
            "max_output",
            "hold",
            "after",
            "at",
            "detach",
            "model",
            "allowed_tools",
        ];
        let mut json = serde_json::json!({"argv": ["true"]});
        for field in all {
            json[field] = Value::Null;
        }
        let shown = |task: NewTask| serde_json::to_value(task).unwrap();
        let plain = shown(task(serde_json::json!({"argv": ["true"]})).unwrap());
        assert_eq!(shown(task(json.clone()).unwrap()), plain);
        let yaml: Member = serde_saphyr::from_str(&json.to_string()).unwrap();
        assert_eq!(shown(yaml.into_task(Path::new("/work")).unwrap()), plain);
    }

    #[test]
    fn yaml_and_json_are_read_the_same() {
        let text = r#"{"name": 5, "argv": ["sleep", 1, true], "env": {"PORT": 8080, "ON": true, "RATE": 1.5},
            "labels": {"pr": 17}, "retries": 2, "timeout": 90, "hold": true, "group": 7, "budget_usd": 2,
            "dependencies": ["a", {"task": 6, "condition": "any"}]}"#;
        let shown = |member: Member| {
            serde_json::to_value(member.into_task(Path::new("/work")).unwrap()).unwrap()
        };
        let json: Member = lenient::read(serde_json::from_str(text).unwrap()).unwrap();
        let json = shown(json);
        let yaml: Member = serde_saphyr::from_str(text).unwrap();
        assert_eq!(json, shown(yaml));
        assert_eq!(json["env"]["PORT"], "8080");
        assert_eq!(
            json["spec"]["argv"],
            serde_json::json!(["sleep", "1", "true"])
        );
    }

    /// An infinite number would be written to JSON as null, which means no limit.
    #[test]
    fn an_infinite_budget_is_refused() {
        for amount in [".nan", ".inf", "1e400", "-.inf", "'nan'", "-1"] {
            for field in ["budget_usd", "max_budget_usd"] {
                let text = format!("{{prompt: x, {field}: {amount}}}");
                let read: Result<Member, _> = serde_saphyr::from_str(&text);
                assert!(read.is_err(), "{text}");
            }
        }
        let task = task(serde_json::json!({"prompt": "x", "budget_usd": "0.50"})).unwrap();
        assert_eq!(task.budget_usd, Some(0.5));
    }

    #[test]
    fn invalid_tasks_are_refused_with_the_reason() {
        let check = |json: Value, expected: &str| {
            let error = task(json).unwrap_err();
            assert!(error.contains(expected), "{error}");
        };
        for field in ["dependencies", "with_output_of"] {
            let own = serde_json::json!({"name": "a", "argv": ["true"], field: ["a"]});
            check(own, "dependency cycle: a → a");
        }
        let one = "a task has one of `argv`, `script`, `prompt` and `spec`";
        check(serde_json::json!({}), one);
        check(serde_json::json!({"argv": ["a"], "prompt": "b"}), one);
        check(
            serde_json::json!({"argv": ["a"], "dependencies": [{"task": "b", "condition": "sometimes"}]}),
            "`sometimes` is not one of succeeded, completed, any",
        );
        check(
            serde_json::json!({"argv": ["a"], "retries": -1}),
            "`retries`: this has to be a whole number from 0, not -1",
        );
        check(
            serde_json::json!({"argv": ["a"], "worktree": {"merge": "rebase"}}),
            "`rebase` is not one of pr, auto, manual, patch",
        );
        check(
            serde_json::json!({"argv": ["a"], "worktree": "yes"}),
            "`worktree` is true or {branch, base, merge, keep, message}",
        );
        check(
            serde_json::json!({"argv": ["a"], "colour": "red"}),
            "unknown field `colour`; the fields are name, executor, argv",
        );
        check(
            serde_json::json!({"argv": ["a"], "timeout": "soon"}),
            "invalid duration `soon`",
        );
        check(
            serde_json::json!({"argv": ["a"], "backoff": "1s"}),
            "`retry_on` and `backoff` need `retries`",
        );
    }
}
