//! Notes the number of the last batch outside of the database.
//!
//! An earlier copy of the database that somebody put back cannot be recognized by its content. Its
//! epoch shows that another host has led since, but not that the same host has gone on. So a host
//! notes at times which batch is durable. The note may be behind, for example if the host is
//! killed, but it is never ahead of what is durable.

use std::{
    fs, io,
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
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    tracing::warn!(%error, "the number of the last batch cannot be read");
                }
                return None;
            }
        };
        let (epoch, batch) = text.trim().split_once(' ')?;
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
    noted: Option<(Noted, Duration)>,
}

impl Noting {
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path: path.into(),
            state: Arc::default(),
        }
    }

    /// Records that a batch is durable, and notes it unless the last note is recent.
    pub(super) fn stored(&self, epoch: Epoch, batch: BatchNumber, now: Duration) {
        let mut state = lock(&self.state);
        state.durable = Some(Noted {
            epoch: epoch.0,
            batch,
        });
        let is_recent = |at: Duration| now.saturating_sub(at) < INTERVAL;
        if !state.noted.is_some_and(|(_, at)| is_recent(at)) {
            self.write(&mut state, now);
        }
    }

    /// Notes the last batch that is durable.
    pub(crate) fn note_last(&self) {
        self.write(&mut lock(&self.state), clock::monotonic());
    }

    fn write(&self, state: &mut State, now: Duration) {
        let Some(durable) = state.durable else { return };
        if state.noted.is_some_and(|(noted, _)| noted == durable) {
            return;
        }
        // Without the note, only less is noticed. A failure is not repeated at each batch.
        let text = format!("{} {}", durable.epoch, durable.batch);
        let written = fsx::replace(&self.path, Lasting::Process, text.as_bytes());
        if let Err(error) = written {
            tracing::debug!(%error, "the number of the last batch cannot be noted");
        }
        state.noted = Some((durable, now));
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
            fs::write(&path, unreadable).unwrap();
            assert_eq!(last(), None, "{unreadable:?}");
        }
    }
}
