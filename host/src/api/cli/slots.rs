//! `claudine slots`

use std::process::ExitCode;

use clap::Args;

use super::{failure::Failure, output, session::Session};
use crate::app::SlotsView;

/// Set how many tasks run at once, from now until the host ends.
///
/// What runs goes on, also where it is more than that. A host that starts has what CLAUDINE_SLOTS or its configuration file says.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  claudine slots 4
  claudine slots auto
  claudine slots")]
pub(super) struct Slots {
    /// A number from 1 to 10000, or `auto`: as many as the machine has room for. Prints what is set where it is left out.
    #[arg(value_name = "N|auto")]
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
        } else {
            output::line(&view.slots)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
