//! Runs work of the engine that waits for the disk, or takes long.
//!
//! The engine is one task among many. With a separate thread each message would cost a change of
//! threads; this way only rare or long work does.

use tokio::runtime::{Handle, RuntimeFlavor};

/// Runs the work here. The other tasks of this thread move to another one, if the runtime has
/// several.
pub(super) fn aside<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current() {
        Ok(handle) if handle.runtime_flavor() == RuntimeFlavor::MultiThread => {
            tokio::task::block_in_place(work)
        }
        _ => work(),
    }
}
