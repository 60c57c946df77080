//! `claudine config`

use std::process::ExitCode;

use clap::{Args, Subcommand};
use schemars::JsonSchema;
use serde::Serialize;

use super::{Common, failure::Failure, output, session::unfit};
use crate::{
    app::{AppError, ErrorKind},
    config::{Settings, process_environment},
};

/// Look at the settings of a host.
///
/// A host reads them once, when it starts: from its configuration file, then the environment, then the command line; the later one wins.
#[derive(Debug, Args)]
#[command(after_help = "\
Environment that a host reads when it starts:
  CLAUDINE_SLOTS              `auto` or a number of tasks at once
  CLAUDINE_KEEP               forget finished tasks after so long, such as `36h` or `30d`
  CLAUDINE_PREPARE_TIMEOUT    how long it may take to make what a task needs, mostly its worktree:
                              `30m` unless it says otherwise
  CLAUDINE_SETTLE_TIMEOUT     how long it may take to merge, push or write its work: `30m` likewise
  CLAUDINE_TASK_TIMEOUT       the time limit of tasks that have none of their own, such as `1h30m`;
                              a plain number is milliseconds
  CLAUDINE_MAX_OUTPUT_BUFFER  how much output of a task is kept, such as `10M`
  CLAUDINE_CPU_THRESHOLD      with `auto`: start nothing more above so many per cent of CPU
  CLAUDINE_MEMORY_RESERVE     with `auto`: memory to leave free, such as `1G`
  CLAUDINE_DISK_RESERVE       disk to leave free, such as `1G`
  CLAUDINE_LOG_LEVEL          error, warn, info, debug or trace
One that makes no sense is told of and left out.

Examples:
  claudine config show
  claudine config show > ~/.config/claudine/config.toml")]
pub(super) struct Config {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Print the settings that a host started here and now would have, as a configuration file.
    Show,
}

/// The settings, and where they were read.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(transparent)]
pub(super) struct Shown(serde_json::Map<String, serde_json::Value>);

impl Config {
    pub(super) fn run(self, common: &Common) -> Result<ExitCode, Failure> {
        let Verb::Show = self.verb;
        let settings = Settings::load(&common.overrides(), &process_environment).map_err(unfit)?;
        for warning in &settings.warnings {
            output::say(&format!("warning: {warning}"));
        }
        let text = settings.to_string();
        if common.json() {
            let mut table: serde_json::Map<String, serde_json::Value> = toml::from_str(&text)
                .map_err(|error| {
                    AppError::new(
                        ErrorKind::Internal,
                        format!("the settings cannot be written: {error}"),
                    )
                })?;
            table.insert(
                "data_dir".to_owned(),
                settings.data_dir.to_string_lossy().into(),
            );
            table.insert(
                "file".to_owned(),
                settings
                    .file
                    .map(|file| file.to_string_lossy().into_owned())
                    .into(),
            );
            output::json(&Shown(table))?;
        } else {
            output::text(&text)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
