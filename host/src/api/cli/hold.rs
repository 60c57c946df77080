//! `claudine hold` and `claudine release`

use std::process::ExitCode;

use clap::Args;

use super::{failure::Failure, output, session::Session, several::Which};
use crate::app::{Action, TaskActed, TaskActions, TasksActed};

/// Keep tasks from being started until `claudine release`.
///
/// A task that runs already cannot be held. A dependency that ends so that the task cannot run ends
/// it also while it is held. The hold outlasts that end, and a cancel: a task that is retried after
/// it is still held.
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
/// What `claudine restore` brought back is held too: one by one, graph by graph, or with --restored
/// all of it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  claudine release deploy
  claudine release --graph release
  claudine release --restored")]
pub(super) struct Release {
    #[command(flatten)]
    which: Which,
    /// Every task that is held because it was restored from a backup. What somebody holds stays
    /// held.
    #[arg(long, help_heading = "Which tasks")]
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
            let message = "--restored stands for itself: leave out other tasks";
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

/// A hold that is in force already, or of which others have a part, changes nothing.
fn say(action: Action, task: &TaskActed) {
    let count = usize::from(!task.already);
    let tasks = if task.already { "tasks" } else { "task" };
    output::say(&format!("{} {count} {tasks}", action.past()));
}
