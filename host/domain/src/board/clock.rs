//! The limits of time that the host itself watches, and from when each counts.

use super::Board;
use crate::{
    attempt::{Phase, StopWhy},
    id::TaskId,
    task::Task,
    time::Now,
};

/// The clocks that the host itself watches. Idle and hard deadlines of processes are watched by
/// their supervisor too.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Clock {
    Queue,
    Prepare,
    Start,
    Hard,
    Settle,
}

impl Clock {
    /// Why an attempt is stopped when it runs out; nothing is to be stopped of a task that is still
    /// in the queue.
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

/// The clock of the phase that the task's attempt is in, if that has one.
pub(super) fn clocked(task: &Task) -> Option<Clock> {
    match task.phase()? {
        Phase::Preparing => Some(Clock::Prepare),
        Phase::Starting => Some(Clock::Start),
        Phase::Settling => Some(Clock::Settle),
        Phase::Assigned | Phase::Live | Phase::Stopping(_) | Phase::Finishing => None,
    }
}

impl Board {
    /// Counts the limit of an attempt's phase from here: the phase begins, or another host goes on
    /// with it.
    pub(crate) fn restart_phase_clock(&mut self, id: TaskId, now: Now) {
        let Some(task) = self.tasks.get(&id).cloned() else {
            return;
        };
        // Most starts are not measured.
        if clocked(&task) == Some(Clock::Start) && task.request.start_timeout.is_none() {
            return;
        }
        self.unindex(&task);
        self.phase_clocks.insert(id, now.monotonic);
        self.index(&task);
    }
}
