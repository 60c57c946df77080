//! The stream from a guest to a child's input.
//!
//! In the contract a stream ends when its writer is dropped, but wasmtime also drops the writer
//! when the instance is lost. [`Guest::lost`](crate::plugin::guest::Guest::lost), which is set
//! before wasmtime's `Store` is dropped, distinguishes the two cases.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use tokio::sync::mpsc;
use tokio_util::sync::PollSender;
use wasmtime::component::{Source, StreamConsumer, StreamResult};
use wasmtime::{AsContextMut, StoreContextMut};

use crate::plugin::guest::Guest;
use crate::plugin::port::InputStream;

/// The size of a piece taken from the guest, and the number of pieces that may wait. Both are
/// bounded, so a slow child slows down its guest.
const PIECE_BYTES: usize = 256 << 10;
const PIECES: usize = 2;

/// The host's end of a guest's stream.
pub(super) struct InputConsumer {
    pieces: PollSender<Vec<u8>>,
    ended: Arc<AtomicBool>,
    lost: Arc<AtomicBool>,
}

impl InputConsumer {
    /// `lost` must be set before the engine drops the streams that the guest left open.
    pub(super) fn new(lost: Arc<AtomicBool>) -> (InputConsumer, InputStream) {
        let (sender, receiver) = mpsc::channel(PIECES);
        let ended = Arc::new(AtomicBool::new(false));
        let consumer = InputConsumer {
            pieces: PollSender::new(sender),
            ended: Arc::clone(&ended),
            lost,
        };
        (consumer, InputStream::new(receiver, ended))
    }
}

impl Drop for InputConsumer {
    fn drop(&mut self) {
        if !self.lost.load(Ordering::Acquire) {
            self.ended.store(true, Ordering::Release);
        }
    }
}

impl StreamConsumer<Guest> for InputConsumer {
    type Item = u8;

    fn poll_consume(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut store: StoreContextMut<'_, Guest>,
        mut source: Source<'_, u8>,
        finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        match self.pieces.poll_reserve(context) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(_)) => return Poll::Ready(Ok(StreamResult::Dropped)),
            Poll::Pending if finish => return Poll::Ready(Ok(StreamResult::Cancelled)),
            Poll::Pending => return Poll::Pending,
        }
        let mut direct = source.reborrow().as_direct(store.as_context_mut());
        let all = direct.remaining();
        if all.is_empty() {
            // An empty buffer asks whether there is room; the answer is yes, and the room stays
            // reserved.
            return Poll::Ready(Ok(StreamResult::Completed));
        }
        let piece = all[..all.len().min(PIECE_BYTES)].to_vec();
        let length = piece.len();
        direct.mark_read(length);
        store.data_mut().budget.moved(length);
        Poll::Ready(Ok(match self.pieces.send_item(piece) {
            Ok(()) => StreamResult::Completed,
            Err(_) => StreamResult::Dropped,
        }))
    }
}
