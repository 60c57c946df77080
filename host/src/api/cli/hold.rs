//! `claudine hold` and `claudine release`

use std::process::ExitCode;

use clap::Args;

use super::{failure::Failure, output, session::Session, several::Which};
use crate::{
    app::{Action, TaskActed, TaskActions, TasksActed},
    text::short_id,
};

/// Hold tasks until `claudine release`.
///
/// A running task cannot be held. A held task still fails if a dependency fails. The hold survives
/// failure and cancellation: after a retry, the task is still held.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  claudine hold deploy
  claudine hold --graph release
  claudine hold --group gpu --yes")]
pub(super) struct Hold {
    #[command(flatten)]
    which: Which,
}

/// Release held tasks.
///
/// `claudine restore` holds the tasks of a backup; --restored releases all of them.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  claudine release deploy
  claudine release --graph release
  claudine release --restored")]
pub(super) struct Release {
    #[command(flatten)]
    which: Which,
    /// Tasks restored from a backup, if not held otherwise.
    #[arg(long, help_heading = "Selection")]
    restored: bool,
}

impl Hold {
    pub(super) async fn run(self, session: &Session) -> Result<ExitCode, Failure> {
        let asked = TaskActions::of(Action::Hold);
        let tell = |task: &TaskActed| {
            say(Action::Hold, task);
            Ok(())
        };
        self.which.act(session, asked, tell).await
    }
}

impl Release {
    pub(super) async fn run(self, session: &Session) -> Result<ExitCode, Failure> {
        let asked = TaskActions::of(Action::Release);
        if !self.restored {
            let tell = |task: &TaskActed| {
                say(Action::Release, task);
                Ok(())
            };
            return self.which.act(session, asked, tell).await;
        }
        if !self.which.is_empty() {
            let message = "--restored cannot be combined with other tasks or selections";
            return Err(Failure::Usage(message.to_owned()));
        }
        let count = session.client().release_restored().await?.tasks;
        if session.json {
            output::json(&TasksActed {
                found: count,
                done: count,
                ..TasksActed::default()
            })?;
        } else {
            let tasks = if count == 1 { "task" } else { "tasks" };
            output::say(&format!("released {count} {tasks}"));
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Reports a hold or release. Nothing has changed if the caller already held the task, or if the
/// task stays held after a release, for example because somebody else holds it too.
fn say(action: Action, task: &TaskActed) {
    let past = action.past();
    output::say(&match (action, task.already) {
        (_, false) => format!("{past} 1 task"),
        (Action::Hold, true) => format!("task {} is held already", short_id(&task.id)),
        (_, true) => format!("{past} 0 tasks"),
    });
}
