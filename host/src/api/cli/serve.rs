//! `claudine serve`

use std::process::ExitCode;

use clap::Args;

use super::{Common, failure::Failure, output};
use crate::{
    api::{Wiring, client::Announcement},
    app::{AppError, HostInfo},
    config::{Begin, Overrides},
};

/// Be the host, in the foreground, until it is told to go down.
///
/// For a service manager, a container, or a look at its log, which goes to standard error. SIGTERM and SIGINT end it as `claudine down`
/// does: running tasks go on.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  claudine serve --slots 2
  CLAUDINE_LOG_LEVEL=debug claudine serve --data-dir /tmp/try")]
pub(super) struct Serve {
    /// How many tasks run at once: `auto`, as the machine has room for, or a number.
    #[arg(long, value_name = "auto|N")]
    slots: Option<String>,
    /// Forget finished tasks after so long, such as `36h` or `30d` [default: 7d]. What an
    /// unfinished task needs stays, and what has an idempotency key stays for a day.
    #[arg(long, value_name = "TIME")]
    keep: Option<String>,
    /// Started by another command, which waits on standard output to be told how that went.
    #[arg(long, hide = true)]
    background: bool,
    /// Pause the queue first.
    #[arg(long, hide = true)]
    paused: bool,
    /// Start nothing, and end when nothing runs.
    #[arg(long, hide = true, conflicts_with = "paused")]
    draining: bool,
    /// Start nothing, and end what runs.
    #[arg(long, hide = true, conflicts_with_all = ["paused", "draining"])]
    killing: bool,
}

impl Serve {
    pub(super) fn run(self, common: &Common, wiring: Wiring) -> Result<ExitCode, Failure> {
        let overrides = Overrides {
            data_dir: common.data_dir.clone(),
            begin: match (self.paused, self.draining, self.killing) {
                (true, _, _) => Begin::Paused,
                (_, true, _) => Begin::Draining,
                (_, _, true) => Begin::Killing,
                _ => Begin::Usual,
            },
            slots: self.slots,
            keep: self.keep,
        };
        let mut lost = None;
        let mut ready = |host: &HostInfo| {
            let said = if self.background {
                announce(wiring, &Announcement::Ready(host.clone()))
            } else if common.json() {
                output::json(host)
            } else {
                output::say(&format!("host ready: pid {}, {}", host.pid, host.url));
                Ok(())
            };
            lost = said.err();
        };
        let served = (wiring.serve)(&overrides, self.background, &mut ready);
        match served {
            Ok(()) => Ok(ExitCode::SUCCESS),
            Err(error) if self.background => fail(wiring, error),
            Err(error) => Err(error.into()),
        }
    }
}

/// The starter shows it; the log has it as well.
fn fail(wiring: Wiring, error: AppError) -> Result<ExitCode, Failure> {
    output::say(&format!("error: {error}"));
    let code = crate::api::status::of(error.kind).exit;
    announce(wiring, &Announcement::Failed(error))?;
    Ok(code.into())
}

fn announce(wiring: Wiring, announcement: &Announcement) -> Result<(), Failure> {
    let line = serde_json::to_string(announcement).map_err(std::io::Error::from)?;
    Ok((wiring.announce)(&line)?)
}
