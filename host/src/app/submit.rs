//! Submits tasks: either all tasks of a request or none.

mod members;

use std::{sync::Arc, time::Duration};

use claudine_domain::{
    attempt::Phase,
    id::{AttemptId, TaskId},
    principal::{Authority, Kind, Principal},
    step::{Accepted, Answer, Ends, Input, Refused, Submit as Together},
    task::{Class, Request, Task},
    time::Timestamp,
};

use self::members::{Edges, Graph, MISTAKES_MAX, Prepared, all_of, of_member};
use super::{
    account::account_of,
    check::{check, name_of, variables},
    error::{AppError, ErrorKind},
    graph,
    host::Host,
    may::may_keep_output,
    name::NewName,
    prepare::{Checked, class_of, idempotency, ladder_of, plain, retries, summary, validate},
    request::{NewTask, Submit},
    room,
    variables::set_for,
    view::{Delegated, GraphName, Submitted},
    worktrees::{each_its_own, few_enough},
};
use crate::{
    allocator,
    ceiling::{
        session::session_of,
        variables::Names,
        work::{may_ask_for_mode, may_use},
    },
    clock,
    config::{ATTEMPT, USD_EXPECTED, budget_micro_usd},
    engine::EngineError,
    environment::Kept,
    lock::lock,
    plugin::{Executor, PluginError},
    random,
};

/// Limit of the tasks in a request.
pub(crate) const TASKS_MAX: usize = 100_000;
/// If a request has at least this many tasks, memory is returned to the system after the request.
const MANY: usize = 10_000;
/// Maximum number of lookups of the dependencies. A lookup is repeated if the dependencies have
/// changed meanwhile.
const TRIES: usize = 5;

impl Host {
    /// Submits tasks; returns once they are on disk.
    pub(crate) async fn submit(
        &self,
        by: &Arc<Principal>,
        submit: Submit,
    ) -> Result<Submitted, AppError> {
        let (by, mut graph) = self.looked_at(by, submit).await?;
        let told = graph.told_of_members();
        let (name, is_graph) = (graph.name.clone(), graph.is_graph());
        let accepted = self.take_on(&by, graph).await?;
        let has_agent = told.iter().any(|(class, _)| *class == Class::Agent);
        let spent = if has_agent {
            self.day_is_spent().await
        } else {
            None
        };
        if accepted.len() >= MANY {
            allocator::give_back().await;
        }
        let first = accepted.first().filter(|_| is_graph);
        let first = first.map(|first| first.task.to_string());
        let tasks = accepted.into_iter().zip(told);
        Ok(Submitted {
            graph: first.map(|id| GraphName { id, name }),
            tasks: tasks
                .map(|(accepted, (class, warning))| {
                    let spent = spent.clone().filter(|_| class == Class::Agent);
                    let warnings: Vec<String> = warning.into_iter().chain(spent).collect();
                    let has_one = !accepted.existing && !warnings.is_empty();
                    Delegated {
                        id: accepted.task.to_string(),
                        class,
                        existing: accepted.existing,
                        warning: has_one.then(|| warnings.join("; ")),
                    }
                })
                .collect(),
        })
    }

    /// The graph that the request would submit. Nothing is submitted.
    pub(crate) async fn plan(
        &self,
        by: &Arc<Principal>,
        submit: Submit,
    ) -> Result<graph::Graph, AppError> {
        let (by, graph) = self.looked_at(by, submit).await?;
        let graph = Arc::new(graph);
        let together = self.together(&graph).await?;
        match self
            .engine
            .asked(&by, Input::CheckSubmit(together.clone()))
            .await
        {
            Ok(_) => {}
            Err(EngineError::Refused(refused)) => return Err(graph.told(&refused)),
            Err(error) => return Err(error.into()),
        }
        self.read(move |reader| graph::planned(reader, together))
            .await
    }

    /// Does the part of a request's validation that does not need the engine.
    async fn looked_at(
        &self,
        by: &Arc<Principal>,
        submit: Submit,
    ) -> Result<(Arc<Principal>, Graph), AppError> {
        let Submit {
            environment,
            origin,
            name,
            budget_usd,
            tasks,
        } = submit;
        let by = &origin.principal(by);
        if let Some(name) = &name {
            name_of("the name of the graph", name)?;
        }
        let budget_micro_usd = budget_usd.map(budget).transpose()?;
        // The name of the graph is stored with its first task.
        let graph_at = |index: usize| (name.as_deref().filter(|_| index == 0), budget_micro_usd);
        if let Some(name) = &name {
            let first = tasks.first();
            let key = first.map(|first| idempotency(by, first, graph_at(0)));
            let new = NewName {
                index: 0,
                name: name.clone(),
                idempotency: key.transpose()?.flatten(),
            };
            let named = self.names_of_their_own(by, vec![new]).await;
            named.map_err(|(_, error)| error)?;
        }
        if tasks.is_empty() || tasks.len() > TASKS_MAX {
            return Err(AppError::new(
                ErrorKind::Invalid,
                format!("a request has 1 to {TASKS_MAX} tasks, not {}", tasks.len()),
            ));
        }
        few_enough(&tasks)?;
        let room = room::refuse_without(by, &self.reader.layout, &self.settings.limits).await;
        if let Err(full) = room {
            // The repetition of a request stores no other task.
            let key = match tasks.as_slice() {
                [task] => idempotency(by, task, graph_at(0))?,
                _ => None,
            };
            let is_repeated = match key {
                Some(key) => self.is_repeated(key).await?,
                None => false,
            };
            if !is_repeated {
                return Err(full);
            }
        }
        variables(&environment)?;
        let parent = self.parent(by, environment.base.get(ATTEMPT)).await?;
        let given = self.environment_by(by, environment, &tasks).await?;
        let kept = self
            .environments
            .keep(given.environment)
            .await
            .map_err(cannot_keep)?;
        let kept = Arc::new(kept);
        let asked: Vec<_> = tasks.iter().map(|task| task.name.clone()).collect();
        let of_member = |index: usize, error| match asked.as_slice() {
            [_] => error,
            names => of_member(error, index, names[index].as_deref()),
        };
        let mut checked = Vec::with_capacity(tasks.len());
        let mut wrong = Vec::new();
        for (index, task) in tasks.into_iter().enumerate() {
            match self.checked(by, task, &kept, given.set.as_ref()).await {
                Ok(one) => checked.push(one),
                Err(error) => wrong.push(of_member(index, error)),
            }
            if wrong.len() == MISTAKES_MAX {
                break;
            }
        }
        if let Some(error) = all_of(wrong) {
            return Err(error);
        }
        let mut names = Vec::new();
        for (index, one) in checked.iter().enumerate() {
            let Some(name) = &one.task.name else { continue };
            let key = idempotency(by, &one.task, graph_at(index));
            names.push(NewName {
                index,
                name: name.clone(),
                idempotency: key.map_err(|error| of_member(index, error))?,
            });
        }
        let named = self.names_of_their_own(by, names).await;
        named.map_err(|(index, error)| of_member(index, error))?;
        let usable = self.directories.check(by, &self.places, &checked).await;
        usable.map_err(|(index, error)| of_member(index, error))?;
        let valid = validate(&checked).await;
        valid.map_err(|(index, error)| of_member(index, error))?;
        let allowed = self.may_submit(by, &checked).await;
        let authorities = allowed.map_err(|(index, error)| of_member(index, error))?;
        let mut prepared = Vec::with_capacity(checked.len());
        for (index, (task, authority)) in checked.into_iter().zip(authorities).enumerate() {
            let by = (by.clone(), authority);
            let one = self.prepare(task, by, graph_at(index)).await;
            prepared.push(one.map_err(|error| of_member(index, error))?);
        }
        self.warn_of_shared_sessions(by, &mut prepared).await?;
        each_its_own(
            prepared
                .iter()
                .filter_map(|one| one.request.worktree.as_deref()),
        )?;
        let graph = Graph {
            ids: self.new_ids(prepared.len()),
            members: prepared,
            parent,
            name,
            budget_micro_usd,
        };
        // The names are checked even without dependencies, because duplicate names in a graph are a
        // mistake.
        graph.names()?;
        Ok((by.clone(), graph))
    }

    /// Does the part of a task's validation that needs no call of its executor and no read of its
    /// directory. Also stores the task's environment.
    async fn checked(
        &self,
        by: &Principal,
        task: NewTask,
        kept: &Arc<Kept>,
        set: Option<&Names>,
    ) -> Result<Checked, AppError> {
        check(&task)?;
        may_use(by, &task.executor, &self.settings.mcp)?;
        may_keep_output(by, task.max_output_bytes, self.settings.max_output_bytes)?;
        let set_variables = set_for(by, &task, set)?;
        let kept = if task.env.is_empty() {
            kept.clone()
        } else {
            let own = self.environments.with(kept, &task.env).await;
            Arc::new(own.map_err(cannot_keep)?)
        };
        let executor = self.executor(&task.executor)?;
        let class = class_of(executor.manifest());
        may_ask_for_mode(by, class, task.spec.get(), &self.settings.mcp)?;
        Ok(Checked {
            task,
            executor,
            kept,
            set_variables,
        })
    }

    /// Makes the request for the board. It has the defaults of the host and of the executor's
    /// manifest, the account, the planned worktree and a summary.
    async fn prepare(
        &self,
        checked: Checked,
        (by, authority): (Arc<Principal>, Option<Arc<Authority>>),
        graph: (Option<&str>, Option<u64>),
    ) -> Result<Prepared, AppError> {
        let Checked {
            task,
            executor,
            kept,
            set_variables,
        } = checked;
        let idempotency = idempotency(&by, &task, graph)?;
        let spec = task.spec.get();
        let manifest = executor.manifest();
        let account = account_of(manifest, &kept.variables, &task.working_directory);
        let (account, serial_start) = account.await?;
        let millis = |given: Option<u64>| given.map(Duration::from_millis);
        let after = millis(task.after_ms).map(|delay| clock::wall().after(delay));
        let planned = self
            .planned(&by, &task, idempotency.as_ref(), &kept)
            .await?;
        let (worktree, warning) = planned.map_or((None, None), |planned| {
            (Some(Box::new(planned.worktree)), planned.warning)
        });
        let session = session_of(class_of(manifest), spec)?;
        let request = Request {
            worktree,
            by,
            authority,
            set_variables,
            resumes_session: session.map(String::into_boxed_str),
            summary: summary(spec),
            cwd: plain(&task.working_directory).into(),
            detached: task.detached,
            allow_denied: task.allow_denied,
            start_at: after.max(task.start_at_ms.map(Timestamp)),
            queue_timeout: millis(task.queue_timeout_ms),
            retries: task
                .retries
                .as_ref()
                .map(retries)
                .transpose()?
                .map(Box::new),
            budget_micro_usd: task.budget_usd.map(budget).transpose()?,
            timeout: millis(task.timeout_ms).or(self.settings.task_timeout),
            idle_timeout: millis(task.idle_timeout_ms).or(manifest.idle_timeout),
            start_timeout: millis(task.start_timeout_ms).or(manifest.start_timeout),
            max_output_bytes: task
                .max_output_bytes
                .unwrap_or(self.settings.max_output_bytes),
            env_digest: kept.digest.clone(),
            umask: kept.umask,
            bounds: kept.bounds.clone(),
            account,
            serial_start,
            idempotency: idempotency.map(Box::new),
            ladder: ladder_of(manifest),
            name: task.name.clone(),
            priority: task.priority,
            labels: task.labels.clone(),
            group: task.group.clone(),
            executor: task.executor.as_str().into(),
            class: class_of(manifest),
            // The places in a graph and under a parent are known when all tasks are prepared.
            with_output_of: Vec::new(),
            graph_budget: None,
            graph: None,
            parent: None,
            above_parent: Vec::new(),
            attached_above: 0,
        };
        Ok(Prepared {
            request,
            spec: spec.as_bytes().into(),
            asked: task,
            warning,
            _kept: kept,
        })
    }

    /// Warns somebody unrestrained whose tasks are to continue sessions that tasks of restrained
    /// principals use too.
    async fn warn_of_shared_sessions(
        &self,
        by: &Principal,
        tasks: &mut [Prepared],
    ) -> Result<(), AppError> {
        let named = tasks
            .iter()
            .filter_map(|one| one.request.resumes_session.as_deref());
        let sessions = named.map(str::to_owned).collect();
        let shared = self.shared_sessions(by, sessions).await?;
        for one in tasks {
            let session = one.request.resumes_session.as_deref();
            if let Some(told) = session.and_then(|session| shared.get(session)) {
                let before = one.warning.take().map(|warning| format!("{warning}; "));
                one.warning = Some(before.unwrap_or_default() + told);
            }
        }
        Ok(())
    }

    async fn take_on(&self, by: &Arc<Principal>, graph: Graph) -> Result<Vec<Accepted>, AppError> {
        let graph = Arc::new(graph);
        for _ in 0..TRIES {
            let together = self.together(&graph).await?;
            match self.engine.asked(by, Input::Submit(together)).await {
                Ok(Answer::Accepted(accepted)) => return Ok(accepted),
                Ok(other) => {
                    return Err(AppError::new(
                        ErrorKind::Internal,
                        format!("unexpected answer to a submission: {other:?}"),
                    ));
                }
                Err(EngineError::Refused(Refused::Moved { .. })) => {}
                Err(EngineError::Refused(refused)) => return Err(graph.told(&refused)),
                Err(error) => return Err(error.into()),
            }
        }
        Err(AppError::moved_too_often("the dependencies of the request"))
    }

    /// The input for the engine.
    async fn together(&self, graph: &Arc<Graph>) -> Result<Together, AppError> {
        if graph.has_edges() {
            let graph = graph.clone();
            return self.read(move |reader| graph.looked_up(reader)).await;
        }
        let none = graph.ids.iter().map(|_| Edges::default());
        Ok(graph.with(none.collect(), Ends::default()))
    }

    /// The task inside which the request is made: the task of the caller's process or, if this is
    /// not known, the task of the caller's marker. Anybody can name any attempt in a marker. So a
    /// marker counts only while its attempt runs, and nobody spends the budget of a graph without a
    /// running attempt.
    async fn parent(
        &self,
        by: &Principal,
        marker: Option<&String>,
    ) -> Result<Option<Task>, AppError> {
        if let Kind::Agent { task: Some(task) } = by.kind {
            return self.read(move |reader| Ok(reader.store.task(task)?)).await;
        }
        let marked = marker.and_then(|marker| marker.parse::<AttemptId>().ok());
        let Some(AttemptId { task, number }) = marked else {
            return Ok(None);
        };
        let found = self
            .read(move |reader| Ok(reader.store.task(task)?))
            .await?;
        Ok(found.filter(|task| runs_attempt(task, number)))
    }

    fn new_ids(&self, count: usize) -> Vec<TaskId> {
        let random = random::many_128(count);
        let mut ids = lock(&self.ids);
        random
            .map(|random| ids.next(clock::wall().0, random))
            .collect()
    }

    pub(super) fn executor(&self, name: &str) -> Result<std::sync::Arc<Executor>, AppError> {
        match self.plugins.executor(name) {
            Ok(executor) => Ok(executor.clone()),
            Err(PluginError::Unknown { .. }) => {
                let names = self.plugins.executor_names();
                let shown: String = name.chars().take(80).collect();
                let error = AppError::new(ErrorKind::NotFound, format!("no executor `{shown}`"));
                Err(if names.is_empty() {
                    error.hint(
                        "this binary was built without plugins: build it with `cargo xtask build`",
                    )
                } else {
                    error.hint(format!("the executors are {}", names.join(", ")))
                })
            }
            Err(error) => Err(AppError::new(
                ErrorKind::Unavailable,
                format!("executor `{name}` cannot be used: {error}"),
            )
            .hint(format!("`claudine plugin inspect {name}` shows the reason"))),
        }
    }
}

/// Whether an attempt has begun and not ended.
fn runs_attempt(task: &Task, number: u32) -> bool {
    let last = task.last_attempt();
    let is_last = last.is_some_and(|last| last.number == number);
    is_last && task.phase().is_some_and(|it| *it != Phase::Assigned)
}

pub(super) fn budget(usd: f64) -> Result<u64, AppError> {
    budget_micro_usd(usd).ok_or_else(|| {
        AppError::new(
            ErrorKind::Invalid,
            format!("the budget is {}, but must be {USD_EXPECTED}", number(usd)),
        )
    })
}

/// A number as people write it, and a number with very many digits in its short form.
fn number(value: f64) -> String {
    if value.abs() < 1e15 {
        value.to_string()
    } else {
        format!("{value:e}")
    }
}

fn cannot_keep(error: std::io::Error) -> AppError {
    let kind = match error.kind() {
        std::io::ErrorKind::StorageFull => ErrorKind::StoreFull,
        _ => ErrorKind::Unavailable,
    };
    AppError::new(
        kind,
        format!("the task's environment cannot be kept: {error}"),
    )
}

#[cfg(test)]
mod tests {
    use claudine_domain::{attempt::Attempt, task::State};

    use super::*;
    use crate::store::sample_task;

    #[test]
    fn only_the_last_attempt_of_a_running_task_counts_as_running() {
        let check = |state: State, number: u32, expected: bool| {
            let mut task = sample_task(1);
            task.attempts = vec![
                Attempt::new(1, task.created_at),
                Attempt::new(2, task.created_at),
            ];
            task.state = state;
            assert_eq!(runs_attempt(&task, number), expected, "{:?}", task.state);
        };
        let since = sample_task(1).created_at;
        for phase in [Phase::Preparing, Phase::Starting, Phase::Live] {
            let running = State::Running { phase, since };
            check(running.clone(), 2, true);
            check(running.clone(), 1, false);
            check(running, 3, false);
        }
        let reserved = State::Running {
            phase: Phase::Assigned,
            since,
        };
        check(reserved, 2, false);
        check(State::Held { since }, 2, false);
        check(State::Ready { since, clock: None }, 2, false);
        let mut unbegun = sample_task(1);
        unbegun.attempts.clear();
        assert!(!runs_attempt(&unbegun, 1));
    }

    #[test]
    fn a_number_with_very_many_digits_is_shown_in_its_short_form() {
        let check = |value: f64, expected: &str| assert_eq!(number(value), expected);
        check(0.0, "0");
        check(-1.5, "-1.5");
        check(1e308, "1e308");
        check(-1e16, "-1e16");
        check(f64::INFINITY, "inf");
    }
}
