//! Reads a log on blocking threads, for callers that must not wait for the disk.

use std::io;

use super::reader::{LogReader, Piece};

/// A reader that moves to another thread for each read.
#[derive(Debug)]
pub(crate) struct AsideReader {
    /// `None` only during a read.
    reader: Option<LogReader>,
}

impl From<LogReader> for AsideReader {
    fn from(reader: LogReader) -> Self {
        Self {
            reader: Some(reader),
        }
    }
}

impl AsideReader {
    /// Reads in small pieces, for a client that may be slow.
    #[must_use]
    pub(crate) fn sparing(self) -> Self {
        Self {
            reader: self.reader.map(LogReader::sparing),
        }
    }

    /// Runs a read on a blocking thread. If the returned future is dropped before its end, the
    /// reader is lost and later reads fail.
    pub(crate) async fn read<T: Send + 'static>(
        &mut self,
        read: impl FnOnce(&mut LogReader) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let lost = || io::Error::other("an earlier read of the log was interrupted");
        let mut reader = self.reader.take().ok_or_else(lost)?;
        let reading = crate::aside::run(move || {
            let result = read(&mut reader);
            (reader, result)
        });
        let (reader, result) = reading.await.map_err(io::Error::other)?;
        self.reader = Some(reader);
        result
    }

    /// The next pieces, and whether there may be more. In a damaged log, the pieces before the
    /// damage come first, and then the error.
    pub(crate) async fn next_pieces(&mut self) -> io::Result<(Vec<Piece>, io::Result<bool>)> {
        self.read(|reader| Ok(next_pieces(reader))).await
    }
}

/// Reads several pieces, because each change of thread costs more than reading a short piece.
fn next_pieces(reader: &mut LogReader) -> (Vec<Piece>, io::Result<bool>) {
    let (mut pieces, mut bytes) = (Vec::new(), 0);
    while bytes < reader.together() {
        match reader.next_piece() {
            Ok(Some(piece)) => {
                if let Piece::Bytes { bytes: piece, .. } = &piece {
                    bytes += piece.len();
                }
                pieces.push(piece);
            }
            Ok(None) => return (pieces, Ok(false)),
            Err(error) => return (pieces, Err(error)),
        }
    }
    (pieces, Ok(true))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::sync::mpsc;

    use super::*;

    /// The read waits for the thread that has begun it, which therefore must not be blocked.
    #[tokio::test]
    async fn a_read_that_waits_does_not_block_the_calling_thread() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = AsideReader::from(LogReader::new(&dir.path().join("log")));
        let (go, goes) = mpsc::channel();
        let reading = log.read(move |reader| {
            goes.recv().map_err(io::Error::other)?;
            reader.next_piece()
        });
        let (read, sent) = tokio::join!(reading, async move { go.send(()) });
        sent.unwrap();
        assert!(read.unwrap().is_none());
        assert!(log.read(LogReader::next_piece).await.unwrap().is_none());
    }
}
