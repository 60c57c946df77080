//! `claudine run`

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::{
    failure::Failure,
    help::Layout as _,
    session::Session,
    submit::{self, TaskOptions},
};

/// Run a command or a script as a task.
///
/// Prints the task's id and returns at once. Options come before the command, whose arguments are
/// passed on unchanged, without a shell. A script is run by `sh`, or by the shell of --shell.
#[derive(Debug, Args)]
#[command(options_first(&["wait", "name", "depends-on", "timeout", "script"]))]
#[command(after_long_help = "\
Examples:
  claudine run cargo build --release
  claudine run --wait --timeout 10m make test
  claudine run --depends-on build test -- ./deploy
  claudine run --name nightly --script 'make && make check 2>&1 | tee log'")]
pub(super) struct Run {
    /// Command and its arguments.
    #[arg(
        value_name = "CMD",
        trailing_var_arg = true,
        required_unless_present = "script"
    )]
    pub(super) command: Vec<String>,
    /// Run a script instead of a command.
    #[arg(
        long,
        value_name = "TEXT",
        conflicts_with = "command",
        help_heading = "Execution"
    )]
    script: Option<String>,
    /// Shell of the script [default: sh].
    ///
    /// One of sh, bash, dash, zsh, ksh and fish, or an absolute path.
    #[arg(
        long,
        value_name = "SHELL",
        requires = "script",
        help_heading = "Execution"
    )]
    shell: Option<String>,
    /// Executor plugin.
    ///
    /// `shell`, or the name of another plugin that runs commands.
    #[arg(
        short,
        long,
        value_name = "NAME",
        default_value = "shell",
        hide_short_help = true,
        help_heading = "Execution"
    )]
    executor: String,
    #[command(flatten)]
    task: TaskOptions,
}

impl Run {
    pub(super) fn waits(&self) -> bool {
        self.task.waits()
    }

    pub(super) async fn run(self, session: &Session) -> Result<ExitCode, Failure> {
        let spec = match (self.script, self.shell) {
            (None, _) => json!({"argv": self.command}),
            (Some(script), None) => json!({"script": script}),
            (Some(script), Some(shell)) => json!({"script": script, "shell": shell}),
        };
        Box::pin(submit::submit(session, self.executor, &spec, self.task)).await
    }
}
