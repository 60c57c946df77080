//! `claudine completions`

use std::{io, process::ExitCode};

use clap::{Args, ValueEnum};
use clap_complete::env::{Bash, Elvish, EnvCompleter, Fish, Powershell, Zsh};

use super::{complete::VARIABLE, failure::Failure, output};

const NAME: &str = "claudine";

/// Print a completion script for a shell.
///
/// Names of tasks, groups and labels come from the running host. Print the script again after an
/// upgrade.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  source <(claudine completions bash)       # in ~/.bashrc
  claudine completions zsh > ~/.zfunc/_claudine
  claudine completions fish > ~/.config/fish/completions/claudine.fish
  claudine completions nushell | save -f ~/.config/nushell/autoload/claudine.nu")]
pub(super) struct Completions {
    /// Shell.
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
    Nushell,
    Elvish,
    Powershell,
}

impl Completions {
    pub(super) fn run(self) -> Result<ExitCode, Failure> {
        output::bytes(&script(self.shell)?)?;
        Ok(ExitCode::SUCCESS)
    }
}

fn script(shell: Shell) -> io::Result<Vec<u8>> {
    let asks = |shell: &dyn EnvCompleter, more: &str| {
        let mut script = Vec::new();
        shell.write_registration(VARIABLE, NAME, NAME, NAME, &mut script)?;
        script.extend(more.as_bytes());
        Ok(script)
    };
    match shell {
        Shell::Bash => asks(&Bash, include_str!("shells/run.bash")),
        Shell::Zsh => asks(&Zsh, include_str!("shells/run.zsh")),
        Shell::Fish => asks(&Fish, include_str!("shells/run.fish")),
        Shell::Elvish => asks(&Elvish, ""),
        Shell::Powershell => asks(&Powershell, ""),
        Shell::Nushell => Ok(include_bytes!("shells/claudine.nu").to_vec()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn each_shell_gets_a_script_in_its_language() {
        let check = |shell, parts: &[&str]| {
            let script = String::from_utf8(script(shell).unwrap()).unwrap();
            for part in parts {
                assert!(script.contains(part), "{shell:?}: {part}: {script}");
            }
        };
        check(
            Shell::Bash,
            &["CLAUDINE_COMPLETE=\"bash\"", "-F _claudine claudine"],
        );
        check(
            Shell::Zsh,
            &["#compdef claudine", "CLAUDINE_COMPLETE=\"zsh\""],
        );
        check(
            Shell::Fish,
            &["CLAUDINE_COMPLETE=fish", "complete -c claudine"],
        );
        check(
            Shell::Nushell,
            &["CLAUDINE_COMPLETE: fish", "completions.external.completer"],
        );
        check(Shell::Elvish, &["CLAUDINE_COMPLETE"]);
        check(Shell::Powershell, &["CLAUDINE_COMPLETE"]);
    }
}
