//! Says what is wrong with a log. All who show, pass on or keep output ask here, so that none of
//! them takes a log that somebody has removed, cut or changed for the whole output.

use std::io;
use std::path::{Path, PathBuf};

use crate::fsx;

use super::bytes::read;
use super::frame::{HEADER_BYTES, Header, Kind, segment_path, segments};
use super::reader::LogReader;

/// How many bytes of output a log must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Written {
    pub(crate) bytes: u64,
    /// Whether the log must have no more than these bytes.
    pub(crate) is_all: bool,
}

impl Written {
    /// Some output of an unknown length.
    pub(crate) const SOME: Self = Self {
        bytes: 1,
        is_all: false,
    };

    /// Whether a log with this number of bytes has more than were written.
    fn is_exceeded_by(self, found: u64) -> bool {
        self.is_all && found > self.bytes
    }

    /// Says what is wrong with a log that has another number of bytes.
    fn unlike(self, path: &Path, found: u64) -> String {
        let (path, bytes) = (path.display(), self.bytes);
        if self.is_exceeded_by(found) {
            format!("{path} has {found} bytes of output, but only {bytes} were written")
        } else if found >= bytes || self == Self::SOME {
            // How many bytes an attempt that still runs has written is known only from its log.
            format!("{path} has {found} bytes of output, but more were written")
        } else {
            format!("{path} has {found} of at least {bytes} bytes of output")
        }
    }
}

/// How much of a log is read to find a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    /// The headers of the last segment and the ends of the earlier ones. The whole log is read only
    /// if something about them is wrong. Damage elsewhere is found by whoever reads there.
    Quick,
    /// The headers of the whole log.
    Whole,
}

/// The bytes of a log.
struct Counted {
    /// The bytes that are there, or that the cap has deleted.
    found: u64,
    /// The bytes that are missing, because somebody has cut the log short while it was written.
    lost: u64,
    /// Whether a mark says that output may be missing.
    is_marked: bool,
}

/// The fault in a log to which these bytes were written: it is missing, or a part of it is;
/// it is cut short or damaged, cannot be read or is no file; or it has more bytes. `None` if
/// nothing is wrong, or if only a mark says that the supervisor died. Each text names the file. An
/// error says that the system lacks something at the moment, which is no fault of the log.
pub(crate) fn fault(log: &Path, written: Written, look: Look) -> io::Result<Option<String>> {
    let looked = match look {
        Look::Quick => seems_whole(log, written),
        Look::Whole => Ok(false),
    };
    let found = looked.and_then(|seems_whole| {
        if seems_whole {
            Ok(None)
        } else {
            fault_in_whole(log, written)
        }
    });
    told(log, found)
}

fn told(log: &Path, found: io::Result<Option<String>>) -> io::Result<Option<String>> {
    match found {
        Err(error) if !fsx::is_of_the_system(&error) => Ok(Some(unreadable(log, &error))),
        found => found,
    }
}

/// Says why a log cannot be read. The text of damage names the file already.
pub(crate) fn unreadable(log: &Path, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::InvalidData => error.to_string(),
        _ => format!("{} cannot be read: {error}", log.display()),
    }
}

fn seems_whole(log: &Path, written: Written) -> io::Result<bool> {
    let segments = segments(log)?;
    if segments.is_empty() {
        return Ok(written.bytes == 0);
    }
    let mut reader = LogReader::new(log);
    let end = reader.end()?;
    // The search for the end stops at damage, and this tells of it.
    reader.header()?;
    let is_one = segments == [0];
    Ok(reader.damage.is_none()
        && !reader.is_cut
        && end >= written.bytes
        && !written.is_exceeded_by(end)
        // Most logs have one segment, which needs no others.
        && (is_one || missing(log)?.is_none() && cut_segment(log)?.is_none()))
}

fn fault_in_whole(log: &Path, written: Written) -> io::Result<Option<String>> {
    let mut reader = LogReader::new(log);
    if written.bytes > 0 && !reader.exists()? {
        return Ok(Some(format!("{} is missing", log.display())));
    }
    let Counted {
        found,
        lost,
        is_marked,
    } = count(&mut reader)?;
    if reader.damage.is_some() {
        return Ok(reader.damage);
    }
    // A supervisor that died while the disk was full may have noted no removal.
    if let Some(missing) = missing(log)?.filter(|_| !is_marked) {
        return Ok(Some(format!("{} is missing", missing.display())));
    }
    let is_short = lost > 0 || found < written.bytes && !is_marked;
    if is_short || written.is_exceeded_by(found) {
        return Ok(Some(written.unlike(log, found)));
    }
    let cut = cut_segment(log)?;
    Ok(cut.map(|cut| format!("{} lacks its last bytes", cut.display())))
}

/// Counts the bytes of all streams. To be called on a new reader.
fn count(reader: &mut LogReader) -> io::Result<Counted> {
    let (mut lost, mut is_marked) = (0, false);
    while let Some(header) = reader.header()? {
        match header.kind {
            Kind::Next => {
                let next = reader.segment + 1;
                reader.enter(next, 0);
                continue;
            }
            // The totals are smaller than what was counted if frames were added.
            Kind::Totals => {
                let before = reader.totals(header)?.sum(|_, _| true);
                reader.offset = reader.offset.max(before);
            }
            Kind::Output(_) => reader.offset += u64::from(header.length),
            Kind::Cut => {
                let counted = reader.pass_mark(header)?;
                is_marked |= counted.is_none();
                lost += counted.unwrap_or(0);
                continue;
            }
        }
        reader.pass(header);
    }
    Ok(Counted {
        found: reader.offset - lost,
        lost,
        is_marked,
    })
}

/// The first segment that is missing although the cap has not removed it, as far as the log notes
/// such removals: logs of earlier versions do not.
fn missing(log: &Path) -> io::Result<Option<PathBuf>> {
    let before = segments(log)?;
    match before.first().copied() {
        None => return Ok(None),
        // The cap never deletes the first segment.
        Some(1..) => return Ok(Some(log.to_owned())),
        Some(0) => {}
    }
    // The removal of a segment is noted in a later one before it is removed. So whatever was
    // removed before the first look is noted in the last segment of the second.
    let after = segments(log)?;
    let last = after.last().copied().unwrap_or(0);
    if last == 0 {
        return Ok(None);
    }
    let mut reader = LogReader::new(log);
    reader.enter(last, 0);
    let totals = match reader.header()? {
        Some(header) if header.kind == Kind::Totals => reader.totals(header)?,
        _ => return Ok(None),
    };
    let Some(removed) = totals.removed else {
        return Ok(None);
    };
    let missing = unlisted(&before, &after).find(|segment| !removed.contains(segment));
    Ok(missing.map(|segment| segment_path(log, segment)))
}

/// The segments that were missing in both of two looks, each of which found these segments. A
/// segment that was made after the first look, or while it went on, is in the second.
fn unlisted(before: &[u32], after: &[u32]) -> impl Iterator<Item = u32> {
    let last = before.last().copied().unwrap_or(0);
    let has = |found: &[u32], segment: u32| found.binary_search(&segment).is_ok();
    (0..last).filter(move |segment| !has(before, *segment) && !has(after, *segment))
}

/// A segment before the last one that lacks the frame that leads to the next segment, so that
/// readers cannot go on from there.
fn cut_segment(log: &Path) -> io::Result<Option<PathBuf>> {
    let numbers = segments(log)?;
    let earlier = numbers.split_last().map_or(&[][..], |(_, earlier)| earlier);
    for segment in earlier {
        let path = segment_path(log, *segment);
        let file = match fsx::open(&path) {
            // The cap has deleted it meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) if fsx::is_of_the_system(&error) => return Err(error),
            Err(_) => return Ok(Some(path)),
            Ok(file) => file,
        };
        let mut end = [0; HEADER_BYTES];
        let at = file.metadata()?.len().checked_sub(HEADER_BYTES as u64);
        let filled = at.map_or(Ok(0), |at| read(&file, &mut end, at))?;
        let leads_on = Header::read(&end).is_ok_and(|header| header.kind == Kind::Next);
        if filled < HEADER_BYTES || !leads_on {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use rustix::io::Errno;

    use super::*;

    #[test]
    fn an_error_of_the_system_is_no_fault_of_the_log() {
        let told = |error: Errno| told(Path::new("/x.log"), Err(error.into()));
        for error in [Errno::MFILE, Errno::NFILE, Errno::NOMEM] {
            assert!(told(error).is_err(), "{error}");
        }
        for error in [Errno::ACCESS, Errno::LOOP, Errno::IO] {
            let fault = told(error).unwrap().unwrap();
            assert!(fault.starts_with("/x.log cannot be read: "), "{fault}");
        }
    }

    /// The writer may begin several segments between two looks.
    #[test]
    fn a_segment_that_is_made_between_two_looks_is_not_missing() {
        let check = |before: &[u32], after: &[u32], expected: &[u32]| {
            let found: Vec<u32> = unlisted(before, after).collect();
            assert_eq!(found, expected, "{before:?} {after:?}");
        };
        check(&[0, 1, 2], &[0, 1, 2, 3, 4], &[]);
        check(&[0, 1, 4], &[0, 1, 2, 3, 4, 5], &[]);
        check(&[0, 3], &[0, 5], &[1, 2]);
        check(&[0, 1, 3], &[0, 3, 4], &[2]);
        check(&[0], &[0, 2], &[]);
    }
}
