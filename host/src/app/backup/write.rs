//! Writes a backup sequentially, without seeking.

use std::io::{self, Read, Write};

use claudine_domain::time::Timestamp;
use flate2::{Compression, write::GzEncoder};

use super::entry::{Name, Sums};
use crate::digest;

pub(super) struct Writer<W: Write> {
    tar: tar::Builder<GzEncoder<W>>,
    sums: Sums,
    taken_at: Timestamp,
}

impl<W: Write> Writer<W> {
    pub(super) fn new(to: W, taken_at: Timestamp) -> Self {
        Self {
            tar: tar::Builder::new(GzEncoder::new(to, Compression::fast())),
            sums: Sums::default(),
            taken_at,
        }
    }

    /// Writes an entry that is in memory.
    pub(super) fn put(&mut self, name: &Name, bytes: &[u8]) -> io::Result<()> {
        self.copy(name, bytes.len() as u64, &mut &bytes[..])
    }

    /// Writes the first bytes of a file as an entry; the file may have grown since its length was
    /// read.
    pub(super) fn copy(&mut self, name: &Name, bytes: u64, from: &mut dyn Read) -> io::Result<()> {
        let sha256 = self.entry(name, bytes, from)?;
        self.sums.add(name, bytes, &sha256);
        if self.sums.is_due() {
            self.write_sums()?;
        }
        Ok(())
    }

    fn entry(&mut self, name: &Name, bytes: u64, from: &mut dyn Read) -> io::Result<String> {
        let mut header = tar::Header::new_gnu();
        header.set_path(name.to_string())?;
        header.set_size(bytes);
        header.set_mode(0o600);
        header.set_mtime(self.taken_at.0 / 1_000);
        header.set_entry_type(tar::EntryType::Regular);
        header.set_cksum();
        let mut measured = Measured::new(from.take(bytes));
        self.tar.append(&header, &mut measured)?;
        if measured.bytes == bytes {
            Ok(measured.digest.hex())
        } else {
            let short = format!("{name} became shorter while it was copied");
            Err(io::Error::new(io::ErrorKind::UnexpectedEof, short))
        }
    }

    fn write_sums(&mut self) -> io::Result<()> {
        let (name, text) = self.sums.list();
        self.entry(&name, text.len() as u64, &mut text.as_bytes())?;
        Ok(())
    }

    /// Writes the entries that mark the backup as complete, and returns the writer.
    pub(super) fn finish(mut self) -> io::Result<W> {
        if !self.sums.is_empty() {
            self.write_sums()?;
        }
        let end = std::mem::take(&mut self.sums).end();
        let end = serde_json::to_vec(&end)?;
        self.entry(&Name::End, end.len() as u64, &mut &end[..])?;
        self.tar.into_inner()?.finish()
    }
}

/// Counts and digests everything that is read through it.
pub(super) struct Measured<R> {
    from: R,
    pub(super) digest: digest::Running,
    pub(super) bytes: u64,
}

impl<R> Measured<R> {
    pub(super) fn new(from: R) -> Self {
        Self {
            from,
            digest: digest::Running::default(),
            bytes: 0,
        }
    }
}

impl<R: Read> Read for Measured<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.from.read(buffer)?;
        self.digest.update(&buffer[..count]);
        self.bytes += count as u64;
        Ok(count)
    }
}
