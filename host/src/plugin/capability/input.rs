//! What a guest streams to a child, on its way to whoever feeds the child.
//!
//! The contract knows one end of a stream, its writer being dropped, and the engine drops it too
//! when the instance is lost. Which of the two it was is told by
//! [`Guest::lost`](crate::plugin::guest::Guest::lost), which is set before the Store goes.

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

/// What is taken from the guest at once, and how many of these wait: a child that is slow holds the
/// guest back.
const PIECE_BYTES: usize = 256 << 10;
const PIECES: usize = 2;

/// The host's end of a guest's stream.
pub(super) struct InputConsumer {
    pieces: PollSender<Vec<u8>>,
    ended: Arc<AtomicBool>,
    lost: Arc<AtomicBool>,
}

impl InputConsumer {
    /// `lost` is set before the engine drops what the guest has not.
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
            // A guest that asks whether there is room is told to write; the room stays reserved.
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
