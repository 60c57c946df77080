//! Makes items from a log, piece by piece.
//!
//! An executor receives the standard output of one child process in parts that end with a newline.
//! All items of a part became complete at the same time, so they get this time. Instead of a line
//! that is too long for an executor, a note is shown. Standard error and the output of commands are
//! passed on line by line, unchanged.

use std::{
    collections::BTreeMap,
    mem::{replace, take},
    sync::Arc,
};

use claudine_domain::time::Timestamp;

use super::{Item, Kind, LogChannel, Place};
use crate::{
    plugin::{TRANSCRIPT_LINE_BYTES, Transcribes, TranscriptItem},
    supervise::log::Piece,
    units::bytes_text,
};

/// Maximum length of an incomplete line that is held back and is not for an executor.
const LONGEST_HELD_BYTES: usize = 64 << 10;
/// Number of bytes that are searched for a newline at a time.
const FEED_BYTES: usize = 4 << 10;
/// Size limit of the items with the same place, so that they fit in one answer.
const TOGETHER_BYTES: usize = 1 << 20;

/// Result of reading some pieces.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Step {
    Items {
        items: Vec<Item>,
        /// The place at which a reader continues if these items were the last that it received.
        place: Place,
    },
    /// This many bytes were left out here, because the output is over its limit, or somebody cut
    /// the log short.
    Gap { offset: u64, bytes: u64 },
}

/// Makes items of one attempt's log.
pub(crate) struct Transcriber {
    /// Executor that makes the items. `None` if lines are passed on unchanged.
    executor: Option<Arc<dyn Transcribes>>,
    streams: BTreeMap<(u16, LogChannel), Stream>,
    place: Place,
    /// The place before which everything was passed on to an earlier reader.
    from: Place,
    /// Whether the output of the first child begins in the middle of a line. If so, the remaining
    /// part of this line is skipped.
    begins_in_line: bool,
    /// Error of the executor that is still to be reported.
    fault: Option<String>,
}

/// Output of one child process to one channel.
#[derive(Default)]
struct Stream {
    /// State of the executor, which is passed to the executor again with the next part.
    state: Vec<u8>,
    /// Bytes since the last newline.
    held: Vec<u8>,
    /// Offset of the beginning of the incomplete line.
    line_from: u64,
    /// Whether there is an incomplete line.
    is_open: bool,
    /// Time of the last write.
    at: Timestamp,
    /// Set while everything up to the next newline is skipped.
    skipped: Option<Skipped>,
}

/// A line that the executor does not receive.
#[derive(Clone, Copy, Default)]
struct Skipped {
    /// Number of bytes so far.
    bytes: u64,
    /// Whether these bytes include the beginning of the line.
    is_whole: bool,
}

impl Skipped {
    /// The text that is shown instead of the line; `None` for the remaining part of a line of
    /// ordinary length.
    fn told(self) -> Option<String> {
        let size = bytes_text(self.bytes);
        let size = match self {
            Self { is_whole: true, .. } => size,
            Self { bytes, .. } if bytes > TRANSCRIPT_LINE_BYTES as u64 => {
                format!("at least {size}")
            }
            _ => return None,
        };
        Some(format!(
            "[claudine: a line of {size} is not shown here: `claudine logs --raw`]"
        ))
    }
}

impl Stream {
    /// Sets the offset of the next bytes. If no line is incomplete, a new line begins at this
    /// offset.
    fn open_at(&mut self, offset: u64) {
        if !self.is_open {
            (self.line_from, self.is_open) = (offset, true);
        }
    }
}

/// Output to pass on, in the order in which it became complete.
enum Made {
    /// A part of one child's output, for the executor.
    Part {
        child: u16,
        index: usize,
        place: Place,
        at: Timestamp,
    },
    Lines {
        channel: LogChannel,
        text: String,
        place: Place,
        at: Timestamp,
    },
}

impl Transcriber {
    pub(crate) fn new(executor: Option<Arc<dyn Transcribes>>) -> Self {
        Self {
            executor,
            streams: BTreeMap::new(),
            place: Place::default(),
            from: Place::default(),
            begins_in_line: false,
            fault: None,
        }
    }

    /// Begins at the place where an earlier reader ended.
    #[must_use]
    pub(crate) fn from(mut self, place: Place) -> Self {
        (self.place, self.from) = (place, place);
        self
    }

    /// Begins in the middle of a line, and skips the remaining part of this line.
    #[must_use]
    pub(crate) fn in_line(mut self) -> Self {
        self.begins_in_line = true;
        self
    }

    /// Passes output on unchanged, after an item with the reason why no items are made of it.
    #[must_use]
    pub(crate) fn without_items(mut self, why: impl Into<String>) -> Self {
        self.executor = None;
        self.fault = Some(why.into());
        self
    }

    /// The steps for the next pieces.
    pub(crate) async fn take(&mut self, pieces: Vec<Piece>) -> Vec<Step> {
        let (mut before, mut made) = (self.place, Vec::new());
        let (mut parts, mut steps) = (BTreeMap::new(), Vec::new());
        for piece in pieces {
            match piece {
                Piece::Gap { offset, bytes } => {
                    let whole = self.finished(before, take(&mut made), take(&mut parts));
                    steps.extend(whole.await);
                    self.skip(offset + bytes);
                    before = self.place;
                    steps.push(Step::Gap { offset, bytes });
                }
                Piece::Bytes {
                    offset,
                    child,
                    channel,
                    time_us,
                    bytes,
                } => {
                    let channel = LogChannel::from(channel);
                    let (offset, bytes) = self.not_given_before(channel, offset, bytes);
                    if bytes.is_empty() {
                        continue;
                    }
                    let at = Timestamp(time_us / 1000);
                    self.stream(child, channel).at = at;
                    if channel == LogChannel::Stdout && self.executor.is_some() {
                        self.add_part(child, offset, bytes, at, &mut parts, &mut made);
                    } else {
                        self.add_lines(child, channel, offset, bytes, at, &mut made);
                    }
                }
            }
        }
        steps.extend(self.finished(before, made, parts).await);
        steps
    }

    /// Passes on everything that was held back, at the end of the output.
    pub(crate) async fn end(&mut self) -> Vec<Step> {
        let mut made = Vec::new();
        let mut parts: BTreeMap<u16, Vec<Vec<u8>>> = BTreeMap::new();
        let place = self.place;
        for ((child, channel), stream) in &mut self.streams {
            let (held, at) = (take(&mut stream.held), stream.at);
            let (child, channel) = (*child, *channel);
            if channel == LogChannel::Stdout && self.executor.is_some() {
                let skipped = stream.skipped.take();
                if let Some(text) = skipped.and_then(Skipped::told) {
                    made.push(Made::Lines {
                        channel,
                        text: text + "\n",
                        place,
                        at,
                    });
                }
                let parts = parts.entry(child).or_default();
                let both = [held, Vec::new()];
                let first = usize::from(both[0].is_empty());
                for part in both.into_iter().skip(first) {
                    let index = parts.len();
                    parts.push(part);
                    made.push(Made::Part {
                        child,
                        index,
                        place,
                        at,
                    });
                }
            } else if !held.is_empty() {
                let mut text = String::from_utf8_lossy(&held).into_owned();
                // Another child's output does not continue this line.
                text.push('\n');
                made.push(Made::Lines {
                    channel,
                    text,
                    place,
                    at,
                });
            }
        }
        self.finished(place, made, parts).await
    }

    /// The place before which everything was passed on.
    pub(crate) fn place(&self) -> Place {
        self.place
    }

    fn not_given_before(
        &self,
        channel: LogChannel,
        offset: u64,
        mut bytes: Vec<u8>,
    ) -> (u64, Vec<u8>) {
        let from = match channel {
            LogChannel::Stdout => self.from.stdout,
            LogChannel::Stderr => self.from.stderr,
        };
        let given = from.saturating_sub(offset);
        let given = usize::try_from(given).map_or(bytes.len(), |given| given.min(bytes.len()));
        bytes.drain(..given);
        (offset + given as u64, bytes)
    }

    /// Skips a gap up to this offset. This ends all incomplete lines too.
    fn skip(&mut self, to: u64) {
        for stream in self.streams.values_mut() {
            *stream = Stream {
                skipped: Some(Skipped::default()),
                line_from: to,
                ..Stream::default()
            };
        }
        self.begins_in_line |= self.streams.is_empty();
        self.place = Place {
            stdout: to,
            stderr: to,
        };
    }

    fn stream(&mut self, child: u16, channel: LogChannel) -> &mut Stream {
        // Only the first child's output can begin in the middle of a line. For a command, a part of
        // a line is shown, because it is better than nothing. For an executor, the part is skipped.
        let is_first = !self.streams.keys().any(|(_, known)| *known == channel);
        let is_in_line = is_first
            && channel == LogChannel::Stdout
            && self.executor.is_some()
            && take(&mut self.begins_in_line);
        self.streams
            .entry((child, channel))
            .or_insert_with(|| Stream {
                skipped: is_in_line.then(Skipped::default),
                ..Stream::default()
            })
    }

    /// Adds the bytes up to the last newline as a part for the executor, and a note instead of each
    /// line that is too long for an executor.
    fn add_part(
        &mut self,
        child: u16,
        offset: u64,
        mut bytes: Vec<u8>,
        at: Timestamp,
        parts: &mut BTreeMap<u16, Vec<Vec<u8>>>,
        made: &mut Vec<Made>,
    ) {
        let end = offset + bytes.len() as u64;
        let stream = self.stream(child, LogChannel::Stdout);
        if stream.skipped.is_none() {
            stream.open_at(offset);
            let line_bytes = first_feed(&bytes).unwrap_or(bytes.len());
            if stream.held.len() + line_bytes > TRANSCRIPT_LINE_BYTES {
                // The buffer is dropped, because most lines need a far smaller one.
                let held = take(&mut stream.held);
                stream.skipped = Some(Skipped {
                    bytes: held.len() as u64,
                    is_whole: true,
                });
            }
        }
        if let Some(mut skipped) = stream.skipped {
            let feed = first_feed(&bytes);
            skipped.bytes += feed.unwrap_or(bytes.len()) as u64;
            stream.skipped = feed.is_none().then_some(skipped);
            let Some(feed) = feed else {
                return;
            };
            bytes.drain(..=feed);
            stream.line_from = end - bytes.len() as u64;
            stream.is_open = !bytes.is_empty();
            if let Some(text) = skipped.told() {
                let place = self.placed(LogChannel::Stdout, end);
                made.push(Made::Lines {
                    channel: LogChannel::Stdout,
                    text: text + "\n",
                    place,
                    at,
                });
            }
            // The next line of these bytes may be too long too.
            if !bytes.is_empty() {
                let offset = end - bytes.len() as u64;
                self.add_part(child, offset, bytes, at, parts, made);
            }
            return;
        }
        let Some(feed) = last_feed(&bytes) else {
            stream.held.append(&mut bytes);
            return;
        };
        let rest = bytes.split_off(feed + 1);
        stream.held.append(&mut bytes);
        stream.line_from = end - rest.len() as u64;
        stream.is_open = !rest.is_empty();
        let part = replace(&mut stream.held, rest);
        let place = self.placed(LogChannel::Stdout, end);
        let parts = parts.entry(child).or_default();
        let index = parts.len();
        parts.push(part);
        made.push(Made::Part {
            child,
            index,
            place,
            at,
        });
    }

    /// Adds the complete lines, and the beginning of an overlong line.
    fn add_lines(
        &mut self,
        child: u16,
        channel: LogChannel,
        offset: u64,
        mut bytes: Vec<u8>,
        at: Timestamp,
        made: &mut Vec<Made>,
    ) {
        let end = offset + bytes.len() as u64;
        let stream = self.stream(child, channel);
        stream.open_at(offset);
        // The bytes that are held back contain no newline, so they are not searched again.
        let feed = last_feed(&bytes).map(|feed| stream.held.len() + feed);
        stream.held.append(&mut bytes);
        let whole = match feed {
            Some(feed) => feed + 1,
            None if stream.held.len() < LONGEST_HELD_BYTES => return,
            None => without_incomplete_character(&stream.held),
        };
        let rest = stream.held.split_off(whole);
        stream.line_from = end - rest.len() as u64;
        stream.is_open = !rest.is_empty();
        let whole = replace(&mut stream.held, rest);
        let place = self.placed(channel, end);
        let text = String::from_utf8_lossy(&whole).into_owned();
        made.push(Made::Lines {
            channel,
            text,
            place,
            at,
        });
    }

    /// Moves the place to the beginning of the first incomplete line, or to the end if there is
    /// none.
    fn placed(&mut self, channel: LogChannel, end: u64) -> Place {
        let streams = self.streams.iter();
        let open = streams.filter(|((_, one), stream)| *one == channel && stream.is_open);
        let first = open.map(|(_, stream)| stream.line_from).min();
        let place = first.unwrap_or(end);
        match channel {
            LogChannel::Stdout => self.place.stdout = place,
            LogChannel::Stderr => self.place.stderr = place,
        }
        self.place
    }

    /// Lets the executor make items from the parts, and puts all output in order.
    async fn finished(
        &mut self,
        mut before: Place,
        made: Vec<Made>,
        parts: BTreeMap<u16, Vec<Vec<u8>>>,
    ) -> Vec<Step> {
        let mut items: BTreeMap<u16, Vec<Vec<Item>>> = BTreeMap::new();
        let times = |child: u16| {
            let made = made.iter();
            made.filter_map(move |one| match one {
                Made::Part { child: of, at, .. } if *of == child => Some(*at),
                _ => None,
            })
        };
        for (child, parts) in parts {
            let answered = self.ask(child, &parts).await;
            let of_parts = match answered {
                Some(answered) => answered
                    .into_iter()
                    .zip(times(child))
                    .map(|(items, at)| {
                        let items = items.into_iter();
                        items.map(|item| Item::of(item, at)).collect()
                    })
                    .collect(),
                // The executor's state is lost from here on, and with it everything that the
                // executor held back.
                None => parts
                    .iter()
                    .zip(times(child))
                    .map(|(part, at)| {
                        let text = String::from_utf8_lossy(part);
                        vec![Item::new(Some(at), LogChannel::Stdout, Kind::Output, text)]
                    })
                    .collect(),
            };
            items.insert(child, of_parts);
        }
        let mut steps = Vec::with_capacity(made.len());
        for one in made {
            let (mut items, place, at) = match one {
                Made::Part {
                    child,
                    index,
                    place,
                    at,
                } => {
                    let of_child = items.get_mut(&child);
                    let of_part = of_child.and_then(|parts| parts.get_mut(index));
                    (of_part.map(take).unwrap_or_default(), place, at)
                }
                Made::Lines {
                    channel,
                    text,
                    place,
                    at,
                } => {
                    let item = Item::new(Some(at), channel, Kind::Output, text);
                    (vec![item], place, at)
                }
            };
            items.retain(says_something);
            if let Some(fault) = self.fault.take() {
                items.insert(
                    0,
                    Item::new(Some(at), LogChannel::Stdout, Kind::Error, fault),
                );
            }
            push_items(&mut steps, items, before, place);
            before = place;
        }
        steps
    }

    /// Asks the executor for the items of some parts of a child's output. Returns `None` if the
    /// executor fails. In this case the executor is not called again.
    async fn ask(&mut self, child: u16, parts: &[Vec<u8>]) -> Option<Vec<Vec<TranscriptItem>>> {
        let executor = self.executor.clone()?;
        let stream = self.streams.entry((child, LogChannel::Stdout)).or_default();
        let answered = executor.transcript(parts, take(&mut stream.state)).await;
        let failed = match answered {
            Ok(reading) if reading.items.len() == parts.len() => {
                stream.state = reading.state;
                return Some(reading.items);
            }
            Ok(_) => "the executor did not answer for each part".to_owned(),
            Err(error) => error.to_string(),
        };
        tracing::warn!("an executor makes no transcript: {failed}");
        self.executor = None;
        self.fault = Some(not_made(&failed));
        None
    }
}

fn says_something(item: &Item) -> bool {
    let by_its_text = matches!(item.kind, Kind::Text | Kind::Result | Kind::Output);
    !by_its_text || !item.text.is_empty()
}

/// Adds items in steps, each of which fits in one answer. Only the last step has the new place.
fn push_items(steps: &mut Vec<Step>, items: Vec<Item>, before: Place, place: Place) {
    let (mut together, mut bytes) = (Vec::new(), 0);
    for item in items {
        bytes += item.text.len();
        if bytes > TOGETHER_BYTES && !together.is_empty() {
            let items = take(&mut together);
            bytes = item.text.len();
            steps.push(Step::Items {
                items,
                place: before,
            });
        }
        together.push(item);
    }
    if !together.is_empty() {
        steps.push(Step::Items {
            items: together,
            place,
        });
    }
}

/// The message that output is shown unchanged, and why.
pub(super) fn not_made(why: &str) -> String {
    format!("claudine: no transcript; the unchanged output follows: {why}")
}

/// Position of the first newline. Most output of a long line contains none, which `contains` finds
/// out many bytes at a time.
fn first_feed(bytes: &[u8]) -> Option<usize> {
    let mut all = bytes.chunks(FEED_BYTES).enumerate();
    let (index, chunk) = all.find(|(_, chunk)| chunk.contains(&b'\n'))?;
    let within = chunk.iter().position(|byte| *byte == b'\n')?;
    Some(index * FEED_BYTES + within)
}

/// Position of the last newline.
fn last_feed(bytes: &[u8]) -> Option<usize> {
    let mut all = bytes.chunks(FEED_BYTES).enumerate();
    let (index, chunk) = all.rfind(|(_, chunk)| chunk.contains(&b'\n'))?;
    let within = chunk.iter().rposition(|byte| *byte == b'\n')?;
    Some(index * FEED_BYTES + within)
}

/// Number of bytes before an incomplete character at the end; the number of all bytes if there is
/// no incomplete character.
fn without_incomplete_character(bytes: &[u8]) -> usize {
    let last = bytes.utf8_chunks().last();
    let last = last.map(|chunk| chunk.invalid()).unwrap_or_default();
    let is_incomplete = str::from_utf8(last).is_err_and(|error| error.error_len().is_none());
    bytes.len() - if is_incomplete { last.len() } else { 0 }
}
