//! Samples the peak memory of an attempt, over all its processes.
//!
//! The kernel keeps a maximum for each process, but not for several together, so the sum over the
//! processes is sampled. A sample is taken every half second if a process is at least half a second
//! old. If a sample takes long, the next one is taken later, so that sampling never costs more than
//! a fiftieth of a core.
//!
//! The kernel's maximum for a child starts with the supervisor's own maximum, because the child
//! shares the supervisor's memory until it executes its program. So only a larger value is the
//! child's own ([`OwnPeak`]).

use std::collections::HashMap;
use std::time::Duration;

use super::Supervisor;
use super::attempt::{At, AttemptNo, State};
use crate::clock;
use crate::supervise::sys::procfs::{self, Stat};

const EVERY: Duration = Duration::from_millis(500);
const LONGEST_SHARE: u32 = 50;

/// The kernel counts pages on each processor separately, so two readings of one peak differ by some
/// hundred KiB.
const INEXACT_BYTES: u64 = 1 << 20;

/// The peak memory of this process, as it was last read.
#[derive(Debug, Default)]
pub(super) struct OwnPeak {
    bytes: u64,
    read_at: Option<At>,
}

impl OwnPeak {
    /// Returns `counted`, the kernel's maximum for a child, if that maximum is the child's own.
    /// This process's peak is read at most once for all children that were started before the
    /// reading, and not at all if `counted` is below the last reading.
    pub(super) fn childs_own(
        &mut self,
        counted: u64,
        started_at: At,
        read: impl FnOnce() -> Option<u64>,
    ) -> Option<u64> {
        let known = self.bytes.saturating_add(INEXACT_BYTES);
        if counted > known && self.read_at.is_none_or(|at| at <= started_at) {
            let now = clock::monotonic();
            self.bytes = self.bytes.max(read()?);
            self.read_at = Some(now);
        }
        (counted > self.bytes.saturating_add(INEXACT_BYTES)).then_some(counted)
    }
}

#[derive(Debug, Default)]
pub(super) struct Sampler {
    next: Option<At>,
}

impl Sampler {
    /// Begins to sample, because a child runs.
    pub(super) fn begin(&mut self, now: At) {
        self.next.get_or_insert(now + EVERY);
    }

    pub(super) fn due(&self) -> Option<At> {
        self.next
    }
}

impl Supervisor {
    pub(super) fn sample(&mut self, now: At) {
        if self.sampler.next.is_none_or(|next| next > now) {
            return;
        }
        let running = || {
            self.attempts
                .values()
                .flat_map(|attempt| attempt.children.values())
                .filter(|child| matches!(child.state, State::Running { .. }))
        };
        if running().next().is_none() {
            self.sampler.next = None;
            self.strays.keep_descent_of(&self.draining);
            return;
        }
        let mut cost = Duration::ZERO;
        if running().any(|child| child.started_at + EVERY <= now) {
            let begun = clock::thread_cpu();
            // This look also adds new strays to the journal, from which a host learns them if the
            // supervisor is killed.
            self.look();
            match procfs::all() {
                Ok(processes) => self.add_up(&processes),
                Err(error) => say!("cannot list processes: {error}"),
            }
            cost = clock::thread_cpu().saturating_sub(begun);
        }
        self.sampler.next = Some(now + EVERY.max(cost * LONGEST_SHARE));
    }

    fn add_up(&mut self, processes: &[Stat]) {
        let page_bytes = rustix::param::page_size() as u64;
        let parents: HashMap<u32, u32> = processes
            .iter()
            .map(|process| (process.pid, process.parent))
            .collect();
        let mut sums: HashMap<AttemptNo, u64> = HashMap::new();
        self.strays.forget_descent();
        for process in processes {
            if let Some(no) = self.owner_of(process.pid, &parents) {
                *sums.entry(no).or_default() += process.rss_pages * page_bytes;
                self.strays.descend(no, &[*process]);
            }
        }
        for (no, bytes) in sums {
            if let Some(attempt) = self.attempts.get_mut(&no) {
                attempt.peak_rss_bytes = attempt.peak_rss_bytes.max(Some(bytes));
            }
        }
    }

    fn owner_of(&self, pid: u32, parents: &HashMap<u32, u32>) -> Option<AttemptNo> {
        let mut at = pid;
        // Bounded, since the list was not read in one instant and may contain a cycle.
        for _ in 0..parents.len() {
            if let Some((no, _)) = self.leaders.get(&at) {
                return Some(*no);
            }
            if let Some(no) = self.strays.owner(at) {
                return Some(no);
            }
            at = parents.get(&at).copied().filter(|parent| *parent > 1)?;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_of_this_process_is_not_counted_as_memory_of_its_child() {
        const MIB: u64 = 1 << 20;
        let mut peak = OwnPeak::default();
        let mut check = |counted: u64, started_at: At, own: Option<u64>, expected: Option<u64>| {
            let read = || own;
            assert_eq!(
                peak.childs_own(counted, started_at, read),
                expected,
                "{counted}"
            );
        };
        let before = Duration::ZERO;
        check(9 * MIB, before, None, None);
        check(9 * MIB, before, Some(9 * MIB), None);
        check(9 * MIB + 4096, before, None, None);
        check(40 * MIB, before, None, Some(40 * MIB));
        // This process has grown since the reading, so the kernel's maximum for a child that was
        // started afterwards begins at the new size.
        let later = clock::monotonic();
        check(20 * MIB, later, Some(20 * MIB), None);
        check(20 * MIB, later, None, None);
        check(40 * MIB, later, None, Some(40 * MIB));
    }
}
