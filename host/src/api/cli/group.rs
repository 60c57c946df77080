//! `claudine group`

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::{
    failure::Failure,
    output,
    session::Session,
    table::{Cell, Column, Goes, Table},
    terminal::{Colour, Look, Painted},
};
use crate::{
    app::{GroupChange, GroupView},
    text::short_id,
};

/// Limit or pause groups of tasks.
///
/// `--group NAME` submits a task to a group. A group exists if it was added or set, or while it has
/// unfinished tasks.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  claudine group set gpu --limit 1
  claudine group set gpu --limit none
  claudine group pause nightly
  claudine group list")]
pub(super) struct Group {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Add a group, with a limit or without one.
    Add {
        /// Group.
        #[arg(value_name = "NAME")]
        name: String,
        /// Limit of running tasks: a number from 1, or `none`.
        #[arg(long, value_name = "N|none", value_parser = limit, default_value = "none")]
        limit: Limit,
    },
    /// Set the limit of a group; running tasks continue.
    Set {
        /// Group; added if it does not exist.
        #[arg(value_name = "NAME")]
        name: String,
        /// Limit of running tasks: a number from 1, or `none`.
        #[arg(
            long,
            value_name = "N|none",
            value_parser = limit,
            required_unless_present = "no_limit",
            conflicts_with = "no_limit"
        )]
        limit: Option<Limit>,
        /// The same as `--limit none`.
        #[arg(long, hide = true)]
        no_limit: bool,
    },
    /// Pause a group; running tasks continue.
    Pause {
        /// Group.
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Lift the pause of a group.
    #[command(alias = "resume")]
    Unpause {
        /// Group.
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Remove a group that has no unfinished tasks.
    #[command(visible_alias = "remove")]
    Rm {
        /// Group.
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// List the groups and their unfinished tasks.
    #[command(visible_alias = "ls")]
    List,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Limit {
    None,
    Most(u32),
}

/// Parses a limit; the host refuses numbers that are out of range.
fn limit(text: &str) -> Result<Limit, String> {
    match text.trim() {
        "none" => Ok(Limit::None),
        number => number
            .parse()
            .map(Limit::Most)
            .map_err(|_| "expected a number from 1, or `none`".to_owned()),
    }
}

impl Group {
    pub(super) async fn run(self, session: &Session) -> Result<ExitCode, Failure> {
        let paused = |paused| GroupChange {
            paused: Some(paused),
            ..GroupChange::default()
        };
        let (name, change) = match self.verb {
            Verb::List => return list(session).await,
            Verb::Rm { name } => return remove(session, &name).await,
            Verb::Add { name, limit } => (name, made(limit)),
            Verb::Set { name, limit, .. } => (name, made(limit.unwrap_or(Limit::None))),
            Verb::Pause { name } => (name, paused(true)),
            Verb::Unpause { name } => (name, paused(false)),
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

fn made(limit: Limit) -> GroupChange {
    let limit = match limit {
        Limit::None => None,
        Limit::Most(limit) => Some(limit),
    };
    GroupChange {
        limit,
        unlimited: limit.is_none(),
        make: true,
        ..GroupChange::default()
    }
}

async fn remove(session: &Session, name: &str) -> Result<ExitCode, Failure> {
    let group = session.client().remove_group(name).await?;
    if session.json {
        output::json(&group)?;
    } else {
        output::say(&format!("removed group {name}"));
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(session: &Session) -> Result<ExitCode, Failure> {
    let groups = session.client().groups().await?;
    if session.json {
        output::json(&groups)?;
    } else if groups.is_empty() {
        output::say("no groups");
    } else {
        output::painted(&table(&groups, Look::of_stdout()))?;
    }
    Ok(ExitCode::SUCCESS)
}

const COLUMNS: [Column; 6] = [
    Column::new("GROUP").cut(24, 8),
    Column::new("LIMIT").right(),
    Column::new("RUNNING").right().goes(Goes::Late(2)),
    Column::new("QUEUED").right().goes(Goes::Late(3)),
    Column::new("STATE").optional(),
    Column::new("TASKS")
        .optional()
        .cut(24, 8)
        .goes(Goes::Late(1)),
];

fn table(groups: &[GroupView], look: Look) -> Painted {
    let mut table = Table::new(&COLUMNS);
    for group in groups {
        table.row(row(group));
    }
    table.shown(look)
}

fn row(group: &GroupView) -> [Cell; 6] {
    let named = group.tasks.iter();
    let named = named.map(|task| task.name.as_deref().unwrap_or(short_id(&task.id)));
    let mut names: Vec<String> = named.map(str::to_owned).collect();
    let all = group.running + group.queued;
    let more = all.saturating_sub(names.len() as u64);
    names.extend((more > 0).then(|| format!("+{more}")));
    let state = if group.paused { "paused" } else { "" };
    [
        Cell::new(&group.name),
        Cell::new(&limit_text(group)),
        Cell::new(&group.running.to_string()),
        Cell::new(&group.queued.to_string()),
        Cell::painted(Colour::Yellow, state),
        Cell::new(&names.join(" ")),
    ]
}

fn limit_text(group: &GroupView) -> String {
    let limit = group.limit.map(|limit| limit.to_string());
    limit.unwrap_or_else(|| "none".to_owned())
}

fn line(group: &GroupView) -> String {
    let paused = if group.paused { ", paused" } else { "" };
    format!(
        "group {}: limit {}{paused}, {} running, {} queued",
        group.name,
        limit_text(group),
        group.running,
        group.queued
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn groups() -> Vec<GroupView> {
        serde_json::from_value(serde_json::json!([
            {"name": "gpu", "limit": 1, "paused": false, "running": 1, "queued": 9, "tasks": [
                {"id": "task_01kb2m8r4zq8w3v5x7y9abcdef", "name": "train"},
                {"id": "task_01kb2m8r4zq8w3v5x7y9abcdeg"},
            ]},
            {"name": "nightly\u{1b}[2J", "paused": true, "running": 0, "queued": 0, "tasks": []},
        ]))
        .unwrap()
    }

    #[test]
    fn groups_are_shown_with_their_numbers_of_tasks() {
        let look = |columns| Look {
            colours: false,
            columns,
        };
        insta::assert_snapshot!("groups", table(&groups(), look(None)).as_str());
        let narrow = table(&groups(), look(Some(40)));
        let mut lines = narrow.as_str().lines();
        assert!(lines.all(|line| crate::text::columns(line) <= 40));
    }

    #[test]
    fn a_group_limit_is_a_number_or_none() {
        let check = |text: &str, expected: Option<Limit>| {
            assert_eq!(limit(text).ok(), expected, "{text}");
        };
        check("3", Some(Limit::Most(3)));
        check("none", Some(Limit::None));
        // 0 is parsed here, because the host refuses it with a message.
        check("0", Some(Limit::Most(0)));
        check("-1", None);
        check("few", None);
    }
}
