//! Processes: starting them, keeping their output, stopping them, and finding them again.
//!
//! All attempts' processes are below one small *supervisor* process (`claudine __supervise DIR`),
//! not below the host. So the host can be killed, upgraded and started again while work runs: the
//! supervisor continues to read pipes, enforce deadlines and keep exit statuses until a host
//! acknowledges them. One supervisor serves all attempts, because a message to a running supervisor
//! costs a tenth of what starting a process costs.
//!
//! | module | content |
//! |---|---|
//! | `words`, `protocol`, `frame` | the messages between host and supervisor |
//! | `report` | the reports to the engine |
//! | `process` | the supervisor: one thread, one epoll, no runtime |
//! | `log` | the attempt's output file: writer (in the supervisor) and reader (in the host) |
//! | `host` | the host's side: find or start supervisors, talk to them, clean up after dead ones |
//! | `peer` | find the attempt that a process connecting to the host belongs to |
//! | `launch` | start a process that outlives its starter |
//! | `leader` | the epoch of the leading host, so that orders of earlier hosts are void |
//! | `own` | commands that a host runs itself, and the processes that they leave behind |
//! | `sys` | the code that is specific to Linux: system calls, `/proc` |
//!
//! This module knows nothing of tasks, retries or outcomes: it reports what happened to processes,
//! and `engine` decides what follows from that.
//!
//! After the end of an attempt, its remaining processes (leftovers) are searched for and ended. The
//! search misses a process that left the supervisor's tree altogether, because another program
//! started it on a task's behalf (a container daemon, `systemd-run`, `at`). It also misses a
//! process that runs as another user and cannot be signalled. A process that has changed only its
//! session, group, parent and environment is recognised by its tag (`sys::tag`). A process that has
//! changed its tag too is recognised by its parent, the supervisor. If the supervisor is dead, such
//! a process is recognised only if the supervisor had seen it, which usually takes half a second at
//! most. A process whose environment contains `CLAUDINE_DETACHED` is left alone on purpose, so that
//! a host that was started from inside an attempt can outlive the attempt.

#![deny(
    clippy::print_stderr,
    reason = "a line that cannot be written must not end the supervisor"
)]

#[cfg(not(target_os = "linux"))]
compile_error!(
    "the supervisor is not supported on this system yet: it needs Linux (pidfd, /proc, child sub-reaper)"
);

/// Writes a line to the log of a supervisor, which is its standard error. `eprintln!` panics if the
/// line cannot be written, but on a full disk the supervisor must go on.
macro_rules! say {
    ($($text:tt)*) => {
        $crate::supervise::write_line(format_args!($($text)*))
    };
}

fn write_line(text: std::fmt::Arguments<'_>) {
    use std::io::Write;
    // Nobody else could be told.
    writeln!(std::io::stderr(), "{text}").unwrap_or_default();
}

mod error;
mod frame;
mod host;
pub(crate) mod launch;
mod leader;
pub(crate) mod log;
mod own;
pub(crate) mod peer;
pub(crate) mod process;
mod protocol;
mod report;
mod sys;
mod unended;
mod words;

pub(crate) use error::SuperviseError;
pub(crate) use host::{
    Handover, Opened, Orphans, Settings, Silence, SilenceKind, Supervisors, end_all, frozen,
    frozen_among, is_out_of_sight, leaders, may_have_left, open, open_attempts, pids,
    runs_as_noted, suspended,
};
pub(crate) use launch::Program;
pub(crate) use leader::last_epoch;
pub(crate) use own::Own;
pub(crate) use report::{Found, FoundState, Report};
pub(crate) use unended::{Unended, processes_of, unendable_text};
pub(crate) use words::{
    AttemptKey, ChildId, Exit, NotStartedClass, Rung, Signal, StartChild, Status, Stdin, StopWhy,
};

#[cfg(test)]
pub(crate) use report::FoundChild;
#[cfg(test)]
pub(crate) use words::Usage;
#[cfg(test)]
mod tests;
