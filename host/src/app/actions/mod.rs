//! Applies one action to several tasks, which are named or found by a filter.
//!
//! An error for one task does not affect the others. A cancel, hold or release of several tasks is
//! sent to the engine as one command, because the store need not be read between two tasks. So no
//! task starts in between. Dependants are cancelled, held and released before their dependencies,
//! but retried and resumed after them, one after the other. If the client disconnects meanwhile,
//! the remaining tasks are still retried or resumed.

mod order;
mod request;

use std::{collections::BTreeSet, sync::Arc};

use claudine_domain::{
    id::TaskId,
    principal::Principal,
    step::{Answer, Input, Refused},
    task::{State, Task},
};

use self::order::upstream_first;
pub(crate) use self::request::{Action, TaskActed, TaskActions, TasksActed};
use super::{
    error::{AppError, ErrorKind},
    host::Host,
    may::{Verb, may},
    present::held_by,
    reader::{Reader, unknown},
    request::TaskRef,
    select::{FoundGraph, Purpose, Selection},
    unended::{known_unendable, uncancelled},
};
use crate::{
    ceiling::work::is_beyond,
    config::McpCeiling,
    engine::EngineError,
    store::{States, Status},
    text::{harmless, shortened},
};

/// Maximum number of tasks that a request may name, which is the maximum of a graph.
pub(crate) const IDS_MAX: usize = 20_000;
/// Maximum number of tasks that a filter may find.
const FOUND_MAX: usize = 100_000;
/// Length limit of a reason, which is shown in lists and stored with the task.
const REASON_MAX_CHARS: usize = 1000;

/// A task to act on.
struct Meant {
    id: TaskId,
    shown: TaskActed,
    upstream: Vec<TaskId>,
    was_done: bool,
}

impl Meant {
    fn forgotten(id: TaskId) -> Self {
        Self {
            id,
            shown: TaskActed::forgotten(id),
            upstream: Vec::new(),
            was_done: true,
        }
    }
}

/// All tasks to act on, in the order of the answer.
#[derive(Default)]
struct AllMeant {
    tasks: Vec<Meant>,
    /// Named tasks that do not exist.
    missing: Vec<TaskActed>,
    graph: Option<FoundGraph>,
}

impl Host {
    pub(crate) async fn act(
        self: &Arc<Self>,
        by: &Arc<Principal>,
        asked: TaskActions,
    ) -> Result<TasksActed, AppError> {
        asked.check(IDS_MAX)?;
        let (look, holder, ceiling) = (asked.clone(), by.clone(), self.settings.mcp.clone());
        let looking = move |reader: &Reader| {
            Looking {
                by: &holder,
                ceiling: &ceiling,
                asked: &look,
            }
            .all(reader)
        };
        // A dry run has time to wait for other reads of many rows, and a cancellation has not.
        let meant = if asked.dry_run {
            self.read_many(looking).await?
        } else {
            self.read(looking).await?
        };
        let found = meant.tasks.len() + meant.missing.len();
        if let Some(expected) = asked.expect
            && found.abs_diff(expected) * 10 > expected
        {
            let message = format!("the filter finds {found} tasks, not {expected}");
            return Err(AppError::new(ErrorKind::Conflict, message)
                .hint("list the tasks again and pass the new number"));
        }
        let AllMeant {
            mut tasks,
            missing,
            graph,
        } = meant;
        if !asked.dry_run {
            match asked.action {
                Action::Cancel => {
                    let reason = asked.reason.as_deref().and_then(plain_reason);
                    let cancel = |task| Input::Cancel {
                        task,
                        reason: reason.clone(),
                    };
                    self.at_once(by, asked.action, &mut tasks, cancel).await?;
                }
                Action::Hold => {
                    let hold = |task| Input::Hold { tasks: vec![task] };
                    self.at_once(by, asked.action, &mut tasks, hold).await?;
                }
                Action::Release => {
                    let release = |task| Input::Release { tasks: vec![task] };
                    self.at_once(by, asked.action, &mut tasks, release).await?;
                }
                Action::Retry | Action::Resume => {
                    let (host, by) = (self.clone(), by.clone());
                    let again = async move {
                        host.run_again(&by, &asked, &mut tasks).await;
                        Ok(tasks)
                    };
                    tasks = self.seen_to(again).await?;
                }
            }
            // The summary is needed only in a dry run, to ask the user before the action.
            for task in &mut tasks {
                task.shown.summary = None;
            }
        }
        let shown = tasks.into_iter().map(|task| task.shown).chain(missing);
        Ok(TasksActed::of(shown.collect(), graph.as_ref()))
    }

    /// Acts on all tasks with one command, dependants before their dependencies.
    async fn at_once(
        &self,
        by: &Arc<Principal>,
        action: Action,
        tasks: &mut [Meant],
        command: impl Fn(TaskId) -> Input,
    ) -> Result<(), AppError> {
        let mut order =
            upstream_first(tasks.iter().map(|task| (task.id, task.upstream.as_slice())));
        order.retain(|place| tasks[*place].shown.error.is_none());
        order.reverse();
        if order.is_empty() {
            return Ok(());
        }
        let commands = order.iter().map(|place| command(tasks[*place].id));
        let each = Input::Each(commands.collect());
        let asked = self.engine.asked(by, each).await;
        let asked = asked.map_err(|error| match action {
            Action::Cancel => uncancelled(by, error),
            _ => error.into(),
        });
        let answers = match asked? {
            Answer::Each(answers) if answers.len() == order.len() => answers,
            other => {
                let message = format!("unexpected answer to several commands: {other:?}");
                return Err(AppError::new(ErrorKind::Internal, message));
            }
        };
        let is_single = order.len() == 1;
        for (place, answer) in order.into_iter().zip(answers) {
            let task = &mut tasks[place];
            match answer {
                Ok(answer) => {
                    task.shown.note(&answer);
                    if is_single && action == Action::Release && task.shown.already {
                        task.shown.held_by = self.still_held_by(task.id).await?;
                    }
                }
                // The board has only unfinished tasks, so this task is done or never existed.
                Err(Refused::Unknown { .. }) => {
                    let why = self.over(action, task.id).await;
                    task.shown.error = Some(why.unwrap_or_else(|unread| unread));
                }
                Err(refused) => {
                    task.shown.error = Some(AppError::from(EngineError::Refused(refused)));
                }
            }
        }
        if action == Action::Cancel {
            let stopping = tasks.iter().map(|task| &task.shown);
            let stopping = stopping.filter(|shown| shown.was_stopping());
            let stopping: Vec<String> = stopping.map(|shown| shown.id.clone()).collect();
            // Looked up once, because there may be thousands of tasks.
            let may_have_halted = !stopping.is_empty() && self.may_have_halted();
            let unended = known_unendable(&self.reader.layout, stopping).await;
            for task in tasks {
                task.shown.note_unended(&unended);
                let is_open = task.shown.was_stopping() && task.shown.warning.is_none();
                if is_open && may_have_halted {
                    task.shown.warning = self.halt_of_stopping(task.id).await;
                }
            }
        }
        Ok(())
    }

    /// Those who hold a task, if it is held.
    async fn still_held_by(&self, id: TaskId) -> Result<Option<String>, AppError> {
        let task = self.read(move |reader| Ok(reader.store.task(id)?)).await?;
        let held = task.filter(|task| matches!(task.state, State::Held { .. }));
        Ok(held.as_ref().map(held_by))
    }

    /// Retries or resumes the tasks one after the other, because the dependants of each task must
    /// be looked up in the store.
    async fn run_again(&self, by: &Arc<Principal>, asked: &TaskActions, tasks: &mut [Meant]) {
        let order = upstream_first(tasks.iter().map(|task| (task.id, task.upstream.as_slice())));
        // An error that applies to the remaining tasks too.
        let mut stopped: Option<AppError> = None;
        for place in order {
            let task = &mut tasks[place];
            if let Some(error) = &stopped {
                task.shown.error = Some(error.clone());
                continue;
            }
            let reference = TaskRef(task.id.to_string());
            let again = if asked.action == Action::Resume {
                let options = asked.resume.clone().unwrap_or_default();
                self.resume(by, &reference, options).await
            } else {
                let options = asked.retry.clone().unwrap_or_default();
                self.retry(by, &reference, options).await
            };
            match again {
                Ok(retried) => task.shown.note_retried(&retried),
                Err(error) if error.kind == ErrorKind::Conflict && task.was_done => {
                    match self.runs_again(task.id).await {
                        // The task was revived by the retry of the task that had kept it from
                        // running.
                        Ok(true) => task.shown.already = true,
                        Ok(false) => task.shown.error = Some(error),
                        Err(unread) => task.shown.error = Some(unread),
                    }
                }
                Err(error) => {
                    let is_over =
                        matches!(error.kind, ErrorKind::Unavailable | ErrorKind::StoreFull);
                    stopped = is_over.then(|| error.clone());
                    task.shown.error = Some(error);
                }
            }
        }
    }

    async fn runs_again(&self, id: TaskId) -> Result<bool, AppError> {
        let task = self.read(move |reader| Ok(reader.store.task(id)?)).await?;
        Ok(task.is_some_and(|task| !task.is_done()))
    }

    /// The error for an action on a task that is not on the board. Fails if the task cannot be
    /// read.
    async fn over(&self, action: Action, id: TaskId) -> Result<AppError, AppError> {
        let found = self.read(move |reader| Ok(reader.store.task(id)?)).await?;
        let Some(end) = found.and_then(|found| found.end()) else {
            return Ok(unknown(&id.to_string()));
        };
        if action == Action::Cancel {
            let outcome = end.outcome;
            return Ok(EngineError::Refused(Refused::AlreadyDone { task: id, outcome }).into());
        }
        let (outcome, what) = (end.outcome.as_str(), action.past());
        let message = format!("task {id:#} is done ({outcome}) and cannot be {what}");
        let error = AppError::new(ErrorKind::Conflict, message);
        Ok(error.hint(format!("`claudine retry {id:#}` runs it again")))
    }
}

pub(super) fn plain_reason(reason: &str) -> Option<String> {
    let given = (!reason.is_empty()).then_some(reason);
    given.map(|reason| harmless(&shortened(reason, REASON_MAX_CHARS)))
}

/// Finds the tasks of a request, for a given caller.
struct Looking<'a> {
    by: &'a Arc<Principal>,
    ceiling: &'a McpCeiling,
    asked: &'a TaskActions,
}

impl Looking<'_> {
    fn all(&self, reader: &Reader) -> Result<AllMeant, AppError> {
        match &self.asked.filter {
            Some(_) => self.found(reader),
            None => self.named(reader),
        }
    }

    fn named(&self, reader: &Reader) -> Result<AllMeant, AppError> {
        let mut all = AllMeant::default();
        let mut seen = BTreeSet::new();
        for reference in &self.asked.ids {
            match reader.task(reference) {
                Ok(task) if seen.insert(task.id) => all.tasks.push(self.meant(&task)),
                Ok(_) => {}
                Err(error) if error.kind == ErrorKind::Internal => return Err(error),
                Err(error) => match reference.0.parse() {
                    // The task is no longer stored, but its unfinished descendants can be
                    // cancelled.
                    Ok(id) if self.asked.action == Action::Cancel => {
                        all.tasks
                            .extend(seen.insert(id).then(|| Meant::forgotten(id)));
                    }
                    _ => all.missing.push(TaskActed::missing(&reference.0, error)),
                },
            }
        }
        Ok(all)
    }

    fn found(&self, reader: &Reader) -> Result<AllMeant, AppError> {
        let action = self.asked.action;
        let filter = self.asked.filter.clone().unwrap_or_default();
        let purpose = match action {
            Action::Cancel | Action::Hold | Action::Release => Purpose::Unfinished,
            Action::Retry | Action::Resume => Purpose::Finished,
        };
        let mut selection = Selection::of(reader, &filter, purpose)?;
        if selection.filter.states.are_any() {
            selection.filter.states = self.usual();
        }
        let mut all = AllMeant {
            graph: selection.graph.clone(),
            ..AllMeant::default()
        };
        selection.each(reader, |task| {
            if self.applies(&task) {
                all.tasks.push(self.meant(&task));
            }
            if all.tasks.len() > FOUND_MAX {
                let message = format!("the filter finds more than {FOUND_MAX} tasks");
                return Err(AppError::new(ErrorKind::Limit, message)
                    .hint("narrow it by a label, a group, a name or a time"));
            }
            Ok(())
        })?;
        Ok(all)
    }

    /// Whether the action applies to a task found by a filter.
    fn applies(&self, task: &Task) -> bool {
        match self.asked.action {
            Action::Cancel => !task.is_done(),
            Action::Hold => match Status::of(task) {
                Status::Running | Status::Done(_) => false,
                Status::Held => !task.holders.iter().any(|it| it.is_same_as(self.by)),
                Status::Blocked | Status::Waiting | Status::Ready => true,
            },
            Action::Release => matches!(task.state, State::Held { .. }),
            Action::Retry => {
                let waits = matches!(task.state, State::Waiting { .. });
                task.is_done() || (waits && self.tries_now())
            }
            Action::Resume => {
                let began = |attempt: &claudine_domain::attempt::Attempt| {
                    attempt
                        .ended
                        .as_ref()
                        .is_some_and(|ended| !ended.never_began)
                };
                task.is_done() && task.attempts.iter().any(began)
            }
        }
    }

    /// States to search if the filter names no states.
    fn usual(&self) -> States {
        match self.asked.action {
            Action::Cancel | Action::Hold => States::unfinished(),
            Action::Release => States::of([Status::Held]),
            Action::Retry if self.tries_now() => States::of([Status::Waiting]),
            Action::Retry | Action::Resume => States::unsuccessful(),
        }
    }

    /// Whether tasks that wait for a time are to start now.
    fn tries_now(&self) -> bool {
        self.asked.retry.as_ref().is_some_and(|retry| retry.now)
    }

    fn meant(&self, task: &Task) -> Meant {
        let verb = match self.asked.action {
            Action::Cancel => Some(Verb::Cancel),
            Action::Hold => Some(Verb::Hold),
            Action::Release => matches!(task.state, State::Held { .. }).then_some(Verb::Release),
            // This is decided later, after the lookup of the dependants that would run too.
            Action::Retry | Action::Resume => None,
        };
        let decided = verb.map_or(Ok(()), |verb| may(self.by, verb, Some(task), self.ceiling));
        let runs = matches!(self.asked.action, Action::Retry | Action::Resume);
        // Somebody unrestrained may run such a task, but should know it.
        let beyond_settings = runs && !self.by.restrained && is_beyond(task, self.ceiling);
        Meant {
            id: task.id,
            shown: TaskActed {
                beyond_settings,
                ..TaskActed::of(task, decided.err())
            },
            upstream: task.dependencies.iter().map(|edge| edge.task).collect(),
            was_done: task.is_done(),
        }
    }
}
