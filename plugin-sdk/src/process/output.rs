//! A child's output.

use std::rc::Rc;

use wit_bindgen::{FutureReader, StreamReader};

use crate::Failure;
use crate::bindings::claudine::plugin::{children as wit, types};

/// Size of one read: large enough for few calls across the boundary, and small beside the
/// instance's 64 MiB.
const CHUNK_BYTES: usize = 64 * 1024;

/// An open stream of the log, and the reason for its end.
type Open = (StreamReader<u8>, FutureReader<Result<u64, types::Failure>>);

/// One channel of a child's output, read from the attempt's log. Offsets mean the same to every
/// instance, and everything can be read again.
pub struct Output {
    child: Rc<wit::Child>,
    channel: wit::Channel,
    /// Offset of the first byte that was not yet returned.
    offset: u64,
    left_out: u64,
    /// `None` before the first read, after a gap, and after a read that was dropped half-way. The
    /// data that the host had already passed is lost with a dropped read, so the next read opens
    /// the log again at `offset`.
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

    /// The next bytes, at most 64 KiB; `None` once the child has ended and everything was read. The
    /// future may be dropped and the call repeated: no byte is lost or repeated.
    ///
    /// Bytes removed by the cap on the attempt's output are skipped and counted in
    /// [`left_out`](Output::left_out). Fails if the log cannot be read.
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

    /// Offset of the first byte that was not yet returned.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Number of bytes before [`offset`](Output::offset) that were removed by the cap on the
    /// attempt's output.
    pub fn left_out(&self) -> u64 {
        self.left_out
    }
}
