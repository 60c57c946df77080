//! `claudine retry`

use std::process::ExitCode;

use clap::Args;

use super::{change::ChangeOptions, failure::Failure, output, session::Session};
use crate::{
    app::{Retried, RetryOptions},
    text::short_id,
};

/// Give a finished task another attempt.
///
/// It is the same task, with the same id. What is not changed by an option stays as it was asked for; what is holds from the next attempt
/// on. An agent that was cut off goes on with its session where it can. What could not run because of how it ended is revived with it.
/// Prints the id.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  claudine retry nightly
  claudine retry nightly --timeout 2h --model opus
  claudine retry nightly --now
  id=$(claudine retry x7tqrp) && claudine logs -f \"$id\"")]
pub(super) struct Retry {
    /// Its id, the end of its id, or its name.
    #[arg(value_name = "ID")]
    task: String,
    /// Also run again what had run after it.
    #[arg(long)]
    downstream: bool,
    /// Try a task at once that waits for a usage limit, a delay or its start
    #[arg(long)]
    now: bool,
    #[command(flatten)]
    change: ChangeOptions,
}

impl Retry {
    pub(super) async fn run(self, session: &Session) -> Result<ExitCode, Failure> {
        let options = RetryOptions {
            downstream: self.downstream,
            now: self.now,
            change: self.change.change(),
        };
        let retried = session.client().retry(&self.task, &options).await?;
        if session.json {
            output::json(&retried)?;
        } else {
            output::id(&retried.id)?;
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
        let id = short_id(&retried.id);
        output::say(&format!(
            "it is held: `claudine release {id}` lets it start"
        ));
    }
}
