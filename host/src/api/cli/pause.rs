//! `claudine pause` and `claudine unpause`

use std::process::ExitCode;

use clap::Args;
use schemars::JsonSchema;
use serde::Serialize;

use super::{failure::Failure, output, session::Session, times};
use crate::{
    api::client::Client,
    app::{GroupChange, GroupView, QueuePaused, QueueView},
    config::Begin,
};

/// Pause the queue or a group; running tasks continue.
///
/// New tasks are accepted and wait. The pause survives restarts of the host, until
/// `claudine unpause`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  claudine pause          # nothing more starts
  claudine pause gpu      # nothing more of this group
  claudine unpause")]
pub(super) struct Pause {
    /// Pause only this group.
    #[arg(value_name = "GROUP", conflicts_with = "all")]
    group: Option<String>,
    /// Pause the whole queue (default).
    #[arg(long)]
    all: bool,
}

/// Lift the pause of the queue or of a group.
///
/// A group that was paused by name stays paused unless `--all` is given.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  claudine unpause
  claudine unpause gpu
  claudine unpause --all")]
pub(super) struct Unpause {
    /// Lift only the pause of this group.
    #[arg(value_name = "GROUP", conflicts_with = "all")]
    group: Option<String>,
    /// Lift the pause of the queue and of every group.
    #[arg(long)]
    all: bool,
}

/// Answer of `pause` and `unpause` with `--json`.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum Answer {
    Group(GroupView),
    Queue(QueuePaused),
}

impl Pause {
    pub(super) fn is_of_group(&self) -> bool {
        self.group.is_some()
    }

    pub(super) async fn run(self, session: &Session) -> Result<ExitCode, Failure> {
        if let Some(group) = &self.group {
            return set_group(session, group, true).await;
        }
        // A newly started host must be paused from the beginning, because otherwise queued tasks
        // would start before the pause.
        let client = session.client_with(|start| start.overrides.begin = Begin::Paused);
        let (_, started) = client.reach().await?;
        let paused = client.pause_queue(true).await?;
        let is_new = started || paused.changed;
        let already = if is_new { "" } else { "already " };
        let rest = counts(&paused);
        show(
            session,
            &format!("queue {already}paused{rest}"),
            Answer::Queue(paused),
        )
    }
}

impl Unpause {
    pub(super) fn is_of_group(&self) -> bool {
        self.group.is_some()
    }

    pub(super) async fn run(self, session: &Session) -> Result<ExitCode, Failure> {
        if let Some(group) = &self.group {
            return set_group(session, group, false).await;
        }
        let client = session.client();
        let lifted = client.pause_queue(false).await?;
        let mut said = vec![if lifted.changed {
            format!("queue unpaused{}", counts(&lifted))
        } else {
            "queue was not paused".to_owned()
        }];
        let groups = client.groups().await?;
        for group in groups.iter().filter(|group| group.paused) {
            if self.all {
                change(client, &group.name, false).await?;
                said.push(format!("group {} unpaused", group.name));
            } else {
                said.push(format!("group {} stays paused", group.name));
            }
        }
        let said = said.join("; ");
        show(session, &said, Answer::Queue(lifted))
    }
}

async fn set_group(session: &Session, name: &str, paused: bool) -> Result<ExitCode, Failure> {
    let group = change(session.client(), name, paused).await?;
    let word = if paused { "paused" } else { "unpaused" };
    let (running, queued) = (group.running, group.queued);
    let said = format!("group {name} {word}: {running} running, {queued} queued");
    show(session, &said, Answer::Group(group))
}

async fn change(client: &Client, name: &str, paused: bool) -> Result<GroupView, Failure> {
    let change = GroupChange {
        paused: Some(paused),
        ..GroupChange::default()
    };
    Ok(client.set_group(name, &change).await?)
}

fn counts(paused: &QueuePaused) -> String {
    let QueuePaused {
        running, queued, ..
    } = paused;
    format!(": {running} running, {queued} queued")
}

fn show(session: &Session, said: &str, answer: Answer) -> Result<ExitCode, Failure> {
    if session.json {
        output::json(&answer)?;
    } else {
        output::say(said);
    }
    Ok(ExitCode::SUCCESS)
}

/// The line above a list, with everything that keeps queued tasks from starting. Returns none if
/// nothing keeps them from starting.
pub(super) fn head(queue: &QueueView) -> Option<String> {
    let mut parts = Vec::new();
    if queue.no_host {
        parts.push("no host is running (claudine up)".to_owned());
    }
    if let Some(since) = &queue.paused_since {
        let since = times::at(since, times::now());
        parts.push(format!("queue paused since {since} (claudine unpause)"));
    }
    if queue.draining {
        parts.push("host draining (claudine up)".to_owned());
    }
    let limits = queue.limits.iter();
    parts.extend(limits.map(|limit| times::in_text(&limit.text(), times::now())));
    let plugins = queue.plugins_without_code.iter();
    parts.extend(plugins.map(|name| {
        format!("plugin {name} cannot be used now, so its tasks wait (claudine doctor)")
    }));
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// Prints the line of [`head`] on standard error, because the line is not part of the answer.
pub(super) fn say_head(queue: &QueueView) {
    if let Some(head) = head(queue) {
        output::say(&head);
    }
}
