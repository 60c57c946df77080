//! Errors at the start of a host. If the disk is full, the error says so, whatever could not be
//! written.

use std::{
    borrow::Cow,
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use crate::{
    ballast::{START_BYTES, START_INODES, too_few_inodes},
    engine, fsx,
    identity::HostProcess,
    plugin,
    sample::disk_free_bytes,
    store::StoreError,
    supervise::SuperviseError,
    text::{chain, shell_word},
};

/// An error at the start of a host, or while it runs.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServeError {
    #[error("{what} {}: {source}", path.display())]
    Io {
        what: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("{} uses the data directory {}", holder_text(by.as_ref()), data_dir.display())]
    Taken {
        data_dir: PathBuf,
        by: Option<HostProcess>,
    },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{}", chain(.0))]
    Supervise(#[from] SuperviseError),
    #[error(transparent)]
    Plugins(#[from] plugin::PluginError),
    #[error(transparent)]
    Engine(#[from] engine::StartError),
    #[error("the runtime cannot be started: {0}")]
    Runtime(io::Error),
    #[error("the machine cannot be read: {0}")]
    Machine(io::Error),
    #[error("signals cannot be received: {0}")]
    Signals(io::Error),
    /// A part of the running host has ended.
    #[error("the host has ended because {part} has ended: {why}")]
    Broken {
        part: &'static str,
        why: String,
        /// Whether the host was told to end its tasks.
        kills: bool,
    },
    /// Something could not be written because the disk is full.
    #[error(
        "no host can start: the disk at {}, which has the data directory, is full ({}); {source}",
        mount.display(),
        free_text(*free_bytes, *free_inodes)
    )]
    NoSpace {
        mount: PathBuf,
        free_bytes: u64,
        /// The number of free inodes, if inodes are missing.
        free_inodes: Option<u64>,
        source: Box<Self>,
    },
}

impl ServeError {
    /// Advice to a person, if there is any.
    pub(crate) fn hint(&self) -> Option<Cow<'static, str>> {
        match self {
            Self::Store(error) => error.hint().map(Cow::Borrowed),
            Self::NoSpace {
                free_bytes,
                free_inodes,
                ..
            } => {
                let missing = match free_inodes {
                    Some(free) => format!(
                        "remove at least {} files there",
                        START_INODES.saturating_sub(*free)
                    ),
                    None => format!(
                        "free at least {} KiB there",
                        START_BYTES.saturating_sub(*free_bytes).div_ceil(1024)
                    ),
                };
                Some(Cow::Owned(format!(
                    "{missing}; nothing that was accepted is lost, and running tasks continue"
                )))
            }
            Self::Supervise(SuperviseError::Copied { original, .. }) => {
                Some(Cow::Owned(of_copy(original.as_deref())))
            }
            Self::Taken { by: Some(by), .. } if by.restores() => {
                Some(Cow::Borrowed("wait until the restore has ended"))
            }
            Self::Taken { .. } => Some(Cow::Borrowed(
                "`claudine down` ends that host; --data-dir chooses another directory",
            )),
            Self::Broken { kills: true, .. } => Some(Cow::Borrowed(
                "the supervisors end the running tasks; the next host that starts records that",
            )),
            Self::Broken { .. } => Some(Cow::Borrowed(
                "running tasks continue under their supervisor; the next command starts a host again",
            )),
            Self::Io { source, .. } if fsx::is_no_file(source) => {
                Some(Cow::Borrowed(fsx::NO_FILE_HINT))
            }
            Self::Io { source, .. } | Self::Supervise(SuperviseError::Directory { source, .. })
                if source.kind() == io::ErrorKind::PermissionDenied =>
            {
                Some(Cow::Borrowed(
                    "the data directory must belong to this user and be writable; --data-dir chooses another one",
                ))
            }
            _ => None,
        }
    }

    /// Whether a full disk may be the cause. It may be the cause of every error of a supervisor,
    /// because a supervisor that cannot write reports this only as text, if at all.
    fn may_be_space(&self) -> bool {
        match self {
            Self::Store(error) | Self::Engine(engine::StartError::Store(error)) => {
                matches!(error, StoreError::Full { .. })
            }
            Self::Io { source, .. } => matches!(
                source.kind(),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
            ),
            Self::Supervise(SuperviseError::Copied { .. }) => false,
            Self::Supervise(_) => true,
            _ => false,
        }
    }

    /// Returns the error as it is or, if the disk is full and this may be the cause, as `NoSpace`.
    pub(super) fn in_dir(self, data_dir: &Path) -> Self {
        let free_bytes = disk_free_bytes(data_dir);
        if free_bytes >= START_BYTES || !self.may_be_space() {
            return self;
        }
        Self::NoSpace {
            mount: mount_of(data_dir),
            free_bytes,
            free_inodes: too_few_inodes(data_dir),
            source: Box::new(self),
        }
    }
}

/// Advice for a copy of a data directory whose tasks still run.
fn of_copy(original: Option<&Path>) -> String {
    let original = original.map_or_else(String::new, |original| {
        format!(
            " --data-dir {}",
            shell_word(&original.display().to_string())
        )
    });
    format!(
        "`claudine{original} down --drain` lets the tasks of the original end first; a copy that \
         is taken with `claudine backup` can be restored at any time"
    )
}

fn free_text(bytes: u64, inodes: Option<u64>) -> String {
    match (inodes, bytes / 1024) {
        (Some(free), _) => format!("free inodes: {free}"),
        (None, 0) => "nothing is free".to_owned(),
        (None, kib) => format!("{kib} KiB are free"),
    }
}

/// The mount point of a directory's file system.
fn mount_of(dir: &Path) -> PathBuf {
    let device = |dir: &Path| fs::metadata(dir).ok().map(|found| found.dev());
    let own = device(dir);
    let same = dir.ancestors().take_while(|above| device(above) == own);
    same.last().unwrap_or(dir).to_owned()
}

fn holder_text(holder: Option<&HostProcess>) -> String {
    match holder {
        None => "another host".to_owned(),
        Some(restore) if restore.restores() => format!("a restore (pid {})", restore.pid),
        Some(host) => format!("another host (pid {})", host.pid),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn an_error_of_the_supervisors_directory_contains_the_reason_and_a_way_out() {
        let error = ServeError::from(SuperviseError::Directory {
            path: "/data/supervisors".into(),
            source: io::Error::from_raw_os_error(libc::EACCES),
        });
        let expected = "the supervisors' directory /data/supervisors cannot be used: \
                        Permission denied (os error 13)";
        assert_eq!(error.to_string(), expected);
        assert!(error.hint().unwrap().contains("must belong to this user"));
    }
}
