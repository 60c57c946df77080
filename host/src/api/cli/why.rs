//! `claudine why`

use std::process::ExitCode;

use clap::Args;

use super::{failure::Failure, output, session::Session, text};

/// Say why a task is where it is: what it waits for, what holds it back, how it ended.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  claudine why nightly
  claudine why task_01kb2m8r --json | jq -r '.reasons[]'")]
pub(super) struct Why {
    /// Its id, the beginning of one that no other has, or its name.
    #[arg(value_name = "ID")]
    task: String,
}

impl Why {
    pub(super) async fn run(self, session: &Session) -> Result<ExitCode, Failure> {
        let why = session.client().why(&self.task).await?;
        if session.json {
            output::json(&why)?;
            return Ok(ExitCode::SUCCESS);
        }
        output::line(&format!(
            "{} is {}, for {}",
            why.id,
            why.state,
            text::ago(&why.since, text::now())
        ))?;
        for reason in &why.reasons {
            output::line(&format!("  {reason}"))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
