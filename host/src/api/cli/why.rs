//! `claudine why`

use std::process::ExitCode;

use clap::Args;
use claudine_domain::time::Timestamp;

use super::{
    failure::Failure,
    named, output,
    session::Session,
    terminal::{Look, Painted},
    times,
};
use crate::{
    app::{ENDED_PHASE, Why as View},
    text::short_id,
};

/// Indentation of the continuation lines of a long reason.
const INDENT: usize = 4;

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
        output::painted(&shown(&why, Look::of_stdout(), times::now()))?;
        Ok(ExitCode::SUCCESS)
    }
}

/// The state, and below it each reason.
fn shown(why: &View, look: Look, now: Timestamp) -> Painted {
    let id = short_id(&why.id);
    let since = times::ago(&why.since, now);
    let state = match (&*why.state, why.phase.as_deref()) {
        ("done", _) => format!("{id} ended {since} ago"),
        (_, Some(ENDED_PHASE)) => format!("{id} no longer runs"),
        (state, _) => format!("{id} is {state}, for {since}"),
    };
    let mut shown = Painted::default();
    look.prose(&mut shown, &state, INDENT);
    for reason in &why.reasons {
        let reason = times::in_text(reason, now);
        look.prose(&mut shown, &format!("  {reason}"), INDENT);
    }
    shown
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::api::cli::terminal::in_each_look;

    #[test]
    fn reasons_fit_the_width_of_the_terminal_and_commands_stay_whole() {
        let why = |state: &str, reasons: &[&str]| -> View {
            serde_json::from_value(serde_json::json!({
                "id": "task_01kb2m8r4zq8w3v5x7y9abcdef", "state": state, "since": "2026-11-22T14:51:33.042Z",
                "reasons": reasons,
            }))
            .unwrap()
        };
        let all = [
            why(
                "ready",
                &["CPU busy: 2.1 of 2 cores; new tasks start below 1.6\u{1b}[2J"],
            ),
            why(
                "waiting",
                &[
                    "Claude usage limit (5-hour) until 2026-11-22T20:15:00.000Z; `claudine retry --now abcdef` starts the task now",
                ],
            ),
            why(
                "done",
                &[
                    "failed: merge conflict in cart.py (conflict)",
                    "`claudine/currency` conflicts with `main` in cart.py; nothing was merged: `claudine worktree resolve abcdef` \
                     opens the merge in its worktree, or `git merge claudine/currency` on `main` merges it by hand and \
                     `claudine worktree merge abcdef` then ends the task",
                    "`claudine worktree resolve abcdef`: resolve the conflict by hand",
                    "`claudine enter abcdef`: look around in the worktree",
                ],
            ),
        ];
        let drawn = in_each_look(|look| {
            let mut drawn = Painted::default();
            for why in &all {
                drawn.append(&shown(why, look, Timestamp(1_795_359_153_042)));
            }
            drawn
        });
        insta::assert_snapshot!("why", drawn);
    }
}
