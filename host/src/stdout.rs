//! Standard output as this process was given it.
//!
//! Before `main`, Rust opens `/dev/null` in place of a standard output that is closed, so an answer
//! would be lost without an error. The C runtime calls [`look`] before that. In `main` it would be
//! too late: if Python or Node ignores the output of a program, the program gets `/dev/null` too,
//! opened in the same way, and must not fail.

use std::{
    io::{self, Write},
    sync::atomic::{AtomicBool, Ordering},
};

static IS_CLOSED: AtomicBool = AtomicBool::new(false);

#[allow(
    unsafe_code,
    reason = "the C runtime calls it before main, when a closed descriptor can still be seen; it \
              needs nothing of Rust's runtime, because it makes one system call and stores a flag"
)]
#[unsafe(link_section = ".init_array")]
#[used]
static LOOK: extern "C" fn() = look;

extern "C" fn look() {
    let flags = rustix::io::fcntl_getfd(rustix::stdio::stdout());
    IS_CLOSED.store(flags == Err(rustix::io::Errno::BADF), Ordering::Relaxed);
}

/// An error if standard output was closed when this process began.
pub(crate) fn check() -> io::Result<()> {
    if IS_CLOSED.load(Ordering::Relaxed) {
        return Err(io::Error::other("standard output is closed"));
    }
    Ok(())
}

/// Writes bytes unchanged.
pub(crate) fn write(bytes: &[u8]) -> io::Result<()> {
    if bytes.is_empty() {
        return Ok(());
    }
    check()?;
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes)?;
    stdout.flush()
}
