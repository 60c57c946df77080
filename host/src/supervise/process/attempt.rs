//! The supervisor's state of an attempt and its children. The modules beside this one change it.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use super::connection::Connection;
use crate::supervise::log::{Channel, LogWriter};
use crate::supervise::protocol::{AttemptState, ChildState, ChildView, EndedState};
use crate::supervise::words::{AttemptKey, ChildId, Exit, NotStartedClass, Rung, Signal, StopWhy};

/// A time of the monotonic clock.
pub(super) type At = Duration;

/// The number of an attempt, never reused within the life of a supervisor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct AttemptNo(pub(super) u32);

#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) key: AttemptKey,
    pub(super) children: BTreeMap<u16, Child>,
    pub(super) log: LogWriter,
    pub(super) ladder: Vec<Rung>,
    pub(super) phase: Phase,
    pub(super) deadline: Option<At>,
    pub(super) idle_timeout: Option<Duration>,
    pub(super) last_output: At,
    /// Set while the log cannot be written.
    pub(super) held: Option<Hold>,
    /// Whether the host will start no more children, and waits for the attempt's end.
    pub(super) finished: bool,
    /// Whether the host needs no more reports of the attempt. If so, the attempt is forgotten at
    /// its end.
    pub(super) acknowledged: bool,
    /// The largest sum of resident memory that was sampled.
    pub(super) peak_rss_bytes: Option<u64>,
    /// CPU time of orphaned descendants that were reaped here.
    pub(super) orphan_cpu_us: u64,
    /// Leftover processes that were signalled.
    pub(super) swept: HashSet<(u32, u64)>,
    /// The number of leftover processes that could not be ended.
    pub(super) alive: u32,
    /// The attempt's time in the list of timers.
    pub(super) wake: Option<At>,
}

/// The phase of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Phase {
    /// Children run, or none has been started yet.
    Open,
    /// Leaders are being ended. `rung` is the next step of the ladder; KILL follows the last step.
    Stopping {
        why: StopWhy,
        ladder: Vec<Rung>,
        rung: usize,
        next: At,
    },
    /// No leader runs, but leftovers run, a pipe is held open, or the log cannot be written.
    Draining(Drain),
    /// Nothing is alive and the output is drained.
    Quiet,
}

/// The state of ending the leftovers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Drain {
    /// The time since which the pipes are read while no leader runs.
    pub(super) since: At,
    pub(super) look_at: At,
    /// The next signal and the time to send it, if something is left.
    pub(super) next: Option<(At, Signal)>,
    pub(super) after_stop: bool,
    pub(super) killing_since: Option<At>,
}

#[derive(Debug, Clone)]
pub(super) struct Hold {
    pub(super) message: String,
    pub(super) retry_at: At,
}

#[derive(Debug)]
pub(super) struct Child {
    pub(super) id: ChildId,
    pub(super) state: State,
    pub(super) started_at: At,
    /// The time at which the start is reported to the host, if the child has not ended by then.
    pub(super) tell_start_at: Option<At>,
    pub(super) pipes: [Option<Pipe>; 2],
    pub(super) input: Input,
    /// Whether the child was killed because its input broke off.
    pub(super) input_broke_off: bool,
}

/// The state of a child's standard input, for the children that a host feeds.
#[derive(Debug, Default)]
pub(super) enum Input {
    /// Nothing is to be done: no host feeds the child, or its input is complete.
    #[default]
    Settled,
    /// The input is open; `feeder` is set once the host has asked for the pipe.
    Open {
        pipe: OwnedFd,
        feeder: Option<Box<Connection>>,
    },
    /// The input has broken off; the pipe is kept, so that the child does not see an end.
    BrokenOff { _pipe: OwnedFd },
}

#[derive(Debug)]
pub(super) enum State {
    NotStarted {
        class: NotStartedClass,
        message: String,
    },
    Running {
        pid: u32,
        start_time: u64,
    },
    /// `reaped` is false while the pid is kept, so that its group can be signalled.
    Exited {
        exit: Exit,
        reaped: bool,
    },
}

/// The reading end of one of a child's output streams.
#[derive(Debug)]
pub(super) struct Pipe {
    pub(super) descriptor: OwnedFd,
    /// Whether the pipe's buffer was enlarged.
    pub(super) grown: bool,
}

impl Attempt {
    pub(super) fn new(key: AttemptKey, log: LogWriter, now: At) -> Self {
        Self {
            key,
            children: BTreeMap::new(),
            log,
            ladder: Vec::new(),
            phase: Phase::Quiet,
            deadline: None,
            idle_timeout: None,
            last_output: now,
            held: None,
            finished: false,
            acknowledged: false,
            peak_rss_bytes: None,
            orphan_cpu_us: 0,
            swept: HashSet::new(),
            alive: 0,
            wake: None,
        }
    }

    pub(super) fn runs(&self) -> bool {
        self.children
            .values()
            .any(|child| matches!(child.state, State::Running { .. }))
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.phase == Phase::Quiet
    }

    /// The pids of the leaders that are not reaped. As long as a leader is not reaped, its pid is
    /// the number of its group and of no other.
    pub(super) fn groups(&self) -> Vec<u32> {
        self.children.values().filter_map(Child::held_pid).collect()
    }

    pub(super) fn running_leaders(&self) -> Vec<u32> {
        let pid = |child: &Child| match child.state {
            State::Running { pid, .. } => Some(pid),
            _ => None,
        };
        self.children.values().filter_map(pid).collect()
    }

    pub(super) fn stop_reason(&self) -> Option<StopWhy> {
        match self.phase {
            Phase::Stopping { why, .. } => Some(why),
            _ => None,
        }
    }

    pub(super) fn has_open_pipe(&self) -> bool {
        self.children
            .values()
            .any(|child| child.pipes.iter().any(Option::is_some))
    }

    /// The inodes of the pipes from which the output of the attempt is still read.
    pub(super) fn output_pipes(&self) -> io::Result<Vec<u64>> {
        let pipes = self.children.values().flat_map(|child| &child.pipes);
        let inode =
            |pipe: &Pipe| -> io::Result<u64> { Ok(rustix::fs::fstat(&pipe.descriptor)?.st_ino) };
        pipes.flatten().map(inode).collect()
    }

    /// The start time of the first leader, in the unit of `Stat`: no process of the attempt is
    /// older. `None` if no leader has started.
    pub(super) fn began(&self) -> Option<u64> {
        let start_time = |child: &Child| match &child.state {
            State::Running { start_time, .. } => Some(*start_time),
            State::Exited { exit, .. } => Some(exit.start_time),
            State::NotStarted { .. } => None,
        };
        self.children.values().filter_map(start_time).min()
    }

    /// The time at which the attempt needs attention next.
    pub(super) fn due(&self) -> Option<At> {
        let mut due = Vec::with_capacity(4);
        due.extend(
            self.children
                .values()
                .filter_map(|child| child.tell_start_at),
        );
        due.extend(self.held.as_ref().map(|hold| hold.retry_at));
        match &self.phase {
            Phase::Open => {
                due.extend(self.deadline);
                // A held-back attempt cannot write, so its silence does not count.
                let idle = self.idle_timeout.filter(|_| self.held.is_none());
                due.extend(idle.map(|idle| self.last_output + idle));
            }
            Phase::Stopping { next, .. } => due.push(*next),
            Phase::Draining(drain) => {
                due.extend(drain.next.map(|(at, _)| at));
                due.push(drain.look_at);
            }
            Phase::Quiet => {}
        }
        due.into_iter().min()
    }

    /// The reason for which the attempt is to be stopped now, if a deadline of it has passed.
    pub(super) fn overdue(&self, now: At) -> Option<StopWhy> {
        if self.phase != Phase::Open {
            return None;
        }
        let too_silent = |idle| self.last_output + idle <= now && self.held.is_none();
        match (self.deadline, self.idle_timeout) {
            (Some(deadline), _) if deadline <= now => Some(StopWhy::TimedOut),
            (_, Some(idle)) if too_silent(idle) => Some(StopWhy::Idle),
            _ => None,
        }
    }

    /// Counts leftover processes that could not be ended. Called again and again while the attempt
    /// drains, with the processes that were not counted before.
    pub(super) fn note_abandoned(&mut self, processes: u32) {
        self.alive = self.alive.saturating_add(processes);
    }

    pub(super) fn ended(&self) -> EndedState {
        EndedState {
            swept: u32::try_from(self.swept.len()).unwrap_or(u32::MAX),
            alive: self.alive,
        }
    }

    pub(super) fn view(&self) -> AttemptState {
        AttemptState {
            attempt: self.key.clone(),
            children: self.children.values().map(Child::view).collect(),
            stopping: self.stop_reason(),
            finished: self.finished,
            ended: self.is_quiet().then(|| self.ended()),
            held: self.held.as_ref().map(|hold| hold.message.clone()),
        }
    }
}

impl Child {
    fn held_pid(&self) -> Option<u32> {
        match &self.state {
            State::Running { pid, .. } => Some(*pid),
            State::Exited {
                exit,
                reaped: false,
            } => Some(exit.pid),
            _ => None,
        }
    }

    pub(super) fn pipe(&mut self, channel: Channel) -> &mut Option<Pipe> {
        &mut self.pipes[channel as usize]
    }

    fn view(&self) -> ChildView {
        let state = match &self.state {
            State::NotStarted { class, message } => ChildState::NotStarted {
                class: *class,
                message: message.clone(),
            },
            State::Running { pid, start_time } => ChildState::Running {
                pid: *pid,
                start_time: *start_time,
            },
            State::Exited { exit, .. } => ChildState::Exited(exit.clone()),
        };
        ChildView {
            child: self.id.clone(),
            state,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leftovers_that_could_not_be_ended_are_counted_once() {
        let log = LogWriter::new("/log".into(), 1);
        let mut attempt = Attempt::new(AttemptKey::new("t.1"), log, Duration::ZERO);
        attempt.note_abandoned(1);
        attempt.note_abandoned(0);
        attempt.note_abandoned(2);
        assert_eq!(attempt.ended().alive, 3);
    }
}
