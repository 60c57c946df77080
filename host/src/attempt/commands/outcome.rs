//! The outcome of a command, made of the report of its end and of its output on disk.

use std::{
    io,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::ExitStatus,
};

use crate::{
    attempt::live::ChildState,
    command::{Finished, Outcome},
    supervise::{
        NotStartedClass, Status, StopWhy,
        log::{Channel, LogReader, Piece},
    },
};

/// The outcome of a command that has ended. If no supervisor received the command, the error is of
/// the kind [`io::ErrorKind::NotConnected`].
pub(super) async fn outcome_of(
    child: Option<ChildState>,
    log: PathBuf,
    kept_bytes: usize,
) -> Outcome {
    let exit = match child {
        Some(ChildState::Exited(exit)) => exit,
        Some(ChildState::NotStarted { class, message }) => {
            let kind = match class {
                NotStartedClass::CommandNotFound => io::ErrorKind::NotFound,
                NotStartedClass::Supervisor => io::ErrorKind::NotConnected,
                _ => io::ErrorKind::Other,
            };
            return Err(io::Error::new(kind, message));
        }
        _ => {
            return Err(io::Error::other(
                "the command's supervisor died while the command ran",
            ));
        }
    };
    match exit.stopped {
        Some(StopWhy::TimedOut) => return Ok(None),
        Some(StopWhy::Finished) | None => {}
        Some(_) => return Err(io::Error::other("the command was stopped with its attempt")),
    }
    let status = match exit.status {
        Status::Code(code) => ExitStatus::from_raw(code << 8),
        Status::Signal(signal) => ExitStatus::from_raw(signal),
    };
    let reading = crate::aside::run(move || {
        let stdout = read(&log, Channel::Stdout, kept_bytes)?;
        let stderr = read(&log, Channel::Stderr, kept_bytes)?;
        Ok::<_, io::Error>((stdout, stderr))
    });
    let (stdout, stderr) = reading.await.map_err(io::Error::other)??;
    Ok(Some(Finished {
        status,
        stdout,
        stderr,
    }))
}

fn read(log: &Path, channel: Channel, kept_bytes: usize) -> io::Result<Vec<u8>> {
    let mut reader = LogReader::new(log).channel(channel);
    let mut kept = Vec::new();
    while let Some(piece) = reader.next_piece()? {
        match piece {
            Piece::Bytes { bytes, .. } => {
                let room = kept_bytes.saturating_sub(kept.len()).min(bytes.len());
                kept.extend_from_slice(&bytes[..room]);
            }
            Piece::Gap { .. } if channel == Channel::Stdout => {
                return Err(io::Error::other("the command's output is too long"));
            }
            Piece::Gap { .. } => {}
        }
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_missing_command_and_a_command_that_no_supervisor_received_have_different_errors() {
        let check = async |class: NotStartedClass, expected: io::ErrorKind| {
            let child = ChildState::NotStarted {
                class,
                message: String::new(),
            };
            let outcome = outcome_of(Some(child), PathBuf::from("/log"), 1).await;
            assert_eq!(outcome.err().map(|error| error.kind()), Some(expected));
        };
        check(NotStartedClass::CommandNotFound, io::ErrorKind::NotFound).await;
        check(NotStartedClass::Supervisor, io::ErrorKind::NotConnected).await;
        check(NotStartedClass::Resource, io::ErrorKind::Other).await;
    }
}
