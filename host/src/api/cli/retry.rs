//! `claudine retry`

use std::process::ExitCode;

use clap::Args;

use super::{change::ChangeOptions, failure::Failure, output, session::Session, several::Which};
use crate::{
    app::{Action, RetryOptions, TaskActed, TaskActions},
    text::short_id,
};

/// Give finished tasks another attempt.
///
/// Each is the same task, with the same id. Of those that are selected, the ones that did not succeed are tried again. What is not changed by an option stays as it was asked for; what is holds from the next attempt
/// on. An agent that was cut off goes on with its session where it can. What could not run because of how it ended is revived with it.
/// Prints the id.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  claudine retry nightly
  claudine retry nightly --timeout 2h --model opus
  claudine retry nightly --now
  claudine retry --failed --since 9:00
  id=$(claudine retry x7tqrp) && claudine logs -f \"$id\"")]
pub(super) struct Retry {
    #[command(flatten)]
    which: Which,
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
            change: self.change.of(session, &self.which).await?,
        };
        let asked = TaskActions {
            retry: Some(options),
            ..TaskActions::of(Action::Retry)
        };
        self.which.act(session, asked, tell).await
    }
}

/// Prints the id, and says what else follows from it.
pub(super) fn tell(task: &TaskActed) -> Result<(), Failure> {
    output::id(&task.id)?;
    if let Some(count) = task.downstream.filter(|count| *count > 0) {
        output::say(&format!("{count} more wait for it again"));
    }
    // A command that waited for it now would wait for a person.
    if task.held {
        let id = short_id(&task.id);
        output::say(&format!(
            "it is held: `claudine release {id}` lets it start"
        ));
    }
    Ok(())
}
