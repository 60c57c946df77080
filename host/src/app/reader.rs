//! Reads tasks from the store, and their output from files.
//!
//! Everything here blocks, so [`Host::read`](super::host::Host::read) runs it on a thread that may
//! block. A use case reads everything it needs in one call, because a change of threads costs more
//! than a query.

use std::sync::Arc;

use claudine_domain::{
    batch::DocumentKey,
    budget::{GraphBudget, Level, Scope},
    id::{AttemptId, IdEnd, TaskId},
    principal::Principal,
    task::{Class, Task},
};

use super::{
    error::{AppError, Candidate, ErrorKind},
    present::{task_row, task_view},
    request::TaskRef,
    steps::steps,
    unnoticed::Unnoticed,
    view::TaskView,
    way_out::{Left, way_out},
    written::{begun, written_of},
};
use crate::{
    layout::Layout,
    store::{
        Filter, Intent, Resolved, SHOWN_AMBIGUOUS, Status, Store, is_word, may_be_of_an_id,
        unrecorded, unrestrained_of_word,
    },
    supervise::log::{self, Channel, LogReader, Look},
};

/// Size limit of a command's output in a view of its task.
const OUTPUT_BYTES: usize = 64 << 10;

pub(crate) struct Reader {
    pub(super) store: Arc<dyn Store>,
    pub(super) layout: Layout,
    /// Whether no host runs. If so, ends of processes are not recorded in the store.
    pub(super) no_host: bool,
}

impl Reader {
    /// The tasks in state `running` whose processes have ended, if nobody has recorded these ends.
    pub(super) fn unrecorded(&self) -> Result<Vec<Task>, AppError> {
        let filter = Filter::in_state(Status::Running);
        let mut tasks = self.store.list(&filter, usize::MAX / 2)?.tasks;
        tasks.retain(unrecorded::is_marked);
        Ok(tasks)
    }

    /// The task as it is to be shown: marked if its process has ended and nobody has recorded this.
    /// Lists of the store have such marks already.
    pub(super) fn as_shown(&self, task: Task) -> Task {
        self.each_as_shown()(task)
    }

    /// [`Self::as_shown`] for several tasks.
    pub(super) fn each_as_shown(&self) -> impl Fn(Task) -> Task {
        let unnoticed = Unnoticed::new(self.layout.clone());
        move |mut task| {
            unnoticed.mark(&mut task);
            task
        }
    }

    /// The id of the task to change.
    pub(super) fn resolve(&self, reference: &TaskRef) -> Result<TaskId, AppError> {
        self.resolve_for(reference, Intent::Change)
    }

    fn resolve_for(&self, reference: &TaskRef, intent: Intent) -> Result<TaskId, AppError> {
        if let Ok(id) = reference.0.parse() {
            return Ok(id);
        }
        match self.store.resolve(&reference.0, intent)? {
            Resolved::Found(id) => {
                self.not_listed(reference, id, intent)?;
                self.undoubted(reference, id, intent)
            }
            Resolved::NotFound => Err(no_match(&reference.0, intent)),
            Resolved::Ambiguous(ids) => Err(self.ambiguous(reference, &ids)?),
        }
    }

    /// The task that a keyword such as `@last` means for an unrestrained principal: tasks of
    /// restrained principals are skipped, because a client may submit any number of them at any
    /// moment. `None` if the reference is no keyword, if the principal is restrained, or if there
    /// are only such tasks.
    pub(super) fn meant(
        &self,
        by: &Principal,
        reference: &str,
    ) -> Result<Option<TaskId>, AppError> {
        let Some(filter) = unrestrained_of_word(reference).filter(|_| !by.restrained) else {
            return Ok(None);
        };
        let newest = self.store.list(&filter, 1)?.tasks.into_iter().next();
        Ok(newest.map(|task| task.id))
    }

    /// The task that a reference has found by its name or the name of its graph. An error if a
    /// client or an agent chose this name, and the reference is also a part of another task's id:
    /// the name may be older than that id, and be meant to deceive.
    pub(super) fn undoubted(
        &self,
        reference: &TaskRef,
        found: TaskId,
        intent: Intent,
    ) -> Result<TaskId, AppError> {
        if !may_be_of_an_id(&reference.0, intent.fewest_digits()) {
            return Ok(found);
        }
        let task = self.store.task(found)?;
        if task.is_none_or(|task| !task.request.by.restrained) {
            return Ok(found);
        }
        let mut meant = match self.store.resolve_part(&reference.0, intent)? {
            Resolved::NotFound => Vec::new(),
            Resolved::Found(id) => vec![id],
            Resolved::Ambiguous(ids) => ids,
        };
        meant.retain(|id| *id != found);
        if meant.is_empty() {
            return Ok(found);
        }
        meant.insert(0, found);
        Err(self.ambiguous(reference, &meant)?)
    }

    /// An error if a client or an agent chose the name by which a reference has found a task, and
    /// the reference is also a list of other tasks, separated by spaces or commas: the name may be
    /// chosen so that an action for the listed tasks is applied to the named one.
    fn not_listed(
        &self,
        reference: &TaskRef,
        found: TaskId,
        intent: Intent,
    ) -> Result<(), AppError> {
        let text = reference.0.as_str();
        if !text.contains([' ', ',']) {
            return Ok(());
        }
        let task = self.store.task(found)?;
        if task.is_none_or(|task| !task.request.by.restrained) {
            return Ok(());
        }
        // A name may have spaces, so the spaces in a list with commas may be parts of names.
        let by_commas: Vec<&str> = text.split(',').map(str::trim).collect();
        let by_all: Vec<&str> = text.split([' ', ',']).collect();
        for parts in [by_commas, by_all] {
            let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
            let Some(listed) = self.all_of(&parts, intent)?.filter(|_| parts.len() > 1) else {
                continue;
            };
            let shown: Vec<String> = parts.iter().map(|part| short(part)).collect();
            let message = format!(
                "`{}` is ambiguous: it is the name of task {found:#}, and may be a list: `{}`",
                short(text),
                shown.join("`, `")
            );
            let error = AppError::new(ErrorKind::Ambiguous, message).hint(format!(
                "for the task of this name, give its id (`{found:#}`); for the listed tasks, give each as an argument of its own, by its name or id"
            ));
            let all: Vec<TaskId> = std::iter::once(found).chain(listed).collect();
            return Err(AppError {
                candidates: self.candidates(&all)?,
                ..error
            });
        }
        Ok(())
    }

    /// The tasks that these references match. `None` if one of the references matches no task.
    fn all_of(&self, references: &[&str], intent: Intent) -> Result<Option<Vec<TaskId>>, AppError> {
        let mut found = Vec::new();
        for reference in references {
            match self.store.resolve(reference, intent)? {
                Resolved::Found(id) => found.push(id),
                Resolved::Ambiguous(ids) => found.extend(ids),
                Resolved::NotFound => return Ok(None),
            }
        }
        Ok(Some(found))
    }

    /// The task to change.
    pub(super) fn task(&self, reference: &TaskRef) -> Result<Task, AppError> {
        self.known(self.resolve(reference)?)
    }

    /// The task to show.
    pub(super) fn task_to_show(&self, reference: &TaskRef) -> Result<Task, AppError> {
        self.known(self.id_to_show(reference)?)
    }

    /// The id of the task to show. A full id is returned without checking that the task exists.
    pub(super) fn id_to_show(&self, reference: &TaskRef) -> Result<TaskId, AppError> {
        self.resolve_for(reference, Intent::Look)
    }

    fn known(&self, id: TaskId) -> Result<Task, AppError> {
        let found = self.store.task(id)?;
        found.ok_or_else(|| unknown(&id.to_string()))
    }

    fn ambiguous(&self, reference: &TaskRef, ids: &[TaskId]) -> Result<AppError, AppError> {
        let count = match ids.len() {
            more if more > SHOWN_AMBIGUOUS => format!("more than {SHOWN_AMBIGUOUS}"),
            count => count.to_string(),
        };
        let message = format!(
            "`{}` is ambiguous: {count} tasks match",
            short(&reference.0)
        );
        let error = AppError::new(ErrorKind::Ambiguous, message)
            .hint("give more of the end of its id, or its name");
        Ok(AppError {
            candidates: self.candidates(ids)?,
            ..error
        })
    }

    /// The tasks that an answer to an ambiguous reference names.
    fn candidates(&self, ids: &[TaskId]) -> Result<Vec<Candidate>, AppError> {
        let mut candidates = Vec::new();
        for id in ids.iter().take(SHOWN_AMBIGUOUS) {
            candidates.extend(self.store.task(*id)?.map(|task| candidate(&task)));
        }
        Ok(candidates)
    }

    /// The name of the graph whose first task this is.
    pub(super) fn graph_name(&self, first: TaskId) -> Result<Option<String>, AppError> {
        let first = self.store.task(first)?;
        let graph = first.and_then(|first| first.request.graph.clone());
        Ok(graph.and_then(|graph| graph.name.clone()))
    }

    /// A task with its request, its results and its output. The output of an agent without a result
    /// is left out, because its executor has to format it.
    pub(super) fn full_view(&self, task: &Task) -> Result<TaskView, AppError> {
        let mut view = task_view(task);
        let document = |key| -> Result<Option<serde_json::Value>, AppError> {
            let Some(bytes) = self.store.document(key)? else {
                return Ok(None);
            };
            let value = serde_json::from_slice(&bytes);
            Ok(Some(value.map_err(|error| {
                AppError::new(
                    ErrorKind::Internal,
                    format!("the stored data of {:#} cannot be read: {error}", task.id),
                )
            })?))
        };
        if let Some(worktree) = &mut view.worktree {
            let path = self.layout.worktree(task.id);
            worktree.path = path.exists().then(|| path.display().to_string());
        }
        if let Some(graph) = &task.request.graph {
            view.graph_name = if graph.first == task.id {
                graph.name.clone()
            } else {
                self.graph_name(graph.first)?
            };
        }
        view.spec = document(DocumentKey::Spec(task.id))?;
        let mut latest_first = task.attempts.iter().rev().filter(|it| !it.by_hand);
        // The results are from the last finished attempt, because a later attempt has none yet.
        if let Some(ended) = latest_first.clone().find(|it| it.ended.is_some()) {
            view.outputs = document(DocumentKey::Outputs(attempt_id(task, ended.number)))?;
        }
        let outputs = view.outputs.as_ref();
        let result = outputs.and_then(|outputs| outputs.get("result")?.as_str());
        if let Some(result) = result {
            view.output = Some(result.to_owned());
        } else if task.request.class == Class::Command
            && let Some(last) = latest_first.find(|it| it.started_at.is_some())
        {
            let attempt = attempt_id(task, last.number);
            let stdout = self.log(attempt).channel(Channel::Stdout);
            match stdout.tail(OUTPUT_BYTES) {
                Ok(tail) => {
                    view.output = Some(String::from_utf8_lossy(&tail.bytes).into_owned());
                    view.output_truncated = tail.truncated;
                    view.output_bytes = Some(tail.end);
                    view.log_fault = tail.damage;
                }
                // A command that waits for the task does not need its output.
                Err(error) => {
                    view.log_fault = Some(log::unreadable(&self.layout.log(attempt), &error));
                    (view.output, view.output_truncated) = (Some(String::new()), true);
                }
            }
        }
        if view.log_fault.is_none()
            && let Some(number) = begun(task)
        {
            let fault = self.fault(task, number);
            view.log_fault = fault.unwrap_or_else(|error| {
                let log = self.layout.log(attempt_id(task, number));
                Some(log::unreadable(&log, &error))
            });
        }
        view.steps = steps(task);
        view.hint = way_out(&Left {
            task,
            spec: view.spec.as_ref(),
            outputs: view.outputs.as_ref(),
            graph: self.graph_level(task)?,
        });
        Ok(view)
    }

    /// Budget of a task's graph, and the amount spent.
    pub(super) fn graph_level(&self, task: &Task) -> Result<Option<Level>, AppError> {
        let Some(GraphBudget { graph, micro_usd }) = task.request.graph_budget else {
            return Ok(None);
        };
        Ok(Some(Level {
            spent_micro_usd: self.store.spent_on(Scope::Graph(graph))?,
            budget_micro_usd: micro_usd,
        }))
    }

    /// The fault in the log of an attempt.
    pub(super) fn fault(&self, task: &Task, number: u32) -> std::io::Result<Option<String>> {
        let log = self.layout.log(attempt_id(task, number));
        log::fault(&log, written_of(task, number), Look::Quick)
    }

    pub(super) fn log(&self, attempt: AttemptId) -> LogReader {
        LogReader::new(&self.layout.log(attempt))
    }
}

/// Whether the reference is a keyword such as `@last`, which may mean another task for another
/// principal.
pub(crate) fn is_keyword(reference: &str) -> bool {
    is_word(reference)
}

fn attempt_id(task: &Task, number: u32) -> AttemptId {
    AttemptId {
        task: task.id,
        number,
    }
}

pub(super) fn unknown(reference: &str) -> AppError {
    AppError::new(
        ErrorKind::NotFound,
        format!("no task matches `{}`", short(reference)),
    )
    .hint("`claudine list` lists the tasks")
}

/// The error for an unknown task. If the text is too short a part of an id, a hint says so.
fn no_match(reference: &str, intent: Intent) -> AppError {
    let error = unknown(reference);
    let fewest = intent.fewest_digits();
    match IdEnd::parse(reference) {
        Some(end) if end.digits() < fewest => error.hint(format!(
            "at least {fewest} characters of the end of an id are needed; `claudine list` shows them"
        )),
        _ => error,
    }
}

pub(super) fn candidate(task: &Task) -> Candidate {
    let row = task_row(task);
    Candidate {
        state: row.outcome.clone().unwrap_or_else(|| row.state.clone()),
        id: row.id,
        name: row.name,
        summary: row.summary,
        created_at: row.created_at,
    }
}

fn short(text: &str) -> String {
    let mut short: String = text.chars().take(80).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

pub(super) fn unreadable(error: &std::io::Error) -> AppError {
    AppError::new(
        ErrorKind::Internal,
        format!("the output cannot be read: {error}"),
    )
}
