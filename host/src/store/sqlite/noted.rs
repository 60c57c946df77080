//! Notes the number of the last batch outside of the database.
//!
//! An earlier copy of the database that somebody put back cannot be recognized by its content. Its
//! epoch shows that another host has led since, but not that the same host has gone on. So a host
//! notes at times which batch is durable. The note may be behind, for example if the host is
//! killed, but it is never ahead of what is durable.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use claudine_domain::batch::BatchNumber;

use crate::{
    clock,
    fsx::{self, Lasting},
    lock::lock,
    store::Epoch,
};

/// Shortest time between two notes. A note costs a few system calls and is not synced.
const INTERVAL: Duration = Duration::from_secs(2);

/// A batch that is durable, and the epoch of the host that has stored it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Noted {
    epoch: u64,
    batch: BatchNumber,
}

impl Noted {
    /// The last note; `None` if there is none, or if it cannot be read, for example after a power
    /// cut.
    pub(crate) fn last(path: &Path) -> Option<Self> {
        let text = match fsx::read(path) {
            Ok(text) => text,
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    tracing::warn!(%error, "the number of the last batch cannot be read");
                }
                return None;
            }
        };
        let noted = Self::parse(&text);
        if noted.is_none() {
            tracing::warn!(
                path = %path.display(),
                "the number of the last batch is damaged: an earlier copy of the database that \
                 somebody has put back would not be noticed"
            );
        }
        noted
    }

    fn parse(text: &[u8]) -> Option<Self> {
        let (epoch, batch) = str::from_utf8(text).ok()?.trim().split_once(' ')?;
        let (epoch, batch) = (epoch.parse().ok()?, batch.parse().ok()?);
        Some(Self { epoch, batch })
    }

    /// Whether a database with this last epoch and batch is earlier than the note. A database with
    /// a higher epoch was written by a later host, or was restored from a backup.
    pub(crate) fn is_later_than(self, epoch: u64, batch: BatchNumber) -> bool {
        epoch < self.epoch || (epoch == self.epoch && batch < self.batch)
    }
}

/// Writes the notes of a host.
#[derive(Clone, Debug)]
pub(crate) struct Noting {
    path: Arc<Path>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    durable: Option<Noted>,
    /// The last note that was written.
    noted: Option<Noted>,
    /// The time of the last note, or of the last attempt to write one: a failure is not repeated at
    /// each batch.
    tried: Option<Duration>,
}

impl Noting {
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path: path.into(),
            state: Arc::default(),
        }
    }

    /// Records that a batch is durable, and notes it unless a batch was noted a short time ago.
    pub(super) fn stored(&self, epoch: Epoch, batch: BatchNumber, now: Duration) {
        let mut state = lock(&self.state);
        state.durable = Some(Noted {
            epoch: epoch.0,
            batch,
        });
        let is_recent = |at: Duration| now.saturating_sub(at) < INTERVAL;
        if !state.tried.is_some_and(is_recent) {
            self.write(&mut state, now);
        }
    }

    /// Notes the last batch that is durable.
    pub(crate) fn note_last(&self) {
        self.write(&mut lock(&self.state), clock::monotonic());
    }

    fn write(&self, state: &mut State, now: Duration) {
        let Some(durable) = state.durable else { return };
        if state.noted == Some(durable) {
            return;
        }
        state.tried = Some(now);
        let text = format!("{} {}", durable.epoch, durable.batch);
        match fsx::replace(&self.path, Lasting::Process, text.as_bytes()) {
            Ok(_) => state.noted = Some(durable),
            // Without the note, an earlier copy of the database may not be noticed.
            Err(error) => tracing::debug!(%error, "the number of the last batch cannot be noted"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn only_a_database_that_lacks_the_noted_batch_is_earlier_than_the_note() {
        let noted = Noted { epoch: 3, batch: 7 };
        let check = |epoch: u64, batch: BatchNumber, expected: bool| {
            let found = noted.is_later_than(epoch, batch);
            assert_eq!(found, expected, "{epoch} {batch}");
        };
        check(3, 6, true);
        check(3, 0, true);
        check(2, 9, true);
        check(3, 7, false);
        check(3, 8, false);
        // A later host, or a restored database.
        check(4, 1, false);
    }

    #[test]
    fn batches_are_noted_at_most_once_in_an_interval_and_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("batch");
        let noting = Noting::new(path.clone());
        let last = || Noted::last(&path).map(|noted| (noted.epoch, noted.batch));
        noting.note_last();
        assert_eq!(last(), None, "nothing is durable");
        let begin = Duration::from_secs(10);
        noting.stored(Epoch(2), 5, begin);
        assert_eq!(last(), Some((2, 5)));
        noting.stored(Epoch(2), 6, begin + INTERVAL / 2);
        assert_eq!(last(), Some((2, 5)));
        noting.stored(Epoch(2), 7, begin + INTERVAL);
        assert_eq!(last(), Some((2, 7)));
        noting.stored(Epoch(2), 8, begin + INTERVAL);
        noting.note_last();
        assert_eq!(last(), Some((2, 8)));
        for unreadable in ["", "2", "2 x", "\0\0\0"] {
            std::fs::write(&path, unreadable).unwrap();
            assert_eq!(last(), None, "{unreadable:?}");
        }
    }

    #[test]
    fn a_note_that_could_not_be_written_is_written_later_and_not_at_the_next_batch() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("supervisors");
        let path = folder.join("batch");
        let noting = Noting::new(path.clone());
        let last = || Noted::last(&path).map(|noted| noted.batch);
        let begin = Duration::from_secs(10);
        noting.stored(Epoch(2), 5, begin);
        std::fs::create_dir(&folder).unwrap();
        noting.stored(Epoch(2), 6, begin + INTERVAL / 2);
        assert_eq!(last(), None);
        noting.stored(Epoch(2), 7, begin + INTERVAL);
        assert_eq!(last(), Some(7));

        std::fs::remove_dir_all(&folder).unwrap();
        noting.stored(Epoch(2), 8, begin + 2 * INTERVAL);
        std::fs::create_dir(&folder).unwrap();
        noting.note_last();
        assert_eq!(last(), Some(8), "at the end of the host");
    }

    /// A host reads the note at its start.
    #[test]
    fn a_fifo_in_the_place_of_the_note_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("batch");
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, mode).unwrap();
        assert_eq!(Noted::last(&path), None);
    }
}
