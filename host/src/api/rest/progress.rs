//! Watches a connection: the bytes written to it, whether its client reads them, and answers that
//! hyper gives by itself.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::Notify,
};

use crate::clock;

/// Limit of the bytes that are kept of an answer to a request that was not understood.
const UNASKED_BYTES: usize = 4 << 10;

/// A stream that counts the bytes written to it. Bytes that are written before any request has been
/// understood are hyper's answer to a malformed request. They are kept and not sent, because that
/// answer has no body.
pub(super) struct Watched<S> {
    stream: S,
    state: Arc<State>,
    unasked: Vec<u8>,
}

#[derive(Default)]
struct State {
    written: AtomicU64,
    /// The monotonic time in milliseconds since which the client has read nothing; 0 if the client
    /// reads.
    blocked_since: AtomicU64,
    /// Notified when the client stops reading.
    blocked: Notify,
    /// Whether a request has been understood.
    is_asked: AtomicBool,
}

/// State of a [`Watched`] stream, for the tokio task that serves the connection.
pub(super) struct Progress(Arc<State>);

impl<S> Watched<S> {
    pub(super) fn new(stream: S) -> (Self, Progress) {
        let state = Arc::<State>::default();
        let progress = Progress(state.clone());
        let watched = Self {
            stream,
            state,
            unasked: Vec::new(),
        };
        (watched, progress)
    }

    /// The stream, and the bytes of hyper's answer if no request was understood.
    pub(super) fn into_parts(self) -> (S, Vec<u8>) {
        (self.stream, self.unasked)
    }

    fn is_asked(&self) -> bool {
        self.state.is_asked.load(Ordering::Relaxed)
    }

    fn keep<'a>(&mut self, pieces: impl Iterator<Item = &'a [u8]>) -> usize {
        let mut length = 0;
        for piece in pieces {
            let room = UNASKED_BYTES.saturating_sub(self.unasked.len());
            self.unasked.extend(piece.iter().take(room));
            length += piece.len();
        }
        length
    }

    /// Notes the outcome of a write.
    fn noted(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        let State {
            written: count,
            blocked_since,
            blocked,
            ..
        } = &*self.state;
        match &written {
            Poll::Ready(Ok(bytes)) => {
                let bytes = u64::try_from(*bytes).unwrap_or(u64::MAX);
                count.fetch_add(bytes, Ordering::Relaxed);
                blocked_since.store(0, Ordering::Relaxed);
            }
            Poll::Pending if blocked_since.load(Ordering::Relaxed) == 0 => {
                blocked_since.store(now_ms(), Ordering::Relaxed);
                blocked.notify_one();
            }
            Poll::Pending | Poll::Ready(Err(_)) => {}
        }
        written
    }
}

/// The monotonic time in milliseconds; at least 1, because 0 means that the client reads.
fn now_ms() -> u64 {
    let now = clock::monotonic().as_millis();
    u64::try_from(now).unwrap_or(u64::MAX).max(1)
}

impl Progress {
    /// Notes that a request has been understood.
    pub(super) fn note_asked(&self) {
        self.0.is_asked.store(true, Ordering::Relaxed);
    }

    pub(super) fn was_asked(&self) -> bool {
        self.0.is_asked.load(Ordering::Relaxed)
    }

    /// Whether bytes wait to be written that the client does not read.
    pub(super) fn is_blocked(&self) -> bool {
        self.0.blocked_since.load(Ordering::Relaxed) != 0
    }

    /// Resolves when nothing has been written for this time.
    pub(super) async fn stalls(&self, limit: Duration) {
        loop {
            let before = self.0.written.load(Ordering::Relaxed);
            clock::sleep(limit).await;
            if self.0.written.load(Ordering::Relaxed) == before {
                return;
            }
        }
    }

    /// Resolves when bytes have been waiting to be written for this time, and the client has read
    /// none of them.
    pub(super) async fn blocks(&self, limit: Duration) {
        loop {
            self.0.blocked.notified().await;
            loop {
                let since = self.0.blocked_since.load(Ordering::Relaxed);
                if since == 0 {
                    break;
                }
                let ends_at = Duration::from_millis(since) + limit;
                let left = ends_at.saturating_sub(clock::monotonic());
                if left.is_zero() {
                    return;
                }
                clock::sleep(left).await;
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if !self.is_asked() {
            return Poll::Ready(Ok(self.keep(std::iter::once(bytes))));
        }
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.noted(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if !self.is_asked() {
            return Poll::Ready(Ok(self.keep(pieces.iter().map(|piece| &**piece))));
        }
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, pieces);
        self.noted(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.unasked.is_empty() {
            // The stream stays open, because the caller still writes an answer with a reason.
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const LIMIT: Duration = Duration::from_millis(20);

    #[tokio::test]
    async fn a_client_that_reads_nothing_of_an_answer_counts_as_blocking() {
        let (mut client, host) = tokio::io::duplex(4);
        let (mut stream, progress) = Watched::new(host);
        progress.note_asked();
        // Nothing is waiting to be written, so the client does not count as blocking.
        assert!(
            clock::within(LIMIT * 4, progress.blocks(LIMIT))
                .await
                .is_none()
        );
        stream.write_all(b"four").await.unwrap();
        assert!(
            clock::within(LIMIT * 4, progress.blocks(LIMIT))
                .await
                .is_none()
        );

        // The client reads in time.
        let mut read = [0; 4];
        let (written, read) = tokio::join!(stream.write_all(b"more"), async {
            tokio::task::yield_now().await;
            client.read_exact(&mut read).await
        });
        assert!(written.is_ok() && read.is_ok());
        assert!(
            clock::within(LIMIT * 4, progress.blocks(LIMIT))
                .await
                .is_none()
        );

        // The client stops reading.
        let blocks = tokio::select! {
            _ = stream.write_all(b"even more") => false,
            () = progress.blocks(LIMIT) => true,
        };
        assert!(blocks);
    }
}
