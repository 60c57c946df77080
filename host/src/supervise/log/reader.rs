//! Reading a log: the bytes are the same while the attempt runs, afterwards, and after any restart.
//!
//! A reader returns the selected streams as one sequence of bytes, with offsets from 0 that mean
//! the same to every reader with the same selection. Bytes that the cap deleted count in the
//! offsets and are shown as a [`Piece::Gap`]. A last frame that is incomplete (so far) is not
//! returned. Damage is an error: it is returned at once or, if whole frames follow the damage,
//! after these frames, with a gap in the place of the damage. Nearly all reads are served by the
//! page cache; a caller that reads much does so on a blocking thread.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::fsx;

use super::frame::{Channel, HEADER_BYTES, Header, Kind, NoHeader, Totals, segment_path, segments};
use super::{bytes, hole};

/// Limits on the bytes that a reader takes at a time.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    /// The most bytes read from the file at a time: whole frames of the usual sizes, so that a
    /// frame is not read again because its last bytes were not read with its header.
    window: usize,
    /// The most bytes in a piece.
    piece: u64,
    /// When the pieces of one call together have this many bytes, no further piece is added.
    together: usize,
}

/// Sizes for callers that use each piece before they read the next. A piece is a whole frame.
const LARGE: Sizes = Sizes {
    window: HEADER_BYTES + (256 << 10),
    piece: u64::MAX,
    together: 256 << 10,
};
/// Sizes for callers that may have to keep the pieces that they have read.
const SMALL: Sizes = Sizes {
    window: HEADER_BYTES + (64 << 10),
    piece: 16 << 10,
    together: 32 << 10,
};

/// The most bytes read from the file at a time when only headers are wanted. Most frames of a long
/// output are far larger, so most of it is not read.
const HEADERS_WINDOW: usize = 4 << 10;

/// The streams that a reader returns; `None` is all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Selection {
    pub(super) child: Option<u16>,
    pub(super) channel: Option<Channel>,
}

impl Selection {
    pub(super) fn takes(self, child: u16, channel: Channel) -> bool {
        self.child.is_none_or(|one| one == child) && self.channel.is_none_or(|one| one == channel)
    }
}

/// A part of the sequence that a reader returns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Piece {
    Bytes {
        /// The offset of the first byte, in the reader's own sequence.
        offset: u64,
        child: u16,
        channel: Channel,
        /// The time at which the bytes were read from the pipe: microseconds since 1970.
        time_us: u64,
        bytes: Vec<u8>,
    },
    /// Bytes that are missing here, because the output was larger than its cap, or because somebody
    /// cut the log short while it was written. If the number is 0, an unknown number of bytes may
    /// be missing: the supervisor died, or the log is damaged here.
    Gap { offset: u64, bytes: u64 },
}

impl Piece {
    /// The length in the reader's sequence, missing bytes included.
    pub(crate) fn length(&self) -> u64 {
        match self {
            Self::Bytes { bytes, .. } => bytes.len() as u64,
            Self::Gap { bytes, .. } => *bytes,
        }
    }
}

/// The text that people see in the place of a gap, by the number of missing bytes.
pub(crate) fn gap_text(bytes: u64) -> String {
    if bytes == 0 {
        return "[claudine: output may be missing here: its supervisor died, or its log was changed]"
            .to_owned();
    }
    format!("[claudine: {bytes} bytes left out here: over --max-output, or its log was changed]")
}

/// A position in a log, moving forward.
#[derive(Debug)]
pub(crate) struct LogReader {
    base: PathBuf,
    pub(super) selection: Selection,
    pub(super) segment: u32,
    open: Option<Open>,
    /// Position of the next frame in the segment.
    pub(super) position: u64,
    /// The header of the frame at `position`, if a part of this frame was returned.
    begun: Option<Header>,
    /// The offset of the next frame's first byte, in the selected sequence.
    pub(super) offset: u64,
    /// The offset before which bytes are skipped.
    pub(super) from: u64,
    sizes: Sizes,
    /// The first damage that was passed over.
    pub(super) damage: Option<String>,
    /// Whether damage was passed over just before `position`.
    is_behind_damage: bool,
    /// The segment and the position of the farthest damage that was reached.
    walked: (u32, u64),
    /// Whether a mark or totals that were read say that somebody has cut the log short.
    pub(super) is_cut: bool,
}

impl LogReader {
    /// Begins at the start. The log need not exist yet.
    pub(crate) fn new(base: &Path) -> Self {
        let selection = Selection::default();
        Self {
            base: base.to_owned(),
            selection,
            segment: 0,
            open: None,
            position: 0,
            begun: None,
            offset: 0,
            from: 0,
            sizes: LARGE,
            damage: None,
            is_behind_damage: false,
            walked: (0, 0),
            is_cut: false,
        }
    }

    /// Reads in small pieces, for a client that may be slow.
    #[must_use]
    pub(crate) fn sparing(mut self) -> Self {
        self.sizes = SMALL;
        self
    }

    /// The number of bytes after which one read of several pieces ends.
    pub(super) fn together(&self) -> usize {
        self.sizes.together
    }

    /// Selects only this channel. To be called before anything is read.
    #[must_use]
    pub(crate) fn channel(mut self, channel: Channel) -> Self {
        self.selection.channel = Some(channel);
        self
    }

    /// Selects only this child of the attempt. To be called before anything is read.
    #[must_use]
    pub(crate) fn child(mut self, child: u16) -> Self {
        self.selection.child = Some(child);
        self
    }

    pub(crate) fn path(&self) -> &Path {
        &self.base
    }

    /// Whether the log has a file. A log without any output has none.
    pub(crate) fn exists(&self) -> io::Result<bool> {
        Ok(!segments(&self.base)?.is_empty())
    }

    /// The offset of the byte that is read next.
    pub(crate) fn offset(&self) -> u64 {
        self.offset.max(self.from)
    }

    /// The next piece, or `None` at the current end of the log. If damage was passed over, the end
    /// is an error, once.
    pub(crate) fn next_piece(&mut self) -> io::Result<Option<Piece>> {
        while let Some(header) = self.header_to_return()? {
            if std::mem::take(&mut self.is_behind_damage)
                && let Some(gap) = self.unknown_gap()
            {
                return Ok(Some(gap));
            }
            match header.kind {
                Kind::Next => self.enter(self.segment + 1, 0),
                Kind::Totals => {
                    let offset = self.offset();
                    self.offset = self
                        .totals(header)?
                        .sum(|child, channel| self.selection.takes(child, channel));
                    self.pass(header);
                    if self.offset > offset {
                        return Ok(Some(Piece::Gap {
                            offset,
                            bytes: self.offset - offset,
                        }));
                    }
                }
                Kind::Cut => {
                    let before = self.offset();
                    let gap = match self.pass_mark(header)? {
                        None => self.unknown_gap(),
                        // Unless bytes after the lost ones are skipped as well, or only streams
                        // that are not selected have lost bytes.
                        Some(_) => (self.offset > before).then(|| Piece::Gap {
                            offset: before,
                            bytes: self.offset - before,
                        }),
                    };
                    if let Some(gap) = gap {
                        return Ok(Some(gap));
                    }
                }
                Kind::Output(channel) => {
                    if let Some(piece) = self.output(header, channel)? {
                        return Ok(Some(piece));
                    }
                }
            }
        }
        match self.damage.take() {
            Some(damage) => Err(damaged(damage)),
            None => Ok(None),
        }
    }

    /// A gap of unknown size at the current offset, unless bytes after it are skipped as well.
    fn unknown_gap(&self) -> Option<Piece> {
        let offset = self.offset;
        (offset >= self.from).then_some(Piece::Gap { offset, bytes: 0 })
    }

    /// The header of the next frame. If the log was cut short or replaced while it was written, no
    /// frame may begin at `position` any more, and the output goes on behind a mark: so the segment
    /// is read again from its start, except for what was returned already.
    fn header_to_return(&mut self) -> io::Result<Option<Header>> {
        loop {
            let (segment, position) = (self.segment, self.position);
            let had_damage = self.damage.is_some();
            let header = self.begun_or_next();
            let is_lost = self.is_lost(&header)?;
            let passed_damage = self.segment == segment && self.position != position;
            let is_at_damage = passed_damage || matches!(&header, Err(error) if is_damage(error));
            let goes_back = is_lost || is_at_damage && self.walked < (segment, position);
            if is_at_damage {
                self.walked = self.walked.max((segment, position));
            }
            if !goes_back || !self.go_back()? {
                return header;
            }
            if !had_damage {
                self.damage = None;
            }
        }
    }

    /// Whether the open file ends before the frame that is to be returned, or was removed and
    /// another one is in its place.
    fn is_lost(&self, header: &io::Result<Option<Header>>) -> io::Result<bool> {
        let end = match header {
            Ok(None) => self.position,
            Ok(Some(header)) if self.begun.is_some() => self.position + header.frame_bytes(),
            _ => return Ok(false),
        };
        let Some(open) = &self.open else {
            return Ok(false);
        };
        let own = open.file.metadata()?;
        let is_other = |found: fs::Metadata| (found.dev(), found.ino()) != (own.dev(), own.ino());
        let is_removed = own.nlink() == 0;
        let path = segment_path(&self.base, self.segment);
        Ok(own.len() < end || is_removed && fs::metadata(path).is_ok_and(is_other))
    }

    /// Moves to the start of the segment, so that what was returned already is skipped. Returns
    /// `false`, and stays, if the offset of the segment is unknown.
    fn go_back(&mut self) -> io::Result<bool> {
        let (segment, position) = (self.segment, self.position);
        let (offset, from) = (self.offset, self.from);
        let (begun, is_behind_damage) = (self.begun, self.is_behind_damage);
        self.open = None;
        self.from = self.offset();
        if self.enter_counted(self.segment)? {
            // A mark in the place of the totals counts what was lost as well.
            self.offset = self.offset.min(self.from);
            return Ok(true);
        }
        self.enter(segment, position);
        (self.offset, self.from) = (offset, from);
        (self.begun, self.is_behind_damage) = (begun, is_behind_damage);
        Ok(false)
    }

    /// The header of the next frame. Of a frame that is returned in several pieces, the header is
    /// read only once, because to go back to it would mean to read all bytes after it again.
    fn begun_or_next(&mut self) -> io::Result<Option<Header>> {
        let may_be_skipped = self.offset < self.from || self.selection != Selection::default();
        match self.begun {
            Some(header) => Ok(Some(header)),
            None if may_be_skipped => self.header(),
            None => self.header_within(self.sizes.window),
        }
    }

    /// Returns a piece of the frame's selected bytes, beginning at `from`. Moves past the frame if
    /// no bytes of it are left.
    fn output(&mut self, header: Header, channel: Channel) -> io::Result<Option<Piece>> {
        if !self.selection.takes(header.child, channel) {
            self.pass(header);
            return Ok(None);
        }
        let offset = self.offset();
        let skipped = offset - self.offset;
        let length = u64::from(header.length);
        let end = length.min(skipped.saturating_add(self.sizes.piece));
        let piece = if skipped < length {
            let bytes = self.payload(skipped, end)?.to_vec();
            Some(Piece::Bytes {
                offset,
                child: header.child,
                channel,
                time_us: header.time_us,
                bytes,
            })
        } else {
            None
        };
        if end < length {
            self.from = self.offset + end;
            self.begun = Some(header);
        } else {
            self.offset += length;
            self.pass(header);
        }
        Ok(piece)
    }

    /// The header of the frame at `position`, if the frame is complete. Passes over damage if whole
    /// frames follow it. For callers that do not read the payload of most frames.
    pub(super) fn header(&mut self) -> io::Result<Option<Header>> {
        self.header_within(HEADERS_WINDOW)
    }

    fn header_within(&mut self, window: usize) -> io::Result<Option<Header>> {
        if self.open.is_none() && !self.open_segment()? {
            return Ok(None);
        }
        let Some(open) = &mut self.open else {
            return Ok(None);
        };
        let mut is_read_anew = false;
        loop {
            let Some(bytes) = open.bytes(self.position, HEADER_BYTES, window)? else {
                return Ok(None);
            };
            let Some(bytes) = bytes.first_chunk() else {
                return Ok(None);
            };
            match Header::read(bytes) {
                Ok(header) => {
                    if open.reaches(self.position + header.frame_bytes())? {
                        return Ok(Some(header));
                    }
                    break;
                }
                Err(NoHeader::Unwritten) if !hole::is_written_from(&open.file, self.position)? => {
                    break;
                }
                // The frame may have been written after these bytes were read.
                Err(_) if !is_read_anew => {}
                Err(_) => {
                    let path = segment_path(&self.base, self.segment);
                    let text = format!("{} is damaged at byte {}", path.display(), self.position);
                    let Some(next) = hole::next_frame(&open.file, self.position)? else {
                        return Err(damaged(text));
                    };
                    self.damage.get_or_insert(text);
                    self.is_behind_damage = true;
                    self.position = next;
                }
            }
            is_read_anew = true;
            open.window.clear();
        }
        // The header must be read again: a mark may replace or shorten a frame that is not
        // complete.
        open.window.clear();
        Ok(None)
    }

    /// Moves past the frame at `position`.
    pub(super) fn pass(&mut self, header: Header) {
        self.position += header.frame_bytes();
        self.begun = None;
        self.is_behind_damage = false;
    }

    /// The bytes of the segment from one position to another, which are read at once.
    pub(super) fn block(&mut self, from: u64, to: u64) -> io::Result<&[u8]> {
        let length = usize::try_from(to - from).unwrap_or(usize::MAX);
        let bytes = match &mut self.open {
            Some(open) => open.bytes(from, length, 0)?,
            None => None,
        };
        bytes.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    /// Frees the memory of a block, which is larger than that of the pieces of a slow client.
    pub(super) fn forget_block(&mut self) {
        if let Some(open) = &mut self.open {
            open.window = Vec::new();
        }
    }

    /// The totals in the payload of the frame at `position`. A mark may have none.
    pub(super) fn totals(&mut self, header: Header) -> io::Result<Totals> {
        if header.length == 0 {
            return Ok(Totals::default());
        }
        let totals = self.payload(0, header.length.into()).map(Totals::decode)?;
        self.is_cut |= totals.is_cut;
        Ok(totals)
    }

    /// Moves past the mark at `position`, and past the bytes that were lost there, so that offsets
    /// mean the same before and after the loss. Returns how many selected bytes were lost, or
    /// `None` if this is unknown.
    pub(super) fn pass_mark(&mut self, header: Header) -> io::Result<Option<u64>> {
        let selection = self.selection;
        let before = self.totals(header)?;
        let before = before.sum(|child, channel| selection.takes(child, channel));
        self.pass(header);
        let lost = before
            .checked_sub(self.offset)
            .filter(|_| header.length > 0);
        self.offset += lost.unwrap_or(0);
        Ok(lost)
    }

    /// The payload of the frame at `position`, from `begin` to `end`.
    pub(super) fn payload(&mut self, begin: u64, end: u64) -> io::Result<&[u8]> {
        let length = usize::try_from(end - begin).unwrap_or(0);
        let at = self.position + HEADER_BYTES as u64 + begin;
        let window = self.sizes.window;
        let bytes = match &mut self.open {
            Some(open) => open.bytes(at, length, window)?,
            None => None,
        };
        bytes.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    /// Moves to a position in a segment. A segment that is open stays open, even if the cap deletes
    /// it meanwhile, so that positions in it stay valid.
    pub(super) fn enter(&mut self, segment: u32, position: u64) {
        if segment != self.segment {
            self.open = None;
        }
        self.segment = segment;
        self.position = position;
        self.begun = None;
        self.is_behind_damage = false;
    }

    /// Opens the current segment or, if it was deleted because of the cap, the next segment that
    /// exists.
    fn open_segment(&mut self) -> io::Result<bool> {
        loop {
            let path = segment_path(&self.base, self.segment);
            match fsx::open(&path) {
                Ok(file) => {
                    self.open = Some(Open {
                        file,
                        length: 0,
                        window: Vec::new(),
                        window_at: 0,
                    });
                    return Ok(true);
                }
                Err(error) if fsx::is_no_file(&error) => {
                    let text = format!("{} is no regular file; move it away", path.display());
                    return Err(damaged(text));
                }
                Err(error) if fsx::is_of_the_system(&error) => return Err(error),
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    let text = format!("{} cannot be read: {error}", path.display());
                    return Err(damaged(text));
                }
                Err(_) if self.segment == 0 => return Ok(false),
                Err(_) => match segments(&self.base)?
                    .into_iter()
                    .find(|segment| *segment > self.segment)
                {
                    Some(next) => self.segment = next,
                    None => return Ok(false),
                },
            }
        }
    }
}

fn is_damage(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::InvalidData
}

fn damaged(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

/// An open segment, with the bytes that were last read from it.
#[derive(Debug)]
struct Open {
    file: File,
    /// The length of the file when it was last looked up.
    length: u64,
    window: Vec<u8>,
    window_at: u64,
}

impl Open {
    fn reaches(&mut self, end: u64) -> io::Result<bool> {
        if end > self.length {
            self.length = self.file.metadata()?.len();
        }
        Ok(end <= self.length)
    }

    /// The bytes at `at`, or `None` if the file is shorter.
    fn bytes(&mut self, at: u64, length: usize, window: usize) -> io::Result<Option<&[u8]>> {
        let in_window = |open: &Self| {
            let begin = usize::try_from(at.checked_sub(open.window_at)?).ok()?;
            let end = begin.checked_add(length)?;
            (end <= open.window.len()).then_some(begin..end)
        };
        if in_window(self).is_none() {
            // Reads no more than the rest of the file: most logs are far smaller than a window, and
            // clearing a whole window would cost time for nothing.
            let wanted = length.max(window);
            self.reaches(at.saturating_add(wanted as u64))?;
            let rest = usize::try_from(self.length.saturating_sub(at)).unwrap_or(usize::MAX);
            if rest < length {
                return Ok(None);
            }
            self.fill(at, rest.min(wanted))?;
        }
        Ok(in_window(self).map(|range| &self.window[range]))
    }

    fn fill(&mut self, at: u64, wanted: usize) -> io::Result<()> {
        self.window.resize(wanted, 0);
        self.window_at = at;
        let filled = bytes::read(&self.file, &mut self.window, at);
        // Nothing is left of a read that failed.
        self.window.truncate(*filled.as_ref().unwrap_or(&0));
        filled.map(drop)
    }
}
