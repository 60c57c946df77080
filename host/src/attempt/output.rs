//! A child's output as a guest reads it: read from the log, from an offset until the child has
//! ended and everything was read, or up to a gap that the cap on the attempt's output has made.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio_util::io::StreamReader;

use super::live::{ChildState, Live};
use crate::{
    plugin::Output,
    supervise::log::{AsideReader, Begin, Channel, LogReader, LogWatch, Piece},
};

/// Follows one channel of one child from an offset on.
pub(super) fn follow(
    reader: LogReader,
    watch: &LogWatch,
    live: Arc<Live>,
    child: u16,
    from: u64,
) -> Output {
    let grown = watch.subscribe(reader.path());
    let gap = Arc::new(AtomicU64::new(0));
    let follow = Follow {
        log: reader.into(),
        grown,
        live,
        child,
        gap: Arc::clone(&gap),
    };
    let stream = futures_util::stream::try_unfold(
        (follow, from > 0),
        move |(mut follow, seek)| async move {
            if seek {
                follow
                    .log
                    .read(move |log| log.begin(Begin::Offset(from)))
                    .await?;
            }
            let piece = follow.next().await?;
            Ok::<_, io::Error>(piece.map(|bytes| (io::Cursor::new(bytes), (follow, false))))
        },
    );
    Output {
        reader: Box::pin(StreamReader::new(Box::pin(stream))),
        gap,
    }
}

struct Follow {
    log: AsideReader,
    grown: crate::supervise::log::Subscription,
    live: Arc<Live>,
    child: u16,
    gap: Arc<AtomicU64>,
}

impl Follow {
    /// The next bytes, or `None` at the end and at a gap.
    async fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            // This is checked before the read, so that output from before the child's end is still
            // read.
            let over = self.live.look(|state| self.is_over(state));
            match self.log.read(LogReader::next_piece).await? {
                Some(Piece::Bytes { bytes, .. }) => return Ok(Some(bytes)),
                // The guest is told about the gap and reads again from behind it, so that it knows
                // its offset.
                Some(Piece::Gap { bytes, .. }) => {
                    self.gap.store(bytes, Ordering::Release);
                    return Ok(None);
                }
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

    /// Whether the child's last output is in the log. It is, once the child's exit was reported.
    fn is_over(&self, state: &super::live::State) -> bool {
        matches!(
            state.children.get(usize::from(self.child)),
            None | Some(ChildState::Exited(_) | ChildState::Lost | ChildState::NotStarted { .. })
        )
    }
}

/// Converts a channel of the log to one of the port.
pub(super) fn channel(channel: crate::plugin::Channel) -> Channel {
    match channel {
        crate::plugin::Channel::Stdout => Channel::Stdout,
        crate::plugin::Channel::Stderr => Channel::Stderr,
    }
}
