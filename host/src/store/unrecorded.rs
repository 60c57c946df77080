//! Tasks whose processes have ended, but whose ends nobody has recorded yet: no host runs, or the
//! supervisor of the task does nothing. Only what is shown has such marks.

use claudine_domain::{
    attempt::Phase,
    task::{State, Task},
};

/// Marks a running task as one whose process has ended. The mark is not stored.
pub(crate) fn mark(task: &mut Task) {
    let State::Running { phase, .. } = &mut task.state else {
        return;
    };
    *phase = Phase::Finishing;
    if let Some(attempt) = task.attempts.last_mut() {
        attempt.leader = None;
        attempt.doing = None;
        // An attempt that a host has started always has this time, so its absence is the mark.
        attempt.started_monotonic = None;
    }
}

/// Whether [`mark`] has marked the task.
pub(crate) fn is_marked(task: &Task) -> bool {
    let attempt = task.last_attempt();
    matches!(task.phase(), Some(Phase::Finishing))
        && attempt.is_some_and(|attempt| attempt.started_monotonic.is_none())
}
