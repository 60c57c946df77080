//! `claudine cancel`

use std::process::ExitCode;

use clap::Args;

use super::{failure::Failure, output, session::Session};
use crate::{app::Cancelled, text::short_id};

/// Stop a task, and the tasks that were submitted from within it.
///
/// Returns as soon as it is decided. A running task is asked politely, then ended by force; `claudine wait` returns when nothing of it is
/// alive. Of a task that is done already, what it submitted and has not ended is stopped.
#[derive(Debug, Args)]
#[command(visible_aliases = ["stop", "kill"], after_help = "\
Examples:
  claudine cancel nightly 'not tonight'
  claudine cancel x7tqrp && claudine wait x7tqrp")]
pub(super) struct Cancel {
    /// Its id, the end of its id, or its name.
    #[arg(value_name = "ID")]
    task: String,
    /// Why; kept with the task.
    #[arg(value_name = "REASON")]
    reason: Option<String>,
}

impl Cancel {
    pub(super) async fn run(self, session: &Session) -> Result<ExitCode, Failure> {
        let cancelled = session.client().cancel(&self.task, self.reason).await?;
        if session.json {
            output::json(&cancelled)?;
        } else {
            output::say(&said(&cancelled));
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn said(cancelled: &Cancelled) -> String {
    let Cancelled {
        id,
        already,
        descendants,
    } = cancelled;
    let id = short_id(id);
    match (descendants, already) {
        (None, false) => format!("cancelled {id}"),
        (None, true) => format!("{id} is stopping already"),
        (Some(count), false) => {
            format!("{id} is already done; cancelled what it had submitted (tasks: {count})")
        }
        (Some(count), true) => format!(
            "{id} is already done; what it had submitted is stopping already (tasks: {count})"
        ),
    }
}
