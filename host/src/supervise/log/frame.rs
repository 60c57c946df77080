//! The layout of a log: frames, totals, and the names of segments.

use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder};
use std::io;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::fsx;

/// Magic, kind, child (u16), payload length (u32), wall time in microseconds (u64); little-endian.
pub(in crate::supervise) const HEADER_BYTES: usize = 16;
/// The largest payload; a header with a larger length is damaged.
pub(super) const MAX_PAYLOAD_BYTES: usize = 4 << 20;
/// Child (u16), channel (u8), whether output was lost (u8), bytes (u64). Behind the entries of all
/// streams, the first segment that the cap has removed and the one after the last (u32 each).
const TOTAL_BYTES: usize = 12;

/// One of a child's two output streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Channel {
    Stdout,
    Stderr,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Output(Channel),
    /// The number of bytes of each stream before this segment.
    Totals,
    /// Says that the log continues in the next segment.
    Next,
    /// Says that output may be missing here. If somebody has cut the log short while it was
    /// written, the payload is the number of bytes of each stream before the mark.
    Cut,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: Kind,
    pub(super) child: u16,
    pub(super) length: u32,
    pub(super) time_us: u64,
}

/// Why bytes are not a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoHeader {
    /// All bytes are zero. If only zeros follow, the length of the file reached the disk before a
    /// power loss, but its content did not. Otherwise the log is damaged.
    Unwritten,
    Damaged,
}

impl Header {
    /// The first byte of each header.
    pub(super) const MAGIC: u8 = 0xC1;

    /// The size of the whole frame.
    pub(super) fn frame_bytes(self) -> u64 {
        HEADER_BYTES as u64 + u64::from(self.length)
    }

    pub(super) fn write(self, to: &mut [u8]) {
        let kind = match self.kind {
            Kind::Output(Channel::Stdout) => 0,
            Kind::Output(Channel::Stderr) => 1,
            Kind::Totals => 2,
            Kind::Next => 3,
            Kind::Cut => 4,
        };
        to[0] = Self::MAGIC;
        to[1] = kind;
        to[2..4].copy_from_slice(&self.child.to_le_bytes());
        to[4..8].copy_from_slice(&self.length.to_le_bytes());
        to[8..16].copy_from_slice(&self.time_us.to_le_bytes());
    }

    pub(super) fn read(from: &[u8; HEADER_BYTES]) -> Result<Self, NoHeader> {
        let [magic, kind, child0, child1, l0, l1, l2, l3, time @ ..] = *from;
        if from.iter().all(|byte| *byte == 0) {
            return Err(NoHeader::Unwritten);
        }
        let kind = match kind {
            0 => Kind::Output(Channel::Stdout),
            1 => Kind::Output(Channel::Stderr),
            2 => Kind::Totals,
            3 => Kind::Next,
            4 => Kind::Cut,
            _ => return Err(NoHeader::Damaged),
        };
        let length = u32::from_le_bytes([l0, l1, l2, l3]);
        if magic != Self::MAGIC || length as usize > MAX_PAYLOAD_BYTES {
            return Err(NoHeader::Damaged);
        }
        Ok(Self {
            kind,
            child: u16::from_le_bytes([child0, child1]),
            length,
            time_us: u64::from_le_bytes(time),
        })
    }
}

/// Encodes a whole frame, of a kind that holds no output.
pub(super) fn whole(kind: Kind, time_us: u64, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    let mut frame = vec![0; HEADER_BYTES];
    Header {
        kind,
        child: 0,
        length,
        time_us,
    }
    .write(&mut frame);
    frame.extend_from_slice(payload);
    frame
}

/// The number of bytes of each stream so far.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Totals {
    streams: Vec<(u16, Channel, u64)>,
    /// Whether some of these bytes were lost, because somebody has cut the log short.
    pub(super) is_cut: bool,
    /// The segments that the cap has removed, or removes right after these totals are written.
    /// `None` in a mark, and in the log of an earlier version.
    pub(super) removed: Option<Range<u32>>,
}

impl Totals {
    /// The totals at the start of a log, in which removals are noted.
    pub(super) fn of_writer() -> Self {
        Self {
            removed: Some(0..0),
            ..Self::default()
        }
    }

    /// Notes that the cap removes this segment, the oldest that it has not removed yet.
    pub(super) fn note_removal(&mut self, segment: u32) {
        let first = self.removed.take().filter(|removed| !removed.is_empty());
        let first = first.map_or(segment, |removed| removed.start);
        self.removed = Some(first..segment + 1);
    }

    pub(super) fn add(&mut self, child: u16, channel: Channel, bytes: u64) {
        match self
            .streams
            .iter_mut()
            .find(|total| (total.0, total.1) == (child, channel))
        {
            Some(total) => total.2 += bytes,
            None => self.streams.push((child, channel, bytes)),
        }
    }

    /// The sum over the streams that `select` picks.
    pub(super) fn sum(&self, select: impl Fn(u16, Channel) -> bool) -> u64 {
        self.streams
            .iter()
            .filter(|total| select(total.0, total.1))
            .map(|total| total.2)
            .sum()
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut payload = Vec::with_capacity(self.streams.len() * TOTAL_BYTES);
        for (child, channel, bytes) in &self.streams {
            payload.extend_from_slice(&child.to_le_bytes());
            let channel = u8::from(*channel == Channel::Stderr);
            payload.extend_from_slice(&[channel, self.is_cut.into()]);
            payload.extend_from_slice(&bytes.to_le_bytes());
        }
        if let Some(removed) = &self.removed {
            payload.extend_from_slice(&removed.start.to_le_bytes());
            payload.extend_from_slice(&removed.end.to_le_bytes());
        }
        payload
    }

    pub(super) fn decode(payload: &[u8]) -> Self {
        let (entries, rest) = payload.as_chunks::<TOTAL_BYTES>();
        let streams = entries
            .iter()
            .map(|[child0, child1, channel, _, bytes @ ..]| {
                let channel = if *channel == 1 {
                    Channel::Stderr
                } else {
                    Channel::Stdout
                };
                (
                    u16::from_le_bytes([*child0, *child1]),
                    channel,
                    u64::from_le_bytes(*bytes),
                )
            });
        Self {
            streams: streams.collect(),
            is_cut: entries.iter().any(|entry| entry[3] == 1),
            removed: match *rest {
                [s0, s1, s2, s3, e0, e1, e2, e3] => {
                    let start = u32::from_le_bytes([s0, s1, s2, s3]);
                    Some(start..u32::from_le_bytes([e0, e1, e2, e3]))
                }
                _ => None,
            },
        }
    }
}

pub(super) fn segment_path(base: &Path, segment: u32) -> PathBuf {
    if segment == 0 {
        return base.to_owned();
    }
    let mut name = OsString::from(base.as_os_str());
    name.push(format!(".{segment}"));
    PathBuf::from(name)
}

/// The numbers of the segments that exist, in ascending order.
pub(super) fn segments(base: &Path) -> io::Result<Vec<u32>> {
    let (Some(folder), Some(name)) = (base.parent(), base.file_name()) else {
        return Ok(Vec::new());
    };
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        // Callers recognise such an error by its number.
        Err(error) if fsx::is_of_the_system(&error) => return Err(error),
        Err(error) => {
            let text = format!("{}: {error}", folder.display());
            return Err(io::Error::new(error.kind(), text));
        }
        Ok(entries) => entries,
    };
    let mut found = Vec::new();
    for entry in entries {
        found.extend(segment_number(name, &entry?.file_name()));
    }
    found.sort_unstable();
    Ok(found)
}

/// The segment number in the name of a file, if it is a segment of the log `base`.
pub(super) fn segment_number(base: &OsStr, name: &OsStr) -> Option<u32> {
    match name.as_bytes().strip_prefix(base.as_bytes())? {
        [] => Some(0),
        [b'.', digits @ ..] => std::str::from_utf8(digits).ok()?.parse().ok(),
        _ => None,
    }
}

/// Creates the directory of a log.
pub(super) fn create_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) => DirBuilder::new().recursive(true).mode(0o700).create(parent),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_and_totals_are_decoded_as_they_were_encoded() {
        let header = Header {
            kind: Kind::Output(Channel::Stderr),
            child: 513,
            length: 70_000,
            time_us: u64::MAX - 1,
        };
        let mut bytes = [0; HEADER_BYTES];
        header.write(&mut bytes);
        assert_eq!(Header::read(&bytes), Ok(header));

        let mut totals = Totals::default();
        totals.add(0, Channel::Stdout, 5);
        totals.add(7, Channel::Stderr, u64::MAX / 2);
        totals.add(0, Channel::Stdout, 6);
        assert_eq!(Totals::decode(&totals.encode()), totals);
        totals.is_cut = true;
        assert_eq!(Totals::decode(&totals.encode()), totals);
        totals.removed = Some(3..70_000);
        assert_eq!(Totals::decode(&totals.encode()), totals);
        assert_eq!(totals.sum(|child, _| child == 0), 11);
    }

    #[test]
    fn unwritten_and_damaged_headers_are_distinguished() {
        assert_eq!(Header::read(&[0; HEADER_BYTES]), Err(NoHeader::Unwritten));
        assert_eq!(Header::read(b"plain text, 16 b"), Err(NoHeader::Damaged));
        let mut too_long = [0; HEADER_BYTES];
        Header {
            kind: Kind::Next,
            child: 0,
            length: u32::MAX,
            time_us: 0,
        }
        .write(&mut too_long);
        assert_eq!(Header::read(&too_long), Err(NoHeader::Damaged));
    }
}
