//! The checkpoint of a finished attempt, for people and for later attempts.

use claudine_domain::{outcome::Reason, task::Task};

use super::{
    error::{AppError, ErrorKind},
    host::Host,
    present::{git_view, reason_view},
    request::{CheckpointQuery, TaskRef},
    view::CheckpointView,
};
use crate::{
    checkpoint::{self, Checkpoint, CheckpointError},
    command::supervised_by,
    transcript::Reach,
};

impl Host {
    /// `None` if more of the output must be read than the reach allows.
    pub(crate) async fn checkpoint(
        &self,
        reference: &TaskRef,
        query: CheckpointQuery,
        reach: Reach,
    ) -> Result<Option<CheckpointView>, AppError> {
        let reference = reference.clone();
        let reading = self.read(move |reader| {
            let task = reader.task_to_show(&reference)?;
            let number = query
                .attempt
                .or_else(|| last_ended(&task))
                .ok_or_else(|| AppError::from(CheckpointError::NoAttempt(task.id)))?;
            let found = checkpoint::of_attempt(&*reader.store, &task, number)?;
            Ok((found, number))
        });
        let (mut found, number) = reading.await?;
        let filling = Box::pin(found.read_last_lines(&self.transcripts, reach));
        let is_enough = supervised_by(self.commands.clone(), filling).await?;
        Ok(is_enough.then(|| view(found, number)))
    }
}

fn last_ended(task: &Task) -> Option<u32> {
    let mut latest_first = task.attempts.iter().rev();
    let last = latest_first.find(|attempt| attempt.ended.is_some() && !attempt.by_hand);
    last.map(|attempt| attempt.number)
}

fn view(checkpoint: Checkpoint, attempt: u32) -> CheckpointView {
    CheckpointView {
        id: checkpoint.task.to_string(),
        name: checkpoint.name,
        attempt,
        outcome: checkpoint.outcome.as_str().to_owned(),
        reason: checkpoint
            .reason
            .as_ref()
            .map(|reason: &Reason| reason_view(reason)),
        exit_code: checkpoint.exit_code,
        signal: checkpoint.signal,
        summary: checkpoint.summary,
        last_lines: checkpoint.last_lines,
        git: checkpoint.git.as_ref().map(git_view),
    }
}

impl From<CheckpointError> for AppError {
    fn from(error: CheckpointError) -> Self {
        let message = error.to_string();
        match error {
            CheckpointError::Gone(_) | CheckpointError::NoSuchAttempt { .. } => {
                Self::new(ErrorKind::NotFound, message)
            }
            // The task may get such an attempt.
            CheckpointError::NoAttempt(_) | CheckpointError::NotEnded { .. } => {
                Self::new(ErrorKind::Conflict, message)
            }
            CheckpointError::Store(error) => error.into(),
            CheckpointError::Log { .. } | CheckpointError::Outputs { .. } => {
                Self::new(ErrorKind::Internal, message)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use claudine_domain::id::{AttemptId, TaskId};

    use super::*;

    /// The output of such an attempt is not found either.
    #[test]
    fn the_checkpoint_of_an_attempt_that_does_not_exist_is_not_found() {
        let task = TaskId::new(0, 1);
        let attempt = AttemptId { task, number: 7 };
        let check = |error: CheckpointError, kind: ErrorKind| {
            assert_eq!(AppError::from(error).kind, kind);
        };
        let missing = CheckpointError::NoSuchAttempt { attempt, last: 0 };
        check(missing, ErrorKind::NotFound);
        check(CheckpointError::NotEnded { attempt }, ErrorKind::Conflict);
        check(CheckpointError::NoAttempt(task), ErrorKind::Conflict);
    }
}
