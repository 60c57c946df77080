//! Tests of transcripts with mock executors, and with output in pieces of every size.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use claudine_domain::id::{AttemptId, TaskId};

use super::{
    Item, Kind, LogChannel, Output, Place, Reach, Step, Transcriber, Transcripts, Wanted, line_at,
    text_of,
};
use crate::{
    layout::Layout,
    plugin::{
        BoxFuture, Catalog, Compiler, ItemKind, Places, PluginError, Reading,
        TRANSCRIPT_LINE_BYTES, Transcribes, TranscriptItem,
    },
    supervise::log::{self, Channel, LogReader, Piece},
};

/// A mock executor that makes an item from each line, and holds back incomplete lines.
#[derive(Default)]
struct Lines {
    asked: AtomicUsize,
    /// Number of bytes of all parts and states so far.
    passed: AtomicUsize,
    /// Number of the first call that fails. All later calls fail too.
    fails_from: Option<usize>,
}

impl Transcribes for Lines {
    fn transcript<'a>(
        &'a self,
        parts: &'a [Vec<u8>],
        mut state: Vec<u8>,
    ) -> BoxFuture<'a, Result<Reading, PluginError>> {
        Box::pin(async move {
            let asked = self.asked.fetch_add(1, Ordering::Relaxed);
            if self.fails_from.is_some_and(|from| asked >= from) {
                let message = "it trapped".to_owned();
                return Err(PluginError::Answer { message });
            }
            let bytes: usize = parts.iter().map(Vec::len).sum();
            self.passed
                .fetch_add(bytes + state.len(), Ordering::Relaxed);
            let mut items = Vec::new();
            for part in parts {
                state.extend_from_slice(part);
                let whole = match state.iter().rposition(|byte| *byte == b'\n') {
                    _ if part.is_empty() => state.len(),
                    Some(feed) => feed + 1,
                    None => 0,
                };
                let rest = state.split_off(whole);
                let text = String::from_utf8(std::mem::replace(&mut state, rest)).unwrap();
                items.push(text.lines().map(said).collect());
            }
            Ok(Reading { items, state })
        })
    }
}

fn said(line: &str) -> TranscriptItem {
    TranscriptItem {
        kind: ItemKind::Text,
        text: format!("<{line}>"),
        more: Vec::new(),
    }
}

fn lines() -> Transcriber {
    Transcriber::new(Some(Arc::new(Lines::default())))
}

/// Child, channel and text of one write.
type Write<'a> = (u16, Channel, &'a str);

/// The pieces of a log. Each write is split into pieces of at most this size.
fn pieces(written: &[Write<'_>], most_bytes: usize) -> Vec<Piece> {
    let (mut offset, mut pieces) = (0, Vec::new());
    for (time, (child, channel, text)) in (1..).zip(written) {
        for bytes in text.as_bytes().chunks(most_bytes) {
            pieces.push(Piece::Bytes {
                offset,
                child: *child,
                channel: *channel,
                time_us: time * 1_000_000,
                bytes: bytes.to_vec(),
            });
            offset += bytes.len() as u64;
        }
    }
    pieces
}

fn items_of(steps: Vec<Step>) -> Vec<Item> {
    let items = steps.into_iter().filter_map(|step| match step {
        Step::Items { items, .. } => Some(items),
        Step::Gap { .. } => None,
    });
    items.flatten().collect()
}

async fn all_of(transcriber: &mut Transcriber, pieces: Vec<Piece>) -> Vec<Item> {
    let mut items = Vec::new();
    for piece in pieces {
        items.extend(items_of(transcriber.take(vec![piece]).await));
    }
    items.extend(items_of(transcriber.end().await));
    items
}

/// The text of a reader that is cut off before this piece, and of a second one that continues at
/// the last place that the first was given.
async fn cut_off_at(cut: usize, all: &[Piece]) -> String {
    let (mut first, mut place) = (lines(), Place::default());
    let mut shown = Vec::new();
    for step in first.take(all[..cut].to_vec()).await {
        if let Step::Items { items, place: next } = step {
            shown.extend(items);
            place = next;
        }
    }
    let mut second = lines().from(place);
    shown.extend(all_of(&mut second, all.to_vec()).await);
    text_of(&shown)
}

const OUT: Channel = Channel::Stdout;
const ERR: Channel = Channel::Stderr;

const RUN: &[Write<'_>] = &[
    (1, OUT, "begin\nhalf "),
    (1, ERR, "warning\nno "),
    (1, OUT, "of it\nnext\n"),
    (1, ERR, "end"),
    (2, OUT, "zwölf\nlast"),
];
const SHOWN: &str = "<begin>\nwarning\n<half of it>\n<next>\n<zwölf>\nno end\n<last>\n";

#[tokio::test]
async fn items_do_not_depend_on_the_sizes_of_pieces_or_on_the_place_of_a_restart() {
    for most_bytes in 1..=24 {
        let all = pieces(RUN, most_bytes);
        let mut transcriber = lines();
        assert_eq!(
            text_of(&all_of(&mut transcriber, all.clone()).await),
            SHOWN,
            "pieces of {most_bytes} bytes"
        );
        for cut in 0..=all.len() {
            let shown = cut_off_at(cut, &all).await;
            assert_eq!(shown, SHOWN, "cut off before piece {cut}");
        }
    }
}

#[tokio::test]
async fn an_item_has_the_time_at_which_it_was_complete() {
    let items = all_of(&mut lines(), pieces(RUN, 100)).await;
    let times: Vec<_> = items.iter().map(|item| item.at.as_deref()).collect();
    let second = |n| format!("1970-01-01T00:00:0{n}.000Z");
    let seconds = [1, 2, 3, 3, 5, 4, 5].map(second);
    assert_eq!(times, seconds.each_ref().map(|time| Some(&**time)));
}

#[tokio::test]
async fn reading_from_the_middle_begins_with_a_whole_line() {
    let check = async |from: usize, expected: &str| {
        let written = [(1, OUT, &"one\ntwo\nthree\n"[from..])];
        let mut transcriber = lines().in_line();
        let items = all_of(&mut transcriber, pieces(&written, 2)).await;
        assert_eq!(text_of(&items), expected, "from {from}");
    };
    check(1, "<two>\n<three>\n").await;
    check(3, "<two>\n<three>\n").await;
    check(4, "<three>\n").await;
    // Output of later children and of standard error is read from its beginning.
    let written = [(1, OUT, "ne\n"), (1, ERR, "a\n"), (2, OUT, "b\n")];
    let items = all_of(&mut lines().in_line(), pieces(&written, 9)).await;
    assert_eq!(text_of(&items), "a\n<b>\n");
}

#[tokio::test]
async fn a_gap_ends_every_incomplete_line() {
    let mut transcriber = lines();
    let mut all = pieces(&[(1, OUT, "one\ntw"), (1, ERR, "err")], 9);
    all.push(Piece::Gap {
        offset: 9,
        bytes: 100,
    });
    let piece = |offset, bytes: &[u8]| Piece::Bytes {
        offset,
        child: 1,
        channel: OUT,
        time_us: 0,
        bytes: bytes.to_vec(),
    };
    all.push(piece(109, b"o\nthree\n"));
    let steps = transcriber.take(all).await;
    let gap = Step::Gap {
        offset: 9,
        bytes: 100,
    };
    assert!(steps.contains(&gap), "{steps:?}");
    assert_eq!(text_of(&items_of(steps)), "<one>\n<three>\n");
    let place = transcriber.place();
    assert_eq!((place.stdout, place.stderr), (117, 109));
}

#[tokio::test]
async fn after_a_failure_of_the_executor_the_output_is_shown_unchanged() {
    let executor = Arc::new(Lines {
        fails_from: Some(1),
        ..Lines::default()
    });
    let mut transcriber = Transcriber::new(Some(executor.clone()));
    let written = [
        (1, OUT, "one\n"),
        (1, OUT, "\x1b[31mtwo\n"),
        (1, OUT, "three\nend"),
    ];
    let items = all_of(&mut transcriber, pieces(&written, 20)).await;
    let expected = "\
<one>
✗ claudine: no transcript; the unchanged output follows: it gave an answer \
that the contract does not allow: it trapped
two
three
end
";
    assert_eq!(text_of(&items), expected);
    assert_eq!(executor.asked.load(Ordering::Relaxed), 2);
    assert_eq!(items[2].kind, Kind::Output);
}

#[tokio::test]
async fn an_overlong_line_is_passed_on_before_its_end() {
    let long = "x".repeat(40_000);
    let written = [(1, ERR, &*long), (1, ERR, &long), (1, OUT, &long)];
    for executor in [None, Some(Arc::new(Lines::default()))] {
        let mut transcriber = Transcriber::new(executor.map(|one| one as Arc<dyn Transcribes>));
        let items = items_of(transcriber.take(pieces(&written, usize::MAX)).await);
        let lengths: Vec<_> = items.iter().map(|item| item.text.len()).collect();
        assert_eq!(lengths, [80_000]);
        assert_eq!(items[0].stream, LogChannel::Stderr);
        // The incomplete line of standard output was not passed on.
        assert_eq!(
            transcriber.place(),
            Place {
                stdout: 0,
                stderr: 80_000
            }
        );
    }
}

/// The text that is shown of these writes in pieces of this size, and the number of bytes that
/// were passed to the executor.
async fn shown_and_passed(
    transcriber: impl FnOnce(Transcriber) -> Transcriber,
    written: &[Write<'_>],
    most_bytes: usize,
) -> (String, usize) {
    let executor = Arc::new(Lines::default());
    let mut made = transcriber(Transcriber::new(Some(executor.clone())));
    let items = all_of(&mut made, pieces(written, most_bytes)).await;
    (text_of(&items), executor.passed.load(Ordering::Relaxed))
}

#[tokio::test]
async fn a_line_that_is_too_long_for_the_executor_is_not_passed_to_it_and_shown_as_a_note() {
    let long = "x".repeat(10 << 20);
    let written = [
        (1, OUT, "first\nhalf "),
        (1, OUT, &*long),
        (1, ERR, "warning\n"),
        (1, OUT, "\nlast\n"),
        (1, OUT, &*long),
    ];
    let note = "[claudine: a line of 10.0 MiB is not shown here: `claudine logs --raw`]\n";
    for most_bytes in [16 << 10, (256 << 10) + 7, usize::MAX] {
        let shown = shown_and_passed(|made| made, &written, most_bytes).await;
        let expected = format!("<first>\nwarning\n{note}<last>\n{note}");
        let passed = "first\nlast\n".len();
        assert_eq!(shown, (expected, passed), "pieces of {most_bytes} bytes");
    }
}

#[tokio::test]
async fn the_longest_line_for_the_executor_is_passed_to_it_once() {
    let note = "[claudine: a line of 1.0 MiB is not shown here: `claudine logs --raw`]\n";
    for (more, is_passed) in [(0, true), (1, false)] {
        let line = "x".repeat(TRANSCRIPT_LINE_BYTES + more) + "\n";
        let written = [(1, OUT, &*line), (1, OUT, "last\n")];
        let (text, passed) = shown_and_passed(|made| made, &written, 16 << 10).await;
        assert_eq!(text.starts_with("<xxx"), is_passed, "{more} bytes more");
        assert_eq!(text.starts_with(note), !is_passed, "{more} bytes more");
        assert!(text.ends_with("\n<last>\n"), "{more} bytes more");
        let expected = "last\n".len() + if is_passed { line.len() } else { 0 };
        assert_eq!(passed, expected, "{more} bytes more");
    }
}

#[tokio::test]
async fn the_rest_of_a_line_is_told_only_if_it_is_long() {
    let rest = "x".repeat(2 << 20);
    let note = "[claudine: a line of at least 2.0 MiB is not shown here: `claudine logs --raw`]\n";
    for (rest, told) in [(&*rest, note), ("rest", "")] {
        let written = [(1, OUT, rest), (1, OUT, "\nlast\n")];
        let (text, _) = shown_and_passed(Transcriber::in_line, &written, 16 << 10).await;
        assert_eq!(text, format!("{told}<last>\n"));
        // The output ends within the line.
        let (text, _) = shown_and_passed(Transcriber::in_line, &written[..1], 16 << 10).await;
        assert_eq!(text, told);
    }
}

#[tokio::test]
async fn a_reader_that_is_cut_off_at_a_long_line_continues_with_the_same_items() {
    let line = "x".repeat(TRANSCRIPT_LINE_BYTES + 1) + "\nlast\n";
    let all = pieces(&[(1, OUT, "first\n"), (1, OUT, &line)], 256 << 10);
    let expected = text_of(&all_of(&mut lines(), all.clone()).await);
    for cut in 0..=all.len() {
        let shown = cut_off_at(cut, &all).await;
        assert_eq!(shown, expected, "cut off before piece {cut}");
    }
}

#[tokio::test]
async fn an_overlong_line_in_several_items_is_one_line_of_text() {
    let line = "€".repeat(50_000) + "end\n";
    for frame_bytes in [1_000, 65_536, 65_537, 150_000] {
        let frames = line.as_bytes().chunks(frame_bytes);
        let frames: Vec<_> = frames.map(|bytes| (OUT, bytes)).collect();
        let log = Written::new(&[frames.as_slice(), &[(OUT, b"next"), (ERR, b"error")]].concat());
        let wanted = Wanted {
            bytes: 1 << 20,
            ..Wanted::lines(100)
        };
        let lines = log.transcripts.last_text(&log.output, None, wanted);
        let text = lines.await.unwrap().text;
        assert!(
            text == format!("{line}next\nerror\n"),
            "frames of {frame_bytes} bytes"
        );
    }
}

/// A data directory with the log of one attempt.
struct Written {
    _dir: tempfile::TempDir,
    layout: Layout,
    transcripts: Transcripts,
    output: Output,
}

impl Written {
    fn new(frames: &[(Channel, &[u8])]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        let attempt = AttemptId {
            task: TaskId::new(1, 1),
            number: 1,
        };
        log::write(&layout.log(attempt), frames);
        let places = Places {
            data_dir: dir.path().into(),
            compiler: Compiler::Here,
            configs: std::collections::BTreeMap::new(),
        };
        let plugins = Arc::new(Catalog::open(places, &[]).unwrap());
        Self {
            _dir: dir,
            transcripts: Transcripts::new(plugins, layout.clone()),
            layout,
            output: Output {
                attempt,
                executor: "nobody".into(),
                is_agents: false,
                is_whole: true,
                written: Some(log::Written::default()),
            },
        }
    }

    /// The last lines as text, the number of lines before them, and the number of bytes that were
    /// not read.
    async fn end(&self, lines: u64) -> (String, Option<u64>, u64) {
        let wanted = Wanted::lines(lines);
        let opened = self.transcripts.end(&self.output, None, wanted, false);
        let end = opened.await.unwrap().end;
        (text_of(&end.items), end.earlier_lines, end.unread_bytes)
    }
}

#[tokio::test]
async fn the_last_lines_of_both_streams_are_read_with_a_count_of_earlier_lines() {
    let log = Written::new(&[
        (OUT, b"1\n2\nhal"),
        (ERR, b"3\n"),
        (OUT, b"f\n\n"),
        (ERR, b"6"),
    ]);
    let check = async |lines, expected: &str, earlier| {
        let end = log.end(lines).await;
        assert_eq!(
            end,
            (expected.to_owned(), Some(earlier), 0),
            "{lines} lines"
        );
    };
    check(10, "1\n2\n3\nhalf\n\n6\n", 0).await;
    check(4, "3\nhalf\n\n6\n", 2).await;
    check(2, "\n6\n", 4).await;
    check(0, "", 6).await;
    let wanted = Wanted {
        bytes: 3,
        ..Wanted::lines(10)
    };
    let text = log.transcripts.last_text(&log.output, Some(ERR), wanted);
    let text = text.await.unwrap();
    assert_eq!((&*text.text, text.lines, text.cut_bytes), ("\n6\n", 2, 1));
    assert!(text.is_truncated);
}

#[tokio::test]
async fn the_last_lines_are_found_without_reading_everything_before_them() {
    let lines: Vec<String> = (0..400_000).map(|n| format!("{n:07}")).collect();
    let lines = lines.join("\n") + "\n";
    let log = Written::new(&[(OUT, lines.as_bytes()), (ERR, b"last\n")]);
    let (text, earlier, unread) = log.end(2).await;
    assert_eq!((&*text, earlier), ("0399999\nlast\n", None));
    assert_eq!(unread, 3_200_005 - (256 << 10));
    // If the end that was read has too few lines, more is read.
    let long = ("x".repeat(60_000) + "\n").repeat(6);
    let written: [(Channel, &[u8]); 3] = [
        (OUT, lines.as_bytes()),
        (OUT, long.as_bytes()),
        (OUT, b"end\n"),
    ];
    let (text, _, unread) = Written::new(&written).end(9).await;
    assert!(text.starts_with("0399998\n0399999\nxxx") && text.ends_with("xxx\nend\n"));
    let all = written.iter().map(|(_, bytes)| bytes.len() as u64);
    assert_eq!(unread, all.sum::<u64>() - (2 << 20));
}

#[tokio::test]
async fn a_long_output_is_read_no_farther_back_than_the_reach_or_the_wanted_bytes() {
    const WINDOW: u64 = 256 << 10;
    let frame = "0123456\n".repeat(8 << 10);
    let log = Written::new(&[(OUT, frame.as_bytes()); 64]);
    let all = 64 * frame.len() as u64;
    let check = async |bytes: usize, reach: Reach, read: u64, is_enough: bool| {
        let wanted = Wanted {
            lines: u64::MAX,
            bytes,
            reach,
        };
        let opened = log.transcripts.end(&log.output, None, wanted, false).await;
        let opened = opened.unwrap();
        let found = (all - opened.end.unread_bytes, opened.is_enough);
        assert_eq!(found, (read, is_enough), "{bytes} bytes, {reach:?}");
        let text = log.transcripts.last_text(&log.output, None, wanted);
        let text = text.await.unwrap();
        assert!(text.text.len() <= bytes && text.is_enough == is_enough);
        // Nobody takes the text for the whole output.
        let shown = text.text.len() as u64 + text.cut_bytes;
        assert!(
            shown.abs_diff(all) <= frame.len() as u64,
            "{shown} of {all}"
        );
        text_of(&opened.end.items).len()
    };
    check(64 << 10, Reach::Near, WINDOW, true).await;
    check(64 << 10, Reach::Far, WINDOW, true).await;
    check(1 << 20, Reach::Near, WINDOW, false).await;
    let shown = check(1 << 20, Reach::Far, 2 << 20, true).await;
    assert!((1 << 20..2 << 20).contains(&shown), "{shown} bytes");
    check(16 << 20, Reach::Far, all, true).await;
}

#[tokio::test]
async fn output_of_a_missing_executor_is_shown_unchanged_with_the_reason() {
    let mut log = Written::new(&[(OUT, b"{}\n"), (ERR, b"x\n")]);
    log.output.is_agents = true;
    let (text, ..) = log.end(9).await;
    let (reason, rest) = text.split_once('\n').unwrap();
    assert!(
        reason.contains("no transcript") && reason.contains("nobody"),
        "{reason}"
    );
    assert_eq!(rest, "{}\nx\n");
}

#[test]
fn the_line_at_a_position_is_found() {
    let log = Written::new(&[(OUT, b"one\ntw"), (ERR, b"err\n"), (OUT, b"o\nend")]);
    let check = |at, expected| {
        let mut reader = LogReader::new(&log.layout.log(log.output.attempt));
        assert_eq!(line_at(&mut reader, at).unwrap(), Some(expected), "{at}");
    };
    check(0, 0);
    check(3, 0);
    check(4, 4);
    check(8, 4);
    check(11, 4);
    check(12, 12);
    check(15, 12);
}

#[tokio::test]
async fn the_last_lines_of_a_damaged_log_are_shown_before_the_damage_is_told() {
    let log = Written::new(&[(OUT, b"first\n"), (OUT, b"second\n"), (OUT, b"third\n")]);
    let path = log.layout.log(log.output.attempt);
    let whole = std::fs::read(&path).unwrap();
    let check = async |damaged: Range<usize>, readable: &str| {
        let mut bytes = whole.clone();
        bytes[damaged.clone()].fill(0xff);
        std::fs::write(&path, bytes).unwrap();
        let damage = format!("{} is damaged at byte {}", path.display(), damaged.start);
        let (text, _, _) = log.end(10).await;
        assert_eq!(text, format!("{readable}✗ {damage}\n"));
        // A reader that goes on tells of it itself.
        let opened = log
            .transcripts
            .end(&log.output, None, Wanted::lines(10), true)
            .await
            .unwrap();
        assert_eq!(text_of(&opened.end.items), readable);
        assert_eq!(opened.damage.map(|error| error.to_string()), Some(damage));
    };
    // A header has 16 bytes.
    let gap = log::gap_text(0);
    check(22..38, &format!("first\n{gap}\nthird\n")).await;
    check(45..61, "first\nsecond\n").await;
}
