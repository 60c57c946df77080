//! Options of `retry` and `resume` that change a finished task's request.

use std::{io::Write, time::Duration};

use clap::Args;
use claudine_domain::task::Priority;
use serde_json::{Map, Value};
use tempfile::NamedTempFile;

use super::{
    editor, failure::Failure, parse, session::Session, several::Which, submit::AgentOptions,
};
use crate::{
    api::once::{self, Once},
    app::{AppError, Change, ErrorKind, Retries},
};

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
    /// The changes that the options ask for, including those that the user makes in the editor, and
    /// the text in the editor.
    pub(super) async fn of(
        &self,
        session: &Session,
        which: &Which,
    ) -> Result<(Change, Option<Edited>), Failure> {
        let mut change = self.change();
        let mut text = None;
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
            let (after, edited) = edited(&before)?;
            let mut spec = differences(&before, after);
            // Options take precedence over edits.
            spec.extend(change.spec);
            change.spec = spec;
            text = Some(edited);
        }
        Ok((change, text))
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

/// A text that was edited, in a file that is removed when this value is dropped.
pub(super) struct Edited {
    file: NamedTempFile,
    /// The text before it was edited.
    before: String,
}

impl Edited {
    /// Keeps the text because of this failure, so that nobody has to write it again, and adds its
    /// place to the failure. A text that was not edited is not kept.
    fn kept(self, failure: Failure) -> Failure {
        let error = match failure {
            Failure::App(error) => error,
            Failure::Usage(message) => AppError::new(ErrorKind::Invalid, message),
            other => return other,
        };
        let is_edited = match std::fs::read(self.file.path()) {
            Ok(left) => {
                let left = left.trim_ascii();
                !left.is_empty() && left != self.before.as_bytes()
            }
            // A text that cannot be read at the moment is kept too.
            Err(unread) => unread.kind() != std::io::ErrorKind::NotFound,
        };
        if !is_edited {
            return error.into();
        }
        // On Linux this cannot fail: the file only loses the note that it is to be removed.
        let Ok((_, path)) = self.file.keep() else {
            return error.into();
        };
        let place = format!("your edited text is in {}", path.display());
        let hint = match &error.hint {
            Some(hint) => format!("{hint}; {place}"),
            None => place,
        };
        error.hint(hint).into()
    }
}

/// Keeps the edited text if the action for which it was written has failed.
pub(super) fn keep_unless_done<T>(
    text: Option<Edited>,
    done: Result<T, Failure>,
) -> Result<T, Failure> {
    match text {
        Some(text) => done.map_err(|failure| text.kept(failure)),
        None => done,
    }
}

/// Opens a document in the editor and returns the edited document. If the edited text cannot be
/// used, it is kept.
fn edited(document: &Map<String, Value>) -> Result<(Map<String, Value>, Edited), Failure> {
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
    let document = editor::edit(file.path()).and_then(|()| {
        // Reads the file by its path, because some editors replace the file.
        let text = std::fs::read_to_string(file.path()).map_err(|error| cannot(&error))?;
        let refused = "the edited text is not a JSON object, nothing was changed";
        match serde_json::from_str(&text) {
            Ok(Once(Value::Object(document))) => Ok(document),
            Ok(_) => Err(Failure::Usage(refused.to_owned())),
            Err(error) if once::is_given_twice(&error) => Err(Failure::Usage(format!(
                "the edited text cannot be used, nothing was changed: {error}"
            ))),
            Err(error) => Err(Failure::Usage(format!("{refused}: {error}"))),
        }
    });
    let edited = Edited { file, before: text };
    match document {
        Ok(document) => Ok((document, edited)),
        Err(failure) => Err(edited.kept(failure)),
    }
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

    /// A directory in the place of the text cannot be read even by the superuser.
    #[test]
    fn an_edited_text_that_cannot_be_read_is_kept() {
        let file = NamedTempFile::new().unwrap();
        let path = file.path().to_owned();
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        let text = Edited {
            file,
            before: String::new(),
        };
        let failure = text.kept(AppError::new(ErrorKind::Invalid, "no").into());
        std::fs::remove_dir(&path).unwrap();
        let says = format!("your edited text is in {}", path.display());
        let failure = format!("{failure:?}");
        assert!(failure.contains(&says), "{failure}");
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
