//! The epoch of the leading host, which is kept in a file beside the directories of the
//! supervisors.
//!
//! Orders of a dead host may still be in the socket of a supervisor that was suspended, or is slow.
//! The next host does not wait for such a supervisor, and concludes an attempt if no supervisor is
//! known to have started it. The supervisor must not start this attempt afterwards. So each host
//! writes its epoch to the file before it contacts any supervisor, and a supervisor starts nothing
//! for a host whose epoch is lower.

use std::fs::File;
use std::io;
use std::path::Path;

use crate::fsx::{self, Lasting};

/// The name of the file. It is not a number, so the file is not taken for the directory of a
/// supervisor.
const FILE: &str = "leader";

/// Writes the epoch. `dir` is the directory of all supervisors.
pub(super) fn note(dir: &Path, epoch: u64) -> io::Result<()> {
    // Need not be synced: a power cut ends all supervisors.
    fsx::replace(
        &dir.join(FILE),
        Lasting::Process,
        epoch.to_string().as_bytes(),
    )
    .map(drop)
}

/// The epoch that was written last; 0 if there is none, or if it cannot be read, for example after
/// a power cut.
pub(crate) fn last_epoch(dir: &Path) -> u64 {
    match epoch(dir) {
        Ok(epoch) => epoch.unwrap_or(0),
        Err(error) => {
            tracing::warn!(%error, "the epoch of the last host cannot be read");
            0
        }
    }
}

/// The epoch that was written last; `None` if no host has written one, because older versions do
/// not.
pub(super) fn epoch(dir: &Path) -> io::Result<Option<u64>> {
    parsed(fsx::read(&dir.join(FILE)))
}

/// Like [`epoch`]. `own` is the directory of one supervisor, wherever it is now.
pub(super) fn epoch_above(own: &File) -> io::Result<Option<u64>> {
    parsed(fsx::read_from(own, &format!("../{FILE}")))
}

fn parsed(read: io::Result<Vec<u8>>) -> io::Result<Option<u64>> {
    match read {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        bytes => {
            let text = String::from_utf8(bytes?).map_err(io::Error::other)?;
            text.parse().map(Some).map_err(io::Error::other)
        }
    }
}
