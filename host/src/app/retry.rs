//! Runs finished tasks again, and their dependants after them.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
};

use claudine_domain::{
    capacity::Refusal,
    id::TaskId,
    principal::Principal,
    step::{Answer, Ends, Input, Refused, Retry},
    task::{State, Task, WaitingFor},
    time::Timestamp,
};

use super::{
    check::without_nul,
    error::{AppError, ErrorKind},
    explain::is_queued,
    host::Host,
    may::may_end_anew,
    present::held_by,
    reader::Reader,
    request::{ResumeOptions, RetryOptions, TaskRef},
    room,
    view::Retried,
    way_out::more_money,
};
use crate::{
    ceiling::work::is_beyond,
    clock::{self, rfc3339},
    config::McpCeiling,
    engine::EngineError,
};

/// Maximum number of lookups of the dependants. A lookup is repeated if the dependants have changed
/// meanwhile.
pub(super) const TRIES: usize = 5;
/// Limit of the tasks that run again together.
const DOWNSTREAM_MAX: usize = 100_000;
/// Size limit of new instructions.
const CONTEXT_MAX_BYTES: usize = 1 << 20;

impl Host {
    pub(crate) async fn retry(
        &self,
        by: &Arc<Principal>,
        reference: &TaskRef,
        options: RetryOptions,
    ) -> Result<Retried, AppError> {
        if options.now
            && let Some(tried) = self.try_now(by, reference).await?
        {
            return Ok(tried);
        }
        self.again(by, reference, options, None).await
    }

    /// Immediately starts a task that waits for a time. Returns `None` if the task is done and has
    /// to be retried instead.
    async fn try_now(
        &self,
        by: &Arc<Principal>,
        reference: &TaskRef,
    ) -> Result<Option<Retried>, AppError> {
        let task = self.task(reference).await?;
        if task.is_done() {
            return Ok(None);
        }
        let State::Waiting { .. } = &task.state else {
            let (id, state) = (task.id, task.state.as_str());
            let refused = Refused::NotDone { task: id, state };
            return Err(self.with_way_out(by, "retry", refused, Some(&task)).await);
        };
        self.may_try_now(by, &task).await?;
        let input = Input::TryNow { task: task.id };
        match self.engine.asked(by, input).await {
            Ok(answer) => self.retried(task.id, answer).await.map(Some),
            // The task has ended meanwhile.
            Err(EngineError::Refused(Refused::Unknown { .. })) => Ok(None),
            Err(EngineError::Refused(refused)) => {
                Err(self.with_way_out(by, "retry", refused, Some(&task)).await)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Starts another attempt that continues from the end of the last attempt.
    pub(crate) async fn resume(
        &self,
        by: &Arc<Principal>,
        reference: &TaskRef,
        options: ResumeOptions,
    ) -> Result<Retried, AppError> {
        without_nul("the context", &options.context)?;
        let length = options.context.len();
        if length > CONTEXT_MAX_BYTES {
            return Err(AppError::new(
                ErrorKind::Invalid,
                format!("the context has {length} bytes; {CONTEXT_MAX_BYTES} is the limit"),
            )
            .hint("put large content into a file and name the file"));
        }
        let context = options.context.into_bytes().into();
        let retry = RetryOptions {
            change: options.change,
            ..RetryOptions::default()
        };
        self.again(by, reference, retry, Some(context)).await
    }

    async fn again(
        &self,
        by: &Arc<Principal>,
        reference: &TaskRef,
        options: RetryOptions,
        resume: Option<Arc<[u8]>>,
    ) -> Result<Retried, AppError> {
        let verb = if resume.is_some() { "resume" } else { "retry" };
        for _ in 0..TRIES {
            let (reference, downstream) = (reference.clone(), options.downstream);
            let mut retry = self
                .read(move |reader| looked_up(reader, &reference, downstream))
                .await?;
            retry.resume.clone_from(&resume);
            let unfinished = (!retry.task.is_done()).then(|| retry.task.clone());
            // A restrained principal is told the state of the task first, because it cannot run the
            // task again now, whatever it may do. Besides, only a host compiles executors, and
            // `may_retry` may have to ask one.
            let is_decided = by.restrained || self.is_absent();
            if let Some(unfinished) = unfinished.as_ref().filter(|_| is_decided) {
                let (task, state) = (unfinished.id, unfinished.state.as_str());
                let refused = Refused::NotDone { task, state };
                return Err(self.with_way_out(by, verb, refused, Some(unfinished)).await);
            }
            // If the task is unfinished, the error must be about its state, and not about a mistake
            // in the change.
            if retry.task.is_done() {
                let is_told = resume
                    .as_deref()
                    .is_some_and(|said| !said.trim_ascii().is_empty());
                may_end_anew(by, &retry.task, is_told || !options.change.is_none())?;
                retry.revision = self.revised(by, &retry.task, &options.change).await?;
            }
            self.may_retry(by, &retry).await?;
            let request = &retry.task.request;
            let repository = request.worktree.as_ref().map(|it| &*it.repository);
            let directories = [&*request.cwd].into_iter().chain(repository);
            let directories = directories.map(PathBuf::from).collect();
            self.may_work_in(by, directories).await?;
            room::refuse_without(by, &self.reader.layout, &self.settings.limits).await?;
            let shared = self.shared_again(by, &retry).await?;
            let warning = shared.or_else(|| later_start(by, &retry.task));
            let below = beyond_settings(by, &retry.downstream, &self.settings.mcp);
            let told: Vec<String> = warning.into_iter().chain(below).collect();
            let warning = (!told.is_empty()).then(|| told.join("; "));
            let id = retry.task.id;
            match self.engine.asked(by, Input::Retry(Box::new(retry))).await {
                Ok(answer) => {
                    return Ok(Retried {
                        warning,
                        ..self.retried(id, answer).await?
                    });
                }
                Err(EngineError::Refused(Refused::Moved { task: moved })) => {
                    self.known(moved).await?;
                }
                Err(EngineError::Refused(refused)) => {
                    let unfinished = unfinished.as_ref();
                    return Err(self.with_way_out(by, verb, refused, unfinished).await);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(AppError::moved_too_often("the task's dependants"))
    }

    /// The answer to a retry of this task.
    async fn retried(&self, id: TaskId, answer: Answer) -> Result<Retried, AppError> {
        let Answer::Retrying {
            task,
            attempt,
            downstream,
            held,
        } = answer
        else {
            return Err(AppError::new(
                ErrorKind::Internal,
                format!("unexpected answer to a retry: {answer:?}"),
            ));
        };
        let waits = self.waits(id).await.unwrap_or_else(|error| {
            tracing::warn!("why task {id:#} does not start yet is unknown: {error}");
            None
        });
        Ok(Retried {
            id: task.to_string(),
            attempt,
            downstream,
            held,
            waits,
            warning: None,
        })
    }

    /// Why a task that was just retried does not start yet.
    async fn waits(&self, id: TaskId) -> Result<Option<String>, AppError> {
        let task = self.read(move |reader| Ok(reader.store.task(id)?)).await?;
        let Some(task) = task else { return Ok(None) };
        let refusal = if is_queued(&task) {
            self.engine.refusal_of(task.clone()).await?
        } else {
            None
        };
        let is_draining = self.engine.snapshot().draining;
        Ok(waits_for(&task, refusal.as_ref(), is_draining))
    }

    /// The error for a refused retry or resume, with a hint if another command or an option would
    /// help. `unfinished` is the task if it has not ended.
    async fn with_way_out(
        &self,
        by: &Principal,
        verb: &str,
        refused: Refused,
        unfinished: Option<&Task>,
    ) -> AppError {
        let hint = match &refused {
            Refused::NotDone { task, state } if *state == "held" => {
                unfinished.and_then(holders_of).map(|holders| {
                    format!(
                        "it is held by {holders}; a person can release it with `claudine release {task:#}`"
                    )
                })
            }
            Refused::NotDone { task, state } if *state == "waiting" => {
                let may_start = match unfinished {
                    Some(waiting) => self.may_be_tried_now(by, waiting).await,
                    None => Some(!by.restrained),
                };
                may_start.map(|may_start| {
                    if may_start {
                        format!("`claudine retry --now {task:#}` starts the task now")
                    } else {
                        "only a person can start it now, at a terminal".to_owned()
                    }
                })
            }
            Refused::OverBudget { task, spent } => more_money(&format!("{verb} {task:#}"), *spent),
            _ => None,
        };
        let error = AppError::from(EngineError::Refused(refused));
        match hint {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }

    /// Returns an error if a task is no longer stored, because its end decides whether its
    /// dependants may run.
    pub(super) async fn known(&self, id: TaskId) -> Result<(), AppError> {
        let found = self
            .read(move |reader| Ok(reader.store.task(id)?.is_some()))
            .await?;
        if found {
            return Ok(());
        }
        Err(AppError::new(
            ErrorKind::Conflict,
            format!("task {id:#} has been forgotten, so its dependants cannot run again"),
        )
        .hint("submit the task anew; `claudine up --keep` keeps finished tasks longer"))
    }
}

/// What a restrained principal has to know whose retry of a task begins only later.
fn later_start(by: &Principal, task: &Task) -> Option<String> {
    let until = task.wait_kept_for(by, clock::wall())?;
    Some(format!(
        "the task starts no earlier than {}, when its next automatic retry was due before it was \
         cancelled; only a person can start it earlier",
        rfc3339(until)
    ))
}

/// Tells somebody unrestrained of the clients' tasks among those that run again too, if the
/// settings for MCP clients would refuse them now.
fn beyond_settings(by: &Principal, downstream: &[Task], ceiling: &McpCeiling) -> Option<String> {
    if by.restrained {
        return None;
    }
    let beyond = downstream.iter().filter(|task| is_beyond(task, ceiling));
    let tasks = match beyond.count() {
        0 => return None,
        1 => "1 task of a client that runs again after it is".to_owned(),
        count => format!("{count} tasks of clients that run again after it are"),
    };
    Some(format!(
        "{tasks} beyond what the settings (mcp.…) allow clients now"
    ))
}

/// The holders of a held task.
fn holders_of(task: &Task) -> Option<String> {
    matches!(task.state, State::Held { .. }).then(|| held_by(task))
}

/// Why another attempt of a task does not start yet, even if there is room for it, and when it
/// starts.
fn waits_for(task: &Task, refusal: Option<&Refusal>, is_draining: bool) -> Option<String> {
    let until_lifted = "so it starts when a person lifts the pause";
    match &task.state {
        State::Held { .. } => Some("it is held and starts when a person releases it".to_owned()),
        State::Blocked { .. } => {
            Some("it is blocked and starts after the tasks that it depends on".to_owned())
        }
        State::Waiting { until, why } => match why {
            WaitingFor::Account(_) => Some(format!(
                "its account is at a usage limit, so it starts after {}",
                rfc3339(*until)
            )),
            WaitingFor::StartTime => Some(format!("it starts no earlier than {}", rfc3339(*until))),
            // A warning tells this: see `later_start`.
            WaitingFor::Retry => None,
        },
        _ if !is_queued(task) => None,
        _ if is_draining => {
            Some("the host is draining, so it starts once the drain is lifted".to_owned())
        }
        _ => match refusal? {
            Refusal::Paused { .. } => Some(format!("the queue is paused, {until_lifted}")),
            Refusal::GroupPaused { group } => {
                Some(format!("group `{group}` is paused, {until_lifted}"))
            }
            Refusal::DailyBudget { until, .. } => Some(spent_until(*until)),
            _ => None,
        },
    }
}

/// Why an agent does not start before this end of the day.
pub(super) fn spent_until(until: Timestamp) -> String {
    let until = rfc3339(until);
    format!("agents have spent the budget of the day, so it starts after {until}")
}

/// A task, with the dependants that will run again: all of them, or only those that could not run
/// because of the task.
pub(super) fn looked_up(
    reader: &Reader,
    reference: &TaskRef,
    all: bool,
) -> Result<Retry, AppError> {
    let as_of = reader.store.last_batch()?;
    let task = reader.task(reference)?;
    let downstream = if all {
        all_below(reader, task.id)?
    } else {
        reader.store.spoilt_by(task.id)?
    };
    let upstreams: BTreeSet<TaskId> = std::iter::once(&task)
        .chain(&downstream)
        .flat_map(|task| task.dependencies.iter().map(|dependency| dependency.task))
        .collect();
    let ends = reader.store.ends(&upstreams)?;
    let ended = ends.into_iter().filter_map(|(id, end)| Some((id, end?)));
    Ok(Retry {
        ended: Ends {
            as_of,
            ends: ended.collect(),
        },
        task,
        downstream,
        resume: None,
        revision: None,
    })
}

/// All finished direct and indirect dependants of a task.
fn all_below(reader: &Reader, id: TaskId) -> Result<Vec<Task>, AppError> {
    let mut found: BTreeMap<TaskId, Task> = BTreeMap::new();
    let mut next = vec![id];
    while let Some(id) = next.pop() {
        for dependant in reader.store.dependants(id)? {
            if found.contains_key(&dependant) {
                continue;
            }
            let Some(task) = reader.store.task(dependant)? else {
                continue;
            };
            if task.is_done() {
                found.insert(dependant, task);
                next.push(dependant);
            }
        }
        if found.len() > DOWNSTREAM_MAX {
            return Err(AppError::new(
                ErrorKind::Limit,
                format!("more than {DOWNSTREAM_MAX} tasks depend on the task"),
            )
            .hint("run it again without them, and then the tasks that depend on it"));
        }
    }
    Ok(found.into_values().collect())
}

#[cfg(test)]
mod tests {
    use claudine_domain::id::AccountKey;

    use super::*;
    use crate::store::sample_task;

    #[test]
    fn the_answer_to_a_retry_counts_clients_tasks_beyond_the_settings_that_run_again() {
        let by = |restrained: bool| Principal {
            restrained,
            ..Principal::default()
        };
        let task = |restrained: bool| {
            let mut task = sample_task(1);
            let request = Arc::make_mut(&mut task.request);
            (request.executor, request.by) = ("other".into(), Arc::new(by(restrained)));
            task
        };
        let check = |asked_by: &Principal, tasks: &[Task], expected: Option<&str>| {
            let told = beyond_settings(asked_by, tasks, &McpCeiling::default());
            let expected = expected
                .map(|tasks| format!("{tasks} beyond what the settings (mcp.…) allow clients now"));
            assert_eq!(told, expected);
        };
        let (person, client) = (by(false), by(true));
        check(&person, &[], None);
        check(&person, &[task(false)], None);
        let one = Some("1 task of a client that runs again after it is");
        check(&person, &[task(false), task(true)], one);
        let two = Some("2 tasks of clients that run again after it are");
        check(&person, &[task(true), task(true)], two);
        check(&client, &[task(true)], None);
    }

    #[test]
    fn the_answer_to_a_retry_says_what_the_task_waits_for() {
        let since = Timestamp(0);
        let until = Timestamp(86_400_000);
        let check = |state: State, refusal: Option<Refusal>, expected: Option<&str>| {
            let mut task = sample_task(1);
            task.state = state;
            let told = waits_for(&task, refusal.as_ref(), false);
            assert_eq!(told.is_some(), expected.is_some(), "{told:?}");
            let (told, expected) = (told.unwrap_or_default(), expected.unwrap_or_default());
            assert!(told.contains(expected), "{told}");
        };
        let waiting = |why| State::Waiting { until, why };
        let ready = || State::Ready { since, clock: None };
        let account = AccountKey("a".into());
        check(State::Held { since }, None, Some("a person releases it"));
        check(State::Blocked { since }, None, Some("it depends on"));
        check(
            waiting(WaitingFor::Account(account)),
            None,
            Some("usage limit"),
        );
        check(
            waiting(WaitingFor::StartTime),
            None,
            Some("no earlier than 1970-01-"),
        );
        check(waiting(WaitingFor::Retry), None, None);
        check(ready(), None, None);
        check(
            ready(),
            Some(Refusal::Paused { since }),
            Some("the queue is paused"),
        );
        let group = "gpu".to_owned();
        check(
            ready(),
            Some(Refusal::GroupPaused { group }),
            Some("group `gpu` is paused"),
        );
        check(ready(), Some(Refusal::NoReading), None);
        // The state says more than the queue.
        let paused = Some(Refusal::Paused { since });
        check(State::Held { since }, paused, Some("a person releases it"));
        let mut task = sample_task(1);
        task.state = ready();
        let told = waits_for(&task, None, true).unwrap_or_default();
        assert!(told.contains("draining"), "{told}");
    }
}
