//! `claudine retry`

use std::process::ExitCode;

use clap::Args;

use super::{
    change::{ChangeOptions, keep_unless_done},
    failure::Failure,
    help::Layout as _,
    output,
    session::Session,
    several::Which,
    text, times,
};
use crate::{
    app::{Action, RetryOptions, TaskActed, TaskActions},
    text::short_id,
};

/// Give finished tasks another attempt.
///
/// A task keeps its id, and its options unless they are given here; options given here apply to
/// later attempts too. A selection leaves out tasks that have succeeded. An interrupted agent
/// continues its session if possible. Tasks that did not run because a retried task had failed can
/// run again. Prints the id.
#[derive(Debug, Args)]
#[command(options_first(&["now", "downstream", "timeout", "budget-usd", "allowed-tools", "model"]))]
#[command(after_long_help = "\
Examples:
  claudine retry nightly
  claudine retry nightly --timeout 2h --model opus
  claudine retry nightly --now
  claudine retry --failed --since 9:00
  id=$(claudine retry x7tqrp) && claudine logs -f \"$id\"")]
pub(super) struct Retry {
    #[command(flatten)]
    which: Which,
    /// Also rerun the tasks that depend on them.
    #[arg(long)]
    downstream: bool,
    /// Start waiting tasks now.
    ///
    /// These are tasks that wait for a usage limit, a delay or their start time.
    #[arg(long)]
    now: bool,
    #[command(flatten)]
    change: ChangeOptions,
}

impl Retry {
    pub(super) async fn run(self, session: &Session) -> Result<ExitCode, Failure> {
        let (change, edited) = self.change.of(session, &self.which).await?;
        let options = RetryOptions {
            downstream: self.downstream,
            now: self.now,
            change,
        };
        let asked = TaskActions {
            retry: Some(options),
            ..TaskActions::of(Action::Retry)
        };
        keep_unless_done(edited, self.which.act(session, asked, tell).await)
    }
}

/// Prints the id, and reports a warning, dependants, and what the task waits for.
pub(super) fn tell(task: &TaskActed) -> Result<(), Failure> {
    output::id(&task.id)?;
    let readable = |text: &str| times::in_text(text, times::now());
    if let Some(warning) = &task.warning {
        output::say(&format!("warning: {}", readable(warning)));
    }
    if let Some(count) = task.downstream.filter(|count| *count > 0) {
        output::say(&text::wait_again(count, "it"));
    }
    // A held task starts only when a person releases it.
    if task.held {
        let id = short_id(&task.id);
        output::say(&format!(
            "{id} is held: `claudine release {id}` lets it start"
        ));
    } else if let Some(waits) = &task.waits {
        output::say(&format!("{}: {}", short_id(&task.id), readable(waits)));
    }
    Ok(())
}
