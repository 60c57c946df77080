//! `claudine hold` and `claudine release`

use std::process::ExitCode;

use clap::Args;

use super::{failure::Failure, output, session::Session};
use crate::app::Changed;

/// Keep a task from being started until `claudine release`.
///
/// A task that runs already cannot be held. A dependency that ends so that the task cannot run ends
/// it also while it is held. The hold outlasts that end, and a cancel: a task that is retried after
/// it is still held.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  claudine hold deploy
  claudine hold --graph build")]
pub(super) struct Hold {
    /// Its id, the end of its id, or its name.
    #[arg(value_name = "ID")]
    task: String,
    /// Also every queued task that hangs together with it by dependencies.
    #[arg(long)]
    graph: bool,
}

/// Let a task go that was held.
///
/// What `claudine restore` brought back is held too: one by one, graph by graph, or with --restored
/// all of it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  claudine release deploy
  claudine release --graph build
  claudine release --restored")]
pub(super) struct Release {
    /// Its id, the end of its id, or its name.
    #[arg(value_name = "ID", required_unless_present = "restored")]
    task: Option<String>,
    /// Also every held task that hangs together with it by dependencies.
    #[arg(long)]
    graph: bool,
    /// Every task that is held because it was restored from a backup. What somebody holds stays
    /// held.
    #[arg(long, conflicts_with_all = ["task", "graph"])]
    restored: bool,
}

impl Hold {
    pub(super) async fn run(self, session: &Session) -> Result<ExitCode, Failure> {
        let changed = session.client().hold(&self.task, self.graph).await?;
        show(session, "held", &changed)
    }
}

impl Release {
    pub(super) async fn run(self, session: &Session) -> Result<ExitCode, Failure> {
        let client = session.client();
        let changed = match &self.task {
            Some(task) => client.release(task, self.graph).await?,
            None => client.release_restored().await?,
        };
        show(session, "released", &changed)
    }
}

fn show(session: &Session, what: &str, changed: &Changed) -> Result<ExitCode, Failure> {
    if session.json {
        output::json(changed)?;
    } else {
        let tasks = if changed.tasks == 1 { "task" } else { "tasks" };
        output::say(&format!("{what} {} {tasks}", changed.tasks));
    }
    Ok(ExitCode::SUCCESS)
}
