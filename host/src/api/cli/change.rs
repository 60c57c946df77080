//! Options of `retry` and `resume` that change a finished task's request.

use std::{io::Write, time::Duration};

use clap::Args;
use claudine_domain::task::Priority;
use serde_json::{Map, Value};

use super::{
    editor, failure::Failure, parse, session::Session, several::Which, submit::AgentOptions,
};
use crate::app::{AppError, Change, ErrorKind, Retries};

/// Changes that apply from the next attempt on. Fields without an option keep their values.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Changes")]
pub(super) struct ChangeOptions {
    /// Budget in USD, past attempts included
    #[arg(long, value_name = "USD", value_parser = parse::dollars)]
    budget_usd: Option<f64>,
    /// Budget in USD of the whole graph
    #[arg(hide_short_help = true, long, value_name = "USD", value_parser = parse::dollars)]
    graph_budget_usd: Option<f64>,
    /// Time limit of each attempt
    #[arg(short, long, value_name = "DURATION", value_parser = parse::limit, allow_hyphen_values = true)]
    timeout: Option<Duration>,
    /// Kill the task after this long without output
    #[arg(hide_short_help = true, long, value_name = "DURATION", value_parser = parse::limit, allow_hyphen_values = true)]
    idle_timeout: Option<Duration>,
    /// Give up if the task has not started within this time
    #[arg(hide_short_help = true, long, value_name = "DURATION", value_parser = parse::limit, allow_hyphen_values = true)]
    queue_timeout: Option<Duration>,
    /// Priority, P0 (highest) to P2
    #[arg(short, long, value_name = "P0|P1|P2", value_parser = parse::priority)]
    priority: Option<Priority>,
    /// Retry limit, past attempts included
    #[arg(long, value_name = "N", value_parser = parse::retries())]
    retries: Option<u32>,
    /// Output limit; beyond it the head and the tail are kept
    #[arg(hide_short_help = true, long, value_name = "SIZE", value_parser = parse::size, allow_hyphen_values = true)]
    max_output: Option<u64>,
    /// Edit the request in $VISUAL or $EDITOR
    #[arg(long)]
    edit: bool,
    #[command(flatten)]
    agent: AgentOptions,
}

impl ChangeOptions {
    /// The changes that the options ask for, including those that the user makes in the editor.
    pub(super) async fn of(&self, session: &Session, which: &Which) -> Result<Change, Failure> {
        let mut change = self.change();
        if self.edit {
            let Some(task) = which.single() else {
                return Err(Failure::Usage(
                    "--edit changes one task only; name exactly one".to_owned(),
                ));
            };
            let before = match session.client().status(task).await?.spec {
                Some(Value::Object(spec)) => spec,
                _ => Map::new(),
            };
            let after = edited(&before)?;
            let mut spec = differences(&before, after);
            // Options take precedence over edits.
            spec.extend(change.spec);
            change.spec = spec;
        }
        Ok(change)
    }

    fn change(&self) -> Change {
        let millis =
            |limit: Option<Duration>| limit.and_then(|limit| u64::try_from(limit.as_millis()).ok());
        let mut spec = Map::new();
        self.agent.add_to(&mut spec);
        Change {
            spec,
            priority: self.priority,
            timeout_ms: millis(self.timeout),
            idle_timeout_ms: millis(self.idle_timeout),
            queue_timeout_ms: millis(self.queue_timeout),
            max_output_bytes: self.max_output,
            retries: self.retries.map(|limit| Retries {
                limit,
                on: Vec::new(),
                initial_ms: None,
                factor: None,
                max_ms: None,
            }),
            budget_usd: self.budget_usd,
            graph_budget_usd: self.graph_budget_usd,
            allow_denied: self.agent.allow_denied.then_some(true),
            ..Change::default()
        }
    }
}

/// Opens a document in the editor and returns the edited document. If the edited text cannot be
/// used, it is kept, so that nobody has to write it again.
fn edited(document: &Map<String, Value>) -> Result<Map<String, Value>, Failure> {
    let cannot = |error: &dyn std::fmt::Display| {
        let message = format!("the request cannot be edited: {error}");
        Failure::from(AppError::new(ErrorKind::Unavailable, message))
    };
    let mut file = tempfile::Builder::new()
        .prefix("claudine-task-")
        .suffix(".json")
        .tempfile()
        .map_err(|error| cannot(&error))?;
    let text = serde_json::to_string_pretty(document).map_err(|error| cannot(&error))?;
    writeln!(file, "{text}").map_err(|error| cannot(&error))?;
    let edited: Result<Map<String, Value>, Failure> = editor::edit(file.path()).and_then(|()| {
        // Reads the file by its path, because some editors replace the file.
        let text = std::fs::read_to_string(file.path()).map_err(|error| cannot(&error))?;
        serde_json::from_str(&text).map_err(|error| {
            Failure::Usage(format!(
                "the edited text is not a JSON object, nothing was changed: {error}"
            ))
        })
    });
    let message = match edited {
        Err(Failure::Usage(message)) => message,
        other => return other,
    };
    let mut error = AppError::new(ErrorKind::Invalid, message);
    let left = std::fs::read(file.path()).unwrap_or_default();
    let left = left.trim_ascii();
    if !left.is_empty()
        && left != text.as_bytes()
        && let Ok((_, path)) = file.keep()
    {
        error = error.hint(format!("your edited text is in {}", path.display()));
    }
    Err(error.into())
}

/// The fields that differ; removed fields are null.
fn differences(before: &Map<String, Value>, after: Map<String, Value>) -> Map<String, Value> {
    let gone = before.keys().filter(|field| !after.contains_key(*field));
    let gone: Vec<(String, Value)> = gone.map(|field| (field.clone(), Value::Null)).collect();
    let mut changed = after;
    changed.retain(|field, value| before.get(field) != Some(value));
    changed.extend(gone);
    changed
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        change: ChangeOptions,
    }

    #[test]
    fn fields_without_an_option_are_not_changed() {
        let check = |line: &[&str], expected: serde_json::Value| {
            let all = std::iter::once("x").chain(line.iter().copied());
            let change = Line::try_parse_from(all).unwrap().change.change();
            let found = serde_json::to_value(&change).unwrap();
            assert_eq!(found, expected, "{line:?}");
            assert_eq!(serde_json::from_value::<Change>(found).unwrap(), change);
        };
        check(&[], serde_json::json!({}));
        check(
            &["--allowed-tools", "Bash(sed:*),Edit", "--model", "opus"],
            serde_json::json!({"spec": {"allowed_tools": ["Bash(sed:*)", "Edit"], "model": "opus"}}),
        );
        check(
            &[
                "-t",
                "10m",
                "-p",
                "P0",
                "--budget-usd",
                "5",
                "--retries",
                "2",
            ],
            serde_json::json!({
                "timeout_ms": 600_000, "priority": "P0", "budget_usd": 5.0, "retries": {"limit": 2},
            }),
        );
    }

    #[test]
    fn only_edited_fields_are_changed() {
        let map = |json: Value| json.as_object().unwrap().clone();
        let before = map(serde_json::json!({"prompt": "a", "model": "opus", "max_turns": 3}));
        let after = map(serde_json::json!({"prompt": "b", "model": "opus", "allowed_tools": []}));
        let expected = serde_json::json!({"prompt": "b", "allowed_tools": [], "max_turns": null});
        assert_eq!(Value::Object(differences(&before, after)), expected);
        assert_eq!(differences(&before, before.clone()), Map::new());
    }
}
