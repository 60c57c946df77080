//! Work of the engine that waits for the disk, or takes long.
//!
//! The engine is one task among many. A thread of its own would cost each message a change of
//! threads; this costs one for what is rare or long.

use tokio::runtime::{Handle, RuntimeFlavor};

/// Runs the work. What its thread would run next goes on elsewhere, if the runtime has several.
pub(super) fn aside<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current() {
        Ok(handle) if handle.runtime_flavor() == RuntimeFlavor::MultiThread => {
            tokio::task::block_in_place(work)
        }
        _ => work(),
    }
}
