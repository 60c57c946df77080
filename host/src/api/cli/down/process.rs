//! The process of a host: opens it, ends it by a signal, and waits for its end.

use std::os::fd::OwnedFd;

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::{Errno, retry_on_intr},
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};

use super::ENDS_WITHIN;
use crate::{
    api::cli::failure::Failure,
    app::{AppError, DownMode, ErrorKind},
    identity::HostProcess,
    proc_stat::halt_text,
};

/// Ends a host that can be reached only by a signal.
pub(super) fn end(host: &HostProcess, mode: DownMode) -> Result<String, Failure> {
    let pid = host.pid;
    if !host.is_alive() {
        return Ok("host ended".to_owned());
    }
    if mode != DownMode::Leave {
        let cannot = AppError::new(
            ErrorKind::Unavailable,
            format!("the host (pid {pid}) has no socket, so it can be reached only by a signal"),
        );
        let hint = "use `claudine down`: running tasks continue, and the next host can drain";
        return Err(cannot.hint(hint).into());
    }
    if host.is_stopped() {
        let stopped = AppError::new(
            ErrorKind::Unavailable,
            format!("the host (pid {pid}) was stopped by a signal, and does nothing"),
        );
        return Err(stopped
            .hint(format!("`kill -CONT {pid}` continues it"))
            .into());
    }
    let Some(process) = open(pid)? else {
        return Ok("host ended".to_owned());
    };
    // Checks that the opened process is still the host. From here on, the descriptor refers to this
    // process even if its pid is reused.
    if host.is_alive() {
        match pidfd_send_signal(&process, Signal::TERM) {
            Ok(()) | Err(Errno::SRCH) => {}
            Err(error) => {
                let message = format!("the host (pid {pid}) cannot be signalled: {error}");
                return Err(AppError::new(ErrorKind::Unavailable, message).into());
            }
        }
        wait_for(&process, pid)?;
    }
    Ok("host ended by a signal, as its socket did not answer; running tasks continue".to_owned())
}

/// Opens a process. Returns none if the process has ended.
pub(super) fn open(pid: u32) -> Result<Option<OwnedFd>, AppError> {
    let raw = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let Some(raw) = raw else { return Ok(None) };
    match pidfd_open(raw, PidfdFlags::empty()) {
        Ok(process) => Ok(Some(process)),
        Err(Errno::SRCH) => Ok(None),
        Err(error) => Err(cannot_wait(pid, error)),
    }
}

/// Waits for a process to end. Blocks the thread, as nothing else happens meanwhile.
pub(super) fn wait_for(process: &OwnedFd, pid: u32) -> Result<(), AppError> {
    let limit = Timespec {
        tv_sec: i64::try_from(ENDS_WITHIN.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: 0,
    };
    let ended = retry_on_intr(|| poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&limit)));
    match ended {
        Ok(0) => Err(not_ended(pid)),
        Ok(_) => Ok(()),
        Err(error) => Err(cannot_wait(pid, error)),
    }
}

/// The error if a host that was asked to end has not ended in time.
fn not_ended(pid: u32) -> AppError {
    let limit = ENDS_WITHIN.as_secs();
    let mut message = format!("the host (pid {pid}) has not ended within {limit} s");
    if let Some(halt) = halt_text(pid) {
        message = format!("{message}: {halt}");
    }
    AppError::new(ErrorKind::Unavailable, message).hint(format!(
        "see its log; `kill -KILL {pid}` ends it without loss of accepted tasks"
    ))
}

fn cannot_wait(pid: u32, error: Errno) -> AppError {
    AppError::new(
        ErrorKind::Internal,
        format!("cannot wait for the host's end (pid {pid}): {error}"),
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::process::Command;

    use rustix::process::kill_process;

    use super::*;
    use crate::proc_stat::stat;

    #[test]
    fn a_host_that_does_not_end_because_it_is_stopped_is_said_to_be() {
        let mut host = Command::new("sleep").arg("1000").spawn().unwrap();
        let pid = Pid::from_child(&host);
        kill_process(pid, Signal::STOP).unwrap();
        while !stat(host.id()).unwrap().is_stopped() {
            std::thread::yield_now();
        }
        let said = not_ended(host.id()).message;
        // A stopped process is killed too.
        host.kill().unwrap();
        host.wait().unwrap();
        let expected = format!("`kill -CONT {}` continues it", host.id());
        assert!(said.ends_with(&expected), "{said}");
        assert!(!not_ended(host.id()).message.contains("CONT"));
    }

    #[test]
    fn a_host_that_has_ended_since_it_was_found_needs_no_signal() {
        let gone = r#"{"pid":1,"start_time":1,"boot_id":"another"}"#;
        let gone: HostProcess = serde_json::from_str(gone).unwrap();
        for mode in [DownMode::Leave, DownMode::Drain, DownMode::Kill] {
            let said = end(&gone, mode).ok();
            assert_eq!(said.as_deref(), Some("host ended"), "{mode:?}");
        }
    }
}
