//! Begins to read at an offset, a time, or the last lines or bytes.
//!
//! The totals at the start of each segment give the offset of the segment. So the segments are
//! visited from the last one backwards, and only one or two of them are read instead of the whole
//! log. Within a segment, only the headers of frames are read to find a place, and the output
//! itself is read once, in blocks, to look for lines.

use std::io;

use super::frame::{HEADER_BYTES, Header, Kind, segments};
use super::reader::{LogReader, Piece, Selection};

/// The most bytes that are searched for lines at once, except that a frame is never divided.
const BLOCK_BYTES: u64 = 256 << 10;

/// The place at which a reader begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Begin {
    /// An offset in the selected sequence. If the offset is past the end, output is skipped until
    /// the log reaches the offset.
    Offset(u64),
    /// The first output read at or after this time, in microseconds since 1970.
    Time(u64),
    /// This many lines before the end. A last line without a line end counts.
    LastLines(u64),
    /// This many bytes before the end.
    LastBytes(u64),
}

/// The end of a log, in memory.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Tail {
    pub(crate) bytes: Vec<u8>,
    /// Whether the log has more than these bytes.
    pub(crate) truncated: bool,
    /// The offset of their end in the selected sequence.
    pub(crate) end: u64,
    /// The damage that was found.
    pub(crate) damage: Option<String>,
}

/// Frames of a segment that are read at once: their position in the segment, and the offset of the
/// first selected byte in the sequence.
#[derive(Debug, Clone, Copy)]
struct Block {
    position: u64,
    end: u64,
    offset: u64,
}

impl LogReader {
    /// Moves the reader to the given place.
    pub(crate) fn begin(&mut self, begin: Begin) -> io::Result<()> {
        self.begin_while(begin, || true)
    }

    /// Moves the reader to the given place, but fails once that is no longer wanted: the search for
    /// the last lines may read the whole log.
    pub(crate) fn begin_while(
        &mut self,
        begin: Begin,
        is_wanted: impl Fn() -> bool,
    ) -> io::Result<()> {
        match begin {
            Begin::Offset(offset) => self.begin_at(offset),
            Begin::Time(time_us) => self.begin_at_time(time_us),
            Begin::LastBytes(bytes) => {
                let offset = self.end()?.saturating_sub(bytes);
                // The last segment is open now, and usually the wanted bytes begin in it. If they
                // do, the directory need not be listed again.
                self.from = offset;
                if self.enter_counted(self.segment)? && self.offset <= offset {
                    return Ok(());
                }
                self.begin_at(offset)
            }
            Begin::LastLines(0) => {
                let offset = self.end()?;
                self.begin_at(offset)
            }
            Begin::LastLines(lines) => self.begin_at_last_lines(lines, is_wanted),
        }
    }

    /// The length of the selected sequence so far, missing bytes included.
    pub(crate) fn end(&mut self) -> io::Result<u64> {
        let mut is_counted = false;
        for segment in segments(self.path())?.into_iter().rev() {
            is_counted = self.enter_counted(segment)?;
            if is_counted {
                break;
            }
        }
        if !is_counted {
            // Nothing was written so far.
            self.enter(0, 0);
            self.offset = 0;
            return Ok(0);
        }
        while let Some(header) = self.next_header()? {
            match header.kind {
                Kind::Output(channel) if self.selection.takes(header.child, channel) => {
                    self.offset += u64::from(header.length);
                }
                // A newer segment has appeared meanwhile.
                Kind::Next => {
                    let next = self.segment + 1;
                    self.enter_counted(next)?;
                    continue;
                }
                Kind::Cut => {
                    self.pass_mark(header)?;
                    continue;
                }
                _ => {}
            }
            self.pass(header);
        }
        Ok(self.offset)
    }

    /// The last bytes of the selected sequence that can be read. None of them is before a gap of a
    /// known size.
    pub(crate) fn tail(mut self, most: usize) -> io::Result<Tail> {
        self.begin(Begin::LastBytes(most as u64))?;
        let mut tail = Tail {
            bytes: Vec::new(),
            truncated: self.offset() > 0,
            end: 0,
            damage: None,
        };
        loop {
            let piece = match self.next_piece() {
                Ok(Some(piece)) => piece,
                Ok(None) => break,
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    tail.truncated = true;
                    tail.damage = Some(error.to_string());
                    break;
                }
                Err(error) => return Err(error),
            };
            match piece {
                Piece::Bytes { bytes, .. } => tail.bytes.extend_from_slice(&bytes),
                // The bytes before it are still the last ones that there are.
                Piece::Gap { bytes: 0, .. } => {}
                Piece::Gap { .. } => {
                    tail.bytes.clear();
                    tail.truncated = true;
                }
            }
            // Output that was written since `begin` looked for the end would make the tail too
            // long.
            if tail.bytes.len() > most {
                tail.bytes.drain(..tail.bytes.len() - most);
                tail.truncated = true;
            }
        }
        tail.end = self.offset();
        Ok(tail)
    }

    fn begin_at(&mut self, offset: u64) -> io::Result<()> {
        self.from = offset;
        for segment in segments(self.path())?.into_iter().rev() {
            if self.enter_counted(segment)? && self.offset <= offset {
                return Ok(());
            }
        }
        // The log is empty, or the place is its start.
        self.enter(0, 0);
        self.offset = 0;
        Ok(())
    }

    fn begin_at_time(&mut self, time_us: u64) -> io::Result<()> {
        self.from = 0;
        for segment in segments(self.path())?.into_iter().rev() {
            if self.enter_counted(segment)?
                && self
                    .next_header()?
                    .is_some_and(|header| header.time_us < time_us)
            {
                break;
            }
        }
        while let Some(header) = self.next_header()? {
            match header.kind {
                Kind::Output(channel) if self.selection.takes(header.child, channel) => {
                    if header.time_us >= time_us {
                        return Ok(());
                    }
                    self.offset += u64::from(header.length);
                    self.pass(header);
                }
                Kind::Next => {
                    let next = self.segment + 1;
                    self.enter_counted(next)?;
                }
                Kind::Cut => {
                    self.pass_mark(header)?;
                }
                _ => self.pass(header),
            }
        }
        self.from = self.offset;
        Ok(())
    }

    fn begin_at_last_lines(&mut self, lines: u64, is_wanted: impl Fn() -> bool) -> io::Result<()> {
        // The line end of the last line does not begin another line, but a last line without a line
        // end counts. So the number of line ends before the wanted place depends on the last byte.
        let mut left = None;
        for segment in segments(self.path())?.into_iter().rev() {
            for block in self.blocks(segment)?.into_iter().rev() {
                if !is_wanted() {
                    return Err(io::Error::other("the log is no longer read"));
                }
                let ends = self.line_ends(block)?;
                let Some(last) = ends.last_byte else {
                    continue;
                };
                let is_line_end = u64::from(last == b'\n');
                let before = *left.get_or_insert(lines.saturating_add(is_line_end));
                if ends.count >= before {
                    let passed = ends.count - before + 1;
                    let from = self.after_line_end(block, passed)?;
                    self.forget_block();
                    self.enter(segment, block.position);
                    (self.offset, self.from) = (block.offset, from);
                    return Ok(());
                }
                left = Some(before - ends.count);
            }
        }
        self.begin_at(0)
    }

    /// Counts the line ends in the selected output of a block of the current segment.
    fn line_ends(&mut self, block: Block) -> io::Result<LineEnds> {
        let selection = self.selection;
        let mut ends = LineEnds::default();
        for payload in payloads(self.block(block.position, block.end)?, selection) {
            if let Some(last) = payload.last() {
                ends.last_byte = Some(*last);
                ends.count += feeds(payload).count() as u64;
            }
        }
        Ok(ends)
    }

    /// The offset after this line end of a block, counted from 1.
    fn after_line_end(&mut self, block: Block, wanted: u64) -> io::Result<u64> {
        let selection = self.selection;
        let (mut offset, mut passed) = (block.offset, 0);
        for payload in payloads(self.block(block.position, block.end)?, selection) {
            for feed in feeds(payload) {
                passed += 1;
                if passed == wanted {
                    return Ok(offset + feed as u64 + 1);
                }
            }
            offset += payload.len() as u64;
        }
        Ok(offset)
    }

    /// The blocks of a segment, in order; none if the cap has deleted the segment meanwhile. The
    /// segment is the current one afterwards.
    fn blocks(&mut self, segment: u32) -> io::Result<Vec<Block>> {
        let mut blocks: Vec<Block> = Vec::new();
        if !self.enter_counted(segment)? || self.segment != segment {
            return Ok(blocks);
        }
        while let Some(header) = self.next_header()? {
            if header.kind == Kind::Next {
                break;
            }
            if header.kind == Kind::Cut {
                // Belongs to no block, because the offset may be another one behind it.
                self.pass_mark(header)?;
                continue;
            }
            let (position, offset) = (self.position, self.offset);
            self.pass(header);
            match blocks.last_mut() {
                // Damage that was passed over belongs to no block.
                Some(block)
                    if block.end == position && self.position - block.position <= BLOCK_BYTES =>
                {
                    block.end = self.position;
                }
                _ => blocks.push(Block {
                    position,
                    end: self.position,
                    offset,
                }),
            }
            if let Kind::Output(channel) = header.kind
                && self.selection.takes(header.child, channel)
            {
                self.offset += u64::from(header.length);
            }
        }
        Ok(blocks)
    }

    /// The header of the next frame; none at the end of the log, and at damage behind which no
    /// frame is found. Who reads up to such damage is told of it.
    fn next_header(&mut self) -> io::Result<Option<Header>> {
        match self.header() {
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(None),
            header => header,
        }
    }

    /// Moves to the first output of a segment; takes the offset from the segment's totals. Returns
    /// `false`, and keeps the offset, if the totals are missing: on a full disk, the file of a
    /// segment may be made without them. Such a segment has no output. If somebody has cut the
    /// segment short, a mark with the totals may be in their place.
    pub(super) fn enter_counted(&mut self, segment: u32) -> io::Result<bool> {
        self.enter(segment, 0);
        if let Some(header) = self.next_header()?
            && (header.kind == Kind::Totals
                || header.kind == Kind::Cut && header.length > 0 && segment > 0)
        {
            self.offset = self
                .totals(header)?
                .sum(|child, channel| self.selection.takes(child, channel));
            return Ok(true);
        }
        if segment == 0 {
            self.offset = 0;
        }
        Ok(segment == 0)
    }
}

/// The line ends of a block, and its last selected byte.
#[derive(Debug, Default)]
struct LineEnds {
    count: u64,
    last_byte: Option<u8>,
}

/// The payloads of the selected frames in these bytes, which begin with a frame.
fn payloads(mut bytes: &[u8], selection: Selection) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        loop {
            let (header, rest) = bytes.split_first_chunk::<HEADER_BYTES>()?;
            let header = Header::read(header).ok()?;
            let length = usize::try_from(header.length).ok()?;
            let (payload, rest) = rest.split_at_checked(length)?;
            bytes = rest;
            if let Kind::Output(channel) = header.kind
                && selection.takes(header.child, channel)
            {
                return Some(payload);
            }
        }
    })
}

/// The positions of all line ends. Most parts of a long line contain none, which `contains` finds
/// out many bytes at a time.
fn feeds(bytes: &[u8]) -> impl Iterator<Item = usize> {
    const PART_BYTES: usize = 1 << 10;
    let parts = bytes.chunks(PART_BYTES).enumerate();
    let parts = parts.filter(|(_, part)| part.contains(&b'\n'));
    parts.flat_map(|(number, part)| {
        let feeds = part.iter().enumerate();
        let feeds = feeds.filter(|(_, byte)| **byte == b'\n');
        feeds.map(move |(at, _)| number * PART_BYTES + at)
    })
}
