//! Limits of one instance, and the counters that enforce them.
//!
//! Each figure bounds the damage of a hostile component. None of the limits is a setting: a plugin
//! that needs more is doing work that belongs in a child process.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use wasmtime::{ResourceLimiter, UpdateDeadline};

/// Limit of the linear memory of all memories of an instance together.
pub(crate) const MEMORY_BYTES: usize = 64 << 20;
/// Limit of the elements of all tables of an instance together.
pub(crate) const TABLE_ELEMENTS: usize = 10_000;
/// Limit of the core instances of a component; the same limit applies to its memories, and to its
/// tables. A component made by `wit-component` has three instances.
pub(crate) const CORE_INSTANCES: usize = 16;
/// Limit of the bytes that a guest may pass in one call. It is 16 MiB, the contract's limit of a
/// JSON text, plus room for the other arguments of the call. So a prompt of 10 MB can be a child's
/// stdin.
pub(crate) const HOSTCALL_BYTES: usize = 20 << 20;
/// Limit of the component handles, and of the entries of the resource table.
pub(crate) const HANDLES: usize = 1_000;
/// Size limit of a JSON text that the guest returns.
pub(crate) const JSON_BYTES: usize = 16 << 20;
/// The interval at which the epoch advances while a guest computes.
pub(crate) const TICK: Duration = Duration::from_millis(10);
/// How long a guest may compute in `run`, `resume`, `stop` and `fingerprint` without waiting for
/// anything. In the host's own tests the time is shorter, because many of their guests use it up.
pub(crate) const RUN_CPU: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 2 });
/// How long a guest may compute in the calls that must be quick.
pub(crate) const QUICK_CPU: Duration = if cfg!(test) {
    Duration::from_millis(300)
} else {
    Duration::from_secs(1)
};
/// Limit of the wall time of a quick call: a guest of the synchronous ABI can block in an import.
pub(crate) const QUICK_WALL: Duration = Duration::from_secs(5);
/// Limit of the wall time of `fingerprint`, which may run a command for 10 s.
pub(crate) const FINGERPRINT_WALL: Duration = Duration::from_secs(15);

/// The limiter of a Store. It remembers that it has refused a growth, because the guest then traps
/// with an ordinary `unreachable`, which does not contain the cause.
#[derive(Debug, Default)]
pub(crate) struct Limits {
    memory: usize,
    elements: usize,
    refused: Option<&'static str>,
}

impl Limits {
    /// The limit that was exceeded, if one was.
    pub(crate) fn refused(&self) -> Option<&'static str> {
        self.refused
    }
}

/// Adds the growth, `desired` less `current`, to `used`, but only if the sum is within `limit`.
fn grow(used: &mut usize, current: usize, desired: usize, limit: usize) -> bool {
    let after = used.saturating_sub(current).saturating_add(desired);
    let allowed = after <= limit;
    if allowed {
        *used = after;
    }
    allowed
}

impl ResourceLimiter for Limits {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let allowed = grow(&mut self.memory, current, desired, MEMORY_BYTES);
        if !allowed {
            self.refused = Some("more than 64 MiB of memory");
        }
        Ok(allowed)
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let allowed = grow(&mut self.elements, current, desired, TABLE_ELEMENTS);
        if !allowed {
            self.refused = Some("more than 10,000 table elements");
        }
        Ok(allowed)
    }

    fn instances(&self) -> usize {
        CORE_INSTANCES
    }

    fn tables(&self) -> usize {
        CORE_INSTANCES
    }

    fn memories(&self) -> usize {
        CORE_INSTANCES
    }
}

/// The guest used up its computing time without waiting for anything.
#[derive(Debug, thiserror::Error)]
#[error("it computed for {0:?} without waiting for anything")]
pub(crate) struct Spun(Duration);

/// The computing time regained by waiting, as a multiple of the time waited.
const EARNED_BY_WAITING: u32 = 10;
/// The shortest pause that counts as waiting. A guest that gets its thread back faster than this
/// only yielded.
const LEAST_WAIT: Duration = Duration::from_millis(1);
/// The computing time regained for each byte of new output that a guest reads, and for each byte of
/// input that its child takes. So a guest that handles at least 2.5 MB/s is not ended, however much
/// its child prints.
const EARNED_BY_BYTE: Duration = Duration::from_nanos(400);

/// Times that are recorded for a guest's budget while the guest itself is borrowed.
#[derive(Debug, Default)]
pub(crate) struct Waits {
    waited_us: AtomicU64,
    /// Whether the guest was interrupted only to let others run, and did not wait for anything.
    is_yielding: AtomicBool,
}

impl Waits {
    /// Records that the guest is polled again after a pause of this length.
    pub(crate) fn passed(&self, time: Duration) {
        let is_yielding = self.is_yielding.swap(false, Ordering::Relaxed);
        if !is_yielding && time >= LEAST_WAIT {
            let time_us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
            self.waited_us.fetch_add(time_us, Ordering::Relaxed);
        }
    }
}

/// The time for which a guest may still compute before it must wait for something.
///
/// The budget is counted in ticks during which the guest computed. It is refilled by time in which
/// the guest really waited, and by bytes that the guest read or wrote. Calls of imports do not
/// refill it, because a loop around a call would then never be ended.
#[derive(Debug)]
pub(crate) struct Budget {
    whole: Duration,
    left: Duration,
    waits: Arc<Waits>,
}

impl Budget {
    pub(crate) fn new(whole: Duration) -> Budget {
        Budget {
            whole,
            left: whole,
            waits: Arc::default(),
        }
    }

    /// The recorded times between polls of the guest.
    pub(crate) fn waits(&self) -> Arc<Waits> {
        Arc::clone(&self.waits)
    }

    /// Refills the budget for bytes that were read or written.
    pub(crate) fn moved(&mut self, bytes: usize) {
        self.earn(EARNED_BY_BYTE.saturating_mul(u32::try_from(bytes).unwrap_or(u32::MAX)));
    }

    fn earn(&mut self, time: Duration) {
        self.left = self.left.saturating_add(time).min(self.whole);
    }

    /// Spends one tick, and either yields to others or ends the call. Called by the epoch's
    /// callback.
    pub(crate) fn spend(&mut self) -> wasmtime::Result<UpdateDeadline> {
        let waited_us = self.waits.waited_us.swap(0, Ordering::Relaxed);
        self.earn(Duration::from_micros(waited_us).saturating_mul(EARNED_BY_WAITING));
        match self.left.checked_sub(TICK) {
            Some(left) => {
                self.left = left;
                self.waits.is_yielding.store(true, Ordering::Relaxed);
                Ok(UpdateDeadline::Yield(1))
            }
            None => Err(wasmtime::Error::new(Spun(self.whole))),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn the_limit_on_memory_applies_to_all_memories_together() {
        let mut limits = Limits::default();
        assert!(limits.memory_growing(0, 40 << 20, None).unwrap());
        assert!(!limits.memory_growing(0, 30 << 20, None).unwrap());
        assert_eq!(limits.refused(), Some("more than 64 MiB of memory"));
        assert!(
            limits.memory_growing(40 << 20, 64 << 20, None).unwrap(),
            "memory may grow up to the limit"
        );
    }

    #[test]
    fn the_limit_on_elements_applies_to_all_tables_together() {
        let mut limits = Limits::default();
        assert!(limits.table_growing(0, 9_999, None).unwrap());
        assert!(!limits.table_growing(0, 2, None).unwrap());
    }

    /// Spends the budget; returns how many ticks it had.
    fn ticks(budget: &mut Budget) -> usize {
        (0..1_000).take_while(|_| budget.spend().is_ok()).count()
    }

    #[test]
    fn a_budget_is_refilled_by_waiting_and_data_only() {
        let mut budget = Budget::new(Duration::from_millis(300));
        assert_eq!(ticks(&mut budget), 30);
        assert_eq!(ticks(&mut budget), 0);
        let waits = budget.waits();
        // This pause does not count as waiting: the guest gave its thread back because its tick was
        // over.
        waits.passed(Duration::from_secs(1));
        assert_eq!(ticks(&mut budget), 0);
        waits.is_yielding.store(false, Ordering::Relaxed);
        waits.passed(Duration::from_micros(900));
        assert_eq!(ticks(&mut budget), 0);
        waits.passed(Duration::from_millis(5));
        assert_eq!(ticks(&mut budget), 5);
        waits.is_yielding.store(false, Ordering::Relaxed);
        waits.passed(Duration::from_hours(1));
        assert_eq!(ticks(&mut budget), 30, "the budget is full");
        budget.moved(64 << 10);
        assert_eq!(ticks(&mut budget), 2);
    }
}
