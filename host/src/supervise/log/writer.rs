//! Appends to a log: keeps to the cap, and loses nothing while the disk is full.
//!
//! Bytes that were read from a pipe are dropped only if nobody reads the log. If a write fails, the
//! remaining bytes wait in memory, and the attempt is *held*: its pipes are not read, so its
//! processes block once the pipes are full. [`LogWriter::retry`] continues at the same byte. Bytes
//! are written by position, so a frame that reached the disk in part is completed, not repeated. If
//! somebody cuts the file short, the output continues at its new end, behind a mark that says how
//! much was written before. If somebody removes the file, the same happens in a new file about a
//! second later.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::SeekFrom;

use crate::clock;
use crate::fsx;
use crate::units::bytes_text;

use super::cut::mark_loss;
use super::frame::{
    Channel, HEADER_BYTES, Header, Kind, Totals, create_parent, segment_path, whole,
};

const LARGEST_SEGMENT: u64 = 16 << 20;
const SMALLEST_SEGMENT: u64 = 4 << 10;
/// The log is written only while this much space is free: twice the host's ballast.
const ROOM_BYTES: u64 = 16 << 20;
/// How many bytes are written between two looks at the free space.
const LOOK_EVERY_BYTES: u64 = 1 << 20;

/// Time between two looks whether the file was removed.
const LOOK_FOR_FILE: Duration = Duration::from_millis(100);
/// How long a removal of the whole data directory may take.
const REMOVAL: Duration = Duration::from_secs(1);

/// The log cannot be written at present; holds the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::supervise) struct Held(pub(in crate::supervise) String);

/// The reason why output is held back although the disk has some free space.
pub(crate) fn no_room() -> String {
    format!("less than {} are free on its disk", bytes_text(ROOM_BYTES))
}

/// [`no_room`], if the disk of this directory has too little free space for output now.
pub(in crate::supervise) fn lack_of_room(dir: &Path) -> Option<String> {
    (!fsx::has_room(dir, ROOM_BYTES)).then(no_room)
}

/// Decides to which segment each byte goes, and which segments are deleted because of the cap.
#[derive(Debug)]
pub(in crate::supervise) struct LogWriter {
    files: Files,
    /// Payload bytes of the head, the first part of the output, which is never deleted.
    head_bytes: u64,
    /// How many payload bytes of the newest output are kept at least.
    tail_bytes: u64,
    segment_bytes: u64,
    /// The size that no file may exceed.
    file_bytes: u64,
    segment: u32,
    in_segment: u64,
    /// The size of the segment's file, once all waiting operations are carried out.
    in_file: u64,
    written: u64,
    totals: Totals,
    in_head: bool,
    /// The full segments of the tail with their payload bytes, oldest first.
    tail: VecDeque<(u32, u64)>,
    in_tail: u64,
    /// Whether output that cannot be written at once is dropped, instead of waiting.
    drops: bool,
}

impl LogWriter {
    pub(in crate::supervise) fn new(base: PathBuf, cap_bytes: u64) -> Self {
        Self::within(base, cap_bytes, fsx::file_limit().unwrap_or(u64::MAX))
    }

    /// Like [`Self::new`], but with another limit on the size of files (`ulimit -f`). A segment
    /// ends before its file reaches this limit: otherwise the output would be held back for ever.
    pub(super) fn within(base: PathBuf, cap_bytes: u64, file_bytes: u64) -> Self {
        Self {
            files: Files {
                base,
                file: None,
                segment: 0,
                position: 0,
                room_until: 0,
                waiting: VecDeque::new(),
                fault: String::new(),
                is_cut: false,
                looked: Duration::ZERO,
                removed: None,
            },
            head_bytes: cap_bytes / 2,
            tail_bytes: cap_bytes - cap_bytes / 2,
            segment_bytes: (cap_bytes / 16).clamp(SMALLEST_SEGMENT, LARGEST_SEGMENT),
            file_bytes,
            segment: 0,
            in_segment: 0,
            in_file: 0,
            written: 0,
            totals: Totals::of_writer(),
            in_head: true,
            tail: VecDeque::new(),
            in_tail: 0,
            drops: false,
        }
    }

    /// The bytes that a stream has produced, kept or deleted.
    pub(in crate::supervise) fn bytes(&self, child: u16, channel: Channel) -> u64 {
        self.totals
            .sum(|one, other| (one, other) == (child, channel))
    }

    /// Appends the output in `buffer[HEADER_BYTES..]`. The first `HEADER_BYTES` are overwritten
    /// with the header, so that header and output are one write.
    pub(in crate::supervise) fn append(
        &mut self,
        child: u16,
        channel: Channel,
        time_us: u64,
        buffer: &mut [u8],
    ) -> Result<(), Held> {
        if self.written == 0 {
            self.files.open(0);
        }
        let mut begin = 0;
        while begin + HEADER_BYTES < buffer.len() {
            let room = usize::try_from(self.room()).unwrap_or(usize::MAX);
            if room == 0 {
                self.roll(time_us);
                continue;
            }
            let length = room.min(buffer.len() - HEADER_BYTES - begin);
            let bytes = length as u64;
            let frame = &mut buffer[begin..begin + HEADER_BYTES + length];
            let kind = Kind::Output(channel);
            Header {
                kind,
                child,
                length: u32::try_from(length).unwrap_or(u32::MAX),
                time_us,
            }
            .write(frame);
            self.files.put(frame, &self.totals);
            self.totals.add(child, channel, bytes);
            self.in_segment += bytes;
            self.in_file += frame_bytes(bytes);
            self.written += bytes;
            // The bytes up to here have been written or copied, so the header of the next piece may
            // overwrite the last of them.
            begin += length;
        }
        self.state()
    }

    /// Carries out the waiting operations until one of them fails again.
    pub(in crate::supervise) fn retry(&mut self) -> Result<(), Held> {
        self.files.retry();
        self.state()
    }

    /// Drops what cannot be written, now and later. After that, the log may be damaged.
    pub(in crate::supervise) fn drop_unwritten(&mut self) {
        self.drops = true;
    }

    fn state(&mut self) -> Result<(), Held> {
        if self.drops {
            self.files.waiting.clear();
        }
        self.files.state()
    }

    /// Closes the file; the log can still be appended to.
    pub(in crate::supervise) fn close(&mut self) {
        self.files.file = None;
    }

    /// How many bytes the current segment can still take.
    fn room(&self) -> u64 {
        // Leaves room for the header of a frame, and for the frame that ends the segment.
        let in_file = self.in_file + 2 * frame_bytes(0);
        let in_file = match self.file_bytes.saturating_sub(in_file) {
            // The limit is too small for any output, so the next segment would be no better.
            0 if self.in_segment == 0 => u64::MAX,
            room => room,
        };
        let in_segment = in_file.min(self.segment_bytes - self.in_segment);
        if self.in_head {
            in_segment.min(self.head_bytes - self.written)
        } else {
            in_segment
        }
    }

    fn roll(&mut self, time_us: u64) {
        if self.in_head {
            self.in_head = self.written < self.head_bytes;
        } else {
            self.tail.push_back((self.segment, self.in_segment));
            self.in_tail += self.in_segment;
        }
        self.files
            .put(&whole(Kind::Next, time_us, &[]), &self.totals);
        self.segment += 1;
        self.in_segment = 0;
        self.files.open(self.segment);
        self.totals.is_cut |= self.files.is_cut;
        let mut removed = Vec::new();
        while let Some((oldest, bytes)) = self.tail.front().copied()
            && self.in_tail - bytes >= self.tail_bytes
        {
            self.tail.pop_front();
            self.in_tail -= bytes;
            self.totals.note_removal(oldest);
            removed.push(oldest);
        }
        // Written before the removal, so that a segment whose removal is not noted is missing for
        // another reason. On a full disk this waits, and the removal makes room for it.
        let totals = whole(Kind::Totals, time_us, &self.totals.encode());
        self.in_file = totals.len() as u64;
        self.files.put(&totals, &self.totals);
        for oldest in removed {
            self.files.remove(oldest);
        }
    }
}

/// Carries out the writer's decisions on the files: at once or, if the system refuses an operation,
/// later and in the same order.
#[derive(Debug)]
struct Files {
    base: PathBuf,
    file: Option<File>,
    /// The segment that `position` is in.
    segment: u32,
    position: u64,
    /// The position up to which the disk had room at the last look.
    room_until: u64,
    waiting: VecDeque<Step>,
    /// Why the first of the waiting operations failed.
    fault: String,
    /// Whether output was lost, because somebody has cut a segment short.
    is_cut: bool,
    /// When it was last looked whether the file was removed.
    looked: Duration,
    /// When the file was first found to be removed.
    removed: Option<Duration>,
}

#[derive(Debug)]
enum Step {
    Open(u32),
    /// Writes a frame, or what is left of a frame that was begun.
    Write {
        bytes: Vec<u8>,
        /// The output before the frame; `None` if the frame was begun.
        before: Option<Totals>,
    },
}

impl Files {
    fn state(&self) -> Result<(), Held> {
        if self.waiting.is_empty() {
            Ok(())
        } else {
            Err(Held(self.fault.clone()))
        }
    }

    fn open(&mut self, segment: u32) {
        if !self.waiting.is_empty() || !self.try_open(segment) {
            self.waiting.push_back(Step::Open(segment));
        }
    }

    /// Writes a frame. `before` is the output before the frame.
    fn put(&mut self, bytes: &[u8], before: &Totals) {
        let done = if self.waiting.is_empty() {
            self.try_frame(bytes, before)
        } else {
            0
        };
        if done < bytes.len() {
            self.waiting.push_back(Step::Write {
                bytes: bytes[done..].to_vec(),
                before: (done == 0).then(|| before.clone()),
            });
        }
    }

    fn retry(&mut self) {
        while let Some(step) = self.waiting.pop_front() {
            match step {
                Step::Open(segment) if self.try_open(segment) => {}
                Step::Open(segment) => return self.waiting.push_front(Step::Open(segment)),
                Step::Write { mut bytes, before } => {
                    let done = match &before {
                        Some(before) => self.try_frame(&bytes, before),
                        None => self.try_write(&bytes),
                    };
                    if done < bytes.len() {
                        bytes.drain(..done);
                        let before = before.filter(|_| done == 0);
                        return self.waiting.push_front(Step::Write { bytes, before });
                    }
                }
            }
        }
    }

    /// Whether there is enough free space. Logs must not use the last space of a disk, nor the
    /// space that the host releases when the disk is full, because ends and cancellations of tasks
    /// must still be written.
    fn has_room(&self) -> bool {
        let dir = self.base.parent().unwrap_or(&self.base);
        lack_of_room(dir).is_none()
    }

    fn remove(&mut self, segment: u32) {
        match std::fs::remove_file(segment_path(&self.base, segment)) {
            // If the creation of the segment still waits, there is no file, and no reader can have
            // seen the segment.
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                say!(
                    "cannot remove segment {segment} of {}: {error}",
                    self.base.display()
                );
            }
            _ => {}
        }
    }

    fn try_open(&mut self, segment: u32) -> bool {
        let path = segment_path(&self.base, segment);
        let created = open_or_make(&path, segment > 0);
        // A log that exists already is appended to, because output is never overwritten.
        let opened = created.and_then(|file| Ok((file.metadata()?.len(), file)));
        match opened {
            Ok((length, file)) => {
                self.file = Some(file);
                self.segment = segment;
                (self.position, self.room_until) = (length, length);
                self.removed = None;
                true
            }
            Err(error) => {
                self.fault = error.to_string();
                false
            }
        }
    }

    /// Goes back to the end of the file, and adds a mark there, if somebody has cut the file short
    /// or removed it. Otherwise the next frame would be written behind a hole of zeros, or to a
    /// file that nobody can read. To be called between two frames. `before` is the output up to
    /// here.
    fn go_back_to_the_end(&mut self, before: &Totals) -> io::Result<()> {
        let position = self.position;
        if self.was_removed()? {
            self.file = None;
            self.removed = None;
        } else if self.length()? >= position {
            return Ok(());
        }
        say!(
            "{} was cut short or replaced while it was written: output is missing in it",
            segment_path(&self.base, self.segment).display()
        );
        self.is_cut = true;
        match mark_loss(&self.base, self.segment, clock::wall_us(), before) {
            // A reader is told of the damage in place of the mark.
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {}
            marked => marked?,
        }
        self.position = self.length()?;
        self.room_until = self.position;
        Ok(())
    }

    /// Whether somebody has removed or replaced the open file, and its directory is still there
    /// some time later: while the data directory is being removed, nothing may be made in it. A
    /// file that was moved is written on.
    fn was_removed(&mut self) -> io::Result<bool> {
        let Some(file) = &self.file else {
            return Ok(false);
        };
        let now = clock::monotonic();
        if now.saturating_sub(self.looked) < LOOK_FOR_FILE {
            return Ok(false);
        }
        self.looked = now;
        let own = file.metadata()?;
        // Some file systems count no links.
        let is_there = own.nlink() > 0
            || std::fs::metadata(segment_path(&self.base, self.segment))
                .is_ok_and(|there| (there.dev(), there.ino()) == (own.dev(), own.ino()));
        if is_there {
            self.removed = None;
            return Ok(false);
        }
        let since = *self.removed.get_or_insert(now);
        let directory = self.base.parent().unwrap_or(&self.base);
        Ok(now.saturating_sub(since) >= REMOVAL && directory.is_dir())
    }

    /// The length of the file. Costs less than reading all that is known of the file.
    fn length(&mut self) -> io::Result<u64> {
        Ok(rustix::fs::seek(self.current()?, SeekFrom::End(0))?)
    }

    /// Writes as many of the bytes of a whole frame as possible; returns how many.
    fn try_frame(&mut self, bytes: &[u8], before: &Totals) -> usize {
        match self.go_back_to_the_end(before) {
            Ok(()) => self.try_write(bytes),
            Err(error) => {
                self.fault = error.to_string();
                0
            }
        }
    }

    /// Writes as many of the bytes as possible; returns how many.
    fn try_write(&mut self, bytes: &[u8]) -> usize {
        let mut done = 0;
        while done < bytes.len() {
            let position = self.position;
            if position >= self.room_until {
                if !self.has_room() {
                    self.fault = no_room();
                    break;
                }
                self.room_until = position + LOOK_EVERY_BYTES;
            }
            match self
                .current()
                .and_then(|file| file.write_at(&bytes[done..], position))
            {
                Ok(count) if count > 0 => {
                    done += count;
                    self.position += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(_) => {
                    "the system wrote no byte".clone_into(&mut self.fault);
                    break;
                }
                Err(error) => {
                    self.fault = error.to_string();
                    self.room_until = position;
                    break;
                }
            }
        }
        done
    }

    fn current(&mut self) -> io::Result<&File> {
        let file = match self.file.take() {
            Some(file) => file,
            // If somebody has removed the file, the output goes on in a new one, behind a mark.
            None => open_or_make(&segment_path(&self.base, self.segment), false)?,
        };
        Ok(self.file.insert(file))
    }
}

/// Opens a file to write to it; makes the file and its directory if they are missing.
fn open_or_make(path: &Path, truncate: bool) -> io::Result<File> {
    let open = || {
        let mut options = fsx::private();
        fsx::open_named(path, options.write(true).create(true).truncate(truncate))
    };
    match open() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            create_parent(path).and_then(|()| open())
        }
        other => other,
    }
}

/// The size of a frame with this many bytes of payload.
fn frame_bytes(payload: u64) -> u64 {
    HEADER_BYTES as u64 + payload
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::super::reader::{LogReader, Piece};
    use super::*;

    /// If the mark were in the earlier segment, in place of the frame that leads on, nobody would
    /// find the output after it.
    #[test]
    fn output_goes_on_behind_a_mark_in_the_place_of_a_later_segment_that_was_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.log");
        let mut writer = LogWriter::within(path.clone(), 1 << 20, 100);
        let append = |writer: &mut LogWriter, byte: u8| {
            let mut buffer = [vec![0; HEADER_BYTES], vec![byte; 30]].concat();
            writer.append(0, Channel::Stdout, 0, &mut buffer).unwrap();
        };
        append(&mut writer, b'1');
        append(&mut writer, b'2');
        assert_eq!(writer.segment, 1);
        std::fs::remove_file(segment_path(&path, 1)).unwrap();
        // As if an earlier look had found it removed a second ago.
        writer.files.looked = Duration::ZERO;
        writer.files.removed = Some(Duration::ZERO);
        append(&mut writer, b'3');
        let mut reader = LogReader::new(&path);
        let (mut found, mut lost) = (Vec::new(), 0);
        while let Some(piece) = reader.next_piece().unwrap() {
            match piece {
                Piece::Bytes { bytes, .. } => found.extend(bytes),
                Piece::Gap { bytes, .. } => lost += bytes,
            }
        }
        assert!(found.ends_with(&[b'3'; 30]), "{found:?}");
        assert!(lost > 0);
        assert_eq!(found.len() as u64 + lost, 90);
    }
}
