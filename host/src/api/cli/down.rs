//! `claudine down`

use std::process::ExitCode;

use clap::Args;
use rustix::{
    event::{PollFd, PollFlags},
    process::{Pid, PidfdFlags, pidfd_open},
};

use super::{exit::Failure, output, session::Session};
use crate::{
    api::client::{ClientError, Policy},
    app::{AppError, DownMode, ErrorKind},
};

/// End the host. Running tasks go on; the next host takes them back.
///
/// Returns when the host is gone.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  claudine down && claudine up     # change over to a new version; nothing that runs is disturbed
  claudine down --drain            # before the machine is switched off")]
pub(super) struct Down {
    /// Start nothing new, and wait for what runs to end.
    #[arg(long, conflicts_with = "kill")]
    drain: bool,
    /// Cancel what runs, and wait for it to end.
    #[arg(long)]
    kill: bool,
}

impl Down {
    pub(super) async fn run(self, session: &Session) -> Result<ExitCode, Failure> {
        let client = session.client_with(|start| start.policy = Policy::Never);
        let host = match client.info().await {
            Ok(host) => host,
            Err(ClientError::NotRunning { .. }) => {
                if session.json {
                    output::json(&serde_json::json!({"was_running": false}))?;
                } else {
                    output::say("no host is running");
                }
                return Ok(ExitCode::SUCCESS);
            }
            Err(error) => return Err(error.into()),
        };
        // Held from before the host is asked, so that its pid cannot come to mean another process.
        let process = open(host.pid);
        let mode = match (self.drain, self.kill) {
            (true, _) => DownMode::Drain,
            (_, true) => DownMode::Kill,
            _ => DownMode::Leave,
        };
        client.down(mode).await?;
        if host.running > 0 && mode != DownMode::Leave {
            output::say(&format!("waiting for {} to end", tasks(host.running)));
        }
        if let Some(process) = process? {
            wait_for(&process).map_err(|error| cannot_wait(host.pid, error))?;
        }
        if session.json {
            output::json(&serde_json::json!({"was_running": true, "pid": host.pid}))?;
        } else if host.running > 0 && mode == DownMode::Leave {
            output::say(&format!("host ended; {} left running", tasks(host.running)));
        } else {
            output::say("host ended");
        }
        Ok(ExitCode::SUCCESS)
    }
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
fn wait_for(process: &std::os::fd::OwnedFd) -> rustix::io::Result<()> {
    rustix::io::retry_on_intr(|| {
        rustix::event::poll(&mut [PollFd::new(process, PollFlags::IN)], None)
    })
    .map(drop)
}

fn cannot_wait(pid: u32, error: rustix::io::Errno) -> AppError {
    AppError::new(
        ErrorKind::Internal,
        format!("cannot wait for the host's end (pid {pid}): {error}"),
    )
}
