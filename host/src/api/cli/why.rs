//! `claudine why`

use std::process::ExitCode;

use clap::Args;

use super::{failure::Failure, named, output, session::Session, text, times};
use crate::{app::ENDED_PHASE, text::short_id};

/// Explain why a task is waiting, or how it ended.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  claudine why nightly
  claudine why x7tqrp --json | jq -r '.reasons[]'")]
pub(super) struct Why {
    /// Id, end of an id, or name [default: the newest].
    #[arg(value_name = "ID")]
    task: Option<String>,
}

impl Why {
    pub(super) async fn run(self, session: &Session) -> Result<ExitCode, Failure> {
        let why = session.client().why(&named::or_last(self.task)).await?;
        if session.json {
            output::json(&why)?;
            return Ok(ExitCode::SUCCESS);
        }
        let id = short_id(&why.id);
        let since = text::ago(&why.since, text::now());
        output::line(&match (&*why.state, why.phase.as_deref()) {
            ("done", _) => format!("{id} ended {since} ago"),
            (_, Some(ENDED_PHASE)) => format!("{id} no longer runs"),
            (state, _) => format!("{id} is {state}, for {since}"),
        })?;
        for reason in &why.reasons {
            let reason = times::in_text(reason, times::now());
            output::line(&format!("  {reason}"))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
