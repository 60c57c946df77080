//! Time limits that the host itself watches, and the time from which each counts.

use super::Board;
use crate::{
    attempt::{Phase, StopWhy},
    id::TaskId,
    task::Task,
    time::Now,
};

/// Time limits that the host itself watches. The supervisor watches the idle deadlines of processes
/// and, like the host, the hard ones.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Clock {
    Queue,
    Prepare,
    Start,
    Hard,
    Settle,
}

impl Clock {
    /// Reason for which an attempt is stopped if this limit is exceeded; none for the limit of a
    /// task that is still queued.
    pub(crate) fn stops(self) -> Option<StopWhy> {
        match self {
            Self::Queue => None,
            Self::Prepare => Some(StopWhy::PrepareTimeout),
            Self::Start => Some(StopWhy::StartTimeout),
            Self::Settle => Some(StopWhy::SettleTimeout),
            Self::Hard => Some(StopWhy::Timeout),
        }
    }
}

/// Time limit of the current phase of the task's attempt, if the phase has its own limit.
pub(super) fn clocked(task: &Task) -> Option<Clock> {
    match task.phase()? {
        Phase::Preparing => Some(Clock::Prepare),
        Phase::Starting => Some(Clock::Start),
        Phase::Settling => Some(Clock::Settle),
        Phase::Assigned | Phase::Live | Phase::Stopping(_) | Phase::Finishing => None,
    }
}

impl Board {
    /// Restarts the time limit of the attempt's phase, because the phase begins or another host
    /// continues it.
    pub(crate) fn restart_phase_clock(&mut self, id: TaskId, now: Now) {
        let Some(task) = self.tasks.get(&id).cloned() else {
            return;
        };
        // Without a start timeout, no limit applies to the start.
        if clocked(&task) == Some(Clock::Start) && task.request.start_timeout.is_none() {
            return;
        }
        self.unindex(&task);
        self.phase_clocks.insert(id, now.monotonic);
        self.index(&task);
    }

    /// Notes that the attempt of a task is prepared and waits for its turn to start. The time limit
    /// of the preparation no longer applies.
    pub(crate) fn note_prepared(&mut self, id: TaskId, now: Now) {
        let Some(task) = self.tasks.get(&id).cloned() else {
            return;
        };
        self.unindex(&task);
        self.prepared.entry(id).or_insert(now.monotonic);
        self.index(&task);
    }
}
