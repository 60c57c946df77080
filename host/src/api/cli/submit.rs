//! What `delegate` and `run` share: the options of a task, and what is shown once it is taken on.

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
    failure::Failure,
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
};

/// How a task is run, whatever runs it.
#[derive(Debug, Args)]
pub(super) struct TaskOptions {
    /// A name to find it by. Several tasks may have it: the newest unfinished one is meant.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// P0 goes before P1, P1 before P2. Whoever has waited long rises.
    #[arg(short, long, value_name = "P0|P1|P2", value_parser = parse::priority, default_value = "P1", hide_default_value = true)]
    priority: Priority,
    /// The directory it runs in [default: the current one].
    #[arg(short, long, value_name = "DIR")]
    working_directory: Option<PathBuf>,
    /// End it after so long: `90s`, `10m`, `1h30m`, or a number of seconds [default: no limit].
    #[arg(short, long, value_name = "DURATION", value_parser = parse::limit, allow_hyphen_values = true)]
    timeout: Option<Duration>,
    /// End it when it has been silent for so long [default: 30m for agents, no limit for commands].
    #[arg(long, value_name = "DURATION", value_parser = parse::limit, allow_hyphen_values = true)]
    idle_timeout: Option<Duration>,
    /// Set a variable for it. May be given several times.
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse::pair)]
    env: Vec<(String, String)>,
    /// Give it only HOME, PATH, USER, LOGNAME, SHELL, LANG, LC_ALL, TERM, TMPDIR and what --env sets, not the environment of this command.
    #[arg(long)]
    env_clean: bool,
    /// A label, to list by. May be given several times.
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse::pair)]
    label: Vec<(String, String)>,
    /// The same key again within 24 hours answers with the first task instead of making another.
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// Keep at most so much of its output, such as `10M`; of more, the first and the newest half [default: 1G].
    #[arg(long, value_name = "SIZE", value_parser = parse::size, allow_hyphen_values = true)]
    max_output: Option<u64>,
    /// Wait until these tasks have run to an end, a good one or not: their ids, ends of ids, or
    /// names, one after the other or with commas.
    #[arg(long, value_name = "ID", num_args = 1.., help_heading = "When it starts")]
    depends_on: Vec<String>,
    /// Wait until these tasks have succeeded. If one of them does not, this one ends as `upstream_failed`.
    #[arg(long, value_name = "ID", num_args = 1.., help_heading = "When it starts")]
    depends_on_success: Vec<String>,
    /// Wait until these tasks have ended, however they do.
    #[arg(long, value_name = "ID", num_args = 1.., help_heading = "When it starts")]
    depends_on_any: Vec<String>,
    /// Give it the output of these tasks, and wait until they have succeeded, or as another option says. An agent is told before its
    /// prompt how each ended, its result or last lines; files with all of it are in $CLAUDINE_INPUTS, in a directory for each name.
    #[arg(long, value_name = "ID", num_args = 1.., help_heading = "When it starts")]
    with_output_of: Vec<String>,
    /// The group whose limit counts for it: see `claudine group`.
    #[arg(short, long, value_name = "NAME", help_heading = "When it starts")]
    group: Option<String>,
    /// Start it no sooner than so long from now.
    #[arg(long, value_name = "DURATION", value_parser = parse::duration, allow_hyphen_values = true, conflicts_with = "at", help_heading = "When it starts")]
    after: Option<Duration>,
    /// Start it no sooner than at this time: `18:00`, `tomorrow 06:00`, `mon 9am`, `+2h`, or
    /// `2026-11-23T06:00:00Z`. A time without a zone is by the clock here.
    #[arg(long, value_name = "TIME", value_parser = parse::time, help_heading = "When it starts")]
    at: Option<Timestamp>,
    /// Hold it until `claudine release`.
    #[arg(long, help_heading = "When it starts")]
    hold: bool,
    /// Give it up when it has been ready for so long without a free place to run.
    #[arg(long, value_name = "DURATION", value_parser = parse::limit, allow_hyphen_values = true, help_heading = "When it starts")]
    queue_timeout: Option<Duration>,
    /// End it when it has given no sign of life so long after its start [default: 2m for claude, no limit for commands].
    #[arg(long, value_name = "DURATION", value_parser = parse::limit, allow_hyphen_values = true)]
    start_timeout: Option<Duration>,
    /// Try it again up to so often when it fails.
    #[arg(long, value_name = "N", help_heading = "Retries")]
    retries: Option<u32>,
    /// What is tried again: exit, signal, timeout, spawn, plugin, network, resource, no_result, max_turns, rate_limit, lost [default: all but lost].
    #[arg(
        long,
        value_name = "CLASS",
        value_delimiter = ',',
        requires = "retries",
        help_heading = "Retries"
    )]
    retry_on: Vec<String>,
    /// How long to wait before: `FIRST[xFACTOR][..LONGEST]`. The wait is drawn evenly from nothing to the grown delay [default: 1sx2..5m].
    #[arg(long, value_name = "BACKOFF", value_parser = parse::backoff, requires = "retries", help_heading = "Retries")]
    backoff: Option<parse::Backoff>,
    /// Stop it, and do not try it again, once its attempts have cost so many US dollars together.
    #[arg(long, value_name = "USD", value_parser = parse::dollars)]
    budget_usd: Option<f64>,
    /// Submitted from within a task: do not cancel this one when that one is cancelled.
    #[arg(long)]
    detach: bool,
    /// Stay to its end, and end with its exit code. Of a command the output is shown as it comes; of an agent, on a terminal, what it is
    /// doing, and its result at the end. Ctrl-C detaches and prints the id; twice, it cancels the task.
    #[arg(long)]
    wait: bool,
    // The last: its heading would go on over what follows.
    #[command(flatten)]
    worktree: WorktreeOptions,
    /// An option for agents that is not in their document.
    #[arg(skip)]
    pub(super) allow_denied: bool,
}

impl TaskOptions {
    /// Takes back a value that was given last as a task, and is none.
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

    /// When it may start at the earliest, if that is put off.
    fn start(&self, now: Timestamp) -> Option<Timestamp> {
        let after = |after| Timestamp(now.0.saturating_add(millis(after)));
        let start = self.at.or_else(|| self.after.map(after));
        start.filter(|start| *start > now)
    }
}

/// What an agent is told beside its prompt.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Options for agents")]
pub(super) struct AgentOptions {
    /// The model to use, by name or alias.
    #[arg(long, value_name = "MODEL")]
    model: Option<String>,
    /// What it may do unasked: default, acceptEdits, plan, dontAsk, auto or bypassPermissions [default: acceptEdits].
    #[arg(long, value_name = "MODE")]
    permission_mode: Option<String>,
    /// Tools it may use unasked, such as `Bash(git:*),Edit`. May be given several times.
    #[arg(long, value_name = "TOOLS", alias = "allowedTools")]
    allowed_tools: Vec<String>,
    /// Text added to its system prompt.
    #[arg(long, value_name = "TEXT")]
    append_system_prompt: Option<String>,
    /// End it after so many turns.
    #[arg(long, value_name = "N")]
    max_turns: Option<u32>,
    /// End it when it has cost so many US dollars.
    #[arg(long, value_name = "USD", value_parser = parse::dollars)]
    max_budget_usd: Option<f64>,
    /// Let the task fail when the agent was denied a tool.
    #[arg(long)]
    fail_on_denied: bool,
    /// Let it succeed in a worktree even if it was denied tools and changed nothing
    #[arg(long, conflicts_with = "fail_on_denied")]
    pub(super) allow_denied: bool,
    /// Go on with this session of the agent.
    #[arg(long, value_name = "SESSION")]
    resume_session: Option<String>,
}

impl AgentOptions {
    /// Adds what was given to the document for the executor; whether it knows these is for its schema to say.
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

/// What is answered to a task that was handed over.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum Delegation {
    Submitted(Delegated),
    /// With --wait.
    Ended(Box<TaskView>),
}

/// Hands the task over, and stays with it if that is wanted.
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
    }
    if !wait {
        if session.json {
            output::json(&Delegation::Submitted(taken))?;
        } else {
            output::id(&taken.id)?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    match Box::pin(watch::watch(session, &taken)).await? {
        Watched::Done(task) => {
            if taken.class == Class::Agent && !session.json {
                watch::show_result(&task)?;
            }
            watch::say_how_it_ended(&task, taken.class);
            let code = exit::of_task(&task).into();
            if session.json {
                output::json(&Delegation::Ended(task))?;
            }
            Ok(code)
        }
        Watched::Detached => {
            output::id(&taken.id)?;
            Ok(status::INTERRUPTED.into())
        }
    }
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
    let dependencies = [
        (Condition::Completed, options.depends_on),
        (Condition::Succeeded, options.depends_on_success),
        (Condition::Any, options.depends_on_any),
    ];
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
        dependencies: dependencies
            .into_iter()
            .flat_map(|(condition, tasks)| {
                let dependency = move |task| DependencyRef { task, condition };
                refs(&tasks).into_iter().map(dependency)
            })
            .collect(),
        with_output_of: refs(&options.with_output_of),
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

/// What may go wrong with a task that was taken on.
pub(super) fn say_warning(taken: &Delegated) {
    if let Some(warning) = &taken.warning {
        output::say(&format!("warning: {warning}"));
    }
}

/// The tasks of a value that may be a list with commas.
pub(super) fn listed(value: &str) -> impl Iterator<Item = &str> {
    value
        .split(',')
        .map(str::trim)
        .filter(|task| !task.is_empty())
}

fn refs(values: &[String]) -> Vec<TaskRef> {
    let tasks = values.iter().flat_map(|value| listed(value));
    tasks.map(|task| TaskRef(task.to_owned())).collect()
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

/// Absolute and there: the host has no directory of its own to be relative to.
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
