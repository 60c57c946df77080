//! A log that is read on threads that may wait for the disk, for those who may not.

use std::io;

use super::reader::{LogReader, Piece};

/// Read in one go: each change of thread costs more than a short piece.
const AT_ONCE_BYTES: usize = 256 << 10;

/// A reader that is lent to another thread for each read.
#[derive(Debug)]
pub(crate) struct AsideReader {
    /// None only while a read is under way.
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
    /// Has the log read. A read that is dropped before its end takes the reader with it.
    pub(crate) async fn read<T: Send + 'static>(
        &mut self,
        read: impl FnOnce(&mut LogReader) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let lost = || io::Error::other("an earlier read of the log was broken off");
        let mut reader = self.reader.take().ok_or_else(lost)?;
        let reading = tokio::task::spawn_blocking(move || {
            let result = read(&mut reader);
            (reader, result)
        });
        let (reader, result) = reading.await.map_err(io::Error::other)?;
        self.reader = Some(reader);
        result
    }

    /// The next pieces, and whether there may be more. Of a damaged log all come that are before
    /// the damage, and then the error.
    pub(crate) async fn next_pieces(&mut self) -> io::Result<(Vec<Piece>, io::Result<bool>)> {
        self.read(|reader| Ok(next_pieces(reader))).await
    }
}

fn next_pieces(reader: &mut LogReader) -> (Vec<Piece>, io::Result<bool>) {
    let (mut pieces, mut bytes) = (Vec::new(), 0);
    while bytes < AT_ONCE_BYTES {
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

    use std::fs::OpenOptions;

    use super::*;

    /// To open a fifo waits for somebody who writes to it: this one thread, which goes on.
    #[tokio::test]
    async fn a_log_that_is_slow_to_be_read_holds_nobody_else_up() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RWXU).unwrap();
        let mut log = AsideReader::from(LogReader::new(&path));
        let (read, writer) = tokio::join!(log.read(LogReader::next_piece), async {
            OpenOptions::new().write(true).open(&path)
        });
        let _writer = writer.unwrap();
        // A fifo is no log.
        assert_eq!(read.unwrap_err().kind(), io::ErrorKind::NotSeekable);
        let again = log.read(LogReader::next_piece).await;
        assert_eq!(again.unwrap_err().kind(), io::ErrorKind::NotSeekable);
    }
}
