//! Ends an attempt: sends the signals of a ladder and then KILL. Also enforces the attempts'
//! deadlines, even while no host is connected.

use std::collections::HashSet;
use std::io;
use std::time::Duration;

use super::Supervisor;
use super::attempt::{At, Attempt, AttemptNo, Phase};
use crate::clock;
use crate::supervise::sys::procfs::{self, Stat};
use crate::supervise::sys::signals;
use crate::supervise::words::{Rung, Signal, StopWhy};

/// How often KILL is repeated while a leader lives: the leader may fork faster than its processes
/// are listed, or hang in the kernel.
const KILL_EVERY: Duration = Duration::from_millis(500);
/// Shortest time for which a list of all processes may be reused.
const FRESH_FOR: Duration = Duration::from_millis(20);
/// The time for which the list may be reused, as a multiple of the time that reading it took. On a
/// busy machine with thousands of processes, killing all of them would otherwise consist mostly of
/// reading lists.
const FRESH_FOR_READINGS: u32 = 4;
/// Maximum time of all chases in a round of the supervisor's loop, because nothing else happens
/// meanwhile.
const CHASE_FOR: Duration = Duration::from_millis(50);
/// Maximum number of looks for new strays in a chase. A look takes a fraction of a millisecond.
const LOOKS: usize = 100;

/// The time for chases in one round of the supervisor's loop. A chase looks again and again for
/// strays that appear while other strays are killed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chases {
    until: At,
}

impl Chases {
    pub(super) fn of_round(now: At) -> Self {
        Self {
            until: now + CHASE_FOR,
        }
    }

    /// Looks at least once, and again as long as `look` finds new strays and the round has time
    /// left.
    fn chase(self, now: impl Fn() -> At, mut look: impl FnMut() -> bool) {
        for _ in 0..LOOKS {
            if !look() || now() >= self.until {
                break;
            }
        }
    }
}

impl Supervisor {
    /// Begins a stop. A stop that has begun already keeps its reason and starts over with the new
    /// ladder. No more children of the attempt are started.
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
        let all: Vec<AttemptNo> = self.attempts.keys().copied().collect();
        for no in all {
            self.notice_ends(no);
            // No host hears how a command of a host ends, so nobody reads its output.
            let is_command = |attempt: &Attempt| attempt.key.command().is_some();
            if self.host.is_none() && self.attempts.get(&no).is_some_and(is_command) {
                self.drop_unwritten(no);
            }
            let attempt = self.attempts.get(&no);
            let Some(open) = attempt.filter(|attempt| attempt.phase == Phase::Open) else {
                continue;
            };
            let ladder = open.ladder.clone();
            self.stop(no, why, ladder);
        }
    }

    pub(super) fn check_deadlines(&mut self, no: AttemptNo, now: At) {
        if self.overdue(no, now) == Some(StopWhy::Idle) {
            // Output that came while this process was suspended may not have been read yet.
            self.drain_children(no);
        }
        let (Some(why), Some(attempt)) = (self.overdue(no, now), self.attempts.get(&no)) else {
            return;
        };
        let ladder = attempt.ladder.clone();
        self.stop(no, why, ladder);
    }

    fn overdue(&self, no: AttemptNo, now: At) -> Option<StopWhy> {
        self.attempts.get(&no)?.overdue(now)
    }

    /// Sends the next signal if its time has come.
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
        let begins = *rung == 0;
        let step = ladder.get(*rung).copied();
        *rung = (*rung + 1).min(ladder.len() + 1);
        *next = now + step.map_or(KILL_EVERY, |step| step.wait);
        match step {
            Some(step) => {
                if begins {
                    // Noted before the first signal, while the tree of processes is still complete.
                    self.list_descendants(no);
                }
                for group in groups {
                    ask_group(group, step.signal);
                }
            }
            None => self.signal_everything(no, Signal::Kill),
        }
    }

    /// Signals the attempt's process groups, and every other process below its leaders and their
    /// leftovers.
    pub(super) fn signal_everything(&mut self, no: AttemptNo, signal: Signal) {
        let Some(attempt) = self.attempts.get(&no) else {
            return;
        };
        let groups = attempt.groups();
        let strays = self.strays_of(no);
        // Listed before anything is signalled, while the tree is still complete.
        let below = self.list_descendants(no);
        for group in &groups {
            ask_group(*group, signal);
        }
        let elsewhere = below
            .iter()
            .filter(|process| !groups.contains(&process.group));
        for process in elsewhere {
            self.signal_process(process, signal);
        }
        let mut swept: Vec<Stat> = strays;
        if signal == Signal::Kill && !swept.is_empty() {
            swept.extend(self.chase(no, &below));
        }
        if let Some(attempt) = self.attempts.get_mut(&no) {
            let swept = swept.iter();
            attempt
                .swept
                .extend(swept.map(|stray| (stray.pid, stray.start_time)));
        }
    }

    /// Lists the processes below the attempt's leaders and strays (included), and notes to which
    /// attempt they belong.
    fn list_descendants(&mut self, no: AttemptNo) -> Vec<Stat> {
        let Some(attempt) = self.attempts.get(&no) else {
            return Vec::new();
        };
        let mut roots = attempt.running_leaders();
        let strays = self.strays_of(no);
        roots.extend(strays.iter().map(|stray| stray.pid));
        let limits = self.limits;
        let below = limits.with_reserve(|| procfs::below(self.processes()?, &roots));
        let below = below.unwrap_or_else(|error| {
            say!("cannot list the processes of an attempt: {error}");
            strays
        });
        self.strays.descend(no, &below);
        below
    }

    /// Kills strays that appear while other strays are killed. For example, if a process forks and
    /// ends over and over, each look finds a new process. Returns the killed strays.
    fn chase(&mut self, no: AttemptNo, signalled: &[Stat]) -> Vec<Stat> {
        let mut killed = Vec::new();
        let id = |stat: &Stat| (stat.pid, stat.start_time);
        let mut signalled: HashSet<(u32, u64)> = signalled.iter().map(id).collect();
        let chases = self.chases;
        chases.chase(clock::monotonic, || {
            self.look();
            let mut new = self.strays_of(no);
            new.retain(|stray| signalled.insert(id(stray)));
            for stray in &new {
                self.signal_process(stray, Signal::Kill);
            }
            let has_found = !new.is_empty();
            killed.extend(new);
            has_found
        });
        killed
    }

    fn signal_process(&self, process: &Stat, signal: Signal) {
        let (pid, start_time) = (process.pid, process.start_time);
        let send = || signals::signal_process(pid, start_time, signal);
        if let Err(error) = self.limits.with_reserve(send) {
            say!("cannot signal process {pid}: {error}");
        }
    }

    /// The processes of the machine. The list may be a moment old, so that it is not read a
    /// thousand times if a thousand attempts are killed at once. A process that is missing from the
    /// list is found as a stray once its parent has died.
    fn processes(&mut self) -> io::Result<&[Stat]> {
        let now = clock::monotonic();
        let (usable_until, processes) = &mut self.processes;
        if usable_until.is_none_or(|until| until <= now) {
            *processes = procfs::all()?;
            let read_at = clock::monotonic();
            let cost = read_at.saturating_sub(now);
            *usable_until = Some(read_at + FRESH_FOR.max(cost * FRESH_FOR_READINGS));
        }
        Ok(processes)
    }
}

/// Asks a process group to end, even if its processes are suspended.
fn ask_group(leader: u32, signal: Signal) {
    if let Err(error) = signals::ask_group(leader, signal) {
        say!("cannot signal the process group {leader}: {error}");
    }
}

/// Signals a process group. If that fails, its processes belong to another user by now, and are
/// reported as alive at the end.
pub(super) fn signal_group(leader: u32, signal: Signal) {
    if let Err(error) = signals::signal_group(leader, signal) {
        say!("cannot signal the process group {leader}: {error}");
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn all_chases_of_a_round_share_its_time() {
        let now = Cell::new(Duration::ZERO);
        // Each look takes a fifth of the time, and finds another stray.
        let looks_in = |round: Chases| {
            let mut looks = 0;
            let look = || {
                looks += 1;
                now.set(now.get() + CHASE_FOR / 5);
                true
            };
            round.chase(|| now.get(), look);
            looks
        };
        let round = Chases::of_round(now.get());
        assert_eq!([(); 3].map(|()| looks_in(round)), [5, 1, 1]);
        let next = Chases::of_round(now.get());
        assert_eq!(looks_in(next), 5);
    }
}
