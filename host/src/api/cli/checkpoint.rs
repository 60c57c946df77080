//! `claudine checkpoint`

use std::process::ExitCode;

use clap::Args;

use super::{
    failure::Failure,
    output,
    session::Session,
    status,
    terminal::{Look, Painted},
};
use crate::{
    app::{CheckpointQuery, CheckpointView},
    text::short_id,
};

/// Indentation of the continuation lines of a long line.
const INDENT: usize = 2;

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
            output::painted(&shown(&found, Look::of_stdout()))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// How the attempt ended, and the parts of its checkpoint that exist.
fn shown(found: &CheckpointView, look: Look) -> Painted {
    let id = short_id(&found.id);
    let name = found.name.as_ref();
    let name = name.map_or(String::new(), |name| format!(" ({name})"));
    let reason = found.reason.as_ref();
    let reason = reason.map_or(String::new(), |reason| format!(": {}", reason.message));
    let end = format!(
        "{id}{name}, attempt {}: {}{reason}",
        found.attempt, found.outcome
    );
    let mut shown = Painted::default();
    look.prose(&mut shown, &end, INDENT);
    if let Some(git) = &found.git {
        let git = format!("repository: {}", status::git_line(git));
        look.prose(&mut shown, &git, INDENT);
    }
    if let Some(summary) = &found.summary {
        shown.push(&format!("\nSummary\n{}\n", summary.trim_end()));
    }
    if !found.last_lines.is_empty() {
        shown.push(&format!("\nLast lines\n{}\n", found.last_lines.trim_end()));
    }
    shown
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::api::cli::terminal::in_each_look;

    #[test]
    fn a_checkpoint_fits_the_width_of_the_terminal() {
        let found: CheckpointView = serde_json::from_value(serde_json::json!({
            "id": "task_01kb2m8r4zq8w3v5x7y9abcdef", "name": "night\u{1b}[2Jly", "attempt": 2, "outcome": "failed",
            "reason": {"class": "no_result", "message": "the agent ended without a result; its last request was refused by the service"},
            "summary": "The tests of `dates` fail.\nI have not found out why.",
            "last_lines": "● Bash  make test\n  ✗ Exit code 2\n",
            "git": {
                "branch": "claudine/nightly", "commit": "d7249d3e1aa58acfc8c4d3429c396a8f7be9efcf", "dirty_count": 7,
                "dirty": ["src/a.rs", "src/words.rs", "src/times.rs", "tests/dates.rs", "tests/times.rs", "f", "g"],
            },
        }))
        .unwrap();
        insta::assert_snapshot!("checkpoint", in_each_look(|look| shown(&found, look)));
    }
}
