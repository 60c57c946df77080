//! The project's own commands: `cargo xtask build`, `test`, `demo` and so on. Each command has its
//! own file; this file parses the arguments.

use std::process::ExitCode;

use anyhow::{Result, bail};

mod bench;
mod build;
mod checkout;
mod demo;
mod http;
mod mutants;
mod program;
mod record;
mod setup;
mod sim;
mod soak;
mod test;
mod trial;

const USAGE: &str = "\
usage: cargo xtask COMMAND

  build [--debug]      builds plugins and host into one file: target/release/claudine
  plugins              builds only the built-in plugins
  test [-- FILTER…]    runs all checks
  demo                 shows Claudine in half a minute
  bench [--quick] [--full] [--against BINARY] [WHAT…]
                       compares speed with limits and other programs
  soak [--minutes N]   runs mixed load for an hour: does anything grow?
  sim [HISTORIES]      runs 20,000 random histories of the queue with failures
  mutants [-- ARGS]    checks that a test fails if a line of the rules is broken
  record               makes the recording in README.md: docs/recording.svg
  setup                installs the tests' tools, and prints shell exports for them
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run(&arguments) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[&str]) -> Result<ExitCode> {
    match arguments {
        ["build"] => build::host(build::Profile::Release).map(|_| ExitCode::SUCCESS),
        ["build", "--debug"] => build::host(build::Profile::Debug).map(|_| ExitCode::SUCCESS),
        ["plugins"] => build::plugins().map(|()| ExitCode::SUCCESS),
        ["test", options @ ..] => Ok(test::everything(&test::Options::parse(options)?)),
        ["demo"] => demo::run().map(|()| ExitCode::SUCCESS),
        ["bench", options @ ..] => bench::run(options).map(|()| ExitCode::SUCCESS),
        ["soak", options @ ..] => soak::run(options).map(|()| ExitCode::SUCCESS),
        ["sim", options @ ..] => sim::run(options).map(|()| ExitCode::SUCCESS),
        ["mutants", options @ ..] => mutants::run(options).map(|()| ExitCode::SUCCESS),
        ["record"] => record::run().map(|()| ExitCode::SUCCESS),
        ["setup"] => setup::print_exports().map(|()| ExitCode::SUCCESS),
        ["help" | "--help" | "-h"] => {
            print!("{USAGE}");
            Ok(ExitCode::SUCCESS)
        }
        [] => bail!("no command given\n\n{USAGE}"),
        other => bail!("unknown command `{}`\n\n{USAGE}", other.join(" ")),
    }
}
