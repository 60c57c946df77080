//! Errors between a client and its host.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::ExitStatus,
    time::Duration,
};

use crate::{
    api::rest::frame::FrameError,
    app::{AppError, ErrorKind, Halted},
    fsx,
    text::shell_word,
};

/// The command that shows whether most requests were carried out.
pub(super) const SHOWN_BY: &str = "claudine list";

#[derive(Debug, thiserror::Error)]
pub(in crate::api) enum ClientError {
    /// An error with which the host answered.
    #[error("{0}")]
    Refused(AppError),
    #[error("no host is running for {}", data_dir.display())]
    NotRunning { data_dir: PathBuf },
    #[error("the data in {} was removed, so there is nothing to wait for", data_dir.display())]
    Gone { data_dir: PathBuf },
    #[error("cannot use the socket {}: {source}", path.display())]
    Socket { path: PathBuf, source: io::Error },
    #[error(
        "the queue of the socket {} has been full for {} s: too many clients are connecting, or the host accepts none of them",
        path.display(),
        limit.as_secs()
    )]
    Crowded { path: PathBuf, limit: Duration },
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
    #[error("{}, so the host cannot tell how its plugins are", .0.said_of_compiler())]
    CompilerStopped(Halted),
    /// [`Self::Silent`] at a request that changes something.
    #[error("the host has not answered within {} s", limit.as_secs())]
    SilentMeanwhile {
        limit: Duration,
        /// The command that shows whether the request was carried out.
        shown_by: &'static str,
    },
    /// [`Self::Stopped`] at a request that changes something.
    #[error("the host (pid {pid}) is stopped by a signal and has not answered")]
    StoppedMeanwhile {
        pid: u32,
        /// The command that shows whether the request was carried out.
        shown_by: &'static str,
    },
    /// The answer ended early. There is no cause if the connection reported no error.
    #[error("the host was lost before it had answered{}", cause(source.as_ref()))]
    Cut {
        source: Option<hyper::Error>,
        /// The command that shows whether the request was carried out.
        shown_by: &'static str,
    },
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

/// Advice if this process may not use a directory or a file in it.
fn of_denied(dir: &Path) -> String {
    let own = rustix::process::geteuid().as_raw();
    let is_closed =
        |found: fs::Metadata| found.is_dir() && found.uid() == own && found.mode() & 0o700 != 0o700;
    if fs::metadata(dir).is_ok_and(is_closed) {
        let dir = shell_word(&dir.display().to_string());
        format!("`chmod u+rwx {dir}` gives you access to your own directory")
    } else {
        "give a data directory of your own by --data-dir".to_owned()
    }
}

impl ClientError {
    /// The error if the answer to a request ended early, and tasks show whether the request was
    /// carried out.
    pub(super) fn cut(source: Option<hyper::Error>) -> Self {
        Self::Cut {
            source,
            shown_by: SHOWN_BY,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::NotReady { log, .. } | Self::StillBorn { log, .. } => {
                Some(format!("the host's log is {}", log.display()))
            }
            Self::Cut { shown_by, .. } => Some(format!(
                "the host may have carried out the request: look at `{shown_by}` before repeating it"
            )),
            Self::Crowded { .. } => Some(
                "try again in a moment; `claudine doctor` checks the host".to_owned(),
            ),
            Self::Silent(_) => Some("`claudine doctor` checks the host".to_owned()),
            Self::SilentMeanwhile { shown_by, .. } => Some(format!(
                "the host may still carry out the request: look at `{shown_by}` before repeating it; `claudine doctor` checks the host"
            )),
            Self::Stopped(pid) => Some(format!(
                "`kill -CONT {pid}` continues the host; then ask again"
            )),
            Self::CompilerStopped(compiler) => {
                Some(format!("{}; then ask again", compiler.way_out()))
            }
            Self::StoppedMeanwhile { pid, shown_by } => Some(format!(
                "`kill -CONT {pid}` continues the host, which may or may not carry out this request then: look at `{shown_by}` before repeating it"
            )),
            Self::Foreign { .. } => {
                Some("give a data directory of your own by --data-dir".to_owned())
            }
            Self::Socket { path, source } if source.kind() == io::ErrorKind::PermissionDenied => {
                Some(of_denied(path.parent().unwrap_or(path)))
            }
            Self::Start { data_dir, source }
                if source.kind() == io::ErrorKind::PermissionDenied =>
            {
                Some(of_denied(data_dir))
            }
            Self::Start { source, .. } if fsx::is_no_file(source) => {
                Some(fsx::NO_FILE_HINT.to_owned())
            }
            // `fork` says only that it is to be tried again.
            Self::Start { source, .. } if source.kind() == io::ErrorKind::WouldBlock => Some(
                "no further process can be started: raise the limit of this user (`ulimit -u`) or of the cgroup (`pids.max`), or end other processes".to_owned(),
            ),
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::os::unix::{fs::PermissionsExt, process::ExitStatusExt};

    use super::*;

    /// A list of tasks shows nothing of a merge that was cut off.
    #[test]
    fn advice_after_a_lost_host_names_the_command_that_shows_what_was_done() {
        let hint = |error: ClientError| AppError::from(error).hint.unwrap();
        assert!(hint(ClientError::cut(None)).contains("`claudine list`"));
        let shown_by = "claudine worktree list";
        let cut = ClientError::Cut {
            source: None,
            shown_by,
        };
        assert!(hint(cut).contains("`claudine worktree list`"));
    }

    #[test]
    fn the_signal_that_ended_a_starting_host_is_named() {
        let error = ClientError::StillBorn {
            ended: Some(ExitStatus::from_raw(9)),
            log: "/log".into(),
            log_end: String::new(),
        };
        let text = "the host ended before it was ready (signal: 9 (SIGKILL))";
        assert_eq!(error.to_string(), text);
    }

    #[test]
    fn advice_on_a_denied_permission_names_chmod_only_for_a_closed_directory_of_the_user() {
        let dir = tempfile::tempdir().unwrap();
        let hint = |mode: u32, path: &Path| {
            fs::set_permissions(dir.path(), fs::Permissions::from_mode(mode)).unwrap();
            let socket = ClientError::Socket {
                path: path.join("host.sock"),
                source: io::ErrorKind::PermissionDenied.into(),
            };
            let start = ClientError::Start {
                data_dir: path.to_owned(),
                source: io::ErrorKind::PermissionDenied.into(),
            };
            assert_eq!(socket.hint(), start.hint());
            socket.hint().unwrap()
        };
        let advice = format!("chmod u+rwx {}", dir.path().display());
        assert!(hint(0o600, dir.path()).contains(&advice));
        assert!(!hint(0o700, dir.path()).contains("chmod"));
        assert!(!hint(0o700, &dir.path().join("missing")).contains("chmod"));
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(!hint(0o700, &file).contains("chmod"));
    }
}
