//! `claudine group`

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::{failure::Failure, output, session::Session};
use crate::app::{GroupChange, GroupView};

/// Set how many tasks of a group run at once, or stop it for a while.
///
/// A task is in the group that it was submitted with (`--group NAME`). A group need not be made: one that nobody set has no limit.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  claudine group set gpu --limit 1
  claudine group pause nightly
  claudine group list")]
pub(super) struct Group {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Change a group's limit, also while its tasks run: what runs goes on.
    Set {
        /// The group.
        #[arg(value_name = "NAME")]
        name: String,
        /// How many of its tasks may run at once, from 1.
        #[arg(
            long,
            value_name = "N",
            required_unless_present = "no_limit",
            conflicts_with = "no_limit"
        )]
        limit: Option<u32>,
        /// As many as there are slots.
        #[arg(long)]
        no_limit: bool,
    },
    /// Start nothing more of a group; what runs goes on.
    Pause {
        /// The group.
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Let a group go on that was paused.
    Resume {
        /// The group.
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Show the groups that were set or have unfinished tasks.
    List,
}

impl Group {
    pub(super) async fn run(self, session: &Session) -> Result<ExitCode, Failure> {
        let paused = |paused| GroupChange {
            paused: Some(paused),
            ..GroupChange::default()
        };
        let (name, change) = match self.verb {
            Verb::List => return list(session).await,
            Verb::Set {
                name,
                limit,
                no_limit,
            } => {
                let change = GroupChange {
                    limit,
                    unlimited: no_limit,
                    paused: None,
                };
                (name, change)
            }
            Verb::Pause { name } => (name, paused(true)),
            Verb::Resume { name } => (name, paused(false)),
        };
        let group = session.client().set_group(&name, &change).await?;
        if session.json {
            output::json(&group)?;
        } else {
            output::say(&line(&group));
        }
        Ok(ExitCode::SUCCESS)
    }
}

async fn list(session: &Session) -> Result<ExitCode, Failure> {
    let groups = session.client().groups().await?;
    if session.json {
        output::json(&groups)?;
    } else {
        for group in &groups {
            output::line(&line(group))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn line(group: &GroupView) -> String {
    let limit = group
        .limit
        .map_or_else(|| "no limit".to_owned(), |limit| format!("limit {limit}"));
    let paused = if group.paused { ", paused" } else { "" };
    format!(
        "{}: {limit}{paused}, {} running, {} queued",
        group.name, group.running, group.queued
    )
}
