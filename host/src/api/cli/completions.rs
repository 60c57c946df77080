//! `claudine completions`

use std::process::ExitCode;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::{Cli, failure::Failure, output};

/// Print what a shell needs to complete Claudine's commands.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  claudine completions bash > ~/.local/share/bash-completion/completions/claudine
  claudine completions zsh > ~/.zfunc/_claudine
  claudine completions fish > ~/.config/fish/completions/claudine.fish")]
pub(super) struct Completions {
    /// The shell.
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

impl Completions {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "claudine", &mut script);
        output::bytes(&script)?;
        Ok(ExitCode::SUCCESS)
    }
}
