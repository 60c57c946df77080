//! Tells the end of a log from damage, and finds the next frame behind damage.
//!
//! A power loss may leave zeros in a file: at its end, if its length reached the disk before its
//! content, or in its middle, if later blocks were written before earlier ones. Frames have no
//! checksum, but their lengths lead from each frame to the next. So a place behind the damage
//! counts as a frame only if the lengths lead from it through whole frames to the end of the file.

use std::fs::File;
use std::io;

use rustix::fs::SeekFrom;
use rustix::io::Errno;

use super::bytes::read;
use super::frame::{HEADER_BYTES, Header, Kind, NoHeader};

/// How many bytes are read at a time.
const READ_BYTES: usize = 64 << 10;
/// How far behind the damage a frame is searched for.
const SEARCH_BYTES: u64 = 16 << 20;
/// How many headers are read. Output may contain bytes that look like frames, and each of them may
/// seem to lead far. More than this many frames are in a segment only if nearly all are tiny.
const MOST_HEADERS: u32 = 1 << 20;

/// Whether anything but zeros is in the file from `at` on. Holes of the file are not read.
pub(super) fn is_written_from(file: &File, at: u64) -> io::Result<bool> {
    Ok(first_written(file, at)?.is_some())
}

/// The position of the first byte from `at` on that is not zero.
fn first_written(file: &File, mut at: u64) -> io::Result<Option<u64>> {
    let mut buffer = vec![0; READ_BYTES];
    loop {
        at = match rustix::fs::seek(file, SeekFrom::Data(at)) {
            Ok(data) => data,
            Err(Errno::NXIO) => return Ok(None),
            // The file system does not know its holes.
            Err(Errno::INVAL | Errno::OPNOTSUPP) => at,
            Err(error) => return Err(error.into()),
        };
        let count = read(file, &mut buffer, at)?;
        if count == 0 {
            return Ok(None);
        }
        if let Some(index) = buffer[..count].iter().position(|byte| *byte != 0) {
            return Ok(Some(at + index as u64));
        }
        at += count as u64;
    }
}

/// The position of the first frame behind the damage at `damaged`, if there certainly is one.
pub(super) fn next_frame(file: &File, damaged: u64) -> io::Result<Option<u64>> {
    let length = file.metadata()?.len();
    let Some(mut at) = first_written(file, damaged + 1)? else {
        return Ok(None);
    };
    let until = length.min(at.saturating_add(SEARCH_BYTES));
    let mut buffer = vec![0; READ_BYTES];
    let mut headers_left = MOST_HEADERS;
    while at < until {
        let count = read(file, &mut buffer, at)?;
        let headers = buffer[..count].windows(HEADER_BYTES);
        let searched = headers.len();
        if searched == 0 {
            return Ok(None);
        }
        for (index, bytes) in headers.enumerate() {
            let is_header = bytes.first_chunk().map(Header::read);
            if !matches!(is_header, Some(Ok(_))) {
                continue;
            }
            if leads_to_the_end(file, at + index as u64, length, &mut headers_left)? {
                return Ok(Some(at + index as u64));
            }
            if headers_left == 0 {
                return Ok(None);
            }
        }
        at += searched as u64;
    }
    Ok(None)
}

/// Whether whole frames, at least one, lead from `at` to the end of the file. The last frame may be
/// incomplete, because it may just be being written.
fn leads_to_the_end(
    file: &File,
    mut at: u64,
    length: u64,
    headers_left: &mut u32,
) -> io::Result<bool> {
    let mut frames = 0;
    let mut bytes = [0; HEADER_BYTES];
    loop {
        let Some(left) = headers_left.checked_sub(1) else {
            return Ok(false);
        };
        *headers_left = left;
        let count = read(file, &mut bytes, at)?;
        if count < HEADER_BYTES {
            return Ok(frames > 0 && (count == 0 || bytes[0] == Header::MAGIC));
        }
        match Header::read(&bytes) {
            Ok(header) => {
                let end = at + header.frame_bytes();
                if header.kind == Kind::Next {
                    return Ok(end == length);
                }
                if end > length {
                    return Ok(frames > 0);
                }
                at = end;
                frames += 1;
            }
            Err(NoHeader::Unwritten) => return Ok(frames > 0 && !is_written_from(file, at)?),
            Err(NoHeader::Damaged) => return Ok(false),
        }
    }
}
