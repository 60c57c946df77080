//! A merge that succeeds after its task had failed by it ends the task after all: see
//! [`claudine_domain::step::MergedByHand`].

use std::sync::Arc;

use claudine_domain::{
    id::TaskId,
    principal::Principal,
    step::{Answer, Input, MergedByHand, Refused, Retry},
    worktree::Merge,
};

use super::{
    error::{AppError, ErrorKind},
    host::Host,
    request::TaskRef,
    retry::{TRIES, looked_up},
};
use crate::engine::EngineError;

/// The attempt that a merge became, and what runs because of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct ByHand {
    pub(super) attempt: u32,
    pub(super) downstream: usize,
}

impl Host {
    /// Refuses a merge by which tasks would run that this principal may not have run.
    pub(super) async fn may_end_by_hand(&self, by: &Principal, id: TaskId) -> Result<(), AppError> {
        if by.restrained {
            let found = self.failed_by_its_merge(id).await?;
            self.may_revive(by, &found.downstream).await?;
        }
        Ok(())
    }

    /// Ends a task by a merge that was made. None if it runs again meanwhile: then its next end
    /// counts.
    pub(super) async fn end_by_hand(
        &self,
        by: &Arc<Principal>,
        id: TaskId,
        merge: &Merge,
    ) -> Result<Option<ByHand>, AppError> {
        for _ in 0..TRIES {
            let Retry {
                task,
                downstream,
                ended,
                ..
            } = self.failed_by_its_merge(id).await?;
            let merged = MergedByHand {
                task,
                downstream,
                ended,
                merge: merge.clone(),
            };
            let input = Input::MergedByHand(Box::new(merged));
            match self.engine.asked(by, input).await {
                Ok(Answer::MergedByHand {
                    attempt,
                    downstream,
                    ..
                }) => {
                    return Ok(Some(ByHand {
                        attempt,
                        downstream,
                    }));
                }
                Ok(other) => {
                    return Err(AppError::new(
                        ErrorKind::Internal,
                        format!("a merge was answered {other:?}"),
                    ));
                }
                Err(EngineError::Refused(
                    Refused::NotDone { .. } | Refused::NotFailedByMerge { .. },
                )) => return Ok(None),
                Err(EngineError::Refused(Refused::Moved { task: moved })) => {
                    self.known(moved).await?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(AppError::new(
            ErrorKind::Unavailable,
            "what is below it changes faster than it can be looked up; try again",
        ))
    }

    /// The task with what could not run because of it.
    async fn failed_by_its_merge(&self, id: TaskId) -> Result<Retry, AppError> {
        let reference = TaskRef(id.to_string());
        self.read(move |reader| looked_up(reader, &reference, false))
            .await
    }
}
