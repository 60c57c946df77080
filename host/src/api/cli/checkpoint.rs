//! `claudine checkpoint`

use std::process::ExitCode;

use clap::Args;

use super::{failure::Failure, output, session::Session, status, terminal::harmless};
use crate::{
    app::{CheckpointQuery, CheckpointView},
    text::short_id,
};

/// Show the result, git state and last output of an attempt.
///
/// Shows how the attempt ended, an agent's summary, the branch, commit and uncommitted changes of
/// the repository that the attempt worked in, and the last 50 lines of its output.
/// `claudine resume` and `--with-output-of` pass this information on.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  claudine checkpoint review
  claudine checkpoint x7tqrp --attempt 1 --json")]
pub(super) struct Checkpoint {
    /// Id, end of an id, or name.
    #[arg(value_name = "ID")]
    task: String,
    /// Number of the attempt [default: the last finished one].
    #[arg(long, value_name = "N")]
    attempt: Option<u32>,
}

impl Checkpoint {
    pub(super) async fn run(self, session: &Session) -> Result<ExitCode, Failure> {
        let query = CheckpointQuery {
            attempt: self.attempt,
        };
        let found = session.client().checkpoint(&self.task, query).await?;
        if session.json {
            output::json(&found)?;
        } else {
            output::text(&text(&found))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn text(found: &CheckpointView) -> String {
    let id = short_id(&found.id);
    let called = match &found.name {
        Some(name) => format!("{} ({id})", harmless(name)),
        None => id.to_owned(),
    };
    let reason = found.reason.as_ref().map_or(String::new(), |reason| {
        format!(": {}", harmless(&reason.message))
    });
    let mut lines = vec![format!(
        "{called}, attempt {}: {}{reason}",
        found.attempt, found.outcome
    )];
    if let Some(git) = &found.git {
        lines.push(format!("repository: {}", harmless(&status::git_line(git))));
    }
    if let Some(summary) = &found.summary {
        lines.push(format!("\nSummary\n{}", summary.trim_end()));
    }
    if !found.last_lines.is_empty() {
        lines.push(format!("\nLast lines\n{}", found.last_lines.trim_end()));
    }
    lines.join("\n") + "\n"
}
