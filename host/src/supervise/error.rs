//! Errors between the host and its supervisors.

use std::io;
use std::path::{Path, PathBuf};

/// Errors of the host's side. The failure of a single child is a report, not an error.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SuperviseError {
    #[error("the supervisors' directory {} cannot be used", path.display())]
    Directory { path: PathBuf, source: io::Error },
    #[error("cannot start {}", program.display())]
    Launch { program: PathBuf, source: io::Error },
    #[error("the supervisor in {} did not become ready: {message}", dir.display())]
    NotReady { dir: PathBuf, message: String },
    #[error("cannot communicate with the supervisor in {}", dir.display())]
    Connection { dir: PathBuf, source: io::Error },
    #[error("the supervisor in {} answers to a newer host (epoch {epoch})", dir.display())]
    Fenced { dir: PathBuf, epoch: u64 },
    #[error("the supervisor in {} speaks protocol {theirs}, which this version of Claudine does not know; start the version that started the supervisor, or wait until its tasks have ended", dir.display())]
    Protocol { dir: PathBuf, theirs: u32 },
    /// The data directory was copied while its tasks were running.
    #[error(
        "{} is a copy of {}, and its tasks still run under a supervisor (pid {pid}) that \
         does not know the copy",
        data_dir.display(),
        original_text(original.as_deref())
    )]
    Copied {
        data_dir: PathBuf,
        /// The data directory of the supervisor, if it is known.
        original: Option<PathBuf>,
        pid: u32,
    },
    /// A supervisor that was asked to end does not, although everything that it has started has
    /// ended.
    #[error("the supervisor (pid {pid}) does not end, as it waits to write output or notes")]
    Unwritten {
        pid: u32,
        /// Why nothing can be written, if this is known.
        why: Option<String>,
    },
    #[error("the host's part that speaks to the supervisors has ended")]
    Closed,
}

fn original_text(original: Option<&Path>) -> String {
    original.map_or_else(
        || "another data directory".to_owned(),
        |original| original.display().to_string(),
    )
}
