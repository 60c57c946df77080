//! `claudine run`

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::{
    failure::Failure,
    session::Session,
    submit::{self, TaskOptions},
};

/// Run a command or a script as a task.
///
/// Prints the task's id and returns at once. All words from the command on reach it exactly as they
/// are: no shell joins and splits them again, and options of this command come before it. A script
/// goes to `sh`, or to the shell that --shell names.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  claudine run cargo build --release
  claudine run --wait --timeout 10m make test
  claudine run --depends-on build test -- ./deploy
  claudine run --name nightly --script 'make && make check 2>&1 | tee log'")]
pub(super) struct Run {
    /// The command and its arguments, after `--` if it begins as an option does.
    #[arg(
        value_name = "CMD",
        trailing_var_arg = true,
        required_unless_present = "script"
    )]
    pub(super) command: Vec<String>,
    /// A script instead of a command.
    #[arg(long, value_name = "TEXT", conflicts_with = "command")]
    script: Option<String>,
    /// What runs the script: sh, bash, dash, zsh, ksh, fish, or an absolute path [default: sh].
    #[arg(long, value_name = "SHELL", requires = "script")]
    shell: Option<String>,
    /// What runs it: `shell`, or the name of another plugin that takes commands.
    #[arg(short, long, value_name = "NAME", default_value = "shell")]
    executor: String,
    #[command(flatten)]
    task: TaskOptions,
}

impl Run {
    pub(super) async fn run(self, session: &Session) -> Result<ExitCode, Failure> {
        let spec = match (self.script, self.shell) {
            (None, _) => json!({"argv": self.command}),
            (Some(script), None) => json!({"script": script}),
            (Some(script), Some(shell)) => json!({"script": script, "shell": shell}),
        };
        Box::pin(submit::submit(session, self.executor, &spec, self.task)).await
    }
}
