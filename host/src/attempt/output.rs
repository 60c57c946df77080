//! A child's output as a guest reads it. The output is read from the log, beginning at an offset.
//! It ends when the child has ended and everything was read, or at a gap, where output was dropped
//! because of the limit for the attempt's output.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio_util::io::StreamReader;

use super::live::Live;
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
            // The end of the child is checked before the read, so that all output from before the
            // end is still read.
            let over = self.live.look(|state| state.has_all_output(self.child));
            match self.log.read(LogReader::next_piece).await? {
                Some(Piece::Bytes { bytes, .. }) => return Ok(Some(bytes)),
                // A gap of unknown size counts no bytes. A read that ended here would take the gap
                // for the end of the output.
                Some(Piece::Gap { bytes: 0, .. }) => {}
                // The guest learns the size of the gap and begins a new read behind the gap, so
                // that it knows the offset of its next bytes.
                Some(Piece::Gap { bytes, .. }) => {
                    self.gap.store(bytes, Ordering::Release);
                    return Ok(None);
                }
                None if over => return Ok(None),
                None => {
                    let live = self.live.clone();
                    tokio::select! {
                        () = self.grown.grown() => {}
                        () = live.until(|state| state.has_all_output(self.child).then_some(())) => {}
                    }
                }
            }
        }
    }
}

/// Converts a plugin's channel to a channel of the log.
pub(super) fn channel(channel: crate::plugin::Channel) -> Channel {
    match channel {
        crate::plugin::Channel::Stdout => Channel::Stdout,
        crate::plugin::Channel::Stderr => Channel::Stderr,
    }
}
