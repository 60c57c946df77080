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

/// Time between two reads of a task for which a wait cannot begin yet.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

impl Server {
    pub(super) async fn wait_task(&self, asked: WaitTask) -> Result<Waited, AppError> {
        within("timeout", asked.timeout, &WAIT_MS)?;
        let limit = Duration::from_millis(asked.timeout.unwrap_or(*WAIT_MS.end()));
        match (asked.task_id, asked.task_ids) {
            (Some(task), None) => {
                // A task that has ended is answered at once, even if no wait can begin.
                let mut task = self.client.status(&task).await?;
                if !has_ended(&task) {
                    task = self.wait_for(&task.id, limit).await?;
                }
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

    /// Waits for the end of the task with this id, or of the session's input. After the end of the
    /// input the client may still read answers, so it gets the task as it is then.
    async fn wait_for(&self, task: &str, limit: Duration) -> Result<TaskView, AppError> {
        tokio::select! {
            biased;
            waited = self.wait_for_end_of(task, limit) => return waited,
            () = self.ended.cancelled() => {}
        }
        let turn = self.looks.acquire().await;
        let seen = self.client.status(task).await?;
        drop(turn);
        Ok(seen)
    }

    /// Waits for the end of the task with this id. As long as too many other waits are in progress,
    /// reads the task again and again instead.
    async fn wait_for_end_of(&self, task: &str, limit: Duration) -> Result<TaskView, AppError> {
        let ends_at = clock::monotonic() + limit;
        let place = self.waits.acquire();
        tokio::pin!(place);
        let _place = loop {
            let left = ends_at.saturating_sub(clock::monotonic());
            if let Some(place) = clock::within(left.min(LOOK_AGAIN), place.as_mut()).await {
                break place;
            }
            let turn = self.looks.acquire().await;
            let seen = self.client.status(task).await?;
            drop(turn);
            if has_ended(&seen) || clock::monotonic() >= ends_at {
                return Ok(seen);
            }
        };
        let limit = ends_at.saturating_sub(clock::monotonic());
        let waiter = self.origins.attempt.as_deref();
        let waited = self.client.wait_across_hosts(task, limit, waiter).await;
        let error = match waited {
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

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::{
        path::Path,
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
    };

    use serde_json::{Value, json};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{UnixListener, UnixStream},
    };
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::{
        api::{
            cli::task,
            client::{Client, host_start},
            mcp::Origins,
        },
        app::Environment,
        layout::Layout,
    };

    /// Less than the time limit of a wait.
    const SOON: Duration = Duration::from_secs(30);

    pub(in crate::api::mcp) fn server_in(dir: &Path) -> Server {
        let origins = Origins {
            directory: dir.to_owned(),
            environment: Environment::default(),
            attempt: None,
        };
        let client = Arc::new(Client::new(host_start(Layout::new(dir))));
        Server::new(client, origins, CancellationToken::new())
    }

    /// Answers requests with a task that runs until it has been asked for `looks` times.
    async fn host_of_one_task(listener: UnixListener, asked: Arc<AtomicUsize>, looks: usize) {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(answer_each(stream, Arc::clone(&asked), looks));
        }
    }

    async fn answer_each(mut stream: UnixStream, asked: Arc<AtomicUsize>, looks: usize) {
        let mut request = Vec::new();
        while stream.read_buf(&mut request).await.unwrap() > 0 {
            if !request.ends_with(b"\r\n\r\n") {
                continue;
            }
            request.clear();
            let fields = if asked.fetch_add(1, Ordering::Relaxed) < looks {
                json!({ "state": "running", "outcome": null })
            } else {
                json!({ "state": "done", "outcome": "succeeded" })
            };
            let body = serde_json::to_string(&task(fields)).unwrap();
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
            stream.write_all(head.as_bytes()).await.unwrap();
            stream.write_all(body.as_bytes()).await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_task_that_has_ended_is_answered_although_no_further_wait_can_begin() {
        // The task has ended before the call, or ends during the wait.
        for looks in [0, 1] {
            let dir = tempfile::tempdir().unwrap();
            let server = server_in(dir.path());
            let listener = UnixListener::bind(Layout::new(dir.path()).socket()).unwrap();
            let asked = Arc::new(AtomicUsize::new(0));
            let host = tokio::spawn(host_of_one_task(listener, Arc::clone(&asked), looks));
            let places = u32::try_from(server.waits.available_permits()).unwrap();
            let _taken = server.waits.acquire_many(places).await.unwrap();
            let wait = WaitTask {
                task_id: Some("build".to_owned()),
                task_ids: None,
                any: None,
                timeout: None,
            };
            let answer = clock::within(SOON, server.wait_task(wait)).await;
            let answer: Value = serde_json::to_value(answer.unwrap().unwrap()).unwrap();
            assert_eq!(answer["done"], true, "{answer:#}");
            assert_eq!(asked.load(Ordering::Relaxed), looks + 1);
            host.abort();
        }
    }
}
