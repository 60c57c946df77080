//! Reads the last lines of an attempt's output without reading everything before them.

use std::{collections::VecDeque, io, sync::Arc, time::Duration};

use claudine_domain::{
    attempt::Attempt,
    id::AttemptId,
    task::{Class, Task},
};

use super::{
    Item, Kind, LogChannel, Place, Step, Transcriber, lines_of, text_of, transcriber::not_made,
};
use crate::{
    clock,
    layout::Layout,
    plugin::{Catalog, Transcribes},
    supervise::log::{
        self, AsideReader, Begin, Channel, LogReader, Look, Piece, Written, gap_text,
    },
};

/// Maximum number of bytes that are read from the end of the output.
const LARGEST_WINDOW_BYTES: u64 = 16 << 20;
/// Numbers of bytes that are read from the end. If the first window does not contain enough
/// complete lines, the next larger window is read.
const WINDOWS_BYTES: [u64; 3] = [256 << 10, 2 << 20, LARGEST_WINDOW_BYTES];
/// Size limit of the items that are kept, because an executor may make items that are larger than
/// the output.
const KEPT_BYTES: usize = 16 << 20;
/// Limit of the lines for which a near reach is tried at all.
const NEAR_LINES: u64 = 2_000;
/// Time limit of the executor.
const LONGEST: Duration = Duration::from_secs(10);

/// The output to read.
#[derive(Clone, Debug)]
pub(crate) struct Output {
    pub(crate) attempt: AttemptId,
    pub(crate) executor: Arc<str>,
    /// Whether this is the output of an agent. Such output is turned into items, and other output
    /// is shown unchanged.
    pub(crate) is_agents: bool,
    /// Whether the output is complete.
    pub(crate) is_whole: bool,
    /// How much output the log must have. `None` while output is held back: then the log is not
    /// complete, and nobody is told what is wrong with it.
    pub(crate) written: Option<Written>,
}

impl Output {
    pub(crate) fn of(task: &Task, number: u32) -> Self {
        let attempt = task.attempts.iter().find(|one| one.number == number);
        Self {
            attempt: AttemptId {
                task: task.id,
                number,
            },
            executor: task.request.executor.clone(),
            is_agents: task.request.class == Class::Agent,
            is_whole: task.is_done() || attempt.is_some_and(|one| one.ended.is_some()),
            written: Some(attempt.map(written_by).unwrap_or_default()),
        }
    }
}

/// How much output the log of an attempt must have. While the attempt runs, this is unknown.
pub(crate) fn written_by(attempt: &Attempt) -> Written {
    let ended = attempt.ended.as_ref().map(|ended| Written {
        bytes: ended.output_bytes,
        is_all: ended.is_all_output,
    });
    ended.unwrap_or_default()
}

/// How far back an output is read for its last lines.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Reach {
    /// Only through the smallest window, which may not contain enough lines. Such reads are short
    /// and take turns among themselves, so that they do not wait for far ones.
    Near,
    /// Through larger windows, until there is enough.
    Far,
}

impl Reach {
    /// Whether so many lines are not even looked for within this reach.
    pub(crate) fn is_exceeded_by(self, lines: u64) -> bool {
        self == Self::Near && lines > NEAR_LINES
    }
}

/// The part of an output that is wanted: its last lines, or fewer lines if these have as many bytes
/// as this.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub(crate) lines: u64,
    pub(crate) bytes: usize,
    pub(crate) reach: Reach,
}

impl Wanted {
    /// The last lines, as many bytes as they may have in memory.
    pub(crate) fn lines(lines: u64) -> Self {
        Self {
            lines,
            bytes: KEPT_BYTES,
            reach: Reach::Far,
        }
    }
}

/// The last lines of an output as items.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct End {
    pub(crate) items: Vec<Item>,
    /// Number of lines before the items; `None` if these lines were not counted because they have
    /// too many bytes.
    pub(crate) earlier_lines: Option<u64>,
    /// Number of bytes at the beginning of the output that were not read.
    pub(crate) unread_bytes: u64,
    /// Number of bytes before the items that were read and are left out for their size, and not
    /// because they are before the wanted lines.
    left_out_bytes: u64,
}

/// The last lines, and the reader and the transcriber that can continue after them.
pub(crate) struct Opened {
    pub(crate) end: End,
    pub(crate) log: AsideReader,
    pub(crate) transcriber: Transcriber,
    /// Why the log cannot be read on, unless the last item tells of it.
    pub(crate) damage: Option<io::Error>,
    /// Whether a farther reach would not find more of what is wanted.
    pub(crate) is_enough: bool,
}

/// The last lines of an output as text.
#[derive(Debug, Default)]
pub(crate) struct LastText {
    pub(crate) text: String,
    /// Number of lines in the text.
    pub(crate) lines: u64,
    /// Number of bytes missing from the beginning of the requested lines. If some of these lines
    /// were not read, all unread bytes count.
    pub(crate) cut_bytes: u64,
    /// Whether there is more output before the text.
    pub(crate) is_truncated: bool,
    /// Whether a farther reach would not find more of what is wanted.
    pub(crate) is_enough: bool,
}

/// Turns the output of attempts into the transcripts that people read.
#[derive(Clone)]
pub(crate) struct Transcripts {
    plugins: Arc<Catalog>,
    layout: Layout,
}

impl Transcripts {
    pub(crate) fn new(plugins: Arc<Catalog>, layout: Layout) -> Self {
        Self { plugins, layout }
    }

    pub(crate) fn log(&self, output: &Output, channel: Option<Channel>) -> LogReader {
        let log = LogReader::new(&self.layout.log(output.attempt));
        match channel {
            Some(channel) => log.channel(channel),
            None => log,
        }
    }

    /// A transcriber that is at the start of the output.
    pub(crate) fn transcriber(&self, output: &Output) -> Transcriber {
        if !output.is_agents {
            return Transcriber::new(None);
        }
        match self.plugins.executor(&output.executor) {
            Ok(executor) => {
                let executor: Arc<dyn Transcribes> = executor.clone();
                Transcriber::new(Some(executor))
            }
            Err(error) => Transcriber::new(None).without_items(not_made(&error.to_string())),
        }
    }

    /// The fault in the log of an output, as far as a quick look shows it.
    async fn fault(&self, output: &Output) -> io::Result<Option<String>> {
        let (log, Some(written)) = (self.layout.log(output.attempt), output.written) else {
            return Ok(None);
        };
        let looking = crate::aside::run(move || {
            let fault = log::fault(&log, written, Look::Quick);
            fault.unwrap_or_else(|error| Some(log::unreadable(&log, &error)))
        });
        looking.await.map_err(io::Error::other)
    }

    /// Reads the last lines; an item after them tells what is wrong with the log. If `more` is
    /// true, the caller continues to read after these lines, so neither this item nor incomplete
    /// lines are part of the result.
    pub(crate) async fn end(
        &self,
        output: &Output,
        channel: Option<Channel>,
        wanted: Wanted,
        more: bool,
    ) -> io::Result<Opened> {
        let mut opened = self.open_end(output, channel, wanted, more).await?;
        if more {
            return Ok(opened);
        }
        let fault = match opened.damage.take() {
            Some(error) => Some(log::unreadable(&self.layout.log(output.attempt), &error)),
            None => self.fault(output).await?,
        };
        let item = fault.map(|text| Item::new(None, LogChannel::Stdout, Kind::Error, text));
        opened.end.items.extend(item);
        Ok(opened)
    }

    async fn open_end(
        &self,
        output: &Output,
        channel: Option<Channel>,
        wanted: Wanted,
        more: bool,
    ) -> io::Result<Opened> {
        for window in WINDOWS_BYTES {
            let made = self.transcriber(output);
            let opening = self.open(output, channel, wanted, more, window, made);
            let Some(opened) = clock::within(LONGEST, opening).await else {
                tracing::warn!(attempt = %output.attempt, "a transcript took too long");
                break;
            };
            let mut opened = opened?;
            let is_all = opened.end.unread_bytes == 0 || window == LARGEST_WINDOW_BYTES;
            opened.is_enough = is_all || opened.end.has(wanted);
            if opened.is_enough || wanted.reach == Reach::Near {
                return Ok(opened);
            }
        }
        let why = format!("the executor took longer than {} s", LONGEST.as_secs());
        let made = Transcriber::new(None).without_items(not_made(&why));
        self.open(output, channel, wanted, more, WINDOWS_BYTES[0], made)
            .await
    }

    async fn open(
        &self,
        output: &Output,
        channel: Option<Channel>,
        wanted: Wanted,
        more: bool,
        window: u64,
        mut transcriber: Transcriber,
    ) -> io::Result<Opened> {
        let mut log = AsideReader::from(self.log(output, channel));
        let begun = log.read(move |reader| {
            let begun = reader.begin(Begin::LastBytes(window));
            Ok(begun.map(|()| reader.offset()))
        });
        let (unread_bytes, mut damage) = match begun.await? {
            Ok(offset) => (offset, None),
            Err(error) => (0, Some(error)),
        };
        if unread_bytes > 0 {
            let place = Place {
                stdout: unread_bytes,
                stderr: unread_bytes,
            };
            transcriber = transcriber.from(place).in_line();
        }
        let mut last = Last::new(wanted);
        // This limits the reading of output that is written faster than it is read.
        let mut left = window.saturating_mul(2);
        while damage.is_none() {
            let (pieces, goes_on) = log.next_pieces().await?;
            left = left.saturating_sub(pieces.iter().map(Piece::length).sum());
            last.take(transcriber.take(pieces).await);
            let goes_on = match goes_on {
                // What can be read is shown.
                Err(error) => {
                    damage = Some(error);
                    false
                }
                Ok(goes_on) => goes_on,
            };
            if !goes_on || left == 0 {
                break;
            }
        }
        // An incomplete line of a command is shown. An incomplete line of an agent is not, because
        // the executor cannot parse it.
        if !more && (output.is_whole || !output.is_agents) {
            last.take(transcriber.end().await);
        }
        Ok(Opened {
            end: last.end(unread_bytes),
            log,
            transcriber,
            damage,
            is_enough: true,
        })
    }

    /// The last lines as text without colours, cut to a size limit.
    pub(crate) async fn last_text(
        &self,
        output: &Output,
        channel: Option<Channel>,
        wanted: Wanted,
    ) -> io::Result<LastText> {
        let opened = self.end(output, channel, wanted, false).await?;
        let has_all_lines = opened.end.lines() >= wanted.lines;
        let End {
            items,
            earlier_lines,
            unread_bytes,
            left_out_bytes,
        } = opened.end;
        let mut text = text_of(&items);
        let cut = text.ceil_char_boundary(text.len().saturating_sub(wanted.bytes));
        text.drain(..cut);
        let missing = if has_all_lines {
            0
        } else {
            unread_bytes + left_out_bytes
        };
        Ok(LastText {
            lines: text.lines().count() as u64,
            cut_bytes: cut as u64 + missing,
            is_truncated: cut > 0 || unread_bytes > 0 || earlier_lines != Some(0),
            text,
            is_enough: opened.is_enough,
        })
    }
}

/// The beginning of the line of standard output that contains this position; `None` if the
/// beginning is too far away or in a gap. Moves the reader.
pub(crate) fn line_at(reader: &mut LogReader, at: u64) -> io::Result<Option<u64>> {
    let from = at.saturating_sub(WINDOWS_BYTES[0]);
    reader.begin(Begin::Offset(from))?;
    let mut line = (from == 0).then_some(0);
    while reader.offset() < at
        && let Some(piece) = reader.next_piece()?
    {
        match piece {
            Piece::Bytes {
                offset,
                channel: Channel::Stdout,
                bytes,
                ..
            } => {
                let until = usize::try_from(at - offset).unwrap_or(usize::MAX);
                let before = &bytes[..until.min(bytes.len())];
                if let Some(feed) = before.iter().rposition(|byte| *byte == b'\n') {
                    line = Some(offset + feed as u64 + 1);
                }
            }
            Piece::Bytes { .. } => {}
            Piece::Gap { .. } => line = None,
        }
    }
    Ok(line)
}

impl End {
    fn lines(&self) -> u64 {
        let lines = self.items.iter().map(|item| lines_of(item).len() as u64);
        lines.sum()
    }

    /// Whether the items have as many lines or bytes as wanted.
    fn has(&self, wanted: Wanted) -> bool {
        let bytes: usize = self.items.iter().map(|item| item.text.len()).sum();
        bytes >= wanted.bytes || self.lines() >= wanted.lines
    }
}

/// The last items of a longer sequence.
struct Last {
    wanted: Wanted,
    /// The items, each with the number of its lines.
    items: VecDeque<(Item, u64)>,
    lines: u64,
    bytes: usize,
    dropped_lines: u64,
    /// Bytes of the items that were dropped for their size.
    left_out_bytes: u64,
}

impl Last {
    fn new(wanted: Wanted) -> Self {
        Self {
            wanted,
            items: VecDeque::new(),
            lines: 0,
            bytes: 0,
            dropped_lines: 0,
            left_out_bytes: 0,
        }
    }

    fn take(&mut self, steps: Vec<Step>) {
        for step in steps {
            match step {
                Step::Items { items, .. } => items.into_iter().for_each(|item| self.push(item)),
                Step::Gap { bytes, .. } => {
                    let text = gap_text(bytes) + "\n";
                    self.push(Item::new(None, LogChannel::Stdout, Kind::Output, text));
                }
            }
        }
    }

    fn push(&mut self, item: Item) {
        let lines = lines_of(&item).len() as u64;
        self.lines += lines;
        self.bytes += item.text.len();
        self.items.push_back((item, lines));
        while let Some((item, lines)) = self.items.front() {
            let (bytes, lines) = (item.text.len(), *lines);
            let is_before = self.lines - lines >= self.wanted.lines;
            if !is_before && self.bytes <= KEPT_BYTES && self.bytes - bytes < self.wanted.bytes {
                break;
            }
            if !is_before {
                self.left_out_bytes += bytes as u64;
            }
            self.lines -= lines;
            self.dropped_lines += lines;
            self.bytes -= bytes;
            self.items.pop_front();
        }
    }

    fn end(mut self, unread_bytes: u64) -> End {
        let more = self.lines.saturating_sub(self.wanted.lines);
        if let Some((first, _)) = self.items.front_mut() {
            if first.kind == Kind::Output {
                let more = usize::try_from(more).unwrap_or(usize::MAX);
                first.text = first.text.split_inclusive('\n').skip(more).collect();
            } else {
                first.skip_lines = more;
            }
        }
        End {
            items: self.items.into_iter().map(|(item, _)| item).collect(),
            earlier_lines: (unread_bytes == 0).then_some(self.dropped_lines + more),
            unread_bytes,
            left_out_bytes: self.left_out_bytes,
        }
    }
}
