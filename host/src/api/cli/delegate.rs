//! `claudine delegate`

use std::{io::Read, process::ExitCode};

use clap::Args;
use serde_json::{Map, Value};

use super::{
    failure::Failure,
    session::Session,
    submit::{self, AgentOptions, TaskOptions},
};
use crate::app::{AppError, ErrorKind};

/// More than an agent takes; what is larger goes into a file that the prompt names.
const PROMPT_LIMIT_BYTES: u64 = 16 << 20;

/// Hand a prompt to an agent.
///
/// Prints the task's id and returns at once; the task runs in the background, in this directory and with this environment. `status`,
/// `logs`, `wait` and `why` say how it goes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  claudine delegate --allowed-tools 'Bash(cargo test:*),Edit' 'Make the tests pass'
  claudine delegate --wait 'Review the last commit' > review.md
  git diff | claudine delegate -
  claudine delegate --executor shell 'make -j2 && make install'")]
pub(super) struct Delegate {
    /// What is to be done. `-` reads it from standard input. For `--executor shell` it is the script.
    #[arg(
        value_name = "PROMPT",
        required_unless_present = "spec",
        allow_hyphen_values = false
    )]
    pub(super) prompt: Option<String>,
    /// The prompt came after the tasks of an option, and may have been meant as one of them.
    #[arg(skip)]
    pub(super) may_be_a_task: bool,
    /// What runs it: `claude`, `shell`, or the name of another plugin.
    #[arg(short, long, value_name = "NAME", default_value = "claude")]
    executor: String,
    /// The whole document for the executor, as its schema has it (`claudine plugin inspect NAME`), in place of a prompt.
    #[arg(long, value_name = "JSON", conflicts_with = "prompt")]
    spec: Option<String>,
    #[command(flatten)]
    task: TaskOptions,
    #[command(flatten)]
    agent: AgentOptions,
}

impl Delegate {
    pub(super) async fn run(self, session: &Session) -> Result<ExitCode, Failure> {
        if let (true, Some(prompt)) = (self.may_be_a_task, &self.prompt) {
            refuse_task(session, prompt).await?;
        }
        let mut spec = match (&self.spec, &self.prompt) {
            (Some(json), _) => document(json)?,
            (None, prompt) => {
                prompted(&self.executor, read(prompt.as_deref().unwrap_or_default())?)?
            }
        };
        self.agent.add_to(&mut spec);
        submit::submit(session, self.executor, &Value::Object(spec), self.task).await
    }
}

/// Refuses a prompt that names a task: it is what an option was to wait for, and there is no
/// prompt.
async fn refuse_task(session: &Session, prompt: &str) -> Result<(), Failure> {
    match session
        .client()
        .status(prompt)
        .await
        .map_err(AppError::from)
    {
        Ok(_) => Err(Failure::Usage(format!(
            "there is no prompt: `{prompt}` is a task, which this one is to wait for"
        ))),
        Err(error) if error.kind == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The document that a prompt stands for.
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
        Ok(Value::Object(spec)) => Ok(spec),
        Ok(_) => Err(Failure::Usage("--spec must be a JSON object".to_owned())),
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
    fn a_prompt_becomes_the_executors_document() {
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
}
