//! Runs a command to its end outside any attempt, in the host's environment, so that an executor
//! can check whether its program is installed.

use std::{
    fs::File,
    io::{self, Seek, Write},
    os::unix::process::ExitStatusExt,
    process::{Command, Stdio},
    time::Duration,
};

use super::port::{ChildExit, EnvRemove, Failure, SpawnSpec, Stdin, Usage};
use crate::{
    clock,
    command::{Abandoned, finish},
    config::{PATH, absolute_path, process_environment},
};

const WALL: Duration = Duration::from_secs(10);
/// The most bytes kept of each channel.
const OUTPUT_BYTES: usize = 1 << 20;

#[derive(Debug)]
pub(crate) struct CapturedOutput {
    pub(crate) exit: ChildExit,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
}

pub(crate) async fn run(spec: SpawnSpec) -> Result<CapturedOutput, Failure> {
    let started = clock::monotonic();
    let stdin = input(&spec.stdin).map_err(|error| {
        Failure::new(
            "resource",
            format!("the command's input cannot be kept: {error}"),
        )
    })?;
    let (command, spawn) = (spec.command.clone(), command(spec, stdin));
    let finished = match clock::within(WALL, finish(spawn, OUTPUT_BYTES, Abandoned::Killed)).await {
        None => {
            return Err(Failure::new(
                "timeout",
                format!("`{command}` did not end within {} s", WALL.as_secs()),
            ));
        }
        Some(Err(error)) if error.kind() == io::ErrorKind::NotFound => {
            return Err(Failure::new("spawn", format!("`{command}` was not found")));
        }
        Some(Err(error)) => {
            return Err(Failure::new(
                "spawn",
                format!("`{command}` cannot be run: {error}"),
            ));
        }
        Some(Ok(finished)) => finished,
    };
    let usage = Usage {
        wall: clock::monotonic().saturating_sub(started),
        cpu: None,
        peak_rss_bytes: None,
    };
    let exit = ChildExit {
        code: finished.status.code(),
        signal: finished.status.signal(),
        usage,
    };
    Ok(CapturedOutput {
        exit,
        stdout: finished.stdout,
        stderr: finished.stderr,
    })
}

fn command(spec: SpawnSpec, stdin: Stdio) -> Command {
    let mut command = Command::new(spec.command);
    command.args(spec.args).stdin(stdin);
    // The host may have been started in any directory.
    if let Some(path) = process_environment(PATH) {
        command.env(PATH, absolute_path(&path));
    }
    match spec.env_remove {
        EnvRemove::Everything => {
            command.env_clear();
        }
        EnvRemove::Names(names) => {
            for name in names {
                command.env_remove(name);
            }
        }
    }
    command.envs(spec.env);
    if let Some(cwd) = spec.cwd {
        command.current_dir(cwd);
    }
    command
}

/// Makes the child's stdin: the bytes are in an anonymous file in memory.
fn input(stdin: &Stdin) -> io::Result<Stdio> {
    let Stdin::Bytes(bytes) = stdin else {
        return Ok(Stdio::null());
    };
    let mut file = File::from(rustix::fs::memfd_create(
        "input",
        rustix::fs::MemfdFlags::CLOEXEC,
    )?);
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file.into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn asked(command: &str, args: &[&str]) -> SpawnSpec {
        SpawnSpec {
            command: command.into(),
            args: args.iter().map(ToString::to_string).collect(),
            cwd: None,
            env: Vec::new(),
            env_remove: EnvRemove::Names(Vec::new()),
            stdin: Stdin::Empty,
        }
    }

    async fn sh(script: &str) -> CapturedOutput {
        run(asked("sh", &["-c", script])).await.unwrap()
    }

    #[tokio::test]
    async fn a_captured_command_gets_only_its_own_input_and_environment() {
        let spec = SpawnSpec {
            cwd: Some("/".into()),
            env: vec![("A".into(), "1".into())],
            env_remove: EnvRemove::Everything,
            stdin: Stdin::Bytes(b"fed".to_vec()),
            ..asked(
                "/bin/sh",
                &["-c", "/bin/pwd; echo $A$HOME; read x; echo $x"],
            )
        };
        let output = run(spec).await.unwrap();
        assert_eq!(output.stdout, b"/\n1\nfed\n");
    }

    #[tokio::test]
    async fn exit_code_output_and_signal_are_captured() {
        let output = sh("echo out; echo err >&2; exit 3").await;
        assert_eq!((output.exit.code, output.exit.signal), (Some(3), None));
        assert_eq!(
            (output.stdout.as_slice(), output.stderr.as_slice()),
            (&b"out\n"[..], &b"err\n"[..])
        );
        let output = sh("kill -9 $$").await;
        assert_eq!((output.exit.code, output.exit.signal), (None, Some(9)));
    }

    #[tokio::test]
    async fn output_over_the_limit_is_cut_and_the_command_runs_to_its_end() {
        let output = sh("head -c 2000000 /dev/zero; echo done >&2").await;
        assert_eq!(
            (output.stdout.len(), output.stderr.as_slice()),
            (OUTPUT_BYTES, &b"done\n"[..])
        );
    }

    #[tokio::test]
    async fn a_command_that_is_not_found_is_named_in_the_failure() {
        let failure = run(asked("no-such-command-here", &[])).await.unwrap_err();
        assert_eq!(
            (failure.code.as_str(), failure.message.as_str()),
            ("spawn", "`no-such-command-here` was not found")
        );
    }
}
