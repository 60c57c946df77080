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

/// Reports a hold or release.
fn say(action: Action, task: &TaskActed) {
    output::say(&told(action, task));
}

/// The result of a hold or release. Nothing has changed if the caller already held the task, or if
/// the task stays held after a release, for example because somebody else holds it too.
fn told(action: Action, task: &TaskActed) -> String {
    let (past, id) = (action.past(), short_id(&task.id));
    match (action, task.already, &task.held_by) {
        (_, false, _) => format!("{past} 1 task"),
        (Action::Hold, true, _) => format!("task {id} is held already"),
        (_, true, Some(holders)) => format!(
            "{past} 0 tasks: {id} is still held by {holders}; a person can release it at a terminal, outside of any task"
        ),
        (_, true, None) => format!("{past} 0 tasks"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_that_leaves_a_task_held_names_the_other_holders() {
        let check = |action: Action, already: bool, held_by: Option<&str>, expected: &str| {
            let task = TaskActed {
                id: "task_01kb2m8r4zq8w3v5x7y9abcdef".to_owned(),
                already,
                held_by: held_by.map(str::to_owned),
                ..TaskActed::default()
            };
            let told = told(action, &task);
            assert!(told.starts_with(expected), "{told}");
        };
        check(Action::Release, false, None, "released 1 task");
        check(Action::Hold, true, None, "task abcdef is held already");
        let expected = "released 0 tasks: abcdef is still held by owner; a person can";
        check(Action::Release, true, Some("owner"), expected);
    }
}
