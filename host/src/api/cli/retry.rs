//! `claudine retry`

use std::process::ExitCode;

use clap::Args;

use super::{exit::Failure, output, session::Session};

/// Give a finished task another attempt.
///
/// It is the same task, with the same id and request. An agent that was cut off goes on with its session where it can. Prints the id.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  claudine retry nightly
  id=$(claudine retry task_01kb2m8r) && claudine logs -f \"$id\"")]
pub(super) struct Retry {
    /// Its id, the beginning of one that no other has, or its name.
    #[arg(value_name = "ID")]
    task: String,
}

impl Retry {
    pub(super) async fn run(self, session: &Session) -> Result<ExitCode, Failure> {
        let retried = session.client().retry(&self.task).await?;
        if session.json {
            output::json(&retried)?;
        } else {
            output::line(&retried.id)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
