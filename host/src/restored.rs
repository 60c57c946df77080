//! The record of a restore, a small file in the data directory.

use std::io::{self, Write};

use claudine_domain::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{fsx, layout::Layout};

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Restored {
    /// Time of the backup.
    pub(crate) taken_at: Timestamp,
    /// Time of the restore.
    pub(crate) at: Timestamp,
    /// Digest of the environment of the restoring command. It is used for tasks whose own
    /// environment was not in the backup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) environment: Option<String>,
}

impl Restored {
    /// Reads the record; `None` if the queue was not restored.
    pub(crate) fn read(layout: &Layout) -> io::Result<Option<Self>> {
        match fsx::read(&layout.restored_file()) {
            Ok(text) => Ok(Some(serde_json::from_slice(&text)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Reads the record for callers that cannot report an error. After an error the queue counts as
    /// not restored.
    pub(crate) fn known(layout: &Layout) -> Option<Self> {
        Self::read(layout).unwrap_or_else(|error| {
            let path = layout.restored_file();
            tracing::warn!(path = %path.display(), %error, "the record of the restore cannot be read");
            None
        })
    }

    pub(crate) fn write(&self, layout: &Layout) -> io::Result<()> {
        let mut file = fsx::private()
            .write(true)
            .create_new(true)
            .open(layout.restored_file())?;
        serde_json::to_writer(&mut file, self)?;
        file.write_all(b"\n")
    }
}
