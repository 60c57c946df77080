//! `claudine up`

use std::process::ExitCode;

use clap::Args;

use super::{
    failure::Failure,
    output,
    session::{self, Session},
    times,
};
use crate::{
    api::rest::UpView,
    config::{self, Settings},
};

/// Start the host in the background.
///
/// Commands start the host if they need it; use this command to choose the host's settings. These
/// are read once, from the configuration file, this environment and these options. If a host is
/// running, this command lifts a drain (`down --drain`) and applies `--slots`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  claudine up
  claudine up --slots 4 --json")]
pub(super) struct Up {
    /// Limit of concurrent tasks: `auto` or a number, see `claudine slots`.
    #[arg(long, value_name = "auto|N")]
    slots: Option<String>,
    /// Retention of finished tasks, such as `36h` [default: 7d].
    ///
    /// Dependencies of unfinished tasks are kept, and tasks with an idempotency key for at least a
    /// day.
    #[arg(long, value_name = "TIME")]
    keep: Option<String>,
}

impl Up {
    pub(super) async fn run(self, session: &Session) -> Result<ExitCode, Failure> {
        let asked = self.slots.clone();
        let asked_to_keep = self.keep.is_some();
        let client = session.client_with(|start| {
            start.overrides.slots = self.slots;
            start.overrides.keep = self.keep;
            start.overrides.on_demand = false;
        });
        // Checks the settings here, because a running host does not read them.
        Settings::load(&client.start().overrides, &config::process_environment).map_err(
            |error| {
                let error = session::unfit(error);
                match asked.as_deref() {
                    Some("0") => error.hint("use `claudine pause` to start no more tasks"),
                    _ => error,
                }
            },
        )?;
        let (UpView { lifted, mut host }, started) = client.up().await?;
        if let Some(slots) = asked.filter(|_| !started) {
            host.slots = client.set_slots(slots).await?.slots;
        }
        if session.json {
            output::json(&host)?;
        } else {
            let word = if started { "started" } else { "running" };
            output::line(&format!("host {word}: pid {}, {}", host.pid, host.url))?;
        }
        if lifted {
            output::say("drain lifted; cancelled tasks stay cancelled");
        }
        for fault in &host.faults {
            output::say(&format!("fault: {fault}"));
        }
        for warning in host.earlier_commands.iter().chain(&host.warnings) {
            output::say(&format!("warning: {warning}"));
        }
        if let Some(since) = &host.paused_since {
            let since = times::at(since, times::now());
            output::say(&format!("queue paused since {since} (claudine unpause)"));
        }
        if !started && asked_to_keep {
            output::say("note: the host was already running; --keep applies from its next start");
        }
        Ok(ExitCode::SUCCESS)
    }
}
