//! Marks the end of a log whose supervisor died before it had written all output, or that somebody
//! has cut short.

use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::fsx;

use super::frame::{
    HEADER_BYTES, Header, Kind, Totals, create_parent, segment_path, segments, whole,
};
use super::reader::LogReader;

/// Adds the mark after the last output of the log, unless it is there already. Only for a log that
/// nobody writes any more. If the last frame was written in part, it is shortened to the bytes that
/// are there; on a full disk, the mark replaces the last of these bytes.
pub(crate) fn mark_cut(base: &Path, time_us: u64) -> io::Result<()> {
    let last = segments(base)?.last().copied().unwrap_or(0);
    mark(base, last, time_us, None)
}

/// Like [`mark_cut`], for the writer of a log that somebody has cut short. Marks the `segment` that
/// is being written even if its file is missing, because the frame that leads to it must stay.
/// `before` is the number of bytes of each stream before the mark, with those that are lost.
pub(super) fn mark_loss(
    base: &Path,
    segment: u32,
    time_us: u64,
    before: &Totals,
) -> io::Result<()> {
    let mut before = before.clone();
    before.is_cut = true;
    before.removed = None;
    mark(base, segment, time_us, Some(&before))
}

fn mark(base: &Path, segment: u32, time_us: u64, before: Option<&Totals>) -> io::Result<()> {
    let before = before.map(Totals::encode).unwrap_or_default();
    let path = segment_path(base, segment);
    create_parent(&path)?;
    let mut options = fsx::private();
    let options = options.read(true).write(true).create(true).truncate(false);
    // Before the log is read: something else in the place of the file is no damage of the log.
    let file = fsx::open_named(&path, options)?;
    let mut reader = LogReader::new(base);
    reader.enter(segment, 0);
    let (mut last, mut marked) = (None, None);
    while let Some(header) = reader.header()? {
        last = Some(header.kind);
        marked = match header.kind {
            Kind::Cut => Some(reader.totals(header)?.encode()),
            _ => None,
        };
        reader.pass(header);
    }
    // More output may have been lost since a mark with other totals, and since one with totals if
    // the supervisor has died.
    if marked.as_ref() == Some(&before) {
        return Ok(());
    }
    let mark = whole(Kind::Cut, time_us, &before);
    let mark_bytes = mark.len() as u64;
    // If the next segment was never made, the mark replaces the frame that leads to it.
    let begin = match last {
        Some(Kind::Next) => reader.position - HEADER_BYTES as u64,
        _ => reader.position,
    };
    let payload = begin + HEADER_BYTES as u64;
    let end = file.metadata()?.len();
    let mut header = [0; HEADER_BYTES];
    if end > payload {
        file.read_exact_at(&mut header, begin)?;
    }
    let part = match Header::read(&header) {
        Ok(part) if matches!(part.kind, Kind::Output(_)) => part,
        // The frame at `begin` was never written, or only leads to the next segment.
        _ => {
            file.write_all_at(&mark, begin)?;
            return file.set_len(begin + mark_bytes);
        }
    };
    let mut shorten_to = |end: u64| {
        let length = u32::try_from(end - payload).unwrap_or(u32::MAX);
        Header { length, ..part }.write(&mut header);
        file.write_all_at(&header, begin)
    };
    // Before the mark is added: if the host were killed after it had added the mark, the longer
    // frame would end in the mark, and the log could not be read from there on.
    shorten_to(end)?;
    match file.write_all_at(&mark, end) {
        Err(_) if end >= payload + mark_bytes => {
            let at = end - mark_bytes;
            file.set_len(end)?;
            file.write_all_at(&mark, at)?;
            shorten_to(at)
        }
        written => written,
    }
}
