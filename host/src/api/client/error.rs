//! Errors between a client and its host.

use std::{io, path::PathBuf, process::ExitStatus, time::Duration};

use crate::{
    api::rest::frame::FrameError,
    app::{AppError, ErrorKind},
};

#[derive(Debug, thiserror::Error)]
pub(in crate::api) enum ClientError {
    /// An error with which the host answered.
    #[error("{0}")]
    Refused(AppError),
    #[error("no host is running for {}", data_dir.display())]
    NotRunning { data_dir: PathBuf },
    #[error("the data directory {} was removed, so the wait for its next host has ended", data_dir.display())]
    Gone { data_dir: PathBuf },
    #[error("cannot use the socket {}: {source}", path.display())]
    Socket { path: PathBuf, source: io::Error },
    #[error(
        "the program that listens on {} belongs to another user (uid {listener}); nothing was sent",
        path.display()
    )]
    Foreign { path: PathBuf, listener: u32 },
    #[error("cannot start a host for {}: {source}", data_dir.display())]
    Start {
        data_dir: PathBuf,
        source: io::Error,
    },
    #[error("the host ended before it was ready{}{}", way_to_end(*ended), last_words(log_end))]
    StillBorn {
        ended: Option<ExitStatus>,
        log: PathBuf,
        log_end: String,
    },
    #[error("the host has not become ready within {} s", limit.as_secs())]
    NotReady { log: PathBuf, limit: Duration },
    #[error("the host has not answered within {} s", .0.as_secs())]
    Silent(Duration),
    #[error("the host (pid {0}) is stopped by a signal and does not answer")]
    Stopped(u32),
    /// The answer ended early. There is no cause if the connection reported no error.
    #[error("the host was lost before it had answered{}", cause(.0.as_ref()))]
    Cut(#[source] Option<hyper::Error>),
    #[error("invalid answer from the host: {0}")]
    Unreadable(#[source] serde_json::Error),
    #[error("invalid answer from the host: {0}")]
    Frames(#[from] FrameError),
    #[error("the request cannot be written: {0}")]
    Unwritable(#[source] serde_json::Error),
}

fn cause(error: Option<&hyper::Error>) -> String {
    error.map_or_else(String::new, |error| format!(": {error}"))
}

fn way_to_end(ended: Option<ExitStatus>) -> String {
    ended.map_or_else(String::new, |ended| format!(" ({ended})"))
}

fn last_words(log_end: &str) -> String {
    if log_end.is_empty() {
        String::new()
    } else {
        format!("; the end of its log:\n{log_end}")
    }
}

impl ClientError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::NotReady { log, .. } | Self::StillBorn { log, .. } => Some(format!("the host's log is {}", log.display())),
            Self::Cut(_) => {
                Some("the host may have carried out the request: look at `claudine list` before repeating it".to_owned())
            }
            Self::Silent(_) => Some("`claudine doctor` checks the host".to_owned()),
            Self::Stopped(pid) => Some(format!(
                "`kill -CONT {pid}` continues the host, which then carries out the waiting requests"
            )),
            Self::Foreign { .. } => Some("give a data directory of your own by --data-dir".to_owned()),
            Self::Socket { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                Some("the socket belongs to another user; give a data directory of your own by --data-dir".to_owned())
            }
            Self::NotRunning { .. } => Some("`claudine up` starts one".to_owned()),
            _ => None,
        }
    }
}

impl From<ClientError> for AppError {
    fn from(error: ClientError) -> Self {
        if let ClientError::Refused(error) = error {
            return error;
        }
        Self {
            hint: error.hint(),
            ..Self::new(ErrorKind::Unavailable, error.to_string())
        }
    }
}
