//! `claudine wait`

use std::{process::ExitCode, time::Duration};

use clap::Args;

use super::{
    exit,
    failure::Failure,
    named, output, parse,
    select::Selectors,
    session::{self, Session},
    text,
};
use crate::{
    api::{rest::LONGEST_WAIT, status},
    app::TaskView,
    clock,
};

/// Wait until tasks have ended, and end with the exit code of the first that did not succeed.
///
/// Prints a line a task, in the order given, or the oldest first. Of a graph every task is waited for; of other selections those that have
/// not ended. Called from within a task it gives that task's slot free for what it waits for.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  claudine wait build test && claudine run -- ./deploy
  claudine wait --graph release
  claudine wait --timeout 10m \"$id\" || claudine logs --tail 20 \"$id\"")]
pub(super) struct Wait {
    /// Ids, ends of ids, or names; `-` reads them from standard input.
    #[arg(value_name = "ID")]
    tasks: Vec<String>,
    /// Give up after so long, with exit code 124; the tasks go on.
    #[arg(short, long, value_name = "DURATION", value_parser = parse::duration)]
    timeout: Option<Duration>,
    /// Every task that has not ended.
    #[arg(long, help_heading = "Which tasks")]
    all: bool,
    #[command(flatten)]
    which: Selectors,
}

impl Wait {
    pub(super) async fn run(self, session: &Session) -> Result<ExitCode, Failure> {
        // Each is looked at once, however short the time is: an end before it counts.
        let mut tasks = Vec::new();
        for task in &self.meant(session).await? {
            tasks.push(session.client().status(task).await?);
        }
        let waiting = all(session, tasks);
        let ended = match self.timeout {
            None => Some(waiting.await),
            Some(limit) => clock::within(limit, waiting).await,
        };
        let Some(ended) = ended else {
            output::say("not all of them have ended in that time; they go on");
            return Ok(status::TIMED_OUT.into());
        };
        let ended = ended?;
        if session.json {
            output::json(&ended)?;
        }
        Ok(ended
            .iter()
            .map(|task| exit::of_task(task))
            .find(|code| *code != 0)
            .unwrap_or(0)
            .into())
    }
}

impl Wait {
    /// The tasks that are named, or those that are selected: of a graph all, else those that have
    /// not ended.
    async fn meant(&self, session: &Session) -> Result<Vec<String>, Failure> {
        match (self.tasks.is_empty(), self.which.are_none() && !self.all) {
            (false, true) => return named::several(self.tasks.clone()),
            (true, false) => {}
            (is_empty, _) => {
                let message = if is_empty {
                    "nothing to wait for: name tasks, select some (--label, --graph, …), or \
                     give --all"
                } else {
                    "tasks to wait for are either named or selected, not both"
                };
                return Err(Failure::Usage(message.to_owned()));
            }
        }
        let mut filter = self.which.clone().filter();
        if filter.graph.is_none() && filter.state.is_empty() {
            filter.state.push("active".to_owned());
        }
        let mut ids = session.client().list_all(filter).await?;
        if ids.is_empty() {
            output::say("no task matches");
        }
        ids.reverse();
        Ok(ids)
    }
}

/// Waits for one after the other: the last end decides how long that takes. Each is asked for by its
/// id, since a name may mean another task later on.
async fn all(session: &Session, tasks: Vec<TaskView>) -> Result<Vec<TaskView>, Failure> {
    let waiter = session::enclosing_attempt();
    let mut ended = Vec::new();
    for seen in tasks {
        let task = if seen.outcome.is_some() {
            seen
        } else {
            session
                .client()
                .wait_done(&seen.id, waiter.as_deref(), LONGEST_WAIT, |_| {})
                .await?
        };
        if !session.json {
            output::line(&text::ended(&task))?;
        }
        ended.push(task);
    }
    Ok(ended)
}
