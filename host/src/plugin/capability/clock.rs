//! The interface `clock`.

use std::time::Duration;

use wasmtime::component::{Accessor, HasSelf};

use crate::clock;
use crate::plugin::guest::Guest;
use crate::plugin::limits::TICK;
use crate::plugin::v0_1::clock::{Host, HostWithStore};

const LONGEST_SLEEP: Duration = Duration::from_hours(24);

impl Host for Guest {
    fn now(&mut self) -> wasmtime::Result<u64> {
        Ok(clock::wall().0)
    }

    fn monotonic(&mut self) -> wasmtime::Result<u64> {
        Ok(u64::try_from(clock::monotonic().as_millis()).unwrap_or(u64::MAX))
    }
}

impl HostWithStore<Guest> for HasSelf<Guest> {
    /// Sleeps for at least one tick, so that a guest that only waits in a loop costs next to
    /// nothing, and for at most a day.
    async fn sleep(_accessor: &Accessor<Guest, Self>, duration_ms: u64) -> wasmtime::Result<()> {
        clock::sleep(Duration::from_millis(duration_ms).clamp(TICK, LONGEST_SLEEP)).await;
        Ok(())
    }
}
