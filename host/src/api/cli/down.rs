//! `claudine down`

use std::{process::ExitCode, time::Duration};

use clap::Args;
use rustix::{
    event::{PollFd, PollFlags, Timespec},
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};
use schemars::JsonSchema;
use serde::Serialize;

use super::{failure::Failure, output, session::Session};
use crate::{
    api::client::{Client, ClientError, Policy},
    app::{AppError, DownMode, ErrorKind, HostInfo, supervisors_left},
    clock,
    identity::HostProcess,
};

/// How long a host that cannot be reached may take to make its socket anew, or to end.
const OUT_OF_REACH: Duration = Duration::from_secs(2);
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// How long a host may take to end once it leaves.
const ENDS_WITHIN: Duration = Duration::from_mins(1);

/// End the host. Running tasks go on; the next host takes them back.
///
/// Returns when the host is gone. A drain is the host's own affair once it was asked for: it goes
/// on if this command is interrupted, another `down --drain` waits for it again, and `claudine up`
/// lifts it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  claudine down && claudine up     # change over to a new version; nothing that runs is disturbed
  claudine down --drain            # before the machine is switched off
  claudine up                      # lifts a drain that has not come to its end")]
pub(super) struct Down {
    /// Start nothing new, and wait for what runs to end.
    #[arg(long, conflicts_with = "kill")]
    drain: bool,
    /// Cancel what runs, and wait for it to end.
    #[arg(long)]
    kill: bool,
}

/// What became of the host.
#[derive(Debug, Default, Serialize, JsonSchema)]
pub(super) struct Ended {
    was_running: bool,
    /// The one that it had.
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<u32>,
}

/// How a host was found.
enum Found {
    Reached(Box<HostInfo>),
    /// It is there, and nobody listens at its socket.
    OutOfReach(HostProcess),
    None,
}

impl Down {
    pub(super) async fn run(self, session: &Session) -> Result<ExitCode, Failure> {
        let client = session.client_with(|start| start.policy = Policy::Never);
        let mode = match (self.drain, self.kill) {
            (true, _) => DownMode::Drain,
            (_, true) => DownMode::Kill,
            _ => DownMode::Leave,
        };
        let (pid, said) = match find(&client).await? {
            Found::None => {
                if session.json {
                    output::json(&Ended::default())?;
                } else {
                    let supervisors = supervisors_left(&client.start().layout);
                    output::say(&none_runs(mode, &supervisors));
                }
                return Ok(ExitCode::SUCCESS);
            }
            Found::Reached(host) => (host.pid, ask(&client, &host, mode).await?),
            Found::OutOfReach(host) => (host.pid, end(&host, mode)?),
        };
        if session.json {
            output::json(&Ended {
                was_running: true,
                pid: Some(pid),
            })?;
        } else {
            output::say(&said);
        }
        Ok(ExitCode::SUCCESS)
    }
}

async fn find(client: &Client) -> Result<Found, Failure> {
    let give_up = clock::monotonic() + OUT_OF_REACH;
    loop {
        match client.info().await {
            Ok(host) => return Ok(Found::Reached(Box::new(host))),
            Err(ClientError::NotRunning { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        match HostProcess::of(&client.start().layout) {
            None => return Ok(Found::None),
            Some(host) if clock::monotonic() >= give_up => return Ok(Found::OutOfReach(host)),
            Some(_) => clock::sleep(LOOK_AGAIN).await,
        }
    }
}

/// Asks a host to go down, and waits for its end.
async fn ask(client: &Client, host: &HostInfo, mode: DownMode) -> Result<String, Failure> {
    // Held from before the host is asked, so that its pid cannot come to mean another process.
    let process = open(host.pid);
    if host.running > 0 && mode != DownMode::Leave {
        output::say(&format!("waiting for {} to end", tasks(host.running)));
    }
    match client.down(mode).await {
        // It has left in this moment: somebody else had asked it to.
        Ok(_) | Err(ClientError::NotRunning { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    if let Some(process) = process? {
        wait_for(&process, host.pid)?;
    }
    Ok(ended(mode, host.running, &host.faults))
}

/// What is said if there is no host. Supervisors that earlier hosts have left may run tasks.
fn none_runs(mode: DownMode, supervisors: &[u32]) -> String {
    let [first, ..] = supervisors else {
        return "no host is running".to_owned();
    };
    let left =
        format!("no host is running; what earlier ones started may run on (supervisor {first})");
    match mode {
        DownMode::Leave => left,
        DownMode::Kill => format!("{left}: `claudine up && claudine down --kill` ends it"),
        DownMode::Drain => format!("{left}: `claudine up && claudine down --drain` waits for it"),
    }
}

/// What became of what ran, as far as the host knew. The count of a host whose parts have failed
/// means nothing.
fn ended(mode: DownMode, running: usize, faults: &[String]) -> String {
    match (mode, faults) {
        (DownMode::Leave, []) if running > 0 => {
            format!("host ended; {} left running", tasks(running))
        }
        (DownMode::Leave, [_, ..]) => {
            "host ended; what ran goes on, and the next host finds out what that is".to_owned()
        }
        _ => "host ended".to_owned(),
    }
}

/// Ends a host that can only be sent a signal.
fn end(host: &HostProcess, mode: DownMode) -> Result<String, Failure> {
    let pid = host.pid;
    if mode != DownMode::Leave {
        let cannot = AppError::new(
            ErrorKind::Unavailable,
            format!("the host (pid {pid}) has no socket, so it can only be told to end"),
        );
        let hint = "`claudine down` does that: what runs goes on, and the next host can drain";
        return Err(cannot.hint(hint).into());
    }
    if host.is_stopped() {
        let stopped = AppError::new(
            ErrorKind::Unavailable,
            format!("the host (pid {pid}) was stopped by a signal, and does nothing"),
        );
        return Err(stopped
            .hint(format!("`kill -CONT {pid}` lets it go on"))
            .into());
    }
    let Some(process) = open(pid)? else {
        return Ok("host ended".to_owned());
    };
    // Looked at again with the process in hand: from here on its pid is its own.
    if host.is_alive() {
        match pidfd_send_signal(&process, Signal::TERM) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(error) => {
                let message = format!("the host (pid {pid}) cannot be signalled: {error}");
                return Err(AppError::new(ErrorKind::Unavailable, message).into());
            }
        }
        wait_for(&process, pid)?;
    }
    Ok("host ended, which could not be reached by its socket; what ran goes on".to_owned())
}

fn tasks(count: usize) -> String {
    if count == 1 {
        "1 task".to_owned()
    } else {
        format!("{count} tasks")
    }
}

/// `None` where it is gone already.
fn open(pid: u32) -> Result<Option<std::os::fd::OwnedFd>, AppError> {
    let raw = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let Some(raw) = raw else { return Ok(None) };
    match pidfd_open(raw, PidfdFlags::empty()) {
        Ok(process) => Ok(Some(process)),
        Err(rustix::io::Errno::SRCH) => Ok(None),
        Err(error) => Err(cannot_wait(pid, error)),
    }
}

/// Nothing else is waited for meanwhile, so it may block.
fn wait_for(process: &std::os::fd::OwnedFd, pid: u32) -> Result<(), AppError> {
    let limit = Timespec {
        tv_sec: i64::try_from(ENDS_WITHIN.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: 0,
    };
    let ended = rustix::io::retry_on_intr(|| {
        rustix::event::poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&limit))
    });
    match ended {
        Ok(0) => Err(AppError::new(
            ErrorKind::Unavailable,
            format!(
                "the host (pid {pid}) has not ended within {} s",
                ENDS_WITHIN.as_secs()
            ),
        )
        .hint(format!(
            "its log says what it does; `kill -KILL {pid}` ends it, and nothing that was accepted is lost"
        ))),
        Ok(_) => Ok(()),
        Err(error) => Err(cannot_wait(pid, error)),
    }
}

fn cannot_wait(pid: u32, error: rustix::io::Errno) -> AppError {
    AppError::new(
        ErrorKind::Internal,
        format!("cannot wait for the host's end (pid {pid}): {error}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_host_it_is_said_that_something_may_run_on() {
        let check = |mode: DownMode, supervisors: &[u32], expected: &str| {
            assert_eq!(none_runs(mode, supervisors), expected);
        };
        let left = "no host is running; what earlier ones started may run on (supervisor 7)";
        check(DownMode::Kill, &[], "no host is running");
        check(DownMode::Leave, &[7], left);
        let kill = format!("{left}: `claudine up && claudine down --kill` ends it");
        check(DownMode::Kill, &[7, 8], &kill);
    }

    #[test]
    fn what_is_left_running_is_counted_only_by_a_host_that_knows() {
        let check = |mode: DownMode, running: usize, is_faulty: bool, expected: &str| {
            let faults = vec!["the engine does not answer".to_owned(); usize::from(is_faulty)];
            assert_eq!(ended(mode, running, &faults), expected);
        };
        check(DownMode::Leave, 0, false, "host ended");
        check(DownMode::Leave, 1, false, "host ended; 1 task left running");
        check(
            DownMode::Leave,
            2,
            false,
            "host ended; 2 tasks left running",
        );
        let not_known = "host ended; what ran goes on, and the next host finds out what that is";
        check(DownMode::Leave, 1, true, not_known);
        check(DownMode::Leave, 0, true, not_known);
        check(DownMode::Kill, 1, false, "host ended");
        check(DownMode::Drain, 0, true, "host ended");
    }
}
