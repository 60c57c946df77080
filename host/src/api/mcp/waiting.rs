//! Waits for one task or for several.

use std::time::Duration;

use futures_util::{StreamExt, stream::FuturesUnordered};

use super::{
    answers::{Task, Waited, WaitedForOne, WaitedForSeveral},
    calls::{as_many, within},
    fitted::{self, ANSWER_BYTES},
    parameters::{WAIT_MS, WAITED_TASKS, WaitTask},
    server::{Server, no_host},
};
use crate::{
    api::client::is_of_its_end,
    app::{AppError, ErrorKind, TaskView},
    clock,
    text::short_id,
};

impl Server {
    pub(super) async fn wait_task(&self, asked: WaitTask) -> Result<Waited, AppError> {
        within("timeout", asked.timeout, &WAIT_MS)?;
        let limit = Duration::from_millis(asked.timeout.unwrap_or(*WAIT_MS.end()));
        match (asked.task_id, asked.task_ids) {
            (Some(task), None) => {
                let task = self.wait_for(&task, limit).await?;
                let why = self.why(&task).await?;
                Ok(Waited::One(Box::new(WaitedForOne {
                    success: true,
                    done: has_ended(&task),
                    task: Task::of(task, why, ANSWER_BYTES),
                })))
            }
            (None, Some(tasks)) => {
                let any = asked.any.unwrap_or_default();
                Ok(Waited::Several(
                    self.wait_several(&tasks, any, limit).await?,
                ))
            }
            _ => {
                let message = "give taskId, or taskIds for several tasks";
                Err(AppError::new(ErrorKind::Invalid, message))
            }
        }
    }

    async fn wait_for(&self, task: &str, limit: Duration) -> Result<TaskView, AppError> {
        let ends_at = clock::monotonic() + limit;
        let Some(_place) = clock::within(limit, self.waits.acquire()).await else {
            return Ok(self.client.status(task).await?);
        };
        let limit = ends_at.saturating_sub(clock::monotonic());
        let waiter = self.origins.attempt.as_deref();
        let error = match self.client.wait(task, limit, waiter).await {
            Ok(task) => return Ok(task),
            Err(error) => error,
        };
        // A wait starts no host. The host may also have ended during the wait.
        let may_be_alone = is_of_its_end(&error);
        if may_be_alone && self.client.is_alone().await {
            return self.without_host(task).await;
        }
        Err(error.into())
    }

    /// The task if it has ended. Otherwise an error, because no wait ends while no host runs.
    async fn without_host(&self, task: &str) -> Result<TaskView, AppError> {
        let task = self.client.status(task).await?;
        if has_ended(&task) {
            return Ok(task);
        }
        let (id, state) = (short_id(&task.id), &task.state);
        Err(no_host(&format!(
            "task {id} is {state}, and no host runs, so a wait for its end is of no use now"
        )))
    }

    async fn wait_several(
        &self,
        references: &[String],
        any: bool,
        limit: Duration,
    ) -> Result<WaitedForSeveral, AppError> {
        as_many("taskIds", references.len(), &WAITED_TASKS)?;
        // Looks up all tasks first, so that an unknown task is refused at once, a task that has
        // ended before this call counts as ended, and a name refers to the task that has it now.
        let mut tasks = Vec::with_capacity(references.len());
        for reference in references {
            tasks.push(self.client.status(reference).await?);
        }
        if !is_over(&tasks, any) {
            self.follow(&mut tasks, any, limit).await?;
        }
        let texts = tasks
            .iter()
            .map(|task| task.output.as_deref().unwrap_or_default());
        let shares = fitted::shares(&texts.collect::<Vec<_>>(), ANSWER_BYTES);
        let done = is_over(&tasks, any);
        let mut answer = Vec::with_capacity(tasks.len());
        for (task, share) in tasks.into_iter().zip(shares) {
            let why = self.why(&task).await?;
            answer.push(Task::of(task, why, share));
        }
        Ok(WaitedForSeveral {
            success: true,
            done,
            tasks: answer,
        })
    }

    /// Waits until enough of the tasks have ended, or the time is up, and updates the tasks.
    async fn follow(
        &self,
        tasks: &mut [TaskView],
        any: bool,
        limit: Duration,
    ) -> Result<(), AppError> {
        let open = tasks
            .iter()
            .enumerate()
            .filter(|(_, task)| !has_ended(task));
        let open: Vec<(usize, String)> =
            open.map(|(place, task)| (place, task.id.clone())).collect();
        let waits = open.iter().map(|(place, id)| async move {
            let seen = self.wait_for(id, limit).await?;
            Ok::<_, AppError>((*place, seen))
        });
        let mut waits: FuturesUnordered<_> = waits.collect();
        let mut waited_for = vec![false; tasks.len()];
        while let Some(seen) = waits.next().await {
            let (place, task) = seen?;
            tasks[place] = task;
            waited_for[place] = true;
            if is_over(tasks, any) {
                break;
            }
        }
        drop(waits);
        // With `any`, the other tasks may have changed meanwhile.
        for (place, id) in &open {
            if !waited_for[*place] {
                tasks[*place] = self.client.status(id).await?;
            }
        }
        Ok(())
    }
}

fn has_ended(task: &TaskView) -> bool {
    task.outcome.is_some()
}

/// Whether the wait is over: all tasks have ended, or with `any` at least one.
fn is_over(tasks: &[TaskView], any: bool) -> bool {
    if any {
        tasks.iter().any(has_ended)
    } else {
        tasks.iter().all(has_ended)
    }
}
