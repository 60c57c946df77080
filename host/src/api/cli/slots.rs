//! `claudine slots`

use std::process::ExitCode;

use clap::Args;

use super::{failure::Failure, output, session::Session};
use crate::app::SlotsView;

/// Show or set the limit of concurrent tasks.
///
/// Running tasks continue, even beyond the new limit. The new limit survives restarts of the host
/// and overrides CLAUDINE_SLOTS and the configuration file, until `claudine slots default`.
/// `--slots` of `claudine up` and `claudine serve` sets the limit as well.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  claudine slots 4
  claudine slots auto
  claudine slots default
  claudine slots")]
pub(super) struct Slots {
    /// New limit; without one the current limit is printed.
    ///
    /// A number from 1 to 10000, `auto` (by the capacity of the machine), or `default` (as
    /// configured).
    #[arg(value_name = "N|auto|default")]
    slots: Option<String>,
}

impl Slots {
    pub(super) async fn run(self, session: &Session) -> Result<ExitCode, Failure> {
        let client = session.client();
        let view = match self.slots {
            Some(slots) => client.set_slots(slots).await?,
            None => client.capacity().await?,
        };
        if session.json {
            output::json(&SlotsView::from(view))?;
            return Ok(ExitCode::SUCCESS);
        }
        output::line(&view.slots)?;
        if let Some(configured) = &view.configured_slots {
            output::say(&format!(
                "set by hand; `claudine slots default` restores the configured value ({configured})"
            ));
        }
        super::pause::say_head(&view.queue);
        Ok(ExitCode::SUCCESS)
    }
}
