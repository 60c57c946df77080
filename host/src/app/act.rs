//! Cancels tasks and waits for them.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use claudine_domain::{
    id::{AttemptId, TaskId},
    principal::{Kind, Principal},
    step::{Answer, Cancelling, Input, Refused},
};

use super::{
    actions::plain_reason,
    error::{AppError, ErrorKind},
    host::Host,
    may::{Verb, may},
    reader::unknown,
    request::TaskRef,
    unended::{known_unendable, uncancelled, unendable_text},
    view::{Cancelled, Still, TaskView},
};
use crate::{
    clock,
    engine::{EngineError, Wait},
};

/// Time limit of one wait, because clients stop waiting after a minute.
pub(crate) const WAIT_MAX: Duration = Duration::from_secs(50);

impl Host {
    pub(crate) async fn cancel(
        &self,
        by: &Arc<Principal>,
        reference: &TaskRef,
        reason: Option<String>,
    ) -> Result<Cancelled, AppError> {
        let id = self.resolve(reference).await?;
        may(by, Verb::Cancel, None, &self.settings.mcp)?;
        let reason = reason.as_deref().and_then(plain_reason);
        match self
            .engine
            .asked(by, Input::Cancel { task: id, reason })
            .await
        {
            Ok(Answer::Cancelling { task, how }) => {
                let (id, already) = (task.to_string(), how == Cancelling::Already);
                let warning = if already {
                    self.never_ends(task).await
                } else {
                    None
                };
                Ok(Cancelled {
                    id,
                    already,
                    still: Still::of(how),
                    descendants: None,
                    warning,
                })
            }
            Ok(Answer::CancellingBelow {
                task,
                descendants,
                already,
            }) => Ok(Cancelled {
                id: task.to_string(),
                already,
                still: None,
                descendants: Some(descendants),
                warning: None,
            }),
            Ok(other) => Err(AppError::new(
                ErrorKind::Internal,
                format!("unexpected answer to a cancel: {other:?}"),
            )),
            // The board has only unfinished tasks and tasks with unfinished descendants, so this
            // task is done or never existed.
            Err(EngineError::Refused(Refused::Unknown { .. })) => {
                let task = self.task(&TaskRef(id.to_string())).await?;
                Err(already_done(&task))
            }
            Err(error) => Err(uncancelled(by, error)),
        }
    }

    /// Returns the task once it is done, or its current state once `limit` (at most 50 s) has
    /// passed. While an attempt waits for one of its own descendants, its slot is free for other
    /// tasks.
    pub(crate) async fn wait(
        &self,
        reference: &TaskRef,
        limit: Duration,
        waiter: Option<AttemptId>,
    ) -> Result<TaskView, AppError> {
        let id = match reference.0.parse() {
            Ok(id) => id,
            Err(_) => self.task_to_show(reference).await?.id,
        };
        // Uses the id, because the name may mean another task once this task has ended.
        let reference = &TaskRef(id.to_string());
        let finished = self.engine.finish_of(id);
        let ends_at = clock::monotonic() + limit.min(WAIT_MAX);
        // The task is read after `finish_of`, so that an end between the two is not missed.
        let turn = self.looks.acquire().await;
        if self.has_task_ended(id).await? {
            return self.status(reference).await;
        }
        drop(turn);
        let _suspended = self.suspended(id, waiter).await?;
        let left = ends_at.saturating_sub(clock::monotonic());
        if let Some(Err(_)) = clock::within(left, finished).await {
            return Err(AppError::from(EngineError::Down));
        }
        let _turn = self.looks.acquire().await;
        self.status(reference).await
    }

    /// Whether a task is done. The whole task is read only if its row may be one that cannot be
    /// read, or if no host runs.
    async fn has_task_ended(&self, id: TaskId) -> Result<bool, AppError> {
        let snapshot = self.engine.snapshot();
        if snapshot.no_host || !snapshot.unreadable.is_empty() {
            return Ok(self.task(&TaskRef(id.to_string())).await?.is_done());
        }
        let look = self.read(move |reader| {
            let ends = reader.store.ends(&BTreeSet::from([id]))?;
            let end = ends.get(&id).ok_or_else(|| unknown(&id.to_string()))?;
            Ok(end.is_some())
        });
        look.await
    }

    /// The known obstacle to the end of a task that is being stopped.
    async fn never_ends(&self, task: TaskId) -> Option<String> {
        let unended = known_unendable(&self.reader.layout, vec![task.to_string()]).await;
        match unendable_text(&unended) {
            None => self.halt_of_stopping(task).await,
            unended => unended,
        }
    }

    /// [`Host::halt_of`] for a task that must be read first. The cancellation was carried out even
    /// if the task cannot be read.
    pub(super) async fn halt_of_stopping(&self, id: TaskId) -> Option<String> {
        if !self.may_have_halted() {
            return None;
        }
        match self.read(move |reader| Ok(reader.store.task(id)?)).await {
            Ok(task) => task.and_then(|task| self.halt_of(&task)),
            Err(error) => {
                tracing::warn!(%error, task = %id, "nobody knows whether the task can end");
                None
            }
        }
    }

    /// Frees the slot of an attempt that waits for its own descendant, until the guard is dropped.
    async fn suspended(
        &self,
        waited: TaskId,
        waiter: Option<AttemptId>,
    ) -> Result<Option<Wait>, AppError> {
        let Some(waiter) = waiter else {
            return Ok(None);
        };
        let task = self
            .read(move |reader| Ok(reader.store.task(waited)?))
            .await?;
        let descends = task.is_some_and(|task| {
            let mut ancestors = task.request.ancestors();
            ancestors.any(|ancestor| ancestor == waiter.task)
        });
        Ok(descends.then(|| self.engine.wait_of(waiter)))
    }
}

/// The attempt inside which this principal waits, according to the marker that it names. Anybody
/// can name any attempt. So a marker counts only for a process of the same task, and for an agent
/// whose task is not known. Otherwise others could free the slot of an attempt that does not wait.
pub(crate) fn waiting_attempt(by: &Principal, marker: &str) -> Option<AttemptId> {
    let named: AttemptId = marker.parse().ok()?;
    match by.kind {
        Kind::Agent { task } => task.is_none_or(|own| own == named.task).then_some(named),
        Kind::Owner | Kind::Token | Kind::Login | Kind::Node => None,
    }
}

fn already_done(task: &claudine_domain::task::Task) -> AppError {
    match &task.state {
        claudine_domain::task::State::Done { outcome, .. } => {
            let (task, outcome) = (task.id, *outcome);
            EngineError::Refused(Refused::AlreadyDone { task, outcome }).into()
        }
        // The task was retried between the engine's answer and this read.
        _ => unknown(&task.id.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attempt_waits_only_according_to_its_own_task_or_an_agent_without_a_task() {
        let own = AttemptId {
            task: TaskId::new(0, 1),
            number: 2,
        };
        let check = |kind: Kind, marker: &str, expected: Option<AttemptId>| {
            let by = Principal {
                kind,
                ..Principal::default()
            };
            assert_eq!(waiting_attempt(&by, marker), expected, "{kind:?} {marker}");
        };
        let agent = |task: Option<TaskId>| Kind::Agent { task };
        check(agent(Some(own.task)), &own.to_string(), Some(own));
        check(agent(None), &own.to_string(), Some(own));
        check(agent(Some(TaskId::new(0, 2))), &own.to_string(), None);
        check(Kind::Owner, &own.to_string(), None);
        check(agent(None), "no attempt", None);
    }
}
