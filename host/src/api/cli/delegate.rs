//! `claudine delegate`

use std::{io::Read, process::ExitCode};

use clap::Args;
use serde_json::{Map, Value};

use super::{
    failure::Failure,
    help::Layout as _,
    session::Session,
    submit::{self, AgentOptions, TaskOptions},
};
use crate::{
    api::once::{self, Once},
    app::{AppError, ErrorKind, NAME_MAX_CHARS},
};

/// Size limit of a prompt, which is larger than any agent accepts. Larger content belongs in a file
/// that the prompt names.
const PROMPT_LIMIT_BYTES: u64 = 16 << 20;

/// Hand a prompt to an agent.
///
/// Prints the task's id and returns at once. The task runs in the background, in this directory
/// and with this environment.
#[derive(Debug, Args)]
#[command(options_first(&["wait", "name", "depends-on", "worktree", "allowed-tools", "model"]))]
#[command(after_long_help = "\
Examples:
  claudine delegate --allowed-tools 'Bash(make:*),Edit' 'Make the tests pass'
  claudine delegate --wait 'Review the last commit' > review.md
  git diff | claudine delegate -
  claudine delegate --executor shell 'make -j2 && make install'")]
pub(super) struct Delegate {
    /// Prompt, or `-` for standard input; a script for `--executor shell`.
    #[arg(
        value_name = "PROMPT",
        required_unless_present = "spec",
        allow_hyphen_values = false
    )]
    pub(super) prompt: Option<String>,
    /// Candidates for a missing prompt: the last values of options that take several tasks.
    #[arg(skip)]
    pub(super) maybe_prompts: Vec<String>,
    /// Executor plugin.
    ///
    /// `claude`, `shell`, or the name of another plugin.
    #[arg(
        short,
        long,
        value_name = "NAME",
        default_value = "claude",
        help_heading = "Execution"
    )]
    executor: String,
    /// Request to the executor in JSON, instead of a prompt.
    ///
    /// `claudine plugin inspect NAME` prints its schema.
    #[arg(
        long,
        value_name = "JSON",
        conflicts_with = "prompt",
        hide_short_help = true,
        help_heading = "Execution"
    )]
    spec: Option<String>,
    #[command(flatten)]
    task: TaskOptions,
    #[command(flatten)]
    agent: AgentOptions,
}

impl Delegate {
    pub(super) fn waits(&self) -> bool {
        self.task.waits()
    }

    pub(super) async fn run(mut self, session: &Session) -> Result<ExitCode, Failure> {
        if !self.maybe_prompts.is_empty() {
            let prompt = prompt_among(session, &self.maybe_prompts).await?;
            self.task.names_not(&prompt);
            self.prompt = Some(prompt);
        }
        let mut spec = match (&self.spec, &self.prompt) {
            (Some(json), _) => document(json)?,
            (None, prompt) => {
                prompted(&self.executor, read(prompt.as_deref().unwrap_or_default())?)?
            }
        };
        self.agent.add_to(&mut spec);
        self.task.allow_denied = self.agent.allow_denied;
        let spec = Value::Object(spec);
        Box::pin(submit::submit(session, self.executor, &spec, self.task)).await
    }
}

/// Returns the one value that does not name a task, because this value is the prompt.
async fn prompt_among(session: &Session, values: &[String]) -> Result<String, Failure> {
    let mut prompts = Vec::new();
    for value in values {
        if !names_tasks(session, value).await? {
            prompts.push(value);
        }
    }
    match prompts.as_slice() {
        [prompt] => Ok((*prompt).clone()),
        [] => {
            let last = values.last().map_or("", String::as_str);
            Err(Failure::Usage(format!(
                "no prompt: `{last}` is a task to wait for; put the prompt first"
            )))
        }
        [one, other, ..] => Err(Failure::Usage(format!(
            "neither `{one}` nor `{other}` is a task, and only one of them can be the prompt; \
             put the prompt first"
        ))),
    }
}

/// Whether a value names a task, or several tasks separated by commas.
async fn names_tasks(session: &Session, value: &str) -> Result<bool, Failure> {
    for name in submit::listed(value) {
        if name.is_empty() || name.chars().count() > NAME_MAX_CHARS {
            return Ok(false);
        }
        let found = session.client().status(name).await;
        match found.map_err(AppError::from) {
            Ok(_) => {}
            Err(error) if error.kind == ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(true)
}

/// The executor's document for a prompt.
fn prompted(executor: &str, prompt: String) -> Result<Map<String, Value>, Failure> {
    if prompt.trim().is_empty() {
        return Err(Failure::Usage("the prompt is empty".to_owned()));
    }
    let field = if executor == "shell" {
        "script"
    } else {
        "prompt"
    };
    Ok(Map::from_iter([(field.to_owned(), Value::String(prompt))]))
}

fn document(json: &str) -> Result<Map<String, Value>, Failure> {
    match serde_json::from_str(json) {
        Ok(Once(Value::Object(spec))) => Ok(spec),
        Ok(_) => Err(Failure::Usage("--spec must be a JSON object".to_owned())),
        Err(error) if once::is_given_twice(&error) => {
            Err(Failure::Usage(format!("--spec cannot be used: {error}")))
        }
        Err(error) => Err(Failure::Usage(format!("--spec is not JSON: {error}"))),
    }
}

/// The prompt itself, or, for `-`, all of standard input.
fn read(prompt: &str) -> Result<String, Failure> {
    if prompt != "-" {
        return Ok(prompt.to_owned());
    }
    let mut bytes = Vec::new();
    std::io::stdin()
        .take(PROMPT_LIMIT_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| {
            Failure::Usage(format!(
                "cannot read the prompt from standard input: {error}"
            ))
        })?;
    if bytes.len() as u64 > PROMPT_LIMIT_BYTES {
        let mib = PROMPT_LIMIT_BYTES >> 20;
        return Err(Failure::Usage(format!(
            "the prompt on standard input is larger than {mib} MiB; put large content into a file and name the file in the prompt"
        )));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Failure::Usage(format!(
            "the prompt on standard input is not valid UTF-8 at byte {at}"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_becomes_a_document_for_the_executor() {
        let check = |executor: &str, prompt: &str, expected: &str| {
            let found = prompted(executor, prompt.to_owned());
            assert_eq!(
                found.map_or_else(
                    |error| error.to_string(),
                    |spec| Value::Object(spec).to_string()
                ),
                expected
            );
        };
        check("claude", "do it", r#"{"prompt":"do it"}"#);
        check("shell", "make\n", r#"{"script":"make\n"}"#);
        check("custom", "do it", r#"{"prompt":"do it"}"#);
        check("claude", " \n", "the prompt is empty");
    }

    #[test]
    fn a_document_that_gives_a_field_twice_is_refused() {
        let refused =
            |json: &str| document(json).map_or_else(|error| error.to_string(), |_| String::new());
        assert_eq!(refused(r#"{"prompt": "a"}"#), "");
        let twice = refused(r#"{"prompt": "a", "prompt": "b"}"#);
        assert!(
            twice.starts_with("--spec cannot be used: the field 'prompt' is given twice"),
            "{twice}"
        );
        assert!(refused("{").starts_with("--spec is not JSON: "));
        assert_eq!(refused("[]"), "--spec must be a JSON object");
    }
}
