//! Begins to read at an offset, a time, or the last lines or bytes; also answers questions about a
//! whole log.
//!
//! The totals at the start of each segment give the offset of the segment. So the segments are
//! visited from the last one backwards, and only one or two of them are read instead of the whole
//! log.

use std::io;

use super::frame::Kind;
use super::reader::{LogReader, Piece, segments};

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
    /// Whether the log has more before these bytes.
    pub(crate) truncated: bool,
    /// The offset of their end in the selected sequence.
    pub(crate) end: u64,
}

/// A selected frame: its position in the segment, and its offset in the sequence.
struct Place {
    position: u64,
    offset: u64,
}

impl LogReader {
    /// Moves the reader to the given place.
    pub(crate) fn begin(&mut self, begin: Begin) -> io::Result<()> {
        match begin {
            Begin::Offset(offset) => self.begin_at(offset),
            Begin::Time(time_us) => self.begin_at_time(time_us),
            Begin::LastBytes(bytes) => {
                let offset = self.end()?.saturating_sub(bytes);
                // The last segment is open now, and usually the wanted bytes begin in it. If they
                // do, the directory need not be listed again.
                self.from = offset;
                self.enter_counted(self.segment)?;
                if self.offset > offset {
                    self.begin_at(offset)?;
                }
                Ok(())
            }
            Begin::LastLines(lines) => {
                let offset = self.offset_of_last_lines(lines)?;
                self.begin_at(offset)
            }
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
        while let Some(header) = self.header()? {
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
                _ => {}
            }
            self.pass(header);
        }
        Ok(self.offset)
    }

    /// The last bytes of the selected sequence, with a text in the place of a gap.
    pub(crate) fn tail(mut self, most: usize) -> io::Result<Tail> {
        self.begin(Begin::LastBytes(most as u64))?;
        let mut tail = Tail {
            bytes: Vec::new(),
            truncated: self.offset() > 0,
            end: 0,
        };
        while let Some(piece) = self.next_piece()? {
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

    /// What is wrong with a log of at least this many bytes, if anything is: it is damaged, or has
    /// fewer bytes and does not say so itself. Reads the whole log. To be called on a new reader of
    /// all streams.
    pub(crate) fn fault(mut self, bytes: u64) -> io::Result<Option<String>> {
        let mut is_marked = false;
        loop {
            match self.header() {
                Ok(Some(header)) => {
                    match header.kind {
                        Kind::Next => {
                            let next = self.segment + 1;
                            self.enter(next, 0);
                            continue;
                        }
                        Kind::Totals => self.offset = self.totals(header)?.sum(|_, _| true),
                        Kind::Output(_) => self.offset += u64::from(header.length),
                        Kind::Cut => is_marked = true,
                    }
                    self.pass(header);
                }
                Ok(None) => break,
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    return Ok(Some(error.to_string()));
                }
                Err(error) => return Err(error),
            }
        }
        if self.damage.is_some() {
            return Ok(self.damage);
        }
        let found = self.offset;
        let is_short = found < bytes && !is_marked;
        Ok(is_short.then(|| {
            let path = self.path().display();
            format!("{path} has {found} of at least {bytes} bytes of output")
        }))
    }

    /// The number of bytes in the log, if the log has fewer than `bytes` and nothing in it says
    /// that output is missing. To be called on a reader of all streams.
    pub(crate) fn falls_short_of(mut self, bytes: u64) -> io::Result<Option<u64>> {
        let end = self.end()?;
        if end >= bytes {
            return Ok(None);
        }
        let mut reader = Self::new(self.path());
        loop {
            match reader.next_piece() {
                Ok(Some(Piece::Gap { bytes: 0, .. })) | Err(_) => return Ok(None),
                Ok(Some(_)) => {}
                Ok(None) => return Ok(Some(end)),
            }
        }
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
                    .header()?
                    .is_some_and(|header| header.time_us < time_us)
            {
                break;
            }
        }
        while let Some(header) = self.header()? {
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
                _ => self.pass(header),
            }
        }
        self.from = self.offset;
        Ok(())
    }

    fn offset_of_last_lines(&mut self, lines: u64) -> io::Result<u64> {
        let end = self.end()?;
        if lines == 0 {
            return Ok(end);
        }
        let mut left = lines;
        // The line end of the last line does not begin another line.
        let mut at_end = true;
        for segment in segments(self.path())?.into_iter().rev() {
            for place in self.places(segment)?.into_iter().rev() {
                self.enter(segment, place.position);
                let Some(header) = self.header()? else {
                    continue;
                };
                let payload = self.payload(0, header.length.into())?;
                for (index, byte) in payload.iter().enumerate().rev() {
                    if *byte == b'\n' && !at_end {
                        left -= 1;
                        if left == 0 {
                            return Ok(place.offset + index as u64 + 1);
                        }
                    }
                    at_end = false;
                }
            }
        }
        Ok(0)
    }

    /// The selected frames of a segment, in order.
    fn places(&mut self, segment: u32) -> io::Result<Vec<Place>> {
        let mut places = Vec::new();
        if !self.enter_counted(segment)? {
            return Ok(places);
        }
        while let Some(header) = self.header()? {
            match header.kind {
                Kind::Output(channel) if self.selection.takes(header.child, channel) => {
                    places.push(Place {
                        position: self.position,
                        offset: self.offset,
                    });
                    self.offset += u64::from(header.length);
                }
                Kind::Next => break,
                _ => {}
            }
            self.pass(header);
        }
        Ok(places)
    }

    /// Moves to the first output of a segment; takes the offset from the segment's totals. Returns
    /// `false`, and keeps the offset, if the totals are missing: on a full disk, the file of a
    /// segment may be made without them. Such a segment has no output.
    fn enter_counted(&mut self, segment: u32) -> io::Result<bool> {
        self.enter(segment, 0);
        if let Some(header) = self.header()?
            && header.kind == Kind::Totals
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
