//! The writer and the reader tested against each other, without processes.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::path::Path;

use super::bytes::READ_BYTES;
use super::*;

fn append(writer: &mut LogWriter, child: u16, channel: Channel, time_us: u64, bytes: &[u8]) {
    let mut buffer = vec![0; HEADER_BYTES];
    buffer.extend_from_slice(bytes);
    writer.append(child, channel, time_us, &mut buffer).unwrap();
}

/// Writes a log of these frames of one child, one frame a second.
pub(crate) fn write(path: &Path, frames: &[(Channel, &[u8])]) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut writer = LogWriter::new(path.to_owned(), 1 << 30);
    for (second, (channel, bytes)) in (1..).zip(frames) {
        append(&mut writer, 1, *channel, second * 1_000_000, bytes);
    }
}

#[test]
fn output_of_a_log_that_exists_already_is_not_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.log");
    for text in [&b"one\n"[..], b"two\n"] {
        write(&path, &[(Channel::Stdout, text)]);
    }
    assert_eq!(text(LogReader::new(&path)), "one\ntwo\n");
}

fn pieces(mut reader: LogReader) -> Vec<Piece> {
    std::iter::from_fn(|| reader.next_piece().unwrap()).collect()
}

fn text(reader: LogReader) -> String {
    let parts = pieces(reader).into_iter().map(|piece| match piece {
        Piece::Bytes { bytes, .. } => String::from_utf8(bytes).unwrap(),
        Piece::Gap { bytes, .. } => format!("<{bytes}>"),
    });
    parts.collect()
}

/// Writes frames of two children on both channels, at the times 10, 20, …
fn sample(path: &Path) {
    let mut writer = LogWriter::new(path.to_owned(), 1 << 20);
    let out = Channel::Stdout;
    append(&mut writer, 0, out, 10, b"one\ntwo\n");
    append(&mut writer, 0, Channel::Stderr, 20, b"fault\n");
    append(&mut writer, 1, out, 30, b"three\nfo");
    append(&mut writer, 1, out, 40, b"ur\nfive");
}

#[test]
fn a_sparing_reader_returns_a_long_frame_in_short_pieces() {
    const LENGTH: usize = 250_000;
    const MOST: usize = 16 << 10;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.log");
    let bytes: Vec<u8> = (0..LENGTH)
        .map(|at| u8::try_from(at % 251).unwrap())
        .collect();
    write(
        &path,
        &[(Channel::Stdout, &bytes), (Channel::Stdout, b"end")],
    );
    for begin in [0, 1, MOST - 1, MOST, LENGTH - 1, LENGTH] {
        let mut reader = LogReader::new(&path).sparing();
        reader.begin(Begin::Offset(begin as u64)).unwrap();
        let mut at = begin;
        for piece in pieces(reader) {
            let Piece::Bytes {
                offset,
                bytes: read,
                ..
            } = piece
            else {
                panic!("{piece:?}");
            };
            assert_eq!(offset, at as u64);
            assert!((1..=MOST).contains(&read.len()), "{}", read.len());
            let expected = bytes.get(at..at + read.len()).unwrap_or(b"end");
            assert_eq!(read, expected, "at {at}");
            at += read.len();
        }
        assert_eq!(at, LENGTH + 3, "from {begin}");
    }
}

/// The number of bytes that are read from logs meanwhile.
fn read_bytes<T>(read: impl FnOnce() -> T) -> (T, u64) {
    let before = READ_BYTES.get();
    let result = read();
    (result, READ_BYTES.get() - before)
}

#[test]
fn a_long_line_is_found_and_returned_without_reading_its_bytes_again() {
    const LENGTH: u64 = 8 << 20;
    let dir = tempfile::tempdir().unwrap();
    for frame_bytes in [64 << 10, 256 << 10] {
        let path = dir.path().join(format!("{frame_bytes}.log"));
        let frame = vec![b'x'; frame_bytes];
        let count = usize::try_from(LENGTH).unwrap() / frame_bytes;
        let mut frames = vec![(Channel::Stdout, &b"first\n"[..])];
        frames.extend(vec![(Channel::Stdout, &*frame); count]);
        write(&path, &frames);
        for mut reader in [LogReader::new(&path), LogReader::new(&path).sparing()] {
            let (begun, read) = read_bytes(|| reader.begin(Begin::LastLines(1)));
            begun.unwrap();
            assert_eq!(reader.offset(), 6);
            assert!(
                read < LENGTH + LENGTH / 8,
                "{read} bytes to find the line, frames of {frame_bytes}"
            );
            let (returned, read) = read_bytes(|| pieces(reader));
            let returned: u64 = returned.iter().map(Piece::length).sum();
            assert_eq!(returned, LENGTH);
            assert!(
                read < LENGTH + LENGTH / 2,
                "{read} bytes to return the line, frames of {frame_bytes}"
            );
        }
        let mut reader = LogReader::new(&path);
        let (begun, read) = read_bytes(|| reader.begin(Begin::LastBytes(1)));
        begun.unwrap();
        assert!(read < LENGTH / 8, "{read} bytes to find the last byte");
        let other = LogReader::new(&path).channel(Channel::Stderr);
        let (found, read) = read_bytes(|| pieces(other));
        assert_eq!(found, []);
        assert!(read < LENGTH / 8, "{read} bytes to skip the other stream");
    }
}

#[test]
fn the_search_for_the_last_lines_ends_soon_after_nobody_wants_them() {
    const LENGTH: usize = 4 << 20;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.log");
    let mut writer = LogWriter::new(path.clone(), 1 << 30);
    let frame = vec![b'x'; 1 << 16];
    for _ in 0..LENGTH / frame.len() {
        append(&mut writer, 1, Channel::Stdout, 0, &frame);
    }
    let looks = std::cell::Cell::new(0);
    let search = |most: usize| {
        looks.set(0);
        let is_wanted = || looks.replace(looks.get() + 1) < most;
        LogReader::new(&path).begin_while(Begin::LastLines(9), is_wanted)
    };
    search(2).unwrap_err();
    assert_eq!(looks.get(), 3);
    search(usize::MAX).unwrap();
    assert!(looks.get() > 10, "only {} looks", looks.get());
}

#[test]
fn the_last_lines_are_found_across_blocks() {
    const LINES: u64 = 20_000;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.log");
    let line = |number: u64| format!("{number:09}\n");
    let mut writer = LogWriter::new(path.clone(), 1 << 30);
    for number in 0..LINES {
        let line = line(number);
        // A frame may end anywhere in a line.
        let (begin, end) = line.split_at(usize::try_from(number % 10).unwrap());
        append(&mut writer, 1, Channel::Stderr, 0, b"e\n");
        append(&mut writer, 1, Channel::Stdout, 0, begin.as_bytes());
        append(&mut writer, 1, Channel::Stdout, 0, end.as_bytes());
    }
    for unfinished in [None, Some("last")] {
        if let Some(last) = unfinished {
            append(&mut writer, 1, Channel::Stdout, 0, last.as_bytes());
        }
        let whole: String = (0..LINES).map(line).collect();
        let whole = whole + unfinished.unwrap_or_default();
        for lines in (1..LINES)
            .step_by(3_001)
            .chain([LINES, LINES + 1, u64::MAX])
        {
            let mut reader = LogReader::new(&path).channel(Channel::Stdout);
            reader.begin(Begin::LastLines(lines)).unwrap();
            let whole_lines = lines - u64::from(unfinished.is_some());
            let begin = LINES.saturating_sub(whole_lines) * 10;
            assert_eq!(reader.offset(), begin, "the last {lines} lines");
            let Some(Piece::Bytes { bytes, .. }) = reader.next_piece().unwrap() else {
                panic!("the last {lines} lines");
            };
            let expected = &whole.as_bytes()[usize::try_from(begin).unwrap()..];
            assert!(expected.starts_with(&bytes), "the last {lines} lines");
        }
    }
}

#[test]
fn a_reader_begins_at_the_given_offset_line_or_time() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.log");
    sample(&path);
    let check = |begin: Begin, channel: Option<Channel>, expected: &str| {
        let mut reader = LogReader::new(&path);
        if let Some(channel) = channel {
            reader = reader.channel(channel);
        }
        reader.begin(begin).unwrap();
        assert_eq!(text(reader), expected, "{begin:?} {channel:?}");
    };
    let out = Some(Channel::Stdout);
    check(Begin::Offset(0), None, "one\ntwo\nfault\nthree\nfour\nfive");
    check(Begin::Offset(0), out, "one\ntwo\nthree\nfour\nfive");
    check(Begin::Offset(5), out, "wo\nthree\nfour\nfive");
    check(Begin::Offset(9), None, "ault\nthree\nfour\nfive");
    check(Begin::Offset(23), out, "");
    check(Begin::Offset(1000), out, "");
    check(Begin::LastLines(0), out, "");
    check(Begin::LastLines(1), out, "five");
    check(Begin::LastLines(2), out, "four\nfive");
    check(Begin::LastLines(3), out, "three\nfour\nfive");
    check(Begin::LastLines(4), None, "fault\nthree\nfour\nfive");
    check(Begin::LastLines(1), Some(Channel::Stderr), "fault\n");
    check(Begin::LastLines(100), out, "one\ntwo\nthree\nfour\nfive");
    check(Begin::LastBytes(6), out, "r\nfive");
    check(Begin::LastBytes(600), out, "one\ntwo\nthree\nfour\nfive");
    check(Begin::Time(20), out, "three\nfour\nfive");
    check(Begin::Time(31), None, "ur\nfive");
    check(Begin::Time(0), None, "one\ntwo\nfault\nthree\nfour\nfive");
    check(Begin::Time(99), None, "");
}

#[test]
fn end_and_tail_count_only_the_selected_streams() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.log");
    assert_eq!(pieces(LogReader::new(&path)), [], "there is no log file");
    assert_eq!(LogReader::new(&path).tail(10).unwrap(), Tail::default());
    sample(&path);
    let reader = || LogReader::new(&path).channel(Channel::Stdout);
    assert_eq!(reader().end().unwrap(), 23);
    assert_eq!(reader().child(1).end().unwrap(), 15);
    assert_eq!(
        reader().tail(4).unwrap(),
        Tail {
            bytes: b"five".to_vec(),
            truncated: true,
            end: 23,
            damage: None,
        }
    );
    let whole = Tail {
        bytes: b"one\ntwo\nthree\nfour\nfive".to_vec(),
        truncated: false,
        end: 23,
        damage: None,
    };
    assert_eq!(reader().tail(64 << 10).unwrap(), whole);
}

#[test]
fn a_last_frame_is_not_returned_until_it_is_complete() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.log");
    sample(&path);
    let whole = std::fs::read(&path).unwrap();
    let last = b"ur\nfive".len() + HEADER_BYTES;
    for cut in 1..=last {
        std::fs::write(&path, &whole[..whole.len() - cut]).unwrap();
        let mut reader = LogReader::new(&path);
        let seen: Vec<_> = std::iter::from_fn(|| reader.next_piece().unwrap()).collect();
        assert_eq!(seen.len(), 3, "cut by {cut}");
        assert_eq!(LogReader::new(&path).end().unwrap(), 22, "cut by {cut}");
        std::fs::write(&path, &whole).unwrap();
        let Some(Piece::Bytes { bytes, .. }) = reader.next_piece().unwrap() else {
            panic!("cut by {cut}")
        };
        assert_eq!(bytes, b"ur\nfive");
    }
    std::fs::write(&path, [&whole[..], &[0; 100]].concat()).unwrap();
    assert_eq!(
        pieces(LogReader::new(&path)).len(),
        4,
        "zeroes at the end were never written"
    );
    std::fs::write(&path, [&whole[..], b"no frame, but some text"].concat()).unwrap();
    let mut reader = LogReader::new(&path);
    let damage = std::iter::from_fn(|| reader.next_piece().transpose())
        .find_map(Result::err)
        .unwrap();
    assert!(
        damage.to_string().contains("x.log is damaged at byte 9"),
        "{damage}"
    );
}

/// Writes numbered lines with a small cap: each line that is kept must be at its offset, and the
/// bytes that are missing must be counted.
#[test]
fn all_ways_to_read_agree_across_segments_and_the_gap() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.log");
    let mut writer = LogWriter::new(path.clone(), 64 << 10);
    let mut whole = Vec::new();
    for number in 0..30_000u32 {
        let line = format!("line {number}\n").into_bytes();
        append(&mut writer, 0, Channel::Stdout, u64::from(number), &line);
        if number % 10 == 0 {
            append(&mut writer, 0, Channel::Stderr, u64::from(number), b"e\n");
        }
        whole.extend(line);
    }
    let reader = || LogReader::new(&path).channel(Channel::Stdout);
    let end = whole.len() as u64;
    assert_eq!(reader().end().unwrap(), end);
    let (mut gap_begin, mut gap_end) = (0, 0);
    for piece in pieces(reader()) {
        match piece {
            Piece::Bytes { offset, bytes, .. } => {
                let at = usize::try_from(offset).unwrap();
                assert_eq!(whole[at..at + bytes.len()], bytes);
            }
            Piece::Gap { offset, bytes } => (gap_begin, gap_end) = (offset, offset + bytes),
        }
    }
    assert!(
        gap_begin > 25_000 && gap_end > gap_begin && end - gap_end > 25_000,
        "{gap_begin}..{gap_end} of {end}"
    );
    for offset in [
        0,
        1,
        gap_begin - 1,
        gap_begin,
        gap_begin + 5,
        gap_end - 1,
        gap_end,
        gap_end + 1,
        end - 1,
        end,
    ] {
        let mut from = reader();
        from.begin(Begin::Offset(offset)).unwrap();
        let first = from.next_piece().unwrap();
        let expected = match offset {
            _ if offset == end => None,
            _ if (gap_begin..gap_end).contains(&offset) => Some((offset, None)),
            _ => Some((offset, Some(whole[usize::try_from(offset).unwrap()]))),
        };
        let seen = first.map(|piece| match piece {
            Piece::Bytes { offset, bytes, .. } => (offset, Some(bytes[0])),
            Piece::Gap { offset, bytes } => {
                assert_eq!(offset + bytes, gap_end);
                (offset, None)
            }
        });
        assert_eq!(seen, expected, "from {offset}");
    }
    for lines in [1, 2, 100, 2000] {
        let mut from = reader();
        from.begin(Begin::LastLines(lines)).unwrap();
        let expected: Vec<_> = (30_000 - lines..30_000)
            .map(|number| format!("line {number}\n"))
            .collect();
        assert_eq!(text(from), expected.concat(), "the last {lines}");
    }
    let mut from = reader();
    from.begin(Begin::Time(29_990)).unwrap();
    assert_eq!(text(from).lines().count(), 10);
    assert_eq!(
        reader().tail(1 << 20).unwrap().bytes,
        whole[usize::try_from(gap_end).unwrap()..]
    );
}

#[test]
fn a_reader_overtaken_by_the_cap_continues_after_the_gap() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.log");
    let mut writer = LogWriter::new(path.clone(), 64 << 10);
    let mut reader = LogReader::new(&path);
    let (mut seen, mut missed) = (0, 0);
    for round in 0..200u32 {
        for _ in 0..100 {
            append(&mut writer, 0, Channel::Stdout, 0, &[b'x'; 100]);
        }
        // Reads only a few pieces at a time, in order to fall behind.
        for _ in 0..if round == 199 { usize::MAX } else { 20 } {
            match reader.next_piece().unwrap() {
                Some(Piece::Bytes { offset, bytes, .. }) => {
                    assert_eq!(offset, seen + missed);
                    seen += bytes.len() as u64;
                }
                Some(Piece::Gap { bytes, .. }) => missed += bytes,
                None => break,
            }
        }
    }
    assert_eq!(seen + missed, 200 * 100 * 100);
    assert!(missed > 0);
}

/// Short frames need more room for their headers than for their payload.
#[test]
fn no_segment_exceeds_the_limit_on_the_size_of_files() {
    const LIMIT: u64 = 2_000;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.log");
    let mut writer = LogWriter::within(path.clone(), 1 << 20, LIMIT);
    let mut whole = String::new();
    for number in 0..500 {
        let line = format!("{number}\n").repeat(number % 40 + 1);
        append(&mut writer, 0, Channel::Stdout, 0, line.as_bytes());
        whole.push_str(&line);
    }
    append(&mut writer, 0, Channel::Stdout, 0, &[b'x'; 10_000]);
    whole.push_str(&"x".repeat(10_000));
    assert!(text(LogReader::new(&path)) == whole);
    let files = std::fs::read_dir(dir.path()).unwrap();
    let sizes: Vec<u64> = files
        .map(|file| file.unwrap().metadata().unwrap().len())
        .collect();
    assert!(sizes.iter().all(|size| *size <= LIMIT), "{sizes:?}");
    assert!(sizes.contains(&LIMIT), "{sizes:?}");
}

#[test]
fn a_limit_on_the_size_of_files_that_no_output_fits_into_is_left_to_the_system() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.log");
    let mut writer = LogWriter::within(path.clone(), 1 << 20, 20);
    append(&mut writer, 0, Channel::Stdout, 0, b"some output");
    append(&mut writer, 0, Channel::Stdout, 0, b", and more");
    assert_eq!(text(LogReader::new(&path)), "some output, and more");
}

/// Marks a copy of the log whose last segment is cut to each length, twice.
#[test]
fn a_mark_follows_the_output_that_is_there_wherever_the_log_was_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.log");
    // A part of the second frame is in the second segment, after the totals.
    let write = || {
        for file in std::fs::read_dir(dir.path()).unwrap().flatten() {
            std::fs::remove_file(file.path()).unwrap();
        }
        let mut writer = LogWriter::within(path.clone(), 1 << 20, 80);
        append(&mut writer, 0, Channel::Stdout, 0, b"one\n");
        append(&mut writer, 0, Channel::Stdout, 0, &[b'x'; 40]);
    };
    write();
    let whole = text(LogReader::new(&path));
    let last = dir.path().join("x.log.1");
    let bytes = std::fs::read(&last).unwrap();
    // All ways to read agree about the output before the mark.
    let check = |found: &str, kept: &str| {
        let reader = || LogReader::new(&path);
        assert_eq!(reader().end().unwrap(), kept.len() as u64);
        assert_eq!(reader().tail(1_000).unwrap().bytes, kept.as_bytes());
        let mut last_line = reader();
        last_line.begin(Begin::LastLines(1)).unwrap();
        assert_eq!(text(last_line), found["one\n".len()..]);
        let mut later = reader();
        later.begin(Begin::Time(5)).unwrap();
        assert_eq!(later.offset(), kept.len() as u64);
    };
    for length in (0..=bytes.len()).map(Some).chain([None]) {
        write();
        match length {
            Some(length) => std::fs::write(&last, &bytes[..length]).unwrap(),
            None => std::fs::remove_file(&last).unwrap(),
        }
        let before = text(LogReader::new(&path));
        check(&before, &before);
        for time_us in [1, 2] {
            mark_cut(&path, time_us).unwrap();
            let found = text(LogReader::new(&path));
            let kept = found.strip_suffix("<0>").unwrap();
            assert!(whole.starts_with(kept), "{length:?}: {found}");
            assert!(kept.starts_with(&before), "{length:?}: {found}");
            check(&found, kept);
        }
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn a_reader_that_waits_for_a_frame_reads_its_part_and_the_mark() {
    const LAST: &str = "ur\nfive";
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.log");
    sample(&path);
    let whole = std::fs::read(&path).unwrap();
    for missing in 1..=LAST.len() {
        std::fs::write(&path, &whole[..whole.len() - missing]).unwrap();
        let mut reader = LogReader::new(&path);
        let before = std::iter::from_fn(|| reader.next_piece().unwrap());
        assert_eq!(before.count(), 3, "{missing}");
        mark_cut(&path, 50).unwrap();
        let part = &LAST[..LAST.len() - missing];
        assert_eq!(text(reader), format!("{part}<0>"));
    }
}

#[test]
fn the_mark_of_a_log_without_any_output_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("00/x.log");
    mark_cut(&path, 1).unwrap();
    assert_eq!(text(LogReader::new(&path)), "<0>");
    let tail = LogReader::new(&path).tail(10).unwrap();
    assert_eq!(tail.bytes, b"");
}

/// What a reader shows, and the error at which it ends.
fn shown(path: &Path) -> (String, Option<String>) {
    let mut reader = LogReader::new(path);
    let mut shown = String::new();
    loop {
        match reader.next_piece() {
            Ok(Some(Piece::Bytes { bytes, .. })) => {
                shown.push_str(std::str::from_utf8(&bytes).unwrap());
            }
            Ok(Some(Piece::Gap { bytes, .. })) => shown.extend(["<", &bytes.to_string(), ">"]),
            Ok(None) => return (shown, None),
            Err(error) => return (shown, Some(error.to_string())),
        }
    }
}

/// Each frame has 20 bytes: a header and four bytes of output.
#[test]
fn zeros_are_the_end_of_a_log_only_if_nothing_else_follows() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.log");
    let lines: Vec<String> = (100..140).map(|number| format!("{number}\n")).collect();
    let frames: Vec<_> = lines
        .iter()
        .map(|line| (Channel::Stdout, line.as_bytes()))
        .collect();
    write(&path, &frames);
    let whole = std::fs::read(&path).unwrap();
    assert_eq!(whole.len(), 40 * 20);
    // The zeros, the number of lines before them, and the first line after them, if any is whole.
    let check = |zeros: std::ops::Range<usize>, before: usize, after: Option<usize>| {
        let mut bytes = whole.clone();
        bytes.resize(whole.len().max(zeros.end), 0);
        bytes[zeros.clone()].fill(0);
        std::fs::write(&path, &bytes).unwrap();
        let is_end = zeros.end >= whole.len();
        let expected = match after {
            Some(after) => format!("{}<0>{}", lines[..before].concat(), lines[after..].concat()),
            None => lines[..before].concat(),
        };
        let (found, error) = shown(&path);
        assert_eq!(found, expected, "{zeros:?}");
        let damage = format!("x.log is damaged at byte {}", before * 20);
        match error {
            None => assert!(is_end, "{zeros:?}"),
            Some(error) => assert!(!is_end && error.ends_with(&damage), "{zeros:?}: {error}"),
        }
    };
    check(0..100, 0, Some(5));
    check(0..1, 0, Some(1));
    check(200..300, 10, Some(15));
    check(200..216, 10, Some(11));
    check(200..305, 10, Some(16));
    check(200..319, 10, Some(16));
    check(200..781, 10, None);
    check(200..799, 10, None);
    check(200..800, 10, None);
    check(0..800, 0, None);
    check(780..900, 39, None);
    check(800..900_000, 40, None);
}

/// The bytes that a reader returns before an error, and the error.
fn until_error(reader: &mut LogReader) -> (Vec<u8>, String) {
    let mut found = Vec::new();
    loop {
        match reader.next_piece() {
            Ok(Some(Piece::Bytes { bytes, .. })) => found.extend(bytes),
            Ok(other) => panic!("{other:?}"),
            Err(error) => return (found, error.to_string()),
        }
    }
}

#[test]
fn the_last_output_before_damage_at_the_end_is_read_and_the_damage_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.log");
    sample(&path);
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, [&whole[..], b"no frame, but some text"].concat()).unwrap();
    let damage = format!("x.log is damaged at byte {}", whole.len());
    let check = |begin: Begin, expected: &str| {
        let mut reader = LogReader::new(&path);
        reader.begin(begin).unwrap();
        let (found, error) = until_error(&mut reader);
        assert_eq!(found, expected.as_bytes(), "{begin:?}");
        assert!(error.ends_with(&damage), "{begin:?}: {error}");
    };
    check(Begin::LastLines(2), "four\nfive");
    check(Begin::LastBytes(6), "r\nfive");
    check(Begin::Offset(22), "ur\nfive");
    check(Begin::Time(40), "ur\nfive");
    check(Begin::LastLines(0), "");
    let tail = LogReader::new(&path).tail(1_000).unwrap();
    assert_eq!(tail.bytes, b"one\ntwo\nfault\nthree\nfour\nfive");
    assert_eq!((tail.truncated, tail.end), (true, 29));
    assert!(tail.damage.unwrap().ends_with(&damage));
    let error = mark_cut(&path, 50).unwrap_err();
    assert!(error.to_string().ends_with(&damage), "{error}");
}

/// All ways to read agree about the output behind the damage.
#[test]
fn the_last_lines_behind_damage_are_read_and_the_damage_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.log");
    sample(&path);
    let mut bytes = std::fs::read(&path).unwrap();
    // The second of the frames.
    bytes[24..45].fill(0);
    std::fs::write(&path, &bytes).unwrap();
    let mut reader = LogReader::new(&path);
    assert_eq!(reader.end().unwrap(), 23);
    reader.begin(Begin::LastLines(2)).unwrap();
    let (found, error) = until_error(&mut reader);
    assert_eq!(found, b"four\nfive");
    assert!(error.ends_with("is damaged at byte 24"), "{error}");
    assert_eq!(
        reader.next_piece().unwrap(),
        None,
        "the damage is told once"
    );

    mark_cut(&path, 50).unwrap();
    let (found, error) = shown(&path);
    assert_eq!(found, "one\ntwo\n<0>three\nfour\nfive<0>");
    assert!(error.unwrap().ends_with("is damaged at byte 24"));
}

#[test]
fn damage_before_the_place_at_which_a_reader_begins_is_not_shown_as_a_gap_there() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.log");
    sample(&path);
    let mut bytes = std::fs::read(&path).unwrap();
    // The first of the frames; a whole frame is between the damage and the place.
    bytes[0..24].fill(0);
    std::fs::write(&path, &bytes).unwrap();
    let check = |begin: Begin, expected: &[&[u8]]| {
        let mut reader = LogReader::new(&path);
        reader.begin(begin).unwrap();
        let pieces = std::iter::from_fn(|| reader.next_piece().ok().flatten());
        let shown: Vec<Vec<u8>> = pieces
            .map(|piece| match piece {
                Piece::Bytes { bytes, .. } => bytes,
                Piece::Gap { .. } => b"<0>".to_vec(),
            })
            .collect();
        assert_eq!(shown, expected, "{begin:?}");
    };
    check(Begin::Time(30), &[b"three\nfo", b"ur\nfive"]);
    check(
        Begin::Time(20),
        &[b"<0>", b"fault\n", b"three\nfo", b"ur\nfive"],
    );
}

/// Without the totals of a segment, its offset is known only from the segments before it.
#[test]
fn a_reader_begins_at_the_end_although_the_totals_of_the_last_segment_are_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.log");
    let mut writer = LogWriter::within(path.clone(), 1 << 20, 100);
    append(&mut writer, 0, Channel::Stdout, 0, &[b'x'; 40]);
    append(&mut writer, 0, Channel::Stdout, 0, &[b'y'; 40]);
    let last = dir.path().join("x.log.1");
    let mut bytes = std::fs::read(&last).unwrap();
    assert!(!dir.path().join("x.log.2").exists());
    bytes[..4].fill(0);
    std::fs::write(&last, &bytes).unwrap();
    for begin in [Begin::LastBytes(0), Begin::Offset(80), Begin::LastLines(0)] {
        let mut reader = LogReader::new(&path);
        reader.begin(begin).unwrap();
        assert_eq!(reader.offset(), 80, "{begin:?}");
        let piece = reader.next_piece();
        assert!(!matches!(piece, Ok(Some(_))), "{begin:?}: {piece:?}");
    }
    let mut reader = LogReader::new(&path);
    reader.begin(Begin::LastBytes(1)).unwrap();
    let Some(Piece::Bytes { bytes, .. }) = reader.next_piece().unwrap() else {
        panic!("no byte");
    };
    assert_eq!(bytes, b"y");
}

/// Each frame in the output leads through all later ones, and the last of them leads nowhere.
#[test]
fn the_search_for_a_frame_behind_damage_ends_although_the_output_is_full_of_lookalikes() {
    const LOOKALIKES: usize = 8 << 10;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.log");
    let lookalikes = frame::whole(frame::Kind::Cut, 7, &[]).repeat(LOOKALIKES);
    write(
        &path,
        &[(Channel::Stdout, &lookalikes), (Channel::Stdout, b"two\n")],
    );
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[..HEADER_BYTES].fill(0);
    // The lookalikes lead here.
    let end = HEADER_BYTES + lookalikes.len();
    bytes[end..end + HEADER_BYTES].fill(b'x');
    std::fs::write(&path, &bytes).unwrap();
    let ((found, error), read) = read_bytes(|| shown(&path));
    assert_eq!(found, "");
    assert!(error.unwrap().ends_with("x.log is damaged at byte 0"));
    assert!(read < 32 << 20, "{read} bytes");
}

#[test]
fn output_that_looks_like_a_frame_is_not_read_as_one_behind_damage() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.log");
    let mut lookalike = [0; HEADER_BYTES + 3];
    frame::Header {
        kind: frame::Kind::Output(Channel::Stdout),
        child: 1,
        length: 4,
        time_us: 7,
    }
    .write(&mut lookalike);
    write(
        &path,
        &[
            (Channel::Stdout, b"one\n"),
            (Channel::Stdout, &lookalike),
            (Channel::Stdout, b"two\n"),
        ],
    );
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[20..30].fill(0);
    std::fs::write(&path, &bytes).unwrap();
    assert_eq!(shown(&path).0, "one\n<0>two\n");
}

fn at_least(bytes: u64) -> Written {
    let is_all = false;
    Written { bytes, is_all }
}

/// What both looks say is wrong with a log, from the name of the file on.
fn fault_of(path: &Path, written: Written) -> Option<String> {
    let fault = |look| fault(path, written, look).unwrap();
    let quick = fault(Look::Quick);
    assert_eq!(fault(Look::Whole), quick, "{written:?}");
    let before = format!("{}/", path.parent().unwrap().display());
    quick.map(|said| said.strip_prefix(&before).unwrap().to_owned())
}

#[test]
fn a_log_that_was_cut_short_falls_short_unless_it_says_so_itself() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.log");
    let short = |bytes| fault_of(&path, at_least(bytes));
    assert_eq!(short(0), None);
    assert_eq!(short(1).unwrap(), "x.log is missing");
    sample(&path);
    assert_eq!(short(29), None);
    let said = "x.log has 29 of at least 30 bytes of output";
    assert_eq!(short(30).unwrap(), said);
    let whole = std::fs::read(&path).unwrap();
    for (length, found) in [(whole.len() - 1, 22), (46, 14), (45, 8), (0, 0)] {
        std::fs::write(&path, &whole[..length]).unwrap();
        let said = format!("x.log has {found} of at least 29 bytes of output");
        assert_eq!(short(29).unwrap(), said, "{length}");
    }
    mark_cut(&path, 50).unwrap();
    assert_eq!(short(29), None);
}

/// A link to itself cannot be opened.
#[test]
fn a_log_that_cannot_be_read_is_not_taken_for_one_that_says_that_output_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.log");
    let mut writer = LogWriter::within(path.clone(), 1 << 20, 100);
    append(&mut writer, 0, Channel::Stdout, 0, &[b'x'; 80]);
    let said = "x.log has 80 of at least 99 bytes of output";
    assert_eq!(fault_of(&path, at_least(99)).unwrap(), said);
    for segment in ["x.log", "x.log.1"] {
        let segment = dir.path().join(segment);
        let aside = dir.path().join("aside");
        std::fs::rename(&segment, &aside).unwrap();
        std::os::unix::fs::symlink(&segment, &segment).unwrap();
        let name = segment.file_name().unwrap().to_str().unwrap();
        let said = format!("{name} cannot be read: ");
        let fault = fault_of(&path, at_least(80)).unwrap();
        assert!(fault.starts_with(&said), "{fault}");
        // A reader gets to the same error.
        let (_, error) = shown(&path);
        assert!(error.unwrap().ends_with(&fault), "{fault}");
        std::fs::remove_file(&segment).unwrap();
        std::fs::rename(&aside, &segment).unwrap();
    }
}

/// Only the cap may remove segments, and it notes them.
#[test]
fn a_missing_segment_is_told_unless_the_cap_has_removed_it() {
    let dir = tempfile::tempdir().unwrap();
    let check = |cap: u64, lines: u32| {
        let path = dir.path().join(format!("{cap}.log"));
        let mut writer = LogWriter::new(path.clone(), cap);
        let mut bytes = 0;
        for number in 0..lines {
            let line = format!("line {number}\n").into_bytes();
            bytes += line.len() as u64;
            append(&mut writer, 0, Channel::Stdout, u64::from(number), &line);
            let written = at_least(bytes);
            // The log is whole at each moment.
            if number % 500 == 0 {
                assert_eq!(fault_of(&path, written), None, "{number}");
            }
        }
        assert_eq!(fault_of(&path, at_least(bytes)), None);
        let there = segments(&path);
        let (last, earlier) = there.split_last().unwrap();
        let has_gap = usize::try_from(*last).unwrap() != earlier.len();
        for segment in earlier {
            let file = frame::segment_path(&path, *segment);
            let aside = dir.path().join("aside");
            std::fs::rename(&file, &aside).unwrap();
            for written in [at_least(bytes), at_least(0)] {
                let name = file.file_name().unwrap().to_str().unwrap();
                let said = format!("{name} is missing");
                assert_eq!(fault_of(&path, written).unwrap(), said);
            }
            std::fs::rename(&aside, &file).unwrap();
        }
        has_gap
    };
    assert!(!check(1 << 20, 20_000));
    assert!(check(64 << 10, 20_000));
}

/// Earlier versions noted no removal, so that it is unknown who has removed a segment.
#[test]
fn a_missing_segment_in_the_log_of_an_earlier_version_is_not_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.log");
    write_segments(&path, || ());
    let last = frame::segment_path(&path, *segments(&path).last().unwrap());
    std::fs::remove_file(dir.path().join("x.log.1")).unwrap();
    let said = "x.log.1 is missing";
    assert_eq!(fault_of(&path, at_least(140)).unwrap(), said);
    let bytes = std::fs::read(&last).unwrap();
    // The totals have one entry of 12 bytes, and a note of eight.
    let (totals, rest) = bytes[HEADER_BYTES..].split_at(20);
    let mut earlier = frame::whole(frame::Kind::Totals, 0, &totals[..12]);
    earlier.extend_from_slice(rest);
    std::fs::write(&last, earlier).unwrap();
    assert_eq!(fault_of(&path, at_least(140)), None);
}

#[test]
fn added_bytes_are_told_if_all_output_was_counted() {
    let dir = tempfile::tempdir().unwrap();
    let check = |path: &Path, doubled: &Path, bytes: u64, found: u64| {
        let whole = std::fs::read(doubled).unwrap();
        for (times, is_all) in [(1, true), (2, false), (2, true)] {
            std::fs::write(doubled, whole.repeat(times)).unwrap();
            let written = Written { bytes, is_all };
            let is_told = times == 2 && is_all;
            let name = path.file_name().unwrap().to_str().unwrap();
            let text = format!("{name} has {found} bytes of output, but only {bytes} were written");
            let said = fault_of(path, written);
            assert_eq!(said, is_told.then_some(text), "{times} {written:?}");
        }
    };
    let path = dir.path().join("x.log");
    sample(&path);
    check(&path, &path, 29, 58);
    // The first segment has 68 bytes of output, the second has 12.
    let path = dir.path().join("y.log");
    let mut writer = LogWriter::within(path.clone(), 1 << 20, 100);
    append(&mut writer, 0, Channel::Stdout, 0, &[b'x'; 80]);
    check(&path, &dir.path().join("y.log.1"), 80, 92);
}

#[test]
fn a_fifo_or_a_directory_in_the_place_of_a_segment_is_damage_and_is_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.log");
    // The second output begins in the next segment.
    let mut writer = LogWriter::within(path.clone(), 1 << 20, 100);
    for byte in [b"1", b"2", b"3"] {
        append(&mut writer, 0, Channel::Stdout, 0, &byte.repeat(60));
    }
    let second = dir.path().join("x.log.1");
    std::fs::remove_file(&second).unwrap();
    let make_fifo = || {
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mkfifoat(rustix::fs::CWD, &second, mode).unwrap();
    };
    let check = || {
        let (found, error) = shown(&path);
        assert_eq!(found, "1".repeat(60));
        let said = error.unwrap();
        assert!(
            said.ends_with("x.log.1 is no regular file; move it away"),
            "{said}"
        );
        let fault = fault_of(&path, at_least(180)).unwrap();
        assert!(said.ends_with(&fault), "{fault}");
    };
    make_fifo();
    check();
    std::fs::remove_file(&second).unwrap();
    std::fs::create_dir(&second).unwrap();
    check();
}

#[test]
fn output_waits_until_a_fifo_in_the_place_of_the_log_is_moved_away() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.log");
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mkfifoat(rustix::fs::CWD, &path, mode).unwrap();
    let mut writer = LogWriter::new(path.clone(), 1 << 20);
    let mut buffer = [&[0_u8; HEADER_BYTES][..], b"output"].concat();
    let held = writer
        .append(0, Channel::Stdout, 0, &mut buffer)
        .unwrap_err();
    assert!(held.0.contains("x.log: it is no regular file"), "{held:?}");
    std::fs::rename(&path, dir.path().join("aside")).unwrap();
    writer.retry().unwrap();
    assert_eq!(shown(&path).0, "output");
}

/// A directory takes the place of the log for a moment, so that the mark cannot be written.
#[test]
fn a_mark_that_could_not_be_written_is_written_before_the_output_that_waited() {
    let dir = tempfile::tempdir().unwrap();
    let (path, aside) = (dir.path().join("x.log"), dir.path().join("aside"));
    let mut writer = LogWriter::new(path.clone(), 1 << 20);
    append(&mut writer, 0, Channel::Stdout, 10, b"one\n");
    append(&mut writer, 0, Channel::Stdout, 20, b"two\n");
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    file.set_len(20).unwrap();
    std::fs::rename(&path, &aside).unwrap();
    std::fs::create_dir(&path).unwrap();
    let mut buffer = vec![0; HEADER_BYTES];
    buffer.extend_from_slice(b"three\n");
    let held = writer.append(0, Channel::Stdout, 30, &mut buffer);
    let held = held.unwrap_err();
    assert!(held.0.contains("x.log: it is no regular file"), "{held:?}");
    std::fs::remove_dir(&path).unwrap();
    std::fs::rename(&aside, &path).unwrap();
    writer.retry().unwrap();
    append(&mut writer, 0, Channel::Stdout, 40, b"four\n");
    let expected = ("one\n<4>three\nfour\n".to_owned(), None);
    assert_eq!(shown(&path), expected);
}

#[test]
fn output_goes_on_behind_a_mark_if_the_log_is_cut_short_while_it_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("00/x.log");
    // The file has two frames of 20 bytes.
    let check = |length: Option<u64>, before: &str| {
        let mut writer = LogWriter::new(path.clone(), 1 << 20);
        append(&mut writer, 0, Channel::Stdout, 10, b"one\n");
        append(&mut writer, 0, Channel::Stdout, 20, b"two\n");
        if let Some(length) = length {
            let file = std::fs::File::options().write(true).open(&path).unwrap();
            file.set_len(length).unwrap();
        } else {
            // The writer would go on in a file that it has open.
            writer.close();
            std::fs::remove_dir_all(dir.path().join("00")).unwrap();
        }
        append(&mut writer, 0, Channel::Stdout, 30, b"three\n");
        append(&mut writer, 0, Channel::Stdout, 40, b"four\n");
        let lost = "one\ntwo\n".len() - before.len();
        let expected = (format!("{before}<{lost}>three\nfour\n"), None);
        assert_eq!(shown(&path), expected, "{length:?}");
        // All readers agree about the number of bytes that were written.
        let found = 19 - lost as u64;
        assert_eq!(LogReader::new(&path).end().unwrap(), 19, "{length:?}");
        let said = format!("x.log has {found} of at least 19 bytes of output");
        assert_eq!(fault_of(&path, at_least(19)).unwrap(), said, "{length:?}");
        // The attempt still runs.
        let said = format!("x.log has {found} bytes of output, but more were written");
        assert_eq!(fault_of(&path, at_least(0)).unwrap(), said, "{length:?}");
        let tail = LogReader::new(&path).tail(1_000).unwrap();
        let expected = (b"three\nfour\n".to_vec(), true, 19);
        assert_eq!((tail.bytes, tail.truncated, tail.end), expected);
        let begun = |begin| {
            let mut reader = LogReader::new(&path);
            reader.begin(begin).unwrap();
            (reader.offset(), text(reader))
        };
        let last = (14, "four\n".to_owned());
        assert_eq!(begun(Begin::LastLines(1)), last, "{length:?}");
        assert_eq!(begun(Begin::Offset(14)), last, "{length:?}");
        assert_eq!(begun(Begin::LastBytes(5)), last, "{length:?}");
        assert_eq!(begun(Begin::Time(40)), last, "{length:?}");
        // The lost bytes end where the third line begins.
        let third = (8, "three\nfour\n".to_owned());
        assert_eq!(begun(Begin::Offset(8)), third, "{length:?}");
        std::fs::remove_dir_all(dir.path().join("00")).unwrap();
    };
    check(Some(0), "");
    check(Some(10), "");
    check(Some(20), "one\n");
    check(Some(30), "one\n");
    check(Some(38), "one\ntw");
    check(Some(39), "one\ntwo");
    check(None, "");
}

/// No line is lost or repeated, whether or not the reader looks at the log between the cut and the
/// next output.
#[test]
fn a_reader_that_follows_goes_on_behind_the_mark_if_the_log_is_cut_short_or_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.log");
    let rest = |reader: &mut LogReader| {
        let mut shown = String::new();
        while let Some(piece) = reader.next_piece().unwrap() {
            match piece {
                Piece::Bytes { bytes, .. } => shown += std::str::from_utf8(&bytes).unwrap(),
                Piece::Gap { bytes, .. } => shown.extend(["<", &bytes.to_string(), ">"]),
            }
        }
        shown
    };
    // The file has two frames of 20 bytes.
    let check = |length: Option<u64>, seen: usize, looks: bool| {
        let mut writer = LogWriter::new(path.clone(), 1 << 20);
        append(&mut writer, 0, Channel::Stdout, 10, b"one\n");
        append(&mut writer, 0, Channel::Stdout, 20, b"two\n");
        let mut reader = LogReader::new(&path);
        for _ in 0..seen {
            reader.next_piece().unwrap().unwrap();
        }
        if let Some(length) = length {
            let file = std::fs::File::options().write(true).open(&path).unwrap();
            file.set_len(length).unwrap();
        } else {
            // The writer would go on for a while in a file that it has open.
            writer.close();
            std::fs::remove_file(&path).unwrap();
        }
        let mut shown = String::new();
        for line in ["three\n", "four\n", "five\n", "six\n"] {
            if looks {
                shown += &rest(&mut reader);
            }
            append(&mut writer, 0, Channel::Stdout, 30, line.as_bytes());
        }
        shown += &rest(&mut reader);
        // The reader has read ahead of what it has returned.
        let ahead = if seen == 1 { "two\n" } else { "" };
        let expected = format!("{ahead}three\nfour\nfive\nsix\n");
        assert_eq!(shown, expected, "{length:?}, {seen} seen, {looks}");
        std::fs::remove_file(&path).unwrap();
    };
    for length in [Some(0), Some(10), Some(20)] {
        for (seen, looks) in [(1, false), (1, true), (2, false), (2, true)] {
            check(length, seen, looks);
        }
    }
    for looks in [false, true] {
        check(None, 2, looks);
    }
}

/// The second output begins in the second segment, and the third in the third.
fn write_segments(path: &Path, cut: impl Fn()) {
    let mut writer = LogWriter::within(path.to_owned(), 1 << 20, 100);
    append(&mut writer, 0, Channel::Stdout, 10, &[b'1'; 50]);
    append(&mut writer, 0, Channel::Stdout, 20, &[b'2'; 30]);
    cut();
    append(&mut writer, 0, Channel::Stdout, 30, &[b'3'; 30]);
    append(&mut writer, 0, Channel::Stdout, 40, &[b'4'; 30]);
}

#[test]
fn output_that_was_lost_is_counted_although_later_segments_follow() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.log");
    let mut lost = 0;
    write_segments(&path, || {
        let last = segments(&path).last().copied().unwrap();
        std::fs::File::options()
            .write(true)
            .open(frame::segment_path(&path, last))
            .unwrap()
            .set_len(0)
            .unwrap();
    });
    for piece in pieces(LogReader::new(&path)) {
        if let Piece::Gap { bytes, .. } = piece {
            lost += bytes;
        }
    }
    assert!(lost > 0 && segments(&path).len() > 1);
    assert_eq!(LogReader::new(&path).end().unwrap(), 140);
    let said = format!("x.log has {} of at least 140 bytes of output", 140 - lost);
    assert_eq!(fault_of(&path, at_least(140)).unwrap(), said);
}

#[test]
fn an_earlier_segment_that_was_cut_short_or_removed_after_the_end_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.log");
    write_segments(&path, || ());
    let whole = std::fs::read(&path).unwrap();
    let fault = || fault_of(&path, at_least(140));
    assert_eq!(fault(), None);
    for length in [0, 20, whole.len() - 1] {
        std::fs::write(&path, &whole[..length]).unwrap();
        let found = shown(&path).0.len();
        let said = format!("x.log has {found} of at least 140 bytes of output");
        assert_eq!(fault().unwrap(), said, "{length}");
    }
    std::fs::remove_file(&path).unwrap();
    assert_eq!(shown(&path), (String::new(), None));
    assert_eq!(fault().unwrap(), "x.log is missing");
}

#[test]
fn lost_output_is_shown_only_to_readers_of_the_stream_that_has_lost_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.log");
    let mut writer = LogWriter::new(path.clone(), 1 << 30);
    append(&mut writer, 0, Channel::Stdout, 10, b"one\n");
    append(&mut writer, 0, Channel::Stderr, 20, b"fault\n");
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    file.set_len(file.metadata().unwrap().len() - 4).unwrap();
    append(&mut writer, 0, Channel::Stdout, 30, b"two\n");
    let of = |channel| text(LogReader::new(&path).channel(channel));
    assert_eq!(text(LogReader::new(&path)), "one\nfa<4>two\n");
    assert_eq!(of(Channel::Stderr), "fa<4>");
    assert_eq!(of(Channel::Stdout), "one\ntwo\n");
}

#[test]
fn the_death_of_a_supervisor_is_marked_behind_a_mark_of_lost_output() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.log");
    let mut writer = LogWriter::new(path.clone(), 1 << 30);
    append(&mut writer, 0, Channel::Stdout, 10, b"one\n");
    let mut totals = frame::Totals::default();
    totals.add(0, Channel::Stdout, 8);
    // Each mark is added once.
    for _ in 0..2 {
        cut::mark_loss(&path, 0, 20, &totals).unwrap();
    }
    assert_eq!(shown(&path).0, "one\n<4>");
    for _ in 0..2 {
        mark_cut(&path, 30).unwrap();
    }
    assert_eq!(shown(&path).0, "one\n<4><0>");
}

fn segments(path: &Path) -> Vec<u32> {
    frame::segments(path).unwrap()
}
