//! Runs other programs: each command is shown, and a failure names it.

use std::{
    ffi::OsStr,
    io::{BufRead, BufReader},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

/// A `cargo` command of the toolchain that runs this program, in the root of the checkout.
pub(crate) fn cargo<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(arguments).current_dir(super::checkout::root());
    cargo
}

pub(crate) fn command<A: AsRef<OsStr>>(
    program: impl AsRef<OsStr>,
    arguments: impl IntoIterator<Item = A>,
) -> Command {
    let mut command = Command::new(program);
    command.args(arguments);
    command
}

/// Runs the command with its output shown; returns an error if the command fails.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let line = line_of(command);
    eprintln!("$ {line}");
    let status = command
        .status()
        .with_context(|| format!("cannot run `{line}`"))?;
    if status.success() {
        Ok(())
    } else {
        bail!("`{line}` failed: {status}")
    }
}

/// Runs the command like `run`, and passes its standard error line by line to `seen`.
pub(crate) fn run_watching(command: &mut Command, mut seen: impl FnMut(&str)) -> Result<()> {
    let line = line_of(command);
    eprintln!("$ {line}");
    let mut child = command
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run `{line}`"))?;
    let stderr = child.stderr.take().context("a piped stderr")?;
    for text in BufReader::new(stderr).split(b'\n') {
        let text = text.context("cannot read a command's output")?;
        let text = String::from_utf8_lossy(&text);
        eprintln!("{text}");
        seen(&text);
    }
    let status = child.wait()?;
    if status.success() {
        Ok(())
    } else {
        bail!("`{line}` failed: {status}")
    }
}

/// The command's standard output; if it fails, an error with its standard error.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let line = line_of(command);
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run `{line}`"))?;
    if !output.status.success() {
        bail!(
            "`{line}` failed: {}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim_end()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether the command can be run and succeeds; its output is ignored.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    let command = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn line_of(command: &Command) -> String {
    let mut line = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        line.push(' ');
        line.push_str(&argument.to_string_lossy());
    }
    line
}
