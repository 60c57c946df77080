//! What `claudine down` says at its end.

use super::super::{progress, text};
use crate::{
    api::client::ClientError,
    app::{AppError, DownMode, ErrorKind, TaskRow},
};

/// Limit of the cancelled tasks, and of the other ended tasks, that the final message names.
pub(super) const NAMED: usize = 10;

/// Names the tasks that ended: `cancelled suite, ren; build ended`.
pub(super) fn ended_text(mode: DownMode, ended: &[TaskRow]) -> Option<String> {
    if mode == DownMode::Leave || ended.is_empty() {
        return None;
    }
    let is_cancelled = |task: &&TaskRow| task.outcome.as_deref() == Some("cancelled");
    let (cancelled, others): (Vec<&TaskRow>, Vec<&TaskRow>) = ended.iter().partition(is_cancelled);
    let mut parts = Vec::new();
    if !cancelled.is_empty() {
        parts.push(format!("cancelled {}", names(&cancelled)));
    }
    if !others.is_empty() {
        parts.push(format!("{} ended", names(&others)));
    }
    Some(parts.join("; "))
}

fn names(tasks: &[&TaskRow]) -> String {
    let named = tasks.iter().take(NAMED).map(|task| progress::called(task));
    let more = tasks.len().saturating_sub(NAMED);
    let more = (more > 0).then(|| format!("{more} more"));
    named.chain(more).collect::<Vec<_>>().join(", ")
}

/// Names the tasks of which the next host records how they ended. `None` if there are none.
pub(super) fn unrecorded_text(tasks: &[TaskRow]) -> Option<String> {
    let named: Vec<&TaskRow> = tasks.iter().collect();
    let named = (!named.is_empty()).then(|| names(&named))?;
    Some(format!(
        "the next host records how these tasks ended: {named}"
    ))
}

/// The error if a drain has ended, and nobody could record how tasks ended.
pub(super) fn unrecorded(tasks: &[TaskRow]) -> AppError {
    let named: Vec<&TaskRow> = tasks.iter().collect();
    let message = format!(
        "the host has ended, and nothing runs, but nobody could record how these tasks ended: {}",
        names(&named)
    );
    AppError::new(ErrorKind::Unavailable, message).hint(
        "their ends are kept: the next host (`claudine up`) records them; until then, do not copy \
         the data directory; `claudine doctor` names a plugin that cannot be used",
    )
}

/// The error if a drain has ended, and the tasks cannot be read.
pub(super) fn unread(error: &ClientError) -> AppError {
    let message = format!(
        "the host has ended, but nobody knows whether the ends of all tasks are recorded, because \
         the tasks cannot be read: {error}"
    );
    AppError::new(ErrorKind::Unavailable, message)
        .hint("do not copy the data directory before `claudine list` shows the ends")
}

/// The message if the user interrupts the wait. `drains` says whether the host has begun to drain.
pub(super) fn interrupted(mode: DownMode, drains: bool) -> &'static str {
    match (mode, drains) {
        (_, false) => {
            "the host has not said whether it ends; `claudine list` shows whether it drains"
        }
        (DownMode::Kill, true) => "still ending tasks; claudine up keeps the host",
        (_, true) => "still draining; claudine up lifts the drain",
    }
}

/// The message if no host runs. Supervisors left by earlier hosts may still run tasks.
pub(super) fn none_runs(mode: DownMode, was_running: bool, supervisors: &[u32]) -> String {
    match (mode, supervisors) {
        (DownMode::Leave, [first, ..]) => format!(
            "no host is running, but tasks may still run (supervisor {first}): `claudine down --kill` ends them"
        ),
        (DownMode::Leave, []) => "no host is running".to_owned(),
        _ if was_running => "host ended".to_owned(),
        (_, [first, ..]) => format!("nothing is running (supervisor {first} ended)"),
        (_, []) => "nothing is running".to_owned(),
    }
}

/// The message for a host that has ended. If a part of the host had failed, the host's count of
/// running tasks is unreliable and left out.
pub(super) fn ended(mode: DownMode, running: usize, faults: &[String]) -> String {
    match (mode, faults) {
        (DownMode::Leave, []) if running > 0 => {
            format!("host ended; {} left running", text::tasks(running))
        }
        (DownMode::Leave, [fault, ..]) => {
            format!("host ended; running tasks continue, and the next host picks them up ({fault})")
        }
        _ => "host ended".to_owned(),
    }
}
