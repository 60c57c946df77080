//! What can be done to tasks and to the host.

use std::{sync::Arc, time::Duration};

use claudine_domain::{
    id::{AttemptId, TaskId},
    principal::Principal,
    step::{Answer, Input, Refused},
};

use super::{
    error::{AppError, ErrorKind},
    host::Host,
    may::{Verb, may},
    reader::unknown,
    request::{DownMode, TaskRef},
    view::{Cancelled, TaskView},
};
use crate::{
    clock,
    engine::{Engine, EngineError},
    text::{harmless, shortened},
};

/// The longest a single wait may take: clients give up after a minute.
pub(crate) const WAIT_MAX: Duration = Duration::from_secs(50);
/// Reasons are shown in lists and stored with the task.
const REASON_MAX_CHARS: usize = 1000;

impl Host {
    pub(crate) async fn cancel(
        &self,
        by: &Arc<Principal>,
        reference: &TaskRef,
        reason: Option<String>,
    ) -> Result<Cancelled, AppError> {
        let id = self.resolve(reference).await?;
        may(by, Verb::Cancel, None, &self.settings.mcp)?;
        let reason = reason
            .filter(|reason| !reason.is_empty())
            .map(|reason| harmless(&shortened(&reason, REASON_MAX_CHARS)));
        match self
            .engine
            .asked(by, Input::Cancel { task: id, reason })
            .await
        {
            Ok(Answer::Cancelling { task, already }) => Ok(Cancelled {
                id: task.to_string(),
                already,
                descendants: None,
            }),
            Ok(Answer::CancellingBelow {
                task,
                descendants,
                already,
            }) => Ok(Cancelled {
                id: task.to_string(),
                already,
                descendants: Some(descendants),
            }),
            Ok(other) => Err(AppError::new(
                ErrorKind::Internal,
                format!("a cancel was answered {other:?}"),
            )),
            // The board has unfinished tasks only: what is not there, nor has left others there, is done, or has never been.
            Err(EngineError::Refused(Refused::Unknown { .. })) => {
                let task = self.task(reference).await?;
                Err(already_done(&task))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Returns when the task is done, or with the task as it stands when `limit` (at most 50 s) has passed. A wait from inside an attempt for
    /// one of its own descendants gives its slot free meanwhile.
    pub(crate) async fn wait(
        &self,
        reference: &TaskRef,
        limit: Duration,
        waiter: Option<&str>,
    ) -> Result<TaskView, AppError> {
        let id = self.resolve(reference).await?;
        let finished = self.engine.finish_of(id);
        // Asked for first: what finishes between the look and the wait is not missed.
        if self.task(reference).await?.is_done() {
            return self.status(reference).await;
        }
        let _suspended = self.suspend(id, waiter).await?;
        if let Some(Err(_)) = clock::within(limit.min(WAIT_MAX), finished).await {
            Err(AppError::from(EngineError::Down))
        } else {
            self.status(reference).await
        }
    }

    /// Tells the engine that an attempt waits for its own descendant; until the guard is dropped.
    async fn suspend(
        &self,
        waited: TaskId,
        waiter: Option<&str>,
    ) -> Result<Option<Suspended>, AppError> {
        let Some(waiter) = waiter.and_then(|marker| marker.parse::<AttemptId>().ok()) else {
            return Ok(None);
        };
        let task = self
            .read(move |reader| Ok(reader.store.task(waited)?))
            .await?;
        let descends = task.is_some_and(|task| {
            let mut ancestors = task.request.ancestors();
            ancestors.any(|ancestor| ancestor == waiter.task)
        });
        if !descends {
            return Ok(None);
        }
        match self
            .engine
            .command(Input::WaitBegins { attempt: waiter })
            .await?
        {
            Answer::Noted => Ok(Some(Suspended {
                engine: self.engine.clone(),
                attempt: waiter,
            })),
            _ => Ok(None),
        }
    }

    /// Asks the host to go down. Returns when it is on its way: with `Drain` and `Kill` that is when the last attempt has ended.
    pub(crate) async fn go_down(
        &self,
        by: &Arc<Principal>,
        mode: DownMode,
    ) -> Result<(), AppError> {
        may(by, Verb::GoDown, None, &self.settings.mcp)?;
        match mode {
            DownMode::Leave => {}
            DownMode::Drain => {
                self.engine.command(Input::Drain).await?;
                self.engine.idle().await?;
            }
            DownMode::Kill => {
                self.engine.command(Input::Drain).await?;
                for id in self.running().await? {
                    match self
                        .engine
                        .asked(
                            by,
                            Input::Cancel {
                                task: id,
                                reason: Some("the host was told to stop it".to_owned()),
                            },
                        )
                        .await
                    {
                        // It ended by itself meanwhile.
                        Ok(_) | Err(EngineError::Refused(Refused::Unknown { .. })) => {}
                        Err(error) => return Err(error.into()),
                    }
                }
                self.engine.idle().await?;
            }
        }
        self.down.send_replace(Some(mode));
        Ok(())
    }

    async fn running(&self) -> Result<Vec<TaskId>, AppError> {
        use crate::store::{Filter, Status, StatusFilter};
        let filter = Filter {
            status: Some(StatusFilter::Is(Status::Running)),
            ..Filter::default()
        };
        let page = self
            .read(move |reader| Ok(reader.store.list(&filter, usize::MAX / 2)?))
            .await?;
        Ok(page.tasks.iter().map(|task| task.id).collect())
    }
}

fn already_done(task: &claudine_domain::task::Task) -> AppError {
    match &task.state {
        claudine_domain::task::State::Done { outcome, .. } => AppError::new(
            ErrorKind::Conflict,
            format!("task {} is already done: {}", task.id, outcome.as_str()),
        ),
        // Between the board and this read it was retried.
        _ => unknown(&task.id.to_string()),
    }
}

/// While it lives, the attempt's slot counts as free.
struct Suspended {
    engine: Engine,
    attempt: AttemptId,
}

impl Drop for Suspended {
    fn drop(&mut self) {
        self.engine.tell(Input::WaitEnds {
            attempt: self.attempt,
        });
    }
}
