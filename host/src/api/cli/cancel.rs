//! `claudine cancel`

use std::process::ExitCode;

use clap::Args;

use super::{failure::Failure, output, session::Session, several::Which};
use crate::{
    app::{Action, Still, TaskActed, TaskActions},
    text::short_id,
};

/// Cancel tasks and the tasks they submitted.
///
/// Returns at once. A running task is terminated, and killed if it does not react; `claudine wait`
/// returns when all of its processes are gone. For a finished task, the unfinished tasks that it
/// submitted are cancelled. No task of a graph starts while the graph is being cancelled.
#[derive(Debug, Args)]
#[command(visible_aliases = ["stop", "kill"], after_help = "\
Examples:
  claudine cancel nightly -m 'not tonight'
  claudine cancel x7tqrp 8m2c9d && claudine wait x7tqrp 8m2c9d
  claudine cancel --graph release
  claudine cancel --label pr=17 --yes")]
pub(super) struct Cancel {
    #[command(flatten)]
    which: Which,
    /// Reason, stored with each task.
    #[arg(short = 'm', long, value_name = "TEXT")]
    reason: Option<String>,
}

impl Cancel {
    pub(super) async fn run(self, session: &Session) -> Result<ExitCode, Failure> {
        let asked = TaskActions {
            reason: self.reason,
            ..TaskActions::of(Action::Cancel)
        };
        let tell = |task: &TaskActed| {
            output::say(&said(task));
            if let Some(warning) = &task.warning {
                output::say(&format!("warning: {warning}"));
            }
            Ok(())
        };
        self.which.act(session, asked, tell).await
    }
}

fn said(task: &TaskActed) -> String {
    let TaskActed {
        id,
        already,
        still,
        descendants,
        ..
    } = task;
    let id = short_id(id);
    match (descendants, already) {
        (None, false) => match still {
            None => format!("cancelled {id}"),
            Some(Still::Stopping) => format!("cancelling {id}"),
            Some(Still::Settling) => format!("{id} {}", Still::SETTLES),
        },
        (None, true) => format!("{id} is already stopping"),
        (Some(count), false) => {
            format!("{id} has already ended; cancelled the tasks it submitted ({count})")
        }
        (Some(count), true) => {
            format!("{id} has already ended; the tasks it submitted are already stopping ({count})")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_says_what_a_cancelled_task_still_does() {
        let check = |still, expected: &str| {
            let task = TaskActed {
                id: "task_01kb2m8r4zq8w3v5x7y8abcdef".to_owned(),
                still,
                ..TaskActed::default()
            };
            assert_eq!(said(&task).replace(short_id(&task.id), "ID"), expected);
        };
        check(None, "cancelled ID");
        check(Some(Still::Stopping), "cancelling ID");
        check(
            Some(Still::Settling),
            "ID has ended, and its work is being settled: it succeeds if git completes this, with \
             at most a minute for each command, and ends as cancelled if not",
        );
    }
}
