//! Errors of a command.

use std::{fmt, io};

use crate::{api::client::ClientError, app::AppError};

/// The reason why a command failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// Output of clap, which includes help and version.
    Clap(clap::Error),
    /// The command line is invalid.
    Usage(String),
    App(AppError),
    /// Standard output cannot be written.
    Output(io::Error),
}

impl Failure {
    /// Whether the output cannot be written because its reader has closed the pipe.
    pub(super) fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

/// Ignores the failure if the reader of the output has closed the pipe, for output that matters
/// less than the exit code.
pub(super) fn unless_closed(written: Result<(), Failure>) -> Result<(), Failure> {
    match written {
        Err(failure) if failure.is_closed_pipe() => Ok(()),
        written => written,
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Clap(error) => error.fmt(f),
            Self::Usage(message) => f.write_str(message),
            Self::App(error) => error.fmt(f),
            Self::Output(error) => write!(f, "cannot write the answer: {error}"),
        }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        Self::App(error.into())
    }
}

impl From<AppError> for Failure {
    fn from(error: AppError) -> Self {
        Self::App(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}
