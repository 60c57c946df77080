//! A child's output as a guest reads it: from the log, from an offset, until the child has ended and all was read.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, ReadBuf};
use tokio_util::io::StreamReader;

use super::live::{ChildState, Live};
use crate::supervise::log::{Begin, Channel, LogReader, LogWatch, Piece};

/// Follows one channel of one child.
pub(super) struct ChildOutput {
    inner: Pin<Box<dyn AsyncRead + Send>>,
}

struct Follow {
    reader: LogReader,
    grown: crate::supervise::log::Subscription,
    live: Arc<Live>,
    child: u16,
}

impl ChildOutput {
    pub(super) fn new(
        reader: LogReader,
        watch: &LogWatch,
        live: Arc<Live>,
        child: u16,
        from: u64,
    ) -> Self {
        let grown = watch.subscribe(reader.path());
        let follow = Follow {
            reader,
            grown,
            live,
            child,
        };
        let stream = futures_util::stream::try_unfold(
            (follow, from > 0),
            move |(mut follow, seek)| async move {
                if seek {
                    follow.reader.begin(Begin::Offset(from))?;
                }
                let piece = follow.next().await?;
                Ok::<_, io::Error>(piece.map(|bytes| (io::Cursor::new(bytes), (follow, false))))
            },
        );
        Self {
            inner: Box::pin(StreamReader::new(stream)),
        }
    }
}

impl Follow {
    /// The next bytes, or `None` after the last.
    async fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            // Asked before the reading: what was written before the child's end is read after.
            let over = self.live.look(|state| self.is_over(state));
            match self.reader.next_piece()? {
                Some(Piece::Bytes { bytes, .. }) => return Ok(Some(bytes)),
                // A guest reads on behind what the cap took away; a line broken by it is the guest's to skip.
                Some(Piece::Gap { .. }) => {}
                None if over => return Ok(None),
                None => {
                    let live = self.live.clone();
                    tokio::select! {
                        () = self.grown.grown() => {}
                        () = live.until(|state| self.is_over(state).then_some(())) => {}
                    }
                }
            }
        }
    }

    /// The child's last output is in the log once its exit was reported.
    fn is_over(&self, state: &super::live::State) -> bool {
        matches!(
            state.children.get(usize::from(self.child)),
            None | Some(ChildState::Exited(_) | ChildState::Lost | ChildState::NotStarted { .. })
        )
    }
}

impl AsyncRead for ChildOutput {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.inner.as_mut().poll_read(cx, buffer)
    }
}

/// The port's word for a channel in the log's.
pub(super) fn channel(channel: crate::plugin::Channel) -> Channel {
    match channel {
        crate::plugin::Channel::Stdout => Channel::Stdout,
        crate::plugin::Channel::Stderr => Channel::Stderr,
    }
}
