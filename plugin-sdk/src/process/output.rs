//! What a child prints.

use std::rc::Rc;

use wit_bindgen::{FutureReader, StreamReader};

use crate::Failure;
use crate::bindings::claudine::plugin::{children as wit, types};

/// How much is asked for at a time. Few calls across the border, and little beside the 64 MiB an
/// instance has.
const CHUNK_BYTES: usize = 64 * 1024;

/// An open reading of the log, and why it ends.
type Open = (StreamReader<u8>, FutureReader<Result<u64, types::Failure>>);

/// One channel of a child's output, read from the attempt's log: an offset means the same to every
/// instance, and what was read once can be read again.
pub struct Output {
    child: Rc<wit::Child>,
    channel: wit::Channel,
    /// Of the first byte that was not yet handed out.
    offset: u64,
    left_out: u64,
    /// Absent before the first read, after a gap, and after a read that was dropped half-way: what
    /// the host had already handed over is lost with that read, so the next one opens the log again
    /// at `offset`.
    open: Option<Open>,
    ended: bool,
}

impl Output {
    pub(super) fn new(child: Rc<wit::Child>, channel: wit::Channel, offset: u64) -> Self {
        Self {
            child,
            channel,
            offset,
            left_out: 0,
            open: None,
            ended: false,
        }
    }

    /// The next bytes, at most 64 KiB; `None` once the child has ended and all was read. The future
    /// may be dropped and the call made again: no byte is lost or doubled.
    ///
    /// What the cap on the attempt's output took away is passed over and counted in
    /// [`left_out`](Output::left_out). Fails where the log cannot be read.
    pub async fn read(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        while !self.ended {
            let (mut stream, end) = match self.open.take() {
                Some(open) => open,
                None => self.child.output(self.channel, self.offset),
            };
            let (result, bytes) = stream.read(Vec::with_capacity(CHUNK_BYTES)).await;
            let is_over = matches!(result, wit_bindgen::StreamResult::Dropped);
            if !bytes.is_empty() {
                self.offset += bytes.len() as u64;
                self.open = (!is_over).then_some((stream, end));
                return Ok(Some(bytes));
            }
            if !is_over {
                self.open = Some((stream, end));
                continue;
            }
            match end.await? {
                0 => self.ended = true,
                gap => {
                    self.offset += gap;
                    self.left_out += gap;
                }
            }
        }
        Ok(None)
    }

    /// Offset of the first byte that was not yet handed out.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// How many bytes before [`offset`](Output::offset) were not handed out, because the attempt's
    /// output is over its cap.
    pub fn left_out(&self) -> u64 {
        self.left_out
    }
}
