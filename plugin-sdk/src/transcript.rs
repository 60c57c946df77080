//! Turns a child's output into items for people.
//!
//! A transcript depends only on the bytes and on a state that the plugin returned before. It is
//! made again each time that output is shown, even long after the attempt, and may begin at any
//! place in the output.

use crate::bindings::exports::claudine::plugin::executor as wit;
use crate::process::Line;
use crate::process::lines::Splitter;

/// Length above which a text is returned even if its last line is not complete.
const LONGEST_HELD_BYTES: usize = 64 * 1024;

/// A part of a child's output, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Kind of the item.
    pub kind: ItemKind,
    /// Text to show. It may have several lines, and may contain any character that the child
    /// printed.
    pub text: String,
    /// Details by name: `tool` (its name), `failed` (`true`), `cost-usd` (a decimal number).
    pub more: Vec<(String, String)>,
}

/// Kind of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ItemKind {
    /// Text by an agent or a command.
    Text,
    /// A tool call.
    Tool,
    /// The result of a tool.
    Result,
    /// A denied tool call.
    Denied,
    /// Cost since the last item of this kind.
    Cost,
    /// An error.
    Error,
}

impl ItemKind {
    /// The word in the contract.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Tool => "tool",
            Self::Result => "result",
            Self::Denied => "denied",
            Self::Cost => "cost",
            Self::Error => "error",
        }
    }
}

impl Item {
    /// An item without details.
    pub fn new(kind: ItemKind, text: impl Into<String>) -> Self {
        Self {
            kind,
            text: text.into(),
            more: Vec::new(),
        }
    }

    /// Adds a detail.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.more.push((name.into(), value.into()));
        self
    }
}

/// Items, and the state for the next call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Items in the order of the output.
    pub items: Vec<Item>,
    /// State for the next call, opaque to the host.
    pub state: Vec<u8>,
}

/// Returns the output unchanged: the text up to the last line feed. The text after it follows with
/// the next call. Empty `bytes` mean the end of the output.
pub fn plain(bytes: &[u8], state: &[u8]) -> Reading {
    let mut text = state.to_vec();
    text.extend_from_slice(bytes);
    let whole = match text.iter().rposition(|byte| *byte == b'\n') {
        _ if bytes.is_empty() || text.len() > LONGEST_HELD_BYTES => text.len(),
        Some(last) => last + 1,
        None => 0,
    };
    let state = text.split_off(whole);
    let items = (!text.is_empty()).then(|| {
        let shown = String::from_utf8_lossy(&text);
        Item::new(ItemKind::Text, shown)
    });
    Reading {
        items: items.into_iter().collect(),
        state,
    }
}

/// The output line by line: `item_of` gets each complete line, or the beginning of a line longer
/// than `limit_bytes`. Empty `bytes` mean the end of the output, which also ends a last line
/// without a line feed.
pub fn by_line(
    bytes: &[u8],
    state: &[u8],
    limit_bytes: usize,
    mut item_of: impl FnMut(&Line) -> Vec<Item>,
) -> Reading {
    let mut splitter = Splitter::new(0, limit_bytes);
    if let Some((length, partial)) = state.split_first_chunk() {
        splitter.length_bytes = u64::from_le_bytes(*length);
        splitter.partial = partial.to_vec();
    }
    splitter.push(bytes);
    let mut lines: Vec<Line> = splitter.ready.drain(..).collect();
    if bytes.is_empty() {
        lines.extend(splitter.finish());
    }
    let mut state = Vec::new();
    if splitter.length_bytes > 0 {
        state.extend(splitter.length_bytes.to_le_bytes());
        state.append(&mut splitter.partial);
    }
    Reading {
        items: lines.iter().flat_map(&mut item_of).collect(),
        state,
    }
}

impl From<Reading> for wit::Reading {
    fn from(reading: Reading) -> Self {
        let items = reading.items.into_iter().map(|item| wit::Item {
            kind: item.kind.as_str().to_owned(),
            text: item.text,
            more: item.more,
        });
        Self {
            items: items.collect(),
            state: reading.state,
            more: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks the texts of all items, with the bytes in pieces of each length.
    fn check(step: impl Fn(&[u8], &[u8]) -> Reading, bytes: &[u8], expected: &str) {
        for length in 1..=bytes.len() {
            let mut state = Vec::new();
            let mut texts = String::new();
            for piece in bytes.chunks(length).chain([&[][..]]) {
                let reading = step(piece, &state);
                state = reading.state;
                texts.extend(reading.items.into_iter().map(|item| item.text));
            }
            assert_eq!(texts, expected, "pieces of {length} bytes");
            assert!(state.is_empty(), "pieces of {length} bytes");
        }
    }

    #[test]
    fn plain_output_does_not_depend_on_the_pieces() {
        check(plain, "one\nzwölf\nend".as_bytes(), "one\nzwölf\nend");
        check(plain, b"a\xffb\n", "a\u{fffd}b\n");
    }

    #[test]
    fn long_text_without_lines_is_returned() {
        let reading = plain(&vec![b'x'; LONGEST_HELD_BYTES + 1], b"");
        assert_eq!((reading.items.len(), reading.state.len()), (1, 0));
    }

    #[test]
    fn lines_of_a_transcript_do_not_depend_on_the_pieces() {
        let step = |bytes: &[u8], state: &[u8]| {
            by_line(bytes, state, 4, |line| {
                let text = format!("{}/{};", line.text(), line.length_bytes);
                vec![Item::new(ItemKind::Text, text)]
            })
        };
        check(step, b"ab\n\nabcdefg\nlast", "ab/2;/0;abcd/7;last/4;");
    }
}
