//! What happens at a panic. By itself, a panic ends only its thread, and a host without its first
//! thread is neither up nor down: it answers nothing, and keeps its lock.

use std::{
    any::Any,
    cell::Cell,
    io::{self, Write},
    panic::{self, AssertUnwindSafe},
    process, thread,
};

use crate::text::line_of_log;

/// Length limit of a panic's message.
const MESSAGE_BYTES: usize = 4 << 10;

thread_local! {
    /// Whether a panic of this thread is caught and reported by its cause.
    static IS_CAUGHT: Cell<bool> = const { Cell::new(false) };
}

/// Writes nothing about a panic that [`caught`] catches, from now on.
pub(crate) fn hide_caught() {
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        if !is_caught() {
            before(panic);
        }
    }));
}

/// Whether a panic of this thread is caught by [`caught`]. For panic hooks.
pub(crate) fn is_caught() -> bool {
    IS_CAUGHT.get()
}

/// Runs work that reports an error by a panic.
pub(crate) fn caught<T>(work: impl FnOnce() -> T) -> thread::Result<T> {
    let before = IS_CAUGHT.replace(true);
    let done = panic::catch_unwind(AssertUnwindSafe(work));
    IS_CAUGHT.set(before);
    done
}

/// Ends the process with this code at a panic of this thread, from now on. Nothing is unwound: a
/// runtime that is dropped waits for its threads, of which some may never end.
pub(crate) fn end_with_this_thread(code: u8) {
    let first = thread::current().id();
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        before(panic);
        if thread::current().id() == first && !is_caught() {
            let said = line_of_log(said_of(panic.payload()), MESSAGE_BYTES);
            // Not by the log, because the panic may have come from there. A host in the background
            // has its log as standard error. If the line cannot be written, the process ends too.
            writeln!(
                io::stderr(),
                "the host ends, because its first thread has panicked: {said}"
            )
            .unwrap_or_default();
            process::exit(code.into());
        }
    }));
}

/// Panics as another thread did. Unlike `resume_unwind`, this calls the hook, which ends a host if
/// this is its first thread.
#[allow(clippy::panic, reason = "passes on the panic of another thread")]
pub(crate) fn go_on(panic: &(dyn Any + Send)) -> ! {
    panic::panic_any(said_of(panic).to_owned())
}

/// The message of a panic.
pub(crate) fn said_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("a panic without a message")
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::panic,
        reason = "a test fails by panicking, and so does a host"
    )]
    use std::{env, hint::black_box, process::Command};

    use super::*;

    /// Set in the process that panics.
    const PANICS: &str = "CLAUDINE_TEST_PANICS";
    const CODE: u8 = 125;

    #[test]
    fn a_panic_of_the_first_thread_ends_a_host_although_other_threads_go_on() {
        if let Some(whose) = env::var_os(PANICS) {
            hide_caught();
            end_with_this_thread(CODE);
            let fails = || assert!(black_box(false), "of a request");
            assert!(thread::spawn(fails).join().is_err());
            assert!(caught(|| assert!(black_box(false), "of a refused thread")).is_err());
            let runtime = tokio::runtime::Builder::new_multi_thread().build().unwrap();
            // A dropped runtime would wait for this thread.
            drop(runtime.spawn_blocking(|| {
                while !black_box(false) {
                    thread::park();
                }
            }));
            if whose == "another" {
                let fails = || assert!(black_box(false), "a rule was broken");
                go_on(thread::spawn(fails).join().unwrap_err().as_ref());
            }
            panic!("a rule was broken");
        }
        let name =
            "panics::tests::a_panic_of_the_first_thread_ends_a_host_although_other_threads_go_on";
        for whose in ["own", "another"] {
            let ended = Command::new(env::current_exe().unwrap())
                .args(["--exact", name, "--nocapture"])
                .env(PANICS, whose)
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&ended.stderr);
            assert_eq!(ended.status.code(), Some(CODE.into()), "{whose}: {said}");
            let line = "the host ends, because its first thread has panicked: a rule was broken";
            assert!(said.contains(line), "{whose}: {said}");
            assert!(!said.contains("of a refused thread"), "{whose}: {said}");
        }
    }
}
