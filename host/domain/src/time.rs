//! Points in time. They are passed in: the domain never reads a clock.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Wall time: milliseconds since 1970-01-01T00:00:00Z. Wall time may jump.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(pub u64);

/// Monotonic time: milliseconds since the machine started, without the time for which it was
/// suspended.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct MonotonicMs(pub u64);

/// Both clocks, read at one instant.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Now {
    pub wall: Timestamp,
    pub monotonic: MonotonicMs,
}

/// Milliseconds of a duration. A duration that does not fit (584 million years) counts as infinite.
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Timestamp {
    #[must_use]
    pub fn after(self, wait: Duration) -> Self {
        Self(self.0.saturating_add(millis(wait)))
    }
}

impl MonotonicMs {
    #[must_use]
    pub fn after(self, wait: Duration) -> Self {
        Self(self.0.saturating_add(millis(wait)))
    }
}
