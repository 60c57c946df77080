//! If a task had failed because of its merge, a successful merge by hand makes the task succeed:
//! see [`claudine_domain::step::MergedByHand`].

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

/// The number of the attempt that was added for the merge, and the number of dependants that can
/// run now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct ByHand {
    pub(super) attempt: u32,
    pub(super) downstream: usize,
}

impl Host {
    /// Refuses a merge that would revive tasks that this principal may not run.
    pub(super) async fn may_end_by_hand(&self, by: &Principal, id: TaskId) -> Result<(), AppError> {
        if by.restrained {
            let found = self.failed_by_its_merge(id).await?;
            self.may_revive(by, &found.downstream).await?;
        }
        Ok(())
    }

    /// Ends a task after a successful merge. Returns `None` if the task is running again, because
    /// the end of the new attempt decides in this case.
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
                        format!("unexpected answer to a merge: {other:?}"),
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
        Err(AppError::moved_too_often("the task's dependants"))
    }

    /// The task with the dependants that could not run because the task failed.
    async fn failed_by_its_merge(&self, id: TaskId) -> Result<Retry, AppError> {
        let reference = TaskRef(id.to_string());
        self.read(move |reader| looked_up(reader, &reference, false))
            .await
    }
}
