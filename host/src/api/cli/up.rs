//! `claudine up`

use std::process::ExitCode;

use clap::Args;

use super::{exit::Failure, output, session::Session};

/// Start the host in the background, if none runs.
///
/// Any command that needs the host starts it, so this is only for starting it with settings of its own. It takes its settings from the
/// configuration file, this environment and these options, once.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  claudine up
  claudine up --slots 4 --json")]
pub(super) struct Up {
    /// How many tasks run at once: `auto`, as the machine has room for, or a number.
    #[arg(long, value_name = "auto|N")]
    slots: Option<String>,
}

impl Up {
    pub(super) async fn run(self, session: &Session) -> Result<ExitCode, Failure> {
        let asked = self.slots.clone();
        let client = session.client_with(|start| start.overrides.slots = self.slots);
        let (host, started) = client.up().await?;
        if session.json {
            output::json(&host)?;
        } else {
            let word = if started { "started" } else { "running" };
            output::line(&format!("host {word}: pid {}, {}", host.pid, host.url))?;
        }
        for warning in &host.warnings {
            output::say(&format!("warning: {warning}"));
        }
        if !started && asked.as_ref().is_some_and(|asked| *asked != host.slots) {
            output::say(&format!(
                "note: it was running already, with {} slots; `claudine down && claudine up --slots …` changes that",
                host.slots
            ));
        }
        Ok(ExitCode::SUCCESS)
    }
}
