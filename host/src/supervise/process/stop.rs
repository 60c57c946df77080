//! Ending an attempt: the ladder of polite signals, then KILL; and the deadlines that begin it with
//! no host there.

use std::time::Duration;

use super::Supervisor;
use super::attempt::{At, Attempt, AttemptNo, Phase};
use crate::clock;
use crate::supervise::sys::procfs::{self, Stat};
use crate::supervise::sys::signals;
use crate::supervise::words::{Rung, Signal, StopWhy};

/// KILL is repeated so often while a leader does not die: it can fork faster than one look, or wait
/// in the kernel.
const KILL_EVERY: Duration = Duration::from_millis(500);
/// How long a list of all processes serves.
const FRESH_FOR: Duration = Duration::from_millis(20);

impl Supervisor {
    /// Begins a stop. One that is under way keeps its reason and starts over with the new ladder.
    /// Nothing is started any more.
    pub(super) fn stop(&mut self, no: AttemptNo, why: StopWhy, ladder: Vec<Rung>) {
        let now = clock::monotonic();
        let Some(attempt) = self.attempts.get_mut(&no) else {
            return;
        };
        attempt.finished = true;
        match &mut attempt.phase {
            Phase::Quiet => return self.tell_ended(no),
            Phase::Draining(_) => self.hurry(no, now),
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
        self.go_on_stopping(no, now);
        self.rearm(no);
    }

    pub(super) fn stop_all(&mut self, why: StopWhy) {
        let open = |attempt: &&Attempt| attempt.phase == Phase::Open;
        let open: Vec<_> = self
            .attempts
            .iter()
            .filter(|(_, attempt)| open(attempt))
            .collect();
        let open: Vec<_> = open
            .into_iter()
            .map(|(no, attempt)| (*no, attempt.ladder.clone()))
            .collect();
        for (no, ladder) in open {
            self.stop(no, why, ladder);
        }
    }

    pub(super) fn check_deadlines(&mut self, no: AttemptNo, now: At) {
        let attempt = self.attempts.get(&no);
        let Some(attempt) = attempt.filter(|attempt| attempt.phase == Phase::Open) else {
            return;
        };
        let silent_since = attempt.last_output;
        let too_silent = |idle| silent_since + idle <= now && attempt.held.is_none();
        let why = match (attempt.deadline, attempt.idle_timeout) {
            (Some(deadline), _) if deadline <= now => StopWhy::TimedOut,
            (_, Some(idle)) if too_silent(idle) => StopWhy::Idle,
            _ => return,
        };
        let ladder = attempt.ladder.clone();
        self.stop(no, why, ladder);
    }

    /// The next rung, if its time has come.
    pub(super) fn go_on_stopping(&mut self, no: AttemptNo, now: At) {
        let Some(attempt) = self.attempts.get_mut(&no) else {
            return;
        };
        let groups = attempt.groups();
        let Phase::Stopping {
            ladder, rung, next, ..
        } = &mut attempt.phase
        else {
            return;
        };
        if *next > now {
            return;
        }
        let step = ladder.get(*rung).copied();
        *rung = (*rung + 1).min(ladder.len() + 1);
        *next = now + step.map_or(KILL_EVERY, |step| step.wait);
        match step {
            Some(step) => groups
                .into_iter()
                .for_each(|group| ask_group(group, step.signal)),
            None => self.signal_everything(no, Signal::Kill),
        }
    }

    /// Signals the attempt's groups and whatever else descends from its leaders and from what they
    /// left behind.
    pub(super) fn signal_everything(&mut self, no: AttemptNo, signal: Signal) {
        let Some(attempt) = self.attempts.get(&no) else {
            return;
        };
        let groups = attempt.groups();
        let mut roots = attempt.running_leaders();
        let strays = self.strays_of(no);
        roots.extend(strays.iter().map(|stray| stray.pid));
        // Looked up before anything is signalled, while it still hangs together.
        let limits = self.limits;
        let below = limits.with_reserve(|| procfs::below(self.processes(), &roots));
        for group in &groups {
            ask_group(*group, signal);
        }
        let elsewhere = below
            .iter()
            .filter(|process| !groups.contains(&process.group));
        for process in elsewhere {
            let (pid, start_time) = (process.pid, process.start_time);
            let sent = limits.with_reserve(|| signals::signal_process(pid, start_time, signal));
            if let Err(error) = sent {
                eprintln!("cannot signal process {}: {error}", process.pid);
            }
        }
        if let Some(attempt) = self.attempts.get_mut(&no) {
            attempt
                .swept
                .extend(strays.iter().map(|stray| (stray.pid, stray.start_time)));
        }
    }

    /// The processes of the machine, as they were at most a moment ago: a thousand attempts that
    /// are killed at once do not each read them all. One that is missing is found as a stray when
    /// its parent has died.
    fn processes(&mut self) -> &[Stat] {
        let now = clock::monotonic();
        let (read_at, processes) = &mut self.processes;
        if read_at.is_none_or(|at| at + FRESH_FOR <= now) {
            *processes = procfs::all().unwrap_or_else(|error| {
                eprintln!("cannot list processes: {error}");
                Vec::new()
            });
            *read_at = Some(now);
        }
        processes
    }
}

/// Asks a group to end, also one that is stopped.
fn ask_group(leader: u32, signal: Signal) {
    if let Err(error) = signals::ask_group(leader, signal) {
        eprintln!("cannot signal the group of {leader}: {error}");
    }
}

/// A group that cannot be signalled belongs to another user by now; what is said of it at the end
/// is that it is alive.
pub(super) fn signal_group(leader: u32, signal: Signal) {
    if let Err(error) = signals::signal_group(leader, signal) {
        eprintln!("cannot signal the group of {leader}: {error}");
    }
}
