//! Holds and releases tasks and graphs.

use std::sync::Arc;

use claudine_domain::{
    id::TaskId,
    principal::Principal,
    step::{Answer, Input},
    task::Task,
};

use super::{
    actions::{Action, TaskActed, TaskActions},
    error::AppError,
    host::Host,
    may::{Verb, may},
    reader::Reader,
    request::{ListFilter, TaskRef},
    view::Changed,
};
use crate::{
    engine::EngineError,
    store::{Filter, Status},
};

/// Maximum number of tasks read at a time.
const PAGE: usize = 500;

impl Host {
    /// Holds a task; with `graph` all queued tasks of its graph.
    pub(crate) async fn hold(
        self: &Arc<Self>,
        by: &Arc<Principal>,
        reference: TaskRef,
        graph: bool,
    ) -> Result<Changed, AppError> {
        self.task_or_graph(by, Action::Hold, reference, graph).await
    }

    pub(crate) async fn release(
        self: &Arc<Self>,
        by: &Arc<Principal>,
        reference: TaskRef,
        graph: bool,
    ) -> Result<Changed, AppError> {
        self.task_or_graph(by, Action::Release, reference, graph)
            .await
    }

    async fn task_or_graph(
        self: &Arc<Self>,
        by: &Arc<Principal>,
        action: Action,
        reference: TaskRef,
        graph: bool,
    ) -> Result<Changed, AppError> {
        let mut asked = TaskActions::of(action);
        if graph {
            asked.filter = Some(ListFilter {
                graph: Some(reference.0),
                ..ListFilter::default()
            });
        } else {
            asked.ids.push(reference);
        }
        let acted = self.act(by, asked).await?;
        let is_changed = |task: &&TaskActed| task.error.is_none() && !task.already;
        let tasks = acted.tasks.iter().filter(is_changed).count();
        let refused = acted.tasks.into_iter().find_map(|task| task.error);
        match refused.filter(|_| acted.done == 0) {
            Some(error) => Err(error),
            None => Ok(Changed { tasks }),
        }
    }

    /// Releases all tasks that are held only because they were restored from a backup.
    pub(crate) async fn release_restored(&self, by: &Arc<Principal>) -> Result<Changed, AppError> {
        let (tasks, any) = self.read(restored).await?;
        // None of these tasks has a holder, so the decision about one task is valid for all of
        // them.
        if let Some(task) = any {
            may(by, Verb::Release, Some(&task), &self.settings.mcp)?;
        }
        Ok(self.change(by, Input::Release { tasks }).await?)
    }

    async fn change(&self, by: &Arc<Principal>, input: Input) -> Result<Changed, EngineError> {
        match self.engine.asked(by, input).await? {
            Answer::Changed(tasks) => Ok(Changed { tasks }),
            // The engine has no other answer to these commands.
            other => {
                tracing::error!(?other, "unexpected answer to a hold or release");
                Ok(Changed { tasks: 0 })
            }
        }
    }
}

/// Ids of all tasks held only by a restore, and one of these tasks. Reads a page at a time.
fn restored(reader: &Reader) -> Result<(Vec<TaskId>, Option<Task>), AppError> {
    let mut filter = Filter::in_state(Status::Held);
    let mut ids = Vec::new();
    let mut any = None;
    loop {
        let page = reader.store.list(&filter, PAGE)?;
        let restored = |task: &Task| task.restored_from.is_some() && task.holders.is_empty();
        for task in page.tasks.into_iter().filter(restored) {
            ids.push(task.id);
            any = Some(task);
        }
        match page.next {
            Some(_) => filter.before = page.next,
            None => return Ok((ids, any)),
        }
    }
}
