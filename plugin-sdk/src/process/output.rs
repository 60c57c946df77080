//! What a child prints.

use std::rc::Rc;

use wit_bindgen::StreamReader;

use super::lines::Lines;
use crate::bindings::claudine::plugin::process as wit;

/// How much is asked for at a time. Few calls across the border, and little beside the 64 MiB an instance has.
const CHUNK_BYTES: usize = 64 * 1024;

/// One channel of a child's output, read from the attempt's log: an offset means the same to every instance, and what was read
/// once can be read again.
pub struct Output {
    child: Rc<wit::Child>,
    channel: wit::Channel,
    /// Of the first byte that was not yet handed out.
    offset: u64,
    /// Absent before the first read, and after one that was dropped half-way: what the host had already handed over is lost with
    /// that read, so the next one opens the log again at `offset`.
    reader: Option<StreamReader<u8>>,
    ended: bool,
}

impl Output {
    pub(super) fn new(child: Rc<wit::Child>, channel: wit::Channel, offset: u64) -> Self {
        Self {
            child,
            channel,
            offset,
            reader: None,
            ended: false,
        }
    }

    /// The next bytes, at most 64 KiB; `None` once the child has ended and all was read. The future may be dropped and the call
    /// made again: no byte is lost or doubled.
    pub async fn read(&mut self) -> Option<Vec<u8>> {
        while !self.ended {
            let mut reader = match self.reader.take() {
                Some(reader) => reader,
                None => self.child.output(self.channel, self.offset),
            };
            let (result, bytes) = reader.read(Vec::with_capacity(CHUNK_BYTES)).await;
            if matches!(result, wit_bindgen::StreamResult::Dropped) {
                self.ended = true;
            } else {
                self.reader = Some(reader);
            }
            if !bytes.is_empty() {
                self.offset += bytes.len() as u64;
                return Some(bytes);
            }
        }
        None
    }

    /// Offset of the first byte that was not yet handed out.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The rest of it line by line; of a line longer than `limit_bytes` only that much is kept.
    pub fn lines(self, limit_bytes: usize) -> Lines {
        Lines::new(self, limit_bytes)
    }
}
