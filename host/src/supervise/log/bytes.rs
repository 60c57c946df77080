//! Reads bytes of a log's files by their position.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

#[cfg(test)]
thread_local! {
    /// The number of bytes that this thread has read from logs.
    pub(super) static READ_BYTES: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// Reads as many bytes as there are, up to the length of the buffer.
pub(super) fn read(file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], at + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    #[cfg(test)]
    READ_BYTES.set(READ_BYTES.get() + filled as u64);
    Ok(filled)
}
