//! The checkpoint of a finished attempt, for later attempts: outcome, result and last lines.
//!
//! A checkpoint is assembled on request from stored data (row, outputs, log), so it cannot disagree
//! with this data. It is passed to tasks that use the output of other tasks, and to attempts that
//! continue an earlier attempt: as text before a prompt ([`words`]), and as files and variables
//! ([`files`]). A checkpoint never becomes part of a command line or a script.
//!
//! [`DocumentKey::Checkpoint`] is something else: the state that a running guest saves in order to
//! continue later. Only the guest reads that state.

pub(crate) mod files;
pub(crate) mod words;

use std::io;

use claudine_domain::{
    attempt::GitState,
    batch::DocumentKey,
    id::{AttemptId, TaskId},
    outcome::{Outcome, Reason},
    task::Task,
};

use crate::{
    store::{Store, StoreError},
    supervise::log::Channel,
    transcript::{Output, Reach, Transcripts, Wanted},
};

/// Number of last lines in a checkpoint.
const LINES: u64 = 50;
/// Size limit of the last lines, which may be long.
const LINES_BYTES: usize = 64 << 10;
/// Limit on the lines of an agent's transcript that is passed to other tasks.
const GIVEN_LINES: u64 = 10_000;
const GIVEN_BYTES: usize = 1 << 20;

#[derive(Clone, Debug)]
pub(crate) struct Checkpoint {
    pub(crate) task: TaskId,
    pub(crate) name: Option<String>,
    pub(crate) executor: String,
    /// Number of the attempt; `None` for a task that ended without an attempt.
    pub(crate) attempt: Option<u32>,
    pub(crate) outcome: Outcome,
    pub(crate) reason: Option<Reason>,
    pub(crate) exit_code: Option<i32>,
    pub(crate) signal: Option<i32>,
    /// Result of an agent.
    pub(crate) summary: Option<String>,
    /// The last lines of a command's two streams, in the order in which they were read, or of an
    /// agent's transcript. Empty until they are [read](Self::read_last_lines).
    pub(crate) last_lines: String,
    /// Transcript that is passed to other tasks, for an agent without a result.
    transcript: Option<String>,
    /// Source of the output.
    output: Option<Output>,
    /// State of the repository in which the attempt worked, if known.
    pub(crate) git: Option<GitState>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum CheckpointError {
    #[error("task {0:#} is no longer stored")]
    Gone(TaskId),
    #[error("task {0:#} has no attempt that has ended")]
    NoAttempt(TaskId),
    #[error("attempt {} of task {:#} has not ended", attempt.number, attempt.task)]
    NotEnded { attempt: AttemptId },
    #[error("{}", no_such_attempt(*attempt, *last))]
    NoSuchAttempt { attempt: AttemptId, last: u32 },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the output of task {task:#} cannot be read: {source}")]
    Log { task: TaskId, source: io::Error },
    #[error("the result of task {task:#} cannot be read: {source}")]
    Outputs {
        task: TaskId,
        source: serde_json::Error,
    },
}

/// Says that a task does not have this attempt. `last` is the number of its last attempt, or 0.
pub(crate) fn no_such_attempt(attempt: AttemptId, last: u32) -> String {
    let AttemptId { task, number } = attempt;
    match last {
        0 => format!("task {task:#} has no attempt {number}; it has no attempts yet"),
        last => format!("task {task:#} has no attempt {number}; its last is {last}"),
    }
}

/// The checkpoint of a task. It describes the attempt that decided the task's outcome or, if the
/// task has not ended, the last attempt that has ended. If a task was retried and ended before
/// another attempt began, its checkpoint describes no attempt.
pub(crate) fn of_task(store: &dyn Store, id: TaskId) -> Result<Checkpoint, CheckpointError> {
    let task = store.task(id)?.ok_or(CheckpointError::Gone(id))?;
    let last = match task.end() {
        Some(_) => task.deciding_attempt(),
        None => task.attempts.iter().rev().find(|it| it.ended.is_some()),
    };
    match (last, task.end()) {
        // The checkpoint has the output of the attempt whose work was merged by hand, and the
        // outcome of the merge.
        (Some(last), Some(end)) if last.by_hand => {
            let run = task.last_run().ok_or(CheckpointError::NoAttempt(id))?;
            let checkpoint = of_attempt(store, &task, run.number)?;
            Ok(Checkpoint {
                outcome: end.outcome,
                reason: None,
                ..checkpoint
            })
        }
        (Some(last), _) => of_attempt(store, &task, last.number),
        (None, Some(end)) => Ok(Checkpoint {
            task: id,
            name: task.request.name.clone(),
            executor: task.request.executor.to_string(),
            attempt: None,
            outcome: end.outcome,
            reason: None,
            exit_code: None,
            signal: None,
            summary: None,
            last_lines: String::new(),
            transcript: None,
            output: None,
            git: None,
        }),
        (None, None) => Err(CheckpointError::NoAttempt(id)),
    }
}

pub(crate) fn of_attempt(
    store: &dyn Store,
    task: &Task,
    number: u32,
) -> Result<Checkpoint, CheckpointError> {
    let id = task.id;
    let attempt = AttemptId { task: id, number };
    let found = task.attempts.iter().find(|it| it.number == number);
    let Some(found) = found else {
        let last = task.last_attempt().map_or(0, |last| last.number);
        return Err(CheckpointError::NoSuchAttempt { attempt, last });
    };
    let ended = found
        .ended
        .as_ref()
        .ok_or(CheckpointError::NotEnded { attempt })?;
    Ok(Checkpoint {
        task: id,
        name: task.request.name.clone(),
        executor: task.request.executor.to_string(),
        attempt: Some(number),
        outcome: ended.outcome,
        reason: ended.reason.clone(),
        exit_code: ended.exit_code,
        signal: ended.signal,
        summary: result(store, attempt)?,
        last_lines: String::new(),
        transcript: None,
        output: Some(Output::of(task, number)),
        git: ended.git.as_deref().cloned(),
    })
}

/// The result that an agent gave.
fn result(store: &dyn Store, attempt: AttemptId) -> Result<Option<String>, CheckpointError> {
    #[derive(serde::Deserialize)]
    struct Outputs {
        result: Option<String>,
    }
    let Some(bytes) = store.document(DocumentKey::Outputs(attempt))? else {
        return Ok(None);
    };
    let outputs: Outputs =
        serde_json::from_slice(&bytes).map_err(|source| CheckpointError::Outputs {
            task: attempt.task,
            source,
        })?;
    Ok(outputs.result)
}

impl Checkpoint {
    /// Reads the last lines. Returns whether a farther reach would not find more of them.
    pub(crate) async fn read_last_lines(
        &mut self,
        transcripts: &Transcripts,
        reach: Reach,
    ) -> Result<bool, CheckpointError> {
        let Some(output) = &self.output else {
            return Ok(true);
        };
        let wanted = Wanted {
            lines: LINES,
            bytes: LINES_BYTES,
            reach,
        };
        let read = transcripts.last_text(output, None, wanted);
        let last = read.await.map_err(self.unreadable())?;
        self.last_lines = last.text;
        Ok(last.is_enough)
    }

    /// Reads the output that is passed to other tasks. If the attempt has a result, the result is
    /// passed instead, and nothing is read.
    pub(crate) async fn read_for_others(
        &mut self,
        transcripts: &Transcripts,
    ) -> Result<(), CheckpointError> {
        if self.summary.is_some() {
            return Ok(());
        }
        self.read_last_lines(transcripts, Reach::Far).await?;
        if let Some(output) = self.output.as_ref().filter(|output| output.is_agents) {
            let stdout = Some(Channel::Stdout);
            let wanted = Wanted {
                lines: GIVEN_LINES,
                bytes: GIVEN_BYTES,
                reach: Reach::Far,
            };
            let read = transcripts.last_text(output, stdout, wanted);
            self.transcript = Some(read.await.map_err(self.unreadable())?.text);
        }
        Ok(())
    }

    fn unreadable(&self) -> impl Fn(io::Error) -> CheckpointError + use<> {
        let task = self.task;
        move |source| CheckpointError::Log { task, source }
    }

    /// State of the repository in one line.
    pub(crate) fn repository(&self) -> Option<String> {
        let git = self.git.as_ref()?;
        if let Some(error) = &git.error {
            return Some(error.clone());
        }
        let branch = git.branch.as_deref().unwrap_or("no branch");
        let commit = git.commit.as_deref().unwrap_or("no commit yet");
        let mut text = format!("{branch} at {commit}");
        let more = git.dirty_count.saturating_sub(git.dirty.len() as u64);
        match (git.dirty.is_empty(), more) {
            (true, _) => text.push_str(", clean"),
            (false, 0) => text = format!("{text}, not committed: {}", git.dirty.join(", ")),
            (false, more) => {
                text = format!(
                    "{text}, not committed: {} and {more} more",
                    git.dirty.join(", ")
                );
            }
        }
        Some(text)
    }

    /// The name of the task, or its id.
    pub(crate) fn called(&self) -> String {
        self.name.clone().unwrap_or_else(|| self.task.to_string())
    }
}

#[cfg(test)]
pub(super) fn sample() -> Checkpoint {
    Checkpoint {
        task: TaskId::new(1, 1),
        name: Some("build".to_owned()),
        executor: "shell".to_owned(),
        attempt: Some(1),
        outcome: Outcome::Failed,
        reason: Some(Reason::new(
            claudine_domain::outcome::ReasonClass::Exit,
            "exited with code 2",
        )),
        exit_code: Some(2),
        signal: None,
        summary: None,
        last_lines: "one\ntwo\n".to_owned(),
        transcript: None,
        output: None,
        git: Some(GitState {
            branch: Some("fix".to_owned()),
            commit: Some("d7249d3e1aa58acfc8c4d3429c396a8f7be9efcf".to_owned()),
            dirty: vec!["src/a.rs".to_owned(), "b".to_owned()],
            dirty_count: 7,
            error: None,
        }),
    }
}
