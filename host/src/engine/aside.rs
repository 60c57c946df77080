//! Runs work of the engine that waits for the disk, or takes long.
//!
//! The engine is one of many asynchronous tasks that share the threads of the runtime. If the
//! engine had its own thread, each message would cost a switch between threads. Without its own
//! thread, only rare or long work costs such a switch.

use tokio::runtime::{Handle, RuntimeFlavor};

/// Runs the work on this thread. If the runtime has several threads, the other asynchronous tasks
/// of this thread move to another thread.
pub(super) fn aside<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current() {
        Ok(handle) if handle.runtime_flavor() == RuntimeFlavor::MultiThread => {
            tokio::task::block_in_place(work)
        }
        _ => work(),
    }
}
