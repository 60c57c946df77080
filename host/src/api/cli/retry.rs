//! `claudine retry`

use std::process::ExitCode;

use clap::Args;

use super::{failure::Failure, output, session::Session};
use crate::app::{Retried, RetryOptions};

/// Give a finished task another attempt.
///
/// It is the same task, with the same id and request. An agent that was cut off goes on with its session where it can. What could not run
/// because of how it ended is revived with it. Prints the id.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  claudine retry nightly
  id=$(claudine retry task_01kb2m8r) && claudine logs -f \"$id\"")]
pub(super) struct Retry {
    /// Its id, the beginning of one that no other has, or its name.
    #[arg(value_name = "ID")]
    task: String,
    /// Also run again what had run after it.
    #[arg(long)]
    downstream: bool,
}

impl Retry {
    pub(super) async fn run(self, session: &Session) -> Result<ExitCode, Failure> {
        let options = RetryOptions {
            downstream: self.downstream,
        };
        let retried = session.client().retry(&self.task, options).await?;
        if session.json {
            output::json(&retried)?;
        } else {
            output::line(&retried.id)?;
            if retried.downstream > 0 {
                output::say(&format!("{} more wait for it again", retried.downstream));
            }
            say_held(&retried);
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// A command that waited for it now would wait for a person.
pub(super) fn say_held(retried: &Retried) {
    if retried.held {
        let id = &retried.id;
        output::say(&format!(
            "it is held: `claudine release {id}` lets it start"
        ));
    }
}
