//! `claudine resume`

use std::{io::Read, process::ExitCode};

use clap::Args;

use super::{
    change::{ChangeOptions, keep_unless_done},
    failure::Failure,
    help::Layout as _,
    retry::tell,
    session::Session,
    several::Which,
};
use crate::app::{Action, ResumeOptions, TaskActions};

/// Size limit of the context. The host has the same limit.
const CONTEXT_LIMIT_BYTES: u64 = 1 << 20;

/// Continue finished tasks, optionally with new instructions.
///
/// A task keeps its id and gets another attempt, however the last one ended. An agent continues its
/// session with the context. If the session is gone, a new session gets the prompt and the result
/// of the last attempt (see `claudine checkpoint`). A command finds that result in the directory
/// $CLAUDINE_PREVIOUS, and the context in the file $CLAUDINE_CONTEXT. Prints the id.
#[derive(Debug, Args)]
#[command(options_first(&["context", "timeout", "budget-usd", "allowed-tools", "model", "edit"]))]
#[command(after_long_help = "\
Examples:
  claudine resume review --context 'Look at the tests too'
  claudine resume x7tqrp --allowed-tools 'Bash(cargo test:*)' --budget-usd 5
  git diff | claudine resume review --context -")]
pub(super) struct Resume {
    #[command(flatten)]
    which: Which,
    /// New instructions, or `-` for standard input.
    #[arg(long, value_name = "TEXT")]
    context: Option<String>,
    #[command(flatten)]
    change: ChangeOptions,
}

impl Resume {
    pub(super) async fn run(self, session: &Session) -> Result<ExitCode, Failure> {
        let context = match self.context.as_deref() {
            Some("-") => from_stdin()?,
            context => context.unwrap_or_default().to_owned(),
        };
        let (change, edited) = self.change.of(session, &self.which).await?;
        let options = ResumeOptions { context, change };
        let asked = TaskActions {
            resume: Some(options),
            ..TaskActions::of(Action::Resume)
        };
        keep_unless_done(edited, self.which.act(session, asked, tell).await)
    }
}

fn from_stdin() -> Result<String, Failure> {
    let mut bytes = Vec::new();
    let read = std::io::stdin()
        .take(CONTEXT_LIMIT_BYTES + 1)
        .read_to_end(&mut bytes);
    read.map_err(|error| {
        Failure::Usage(format!(
            "cannot read the context from standard input: {error}"
        ))
    })?;
    String::from_utf8(bytes)
        .map_err(|_| Failure::Usage("the context on standard input is not valid UTF-8".to_owned()))
}
