//! `exits.log`: the record of a supervisor's children, and of how they ended.
//!
//! Each line is one JSON document, the same as the message to the host, and is written before the
//! message is sent, unless the disk is full. Before a child is started, a line says so, and without
//! this line in the file the child is not started: if host and supervisor die at the same time, a
//! child that is not in the file was never started. The file is not synced: it is needed only if
//! the supervisor dies while the machine runs on. If the machine dies, no process is left to be
//! recovered. The host reads the file only if the supervisor is dead or does not answer.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::clock;
use crate::fsx::{self, Lasting};
use crate::supervise::protocol::Message;

pub(in crate::supervise) const FILE: &str = "exits.log";

/// The size from which the journal is rewritten with the lines that are still needed.
const REWRITE_BYTES: usize = 1 << 20;
/// The pause before lines that could not be written are written again.
const TRY_AGAIN: Duration = Duration::from_millis(250);

#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    file: File,
    /// Lines that are not in the file yet.
    waiting: Vec<u8>,
    /// The time at which the waiting lines are written again, if they could not be written.
    try_again: Option<Duration>,
    in_file: usize,
    rewrite_at: usize,
}

impl Journal {
    pub(super) fn create(path: PathBuf) -> io::Result<Self> {
        let file = create(&path)?;
        Ok(Self {
            path,
            file,
            waiting: Vec::new(),
            try_again: None,
            in_file: 0,
            rewrite_at: REWRITE_BYTES,
        })
    }

    pub(super) fn note(&mut self, message: &Message) {
        line(message, &mut self.waiting);
    }

    /// Writes the waiting lines, and returns whether all of them are in the file now. On a full
    /// disk they stay in memory until the next flush, whose time [`Self::due`] tells.
    pub(super) fn flush(&mut self) -> bool {
        while !self.waiting.is_empty() {
            match self.file.write(&self.waiting) {
                Ok(count) => {
                    self.waiting.drain(..count);
                    self.in_file += count;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    if self.try_again.is_none() {
                        say!("cannot write {}: {error}", self.path.display());
                    }
                    self.try_again = Some(clock::monotonic() + TRY_AGAIN);
                    return false;
                }
            }
        }
        self.try_again = None;
        true
    }

    /// The time of the next flush, if the last one has failed.
    pub(super) fn due(&self) -> Option<Duration> {
        self.try_again
    }

    /// Whether all lines are in the file.
    pub(super) fn is_written(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn is_long(&self) -> bool {
        self.in_file > self.rewrite_at
    }

    /// Replaces the file by one with these lines, which say all that the waiting lines say. `path`
    /// leads to the file, which may have been moved since it was created.
    pub(super) fn rewrite(
        &mut self,
        path: &Path,
        messages: impl Iterator<Item = Message>,
    ) -> io::Result<()> {
        let mut lines = Vec::new();
        messages.for_each(|message| line(&message, &mut lines));
        // If the rewrite fails, it is tried again after `REWRITE_BYTES` more bytes.
        self.rewrite_at = self.in_file.max(lines.len()) + REWRITE_BYTES;
        // Need not be synced: its content is useless once the machine has died.
        self.file = fsx::replace(path, Lasting::Process, &lines)?;
        // The first of them may have been written in part, and its rest would be no line.
        self.waiting.clear();
        self.try_again = None;
        self.in_file = lines.len();
        self.rewrite_at = lines.len() + REWRITE_BYTES;
        Ok(())
    }
}

fn create(path: &Path) -> io::Result<File> {
    let mut options = fsx::private();
    fsx::open_own(path, options.write(true).create(true).truncate(true))
}

fn line(message: &Message, to: &mut Vec<u8>) {
    let start = to.len();
    match serde_json::to_writer(&mut *to, message) {
        Ok(()) => to.push(b'\n'),
        Err(error) => {
            to.truncate(start);
            say!("cannot note {message:?}: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::supervise::words::{AttemptKey, ChildId};

    #[test]
    fn a_line_counts_as_written_only_once_it_is_in_the_file() {
        let starting = Message::Starting {
            child: ChildId::new(AttemptKey::new("t.1"), 0),
        };
        let dir = tempfile::tempdir().unwrap();
        for is_written in [false, true] {
            let mut journal = Journal::create(dir.path().join(FILE)).unwrap();
            if !is_written {
                let full = File::options().write(true).open("/dev/full");
                journal.file = full.unwrap();
            }
            journal.note(&starting);
            assert_eq!(journal.flush(), is_written);
            assert_eq!(journal.is_written(), is_written);
            assert_eq!(journal.due().is_none(), is_written);
        }
    }

    #[test]
    fn a_new_file_does_not_begin_with_the_rest_of_a_line_of_the_old_one() {
        let lines = || {
            std::iter::once(Message::Forgotten {
                attempt: AttemptKey::new("t.1"),
            })
        };
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        let mut journal = Journal::create(path.clone()).unwrap();
        journal.waiting = b"attempt\":\"t.1\"}\n".to_vec();
        journal.rewrite(&path, lines()).unwrap();
        assert!(journal.flush());
        let mut expected = Vec::new();
        lines().for_each(|message| line(&message, &mut expected));
        assert_eq!(std::fs::read(&path).unwrap(), expected);
    }
}
