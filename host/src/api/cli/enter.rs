//! `claudine enter`

use std::{path::Path, process::ExitCode};

use clap::Args;
use schemars::JsonSchema;
use serde::Serialize;

use super::{failure::Failure, inside, named, output, session::Session};
use crate::{
    app::{AppError, ErrorKind},
    text::{shell_word, short_id},
};

/// Open a shell in the worktree of a task.
///
/// Exit the shell to come back. Without a terminal, this command prints a `cd` command for
/// `eval "$(claudine enter fix-tests)"`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  claudine enter fix-tests
  cd \"$(claudine enter fix-tests --json=path | jq -r .path)\"")]
pub(super) struct Enter {
    /// Id, end of an id, or name [default: the newest].
    #[arg(value_name = "ID")]
    task: Option<String>,
}

/// Location of a task's worktree.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Entered {
    task: String,
    path: String,
    branch: String,
}

impl Enter {
    pub(super) async fn run(self, session: &Session) -> Result<ExitCode, Failure> {
        let task = named::or_last_told(session, self.task).await?;
        let task = session.client().status(&task).await?;
        let refuse = |message: String| AppError::new(ErrorKind::Conflict, message);
        let id = short_id(&task.id);
        let Some(worktree) = &task.worktree else {
            let refused = refuse(format!("{id} has no worktree"));
            let hint = format!("its directory is {}", task.cwd);
            return Err(refused.hint(hint).into());
        };
        let Some(path) = &worktree.path else {
            let refused = refuse(format!("the worktree of {id} does not exist"));
            let hint = format!(
                "its branch is {}; `claudine diff {id}` shows the changes",
                worktree.branch
            );
            return Err(refused.hint(hint).into());
        };
        if session.json {
            output::json(&Entered {
                task: task.id.clone(),
                path: path.clone(),
                branch: worktree.branch.clone(),
            })?;
        } else if inside::has_person() {
            output::say(&format!(
                "{path} (branch {}); `exit` leaves it",
                worktree.branch
            ));
            inside::shell(Path::new(path)).await?;
        } else {
            output::line(&format!("cd {}", shell_word(path)))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
