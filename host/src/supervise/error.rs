//! Errors between the host and its supervisors.

use std::io;
use std::path::PathBuf;

/// Errors of the host's side. The failure of a single child is a report, not an error.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SuperviseError {
    #[error("the supervisors' directory {} cannot be used", path.display())]
    Directory { path: PathBuf, source: io::Error },
    #[error("cannot start {}", program.display())]
    Launch { program: PathBuf, source: io::Error },
    #[error("the supervisor in {} did not become ready: {message}", dir.display())]
    NotReady { dir: PathBuf, message: String },
    #[error("lost the supervisor in {}", dir.display())]
    Connection { dir: PathBuf, source: io::Error },
    #[error("the supervisor in {} answers to a newer host (epoch {epoch})", dir.display())]
    Fenced { dir: PathBuf, epoch: u64 },
    #[error("the supervisor in {} speaks protocol {theirs}, which this version of Claudine does not know; start the version that started the supervisor, or wait until its tasks have ended", dir.display())]
    Protocol { dir: PathBuf, theirs: u32 },
    #[error("the host's part that speaks to the supervisors has ended")]
    Closed,
}
