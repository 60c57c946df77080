//! What is read of tasks: from the store, and their output from its files.
//!
//! Everything here blocks, so [`Host::read`](super::host::Host::read) runs it on a thread that may, and a use case reads all that it needs in one
//! go: each change of thread costs more than a query.

use std::sync::Arc;

use claudine_domain::{
    batch::DocumentKey,
    id::{AttemptId, TaskId},
    task::Task,
};

use super::{
    error::{AppError, ErrorKind},
    present::task_view,
    request::TaskRef,
    select::name_of,
    view::TaskView,
};
use crate::{
    layout::Layout,
    store::{Resolved, Store},
    supervise::log::{Channel, LogReader},
};

/// What is shown of a command's output as the output of its task.
const OUTPUT_BYTES: usize = 64 << 10;

pub(crate) struct Reader {
    pub(super) store: Arc<dyn Store>,
    pub(super) layout: Layout,
}

impl Reader {
    /// The task a person means.
    pub(super) fn resolve(&self, reference: &TaskRef) -> Result<TaskId, AppError> {
        if let Ok(id) = reference.0.parse() {
            return Ok(id);
        }
        match self.store.resolve(&reference.0)? {
            Resolved::Found(id) => Ok(id),
            Resolved::NotFound => Err(unknown(&reference.0)),
            Resolved::Ambiguous(ids) => {
                let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
                let message = format!("`{}` is the beginning of several ids", short(&reference.0));
                Err(AppError::new(ErrorKind::Ambiguous, message)
                    .hint(format!("one of: {}", ids.join(" "))))
            }
        }
    }

    pub(super) fn task(&self, reference: &TaskRef) -> Result<Task, AppError> {
        let id = self.resolve(reference)?;
        self.store.task(id)?.ok_or_else(|| unknown(&reference.0))
    }

    /// A task with what was asked, what was answered, and its output.
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
                    format!("what is stored of {} cannot be read: {error}", task.id),
                )
            })?))
        };
        if let Some(worktree) = &mut view.worktree {
            let path = self.layout.worktree(task.id);
            worktree.path = path.exists().then(|| path.display().to_string());
        }
        if let Some(graph) = &task.request.graph {
            view.graph_name = name_of(self, graph.first)?;
        }
        view.spec = document(DocumentKey::Spec(task.id))?;
        let mut latest_first = task.attempts.iter().rev().filter(|it| !it.by_hand);
        // Not of an attempt that has not begun, nor of one that is under way.
        if let Some(ended) = latest_first.clone().find(|it| it.ended.is_some()) {
            view.outputs = document(DocumentKey::Outputs(attempt_id(task, ended.number)))?;
        }
        let outputs = view.outputs.as_ref();
        let result = outputs.and_then(|outputs| outputs.get("result")?.as_str());
        if let Some(result) = result {
            view.output = Some(result.to_owned());
        } else if let Some(last) = latest_first.find(|it| it.started_at.is_some()) {
            let tail = self
                .log(attempt_id(task, last.number))
                .channel(Channel::Stdout)
                .tail(OUTPUT_BYTES)
                .map_err(|error| unreadable(&error))?;
            view.output = Some(String::from_utf8_lossy(&tail.bytes).into_owned());
            view.output_truncated = tail.truncated;
        }
        Ok(view)
    }

    pub(super) fn log(&self, attempt: AttemptId) -> LogReader {
        LogReader::new(&self.layout.log(attempt))
    }
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
        format!("no task is called `{}` or has such an id", short(reference)),
    )
    .hint("`claudine list` shows the tasks there are")
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
