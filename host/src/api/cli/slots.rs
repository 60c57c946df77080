//! `claudine slots`

use std::process::ExitCode;

use clap::Args;

use super::{failure::Failure, output, session::Session};
use crate::app::SlotsView;

/// Set how many tasks run at once.
///
/// What runs continues, also if it is more than that. The number is kept when the host restarts,
/// and counts more than CLAUDINE_SLOTS and the configuration file until `claudine slots default`
/// goes back to those. `--slots` of `claudine up` and `claudine serve` sets it in the same way.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  claudine slots 4
  claudine slots auto
  claudine slots default
  claudine slots")]
pub(super) struct Slots {
    /// A number from 1 to 10000, `auto` (as many as the machine has room for), or `default` (what
    /// is configured). Without it, print the number.
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
                "set by hand; `claudine slots default` goes back to what is configured ({configured})"
            ));
        }
        super::pause::say_head(&view.queue);
        Ok(ExitCode::SUCCESS)
    }
}
