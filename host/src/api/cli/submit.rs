//! Options shared by `delegate` and `run`, and the answer to a submission.

use std::{collections::BTreeMap, path::PathBuf, process::ExitCode, time::Duration};

use clap::Args;
use claudine_domain::{
    dependency::Condition,
    task::{Class, Priority},
    time::{Timestamp, millis},
};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value, value::RawValue};

use super::{
    environment, exit,
    failure::{Failure, unless_closed},
    output, parse,
    session::Session,
    times,
    watch::{self, Watched},
    worktree::WorktreeOptions,
};
use crate::{
    api::status,
    app::{
        AppError, Delegated, DependencyRef, ErrorKind, NewTask, Origin, Retries, Submit, TaskRef,
        TaskView,
    },
    clock,
    text::short_id,
};

/// Options of a task that do not depend on its executor.
#[derive(Debug, Args)]
pub(super) struct TaskOptions {
    /// Name to find the task by; of several tasks, the newest unfinished one is meant.
    #[arg(long, value_name = "NAME", help_heading = "Execution")]
    name: Option<String>,
    /// Working directory [default: the current one].
    #[arg(short, long, value_name = "DIR", help_heading = "Execution")]
    working_directory: Option<PathBuf>,
    /// Set an environment variable (repeatable).
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse::pair, hide_short_help = true, help_heading = "Execution")]
    env: Vec<(String, String)>,
    /// Start with a minimal environment.
    ///
    /// The minimal environment has HOME, PATH, USER, LOGNAME, SHELL, LANG, LC_ALL, TERM, TMPDIR and
    /// the variables of --env. Without this option, the task has the environment of this command.
    #[arg(long, hide_short_help = true, help_heading = "Execution")]
    env_clean: bool,
    /// Label to filter by (repeatable).
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse::pair, hide_short_help = true, help_heading = "Execution")]
    label: Vec<(String, String)>,
    /// Return the existing task if the key was used within 24 hours.
    #[arg(
        long,
        value_name = "KEY",
        hide_short_help = true,
        help_heading = "Execution"
    )]
    idempotency_key: Option<String>,
    /// Output limit; beyond it the head and the tail are kept [default: 1G].
    #[arg(long, value_name = "SIZE", value_parser = parse::size, allow_hyphen_values = true, hide_short_help = true, help_heading = "Execution")]
    max_output: Option<u64>,
    /// Do not cancel this task along with the task that submits it.
    #[arg(long, hide_short_help = true, help_heading = "Execution")]
    detach: bool,
    /// Wait for the task and exit with its exit code.
    ///
    /// The output of a command is printed as it comes. For an agent, a terminal shows the current
    /// action, and the result at the end. Ctrl-C detaches and prints the id; a second Ctrl-C
    /// cancels the task.
    #[arg(long, help_heading = "Execution")]
    wait: bool,
    /// Priority, P0 (highest) to P2 [default: P1].
    ///
    /// The priority of a waiting task rises with time.
    #[arg(short, long, value_name = "P0|P1|P2", value_parser = parse::priority, default_value = "P1", hide_default_value = true, help_heading = "Scheduling")]
    priority: Priority,
    /// Start after these tasks have finished.
    ///
    /// The tasks need not have succeeded. A task is named by its id, the end of its id, or its
    /// name. Several tasks are separated by spaces or commas.
    #[arg(long, value_name = "ID", num_args = 1.., help_heading = "Scheduling")]
    depends_on: Vec<String>,
    /// Start after these tasks have succeeded.
    ///
    /// If one of them does not succeed, the new task ends as `upstream_failed`.
    #[arg(long, value_name = "ID", num_args = 1.., hide_short_help = true, help_heading = "Scheduling")]
    depends_on_success: Vec<String>,
    /// Start after these tasks have ended, even if they never ran.
    #[arg(long, value_name = "ID", num_args = 1.., hide_short_help = true, help_heading = "Scheduling")]
    depends_on_any: Vec<String>,
    /// Start after these tasks have succeeded, with their output.
    ///
    /// The other dependency options set another condition. An agent reads before its prompt how
    /// each task ended, with its result or last lines. The complete output is in files below
    /// $CLAUDINE_INPUTS, in a directory per task name.
    #[arg(long, value_name = "ID", num_args = 1.., hide_short_help = true, help_heading = "Scheduling")]
    with_output_of: Vec<String>,
    /// Group whose limit applies, see `claudine group`.
    #[arg(short, long, value_name = "NAME", help_heading = "Scheduling")]
    group: Option<String>,
    /// Delay the start by this duration.
    #[arg(long, value_name = "DURATION", value_parser = parse::delay, allow_hyphen_values = true, conflicts_with = "at", hide_short_help = true, help_heading = "Scheduling")]
    after: Option<Duration>,
    /// Earliest start, such as `18:00` or `+2h`.
    ///
    /// Also `tomorrow 06:00`, `mon 9am` or `2026-11-23T06:00:00Z`; a time without a zone is local.
    #[arg(long, value_name = "TIME", value_parser = parse::time, help_heading = "Scheduling")]
    at: Option<Timestamp>,
    /// Hold the task until `claudine release`.
    #[arg(long, hide_short_help = true, help_heading = "Scheduling")]
    hold: bool,
    /// Give up if the task has not started within this time.
    #[arg(long, value_name = "DURATION", value_parser = parse::limit, allow_hyphen_values = true, hide_short_help = true, help_heading = "Limits and retries")]
    queue_timeout: Option<Duration>,
    /// Time limit, such as `10m` [default: none].
    ///
    /// Also `90s`, `1h30m`, or a number of seconds.
    #[arg(short, long, value_name = "DURATION", value_parser = parse::limit, allow_hyphen_values = true, help_heading = "Limits and retries")]
    timeout: Option<Duration>,
    /// Kill the task after this long without output [default: 30m for agents].
    #[arg(long, value_name = "DURATION", value_parser = parse::limit, allow_hyphen_values = true, hide_short_help = true, help_heading = "Limits and retries")]
    idle_timeout: Option<Duration>,
    /// Fail the task if there is no output this long after its start [default: 2m for claude].
    #[arg(long, value_name = "DURATION", value_parser = parse::limit, allow_hyphen_values = true, hide_short_help = true, help_heading = "Limits and retries")]
    start_timeout: Option<Duration>,
    /// Budget in USD, over all attempts.
    #[arg(long, value_name = "USD", value_parser = parse::dollars, help_heading = "Limits and retries")]
    budget_usd: Option<f64>,
    /// Retry up to N times on failure.
    #[arg(long, value_name = "N", value_parser = parse::retries(), help_heading = "Limits and retries")]
    retries: Option<u32>,
    /// Retry only on these failures [default: all but lost].
    ///
    /// They are exit, signal, timeout, spawn, plugin, network, resource, no_result, max_turns,
    /// rate_limit and lost.
    #[arg(
        long,
        value_name = "CLASS",
        value_delimiter = ',',
        requires = "retries",
        hide_short_help = true,
        help_heading = "Limits and retries"
    )]
    retry_on: Vec<String>,
    /// Delay before retries, `FIRST[xFACTOR][..MAX]` [default: 1sx2..5m].
    ///
    /// Each delay is random, up to the value that the sequence has reached.
    #[arg(long, value_name = "BACKOFF", value_parser = parse::backoff, requires = "retries", hide_short_help = true, help_heading = "Limits and retries")]
    backoff: Option<parse::Backoff>,
    // Flattened last, because its heading applies to all options after it.
    #[command(flatten)]
    worktree: WorktreeOptions,
    /// An agent's option that is not part of the executor's document.
    #[arg(skip)]
    pub(super) allow_denied: bool,
}

impl TaskOptions {
    pub(super) fn waits(&self) -> bool {
        self.wait
    }

    /// Removes the last dependency with this value, because the value turned out not to name a
    /// task.
    pub(super) fn names_not(&mut self, value: &str) {
        let lists = [
            &mut self.depends_on,
            &mut self.depends_on_success,
            &mut self.depends_on_any,
            &mut self.with_output_of,
        ];
        for list in lists {
            if let Some(at) = list.iter().rposition(|task| task == value) {
                list.remove(at);
                return;
            }
        }
    }

    /// The earliest start, if the start is delayed.
    fn start(&self, now: Timestamp) -> Option<Timestamp> {
        let after = |after| Timestamp(now.0.saturating_add(millis(after)));
        let start = self.at.or_else(|| self.after.map(after));
        start.filter(|start| *start > now)
    }
}

/// Options of an agent, in addition to its prompt.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Agent")]
pub(super) struct AgentOptions {
    /// Model, by name or alias.
    #[arg(long, value_name = "MODEL")]
    model: Option<String>,
    /// Permission mode [default: acceptEdits].
    ///
    /// One of default, acceptEdits, plan, dontAsk, auto and bypassPermissions.
    #[arg(long, value_name = "MODE")]
    permission_mode: Option<String>,
    /// Tools to allow, such as `Bash(git:*),Edit`.
    ///
    /// The agent uses them without asking a person. Repeatable.
    #[arg(long, value_name = "TOOLS", alias = "allowedTools")]
    allowed_tools: Vec<String>,
    /// Append to the system prompt.
    #[arg(long, value_name = "TEXT", hide_short_help = true)]
    append_system_prompt: Option<String>,
    /// Turn limit.
    #[arg(long, value_name = "N", hide_short_help = true)]
    max_turns: Option<u32>,
    /// Budget of each attempt in USD.
    // Hidden, because `--budget-usd` limits all attempts together and is passed on to each.
    #[arg(long, value_name = "USD", value_parser = parse::dollars, hide = true)]
    max_budget_usd: Option<f64>,
    /// Fail if the agent was denied a tool.
    #[arg(long, hide_short_help = true)]
    fail_on_denied: bool,
    /// Succeed even if tools were denied and the worktree has no changes.
    #[arg(long, hide_short_help = true, conflicts_with = "fail_on_denied")]
    pub(super) allow_denied: bool,
    /// Continue this session of the agent.
    #[arg(long, value_name = "SESSION", hide_short_help = true)]
    resume_session: Option<String>,
}

impl AgentOptions {
    /// Adds the options to the executor's document; the executor's schema decides whether they are
    /// allowed.
    pub(super) fn add_to(&self, spec: &mut Map<String, Value>) {
        let mut set = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                spec.insert(name.to_owned(), value);
            }
        };
        let tools = parse::tools(&self.allowed_tools);
        set("model", self.model.clone().map(Value::from));
        set(
            "permission_mode",
            self.permission_mode.clone().map(Value::from),
        );
        set(
            "allowed_tools",
            (!tools.is_empty()).then(|| Value::from(tools)),
        );
        set(
            "append_system_prompt",
            self.append_system_prompt.clone().map(Value::from),
        );
        set("max_turns", self.max_turns.map(Value::from));
        set("max_budget_usd", self.max_budget_usd.map(Value::from));
        set(
            "fail_on_denied",
            self.fail_on_denied.then(|| Value::from(true)),
        );
        set(
            "resume_session",
            self.resume_session.clone().map(Value::from),
        );
    }
}

/// Answer to a submission.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum Delegation {
    Submitted(Delegated),
    /// The task after its end, for `--wait`.
    Ended(Box<TaskView>),
}

/// Submits the task, and waits for it if asked to.
pub(super) async fn submit(
    session: &Session,
    executor: String,
    spec: &Value,
    options: TaskOptions,
) -> Result<ExitCode, Failure> {
    let wait = options.wait;
    let now = clock::wall();
    let start = options.start(now);
    let request = request(executor, spec, options)?;
    let taken = session.client().delegate(&request).await?;
    say_warning(&taken);
    if let (Some(start), false, false) = (start, taken.existing, session.json) {
        let start = times::at_and_distance(&clock::rfc3339(start), now);
        output::say(&format!("starts {start}"));
        if let Some(unknown) = times::unknown_zone() {
            output::say(&format!("warning: {unknown}"));
        }
    }
    if !wait {
        let id = taken.id.clone();
        let written = if session.json {
            output::json(&Delegation::Submitted(taken))
        } else {
            output::id(&id)
        };
        if written.is_err() {
            output::say(&format!("the task was submitted: {}", short_id(&id)));
        }
        return written.map(|()| ExitCode::SUCCESS);
    }
    let watched = match Box::pin(watch::watch(session, &taken)).await {
        Err(failure @ Failure::Output(_)) => return unshown(session, &taken.id, failure).await,
        watched => watched?,
    };
    match watched {
        Watched::Done(task) => {
            if taken.class == Class::Agent && !session.json {
                unless_closed(watch::show_result(&task))?;
            }
            watch::say_how_it_ended(&task, taken.class);
            let code = exit::of_task(&task).into();
            if session.json {
                unless_closed(output::json(&Delegation::Ended(task)))?;
            }
            Ok(code)
        }
        Watched::Detached => {
            output::id(&taken.id)?;
            Ok(status::INTERRUPTED.into())
        }
    }
}

/// Ends the command when it can no longer write the output of its task. Says whether the task
/// continues.
async fn unshown(session: &Session, task: &str, failure: Failure) -> Result<ExitCode, Failure> {
    let task = session.client().status(task).await?;
    let continues = task.outcome.is_none();
    if continues {
        let id = short_id(&task.id);
        output::say(&format!(
            "the output can no longer be written; the task continues: {id}"
        ));
    }
    if !failure.is_closed_pipe() {
        return Err(failure);
    }
    Ok(if continues {
        status::INTERRUPTED.into()
    } else {
        exit::of_task(&task).into()
    })
}

fn request(executor: String, spec: &Value, options: TaskOptions) -> Result<Submit, Failure> {
    let spec = RawValue::from_string(spec.to_string()).map_err(|error| {
        AppError::new(
            ErrorKind::Internal,
            format!("the request cannot be written: {error}"),
        )
    })?;
    let working_directory = directory(options.working_directory)?;
    let mut environment = environment::of_this_process(options.env_clean);
    environment.set = distinct("--env", options.env)?;
    let ms = |limit: Option<Duration>| limit.map(millis);
    let mut dependencies = Vec::new();
    for (option, condition, tasks) in [
        ("--depends-on", Condition::Completed, &options.depends_on),
        (
            "--depends-on-success",
            Condition::Succeeded,
            &options.depends_on_success,
        ),
        ("--depends-on-any", Condition::Any, &options.depends_on_any),
    ] {
        let dependency = |task| DependencyRef { task, condition };
        dependencies.extend(refs(option, tasks)?.into_iter().map(dependency));
    }
    let retries = options.retries.map(|limit| Retries {
        limit,
        on: options.retry_on,
        initial_ms: options.backoff.map(|backoff| backoff.initial_ms),
        factor: options.backoff.and_then(|backoff| backoff.factor),
        max_ms: options.backoff.and_then(|backoff| backoff.max_ms),
    });
    let task = NewTask {
        executor,
        spec,
        name: options.name,
        priority: options.priority,
        working_directory,
        env: BTreeMap::new(),
        timeout_ms: ms(options.timeout),
        idle_timeout_ms: ms(options.idle_timeout),
        start_timeout_ms: ms(options.start_timeout),
        queue_timeout_ms: ms(options.queue_timeout),
        max_output_bytes: options.max_output,
        labels: distinct("--label", options.label)?,
        group: options.group,
        idempotency_key: options.idempotency_key,
        detached: options.detach,
        dependencies,
        with_output_of: refs("--with-output-of", &options.with_output_of)?,
        hold: options.hold,
        after_ms: ms(options.after),
        start_at_ms: options.at.map(|at| at.0),
        retries,
        budget_usd: options.budget_usd,
        worktree: options.worktree.wish(),
        allow_denied: options.allow_denied,
    };
    Ok(Submit {
        environment,
        origin: Origin::Cli,
        name: None,
        budget_usd: None,
        tasks: vec![task],
    })
}

/// Prints the warning about a submitted task, if there is one.
pub(super) fn say_warning(taken: &Delegated) {
    if let Some(warning) = &taken.warning {
        let warning = times::in_text(warning, times::now());
        output::say(&format!("warning: {warning}"));
    }
}

/// The tasks in a value that may be a comma-separated list. A name may be empty.
pub(super) fn listed(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').map(str::trim)
}

/// The tasks in the values of an option. An empty name is refused: it usually comes from a variable
/// of a script that is not set, and without the error the new task would not wait.
fn refs(option: &str, values: &[String]) -> Result<Vec<TaskRef>, Failure> {
    let mut tasks = Vec::new();
    for value in values {
        for task in listed(value) {
            if task.is_empty() {
                let message = format!("the name of a task in {option} is empty");
                return Err(Failure::Usage(message));
            }
            tasks.push(TaskRef(task.to_owned()));
        }
    }
    Ok(tasks)
}

pub(super) fn distinct(
    option: &str,
    pairs: Vec<(String, String)>,
) -> Result<BTreeMap<String, String>, Failure> {
    let mut map = BTreeMap::new();
    for (name, value) in pairs {
        if map.contains_key(&name) {
            return Err(Failure::Usage(format!("{option} gives `{name}` twice")));
        }
        map.insert(name, value);
    }
    Ok(map)
}

/// The working directory as an absolute path to an existing directory, because the host runs in
/// another directory.
pub(super) fn directory(given: Option<PathBuf>) -> Result<PathBuf, Failure> {
    let shown = given.clone().unwrap_or_else(|| ".".into());
    let refuse =
        |what: String| Failure::Usage(format!("the working directory {} {what}", shown.display()));
    let path = match given {
        Some(path) => std::path::absolute(path),
        None => std::env::current_dir(),
    };
    let path = path.map_err(|error| refuse(format!("cannot be used: {error}")))?;
    match std::fs::metadata(&path) {
        Ok(metadata) if metadata.is_dir() => {}
        Ok(_) => return Err(refuse("is not a directory".to_owned())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(refuse("does not exist".to_owned()));
        }
        Err(error) => return Err(refuse(format!("cannot be used: {error}"))),
    }
    if path.to_str().is_none() {
        return Err(refuse("has a path that is not valid UTF-8".to_owned()));
    }
    Ok(path)
}
