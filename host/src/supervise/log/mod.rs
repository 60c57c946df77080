//! The output log of an attempt: one append-only file of frames, cut into segments.
//!
//! A frame is a header (kind, child, length, time) and bytes as they were read from a pipe. The
//! order within a stream is exact; between the two streams it is the order of reading. The file is
//! created with the first byte of output, because creating a file costs more than running a short
//! process.
//!
//! Segment 0 is the path itself, segment *n* is `PATH.n`. A full segment ends in a `next` frame,
//! and each later segment begins with the totals of all streams up to there. The first output, up
//! to half of the cap (`--max-output`), is always kept. When the output grows beyond the cap, the
//! oldest of the later segments are deleted, so that the newest output is kept too. The totals note
//! these deletions, so that a segment that somebody else has removed can be told from them. Nothing
//! is ever rewritten, so a crash at any moment does no harm, and the totals show how many bytes are
//! missing. The only exception is a mark that output may be missing, which may replace the last
//! bytes before it: a host adds it to the log of a dead supervisor, and the writer to a log that
//! somebody has cut short, with the totals up to there. Segments also let a reader begin at an
//! offset, a time or the last lines without reading the output before it.
//!
//! The log does not contain the end of the attempt; a follower learns it from the engine.

mod aside;
mod bytes;
mod cut;
mod fault;
mod frame;
mod hole;
mod reader;
mod seek;
mod watch;
mod writer;

pub(crate) use aside::AsideReader;
pub(crate) use cut::mark_cut;
pub(crate) use fault::{Look, Written, fault, unreadable};
pub(crate) use frame::Channel;
pub(super) use frame::HEADER_BYTES;
pub(crate) use reader::{LogReader, Piece, gap_text};
pub(crate) use seek::Begin;
#[cfg(test)]
use seek::Tail;
#[cfg(test)]
pub(crate) use tests::write;
pub(crate) use watch::{LogWatch, Subscription, register};
pub(crate) use writer::no_room;
pub(super) use writer::{LogWriter, lack_of_room};

#[cfg(test)]
mod tests;
