//! Ending an attempt: the ladder of polite signals, then KILL; and the deadlines that begin it with no host there.

use std::io;
use std::time::Duration;

use super::Supervisor;
use super::attempt::{At, AttemptNo, Phase};
use crate::clock;
use crate::supervise::sys::{procfs, signals};
use crate::supervise::words::{Rung, Signal, StopWhy};

/// KILL is repeated so often while a leader does not die: it can fork faster than one look, or wait in the kernel.
const KILL_EVERY: Duration = Duration::from_millis(500);
/// What a leftover still gets when a stop arrives while it is being ended.
const REST_OF_GRACE: Duration = Duration::from_secs(1);

impl Supervisor {
    /// Begins a stop. One that is under way keeps its reason and starts over with the new ladder.
    pub(super) fn stop(
        &mut self,
        no: AttemptNo,
        why: StopWhy,
        ladder: Vec<Rung>,
    ) -> io::Result<()> {
        let now = clock::monotonic();
        let Some(attempt) = self.attempts.get_mut(&no) else {
            return Ok(());
        };
        match &mut attempt.phase {
            Phase::Quiet => {
                self.tell_ended(no);
                return Ok(());
            }
            Phase::Draining { kill_at, .. } => {
                *kill_at = kill_at.map(|at| at.min(now + REST_OF_GRACE));
            }
            Phase::Stopping {
                ladder: old,
                rung,
                next,
                ..
            } => (*old, *rung, *next) = (ladder, 0, now),
            Phase::Open => {
                attempt.phase = Phase::Stopping {
                    why,
                    ladder,
                    rung: 0,
                    next: now,
                }
            }
        }
        self.go_on_stopping(no, now)?;
        self.rearm(no);
        Ok(())
    }

    pub(super) fn stop_all(&mut self, why: StopWhy) -> io::Result<()> {
        let live = self
            .attempts
            .iter()
            .filter(|(_, attempt)| attempt.runs() && attempt.stop_reason().is_none());
        let live: Vec<_> = live
            .map(|(no, attempt)| (*no, attempt.ladder.clone()))
            .collect();
        for (no, ladder) in live {
            self.stop(no, why, ladder)?;
        }
        Ok(())
    }

    pub(super) fn check_deadlines(&mut self, no: AttemptNo, now: At) -> io::Result<()> {
        let Some(attempt) = self.attempts.get(&no) else {
            return Ok(());
        };
        if attempt.phase != Phase::Open {
            return Ok(());
        }
        let silent_since = attempt.last_output;
        let idle = attempt
            .idle_timeout
            .is_some_and(|idle| silent_since + idle <= now)
            && attempt.held.is_none();
        let why = match attempt.deadline {
            Some(deadline) if deadline <= now => StopWhy::TimedOut,
            _ if idle => StopWhy::Idle,
            _ => return Ok(()),
        };
        let ladder = attempt.ladder.clone();
        self.stop(no, why, ladder)
    }

    /// The next rung, if its time has come.
    pub(super) fn go_on_stopping(&mut self, no: AttemptNo, now: At) -> io::Result<()> {
        let Some(attempt) = self.attempts.get_mut(&no) else {
            return Ok(());
        };
        let groups = attempt.groups();
        let Phase::Stopping {
            ladder, rung, next, ..
        } = &mut attempt.phase
        else {
            return Ok(());
        };
        if *next > now {
            return Ok(());
        }
        let step = ladder.get(*rung).copied();
        *rung = (*rung + 1).min(ladder.len() + 1);
        *next = now + step.map_or(KILL_EVERY, |step| step.wait);
        match step {
            Some(step) => {
                for group in groups {
                    signal_group(group, step.signal);
                }
                Ok(())
            }
            None => self.signal_everything(no, Signal::Kill),
        }
    }

    /// Signals the attempt's groups and whatever else descends from its leaders and from what they left behind.
    pub(super) fn signal_everything(&mut self, no: AttemptNo, signal: Signal) -> io::Result<()> {
        let Some(attempt) = self.attempts.get(&no) else {
            return Ok(());
        };
        let groups = attempt.groups();
        let mut roots = attempt.running_leaders();
        let strays = self.strays_of(no);
        roots.extend(strays.iter().map(|stray| stray.pid));
        // Looked up before anything is signalled, while it still hangs together.
        let below = procfs::below(&procfs::all()?, &roots);
        for group in &groups {
            signal_group(*group, signal);
        }
        for process in below
            .iter()
            .filter(|process| !groups.contains(&process.group))
        {
            if let Err(error) = signals::signal_process(process.pid, process.start_time, signal) {
                eprintln!("cannot signal process {}: {error}", process.pid);
            }
        }
        if let Some(attempt) = self.attempts.get_mut(&no) {
            attempt
                .swept
                .extend(strays.iter().map(|stray| (stray.pid, stray.start_time)));
        }
        Ok(())
    }
}

/// A group that cannot be signalled belongs to another user by now; what is said of it at the end is that it is alive.
fn signal_group(leader: u32, signal: Signal) {
    if let Err(error) = signals::signal_group(leader, signal) {
        eprintln!("cannot signal the group of {leader}: {error}");
    }
}
