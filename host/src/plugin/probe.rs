//! A probe of `fingerprint`: a command that an executor looks for, run in the host's environment.

use std::{
    io,
    os::unix::process::ExitStatusExt,
    process::{Command, Stdio},
    time::Duration,
};

use super::port::{ChildExit, Failure, Usage};
use crate::{
    clock,
    command::{Abandoned, finish},
};

const PROBE_WALL: Duration = Duration::from_secs(10);
/// Of each channel.
const OUTPUT_BYTES: usize = 64 << 10;

#[derive(Debug)]
pub(crate) struct ProbeOutput {
    pub(crate) exit: ChildExit,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
}

/// Runs a command in the host's environment.
pub(crate) async fn run(command: &str, args: &[String]) -> Result<ProbeOutput, Failure> {
    let started = clock::monotonic();
    let mut spawn = Command::new(command);
    spawn.args(args).stdin(Stdio::null());
    let finished =
        match clock::within(PROBE_WALL, finish(spawn, OUTPUT_BYTES, Abandoned::Killed)).await {
            None => {
                return Err(Failure::new(
                    "timeout",
                    format!("`{command}` did not end within {} s", PROBE_WALL.as_secs()),
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
    Ok(ProbeOutput {
        exit,
        stdout: finished.stdout,
        stderr: finished.stderr,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    async fn sh(script: &str) -> ProbeOutput {
        run("sh", &["-c".into(), script.into()]).await.unwrap()
    }

    #[tokio::test]
    async fn exit_output_and_signal_are_told_apart() {
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
    async fn a_flood_is_cut_and_does_not_stall_the_command() {
        let output = sh("head -c 1000000 /dev/zero; echo done >&2").await;
        assert_eq!(
            (output.stdout.len(), output.stderr.as_slice()),
            (OUTPUT_BYTES, &b"done\n"[..])
        );
    }

    #[tokio::test]
    async fn a_missing_command_is_named() {
        let failure = run("no-such-command-here", &[]).await.unwrap_err();
        assert_eq!(
            (failure.code.as_str(), failure.message.as_str()),
            ("spawn", "`no-such-command-here` was not found")
        );
    }
}
