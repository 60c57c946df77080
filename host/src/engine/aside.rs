//! Runs work of the engine that waits for the disk, or takes long.
//!
//! The engine is one of many asynchronous tasks that share the threads of the runtime. If the
//! engine had its own thread, each message would cost a switch between threads. Without its own
//! thread, only rare or long work costs such a switch.

use tokio::runtime::{Handle, RuntimeFlavor};

/// Runs the work on this thread. If the runtime has several threads, the other asynchronous tasks
/// of this thread move to another thread, unless no further thread can be started.
pub(super) fn aside<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current() {
        Ok(handle)
            if handle.runtime_flavor() == RuntimeFlavor::MultiThread && has_another_thread() =>
        {
            tokio::task::block_in_place(work)
        }
        _ => work(),
    }
}

/// Whether there is a thread to which the other asynchronous tasks can move; starts one if there is
/// none. Without it, `block_in_place` would panic, and the host would end with its engine.
fn has_another_thread() -> bool {
    !crate::aside::run(|| ()).is_refused()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::{env, fs, process::Command};

    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    use super::*;

    /// Set in the process whose address space is limited.
    const LIMITED: &str = "CLAUDINE_TEST_LIMITED";
    /// The stack of a thread, which has no room under the limit.
    const STACK: usize = 1 << 30;
    /// Room for everything else.
    const ROOM: u64 = 512 << 20;

    /// The host has no thread that is busy with other work either.
    #[test]
    fn long_work_is_done_although_no_further_thread_can_be_started() {
        if env::var_os(LIMITED).is_some() {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .thread_stack_size(STACK)
                .build()
                .unwrap();
            let pages = fs::read_to_string("/proc/self/statm").unwrap();
            let pages: u64 = pages.split(' ').next().unwrap().parse().unwrap();
            let limit = Rlimit {
                current: Some(pages * rustix::param::page_size() as u64 + ROOM),
                maximum: getrlimit(Resource::As).maximum,
            };
            setrlimit(Resource::As, limit).unwrap();
            let work = async {
                assert!(!has_another_thread(), "another thread was started");
                aside(|| 7)
            };
            assert_eq!(runtime.block_on(runtime.spawn(work)).unwrap(), 7);
            return;
        }
        let name =
            "engine::aside::tests::long_work_is_done_although_no_further_thread_can_be_started";
        let ended = Command::new(env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env(LIMITED, "1")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&ended.stdout);
        assert!(ended.status.success(), "{ended:?}");
        assert!(said.contains("1 passed"), "{ended:?}");
    }
}
