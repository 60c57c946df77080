//! Output line by line, in bounded memory whatever the child prints.

use std::borrow::Cow;
use std::collections::VecDeque;

use super::output::Output;

/// One line of a child's output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Without its line feed; of a line longer than the limit, its beginning.
    pub bytes: Vec<u8>,
    /// How long the whole line is, without its line feed.
    pub length_bytes: u64,
    /// Offset of the first byte after it: where to read on if this line was the last one dealt with.
    pub end_offset: u64,
    /// False for a last line that the child did not end with a line feed.
    pub terminated: bool,
}

impl Line {
    /// Whether its end was cut off because it is longer than the limit.
    pub fn is_cut(&self) -> bool {
        self.length_bytes > self.bytes.len() as u64
    }

    /// The line as text; what is not UTF-8 is replaced.
    pub fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.bytes)
    }
}

/// A child's output line by line.
pub struct Lines {
    output: Output,
    splitter: Splitter,
}

impl Lines {
    pub(super) fn new(output: Output, limit_bytes: usize) -> Self {
        let splitter = Splitter::new(output.offset(), limit_bytes);
        Self { output, splitter }
    }

    /// The next line; `None` once the child has ended and all was read. The future may be dropped and the call made again: no
    /// line is lost or doubled.
    pub async fn next(&mut self) -> Option<Line> {
        loop {
            if let Some(line) = self.splitter.ready.pop_front() {
                return Some(line);
            }
            match self.output.read().await {
                Some(bytes) => self.splitter.push(&bytes),
                None => return self.splitter.finish(),
            }
        }
    }
}

struct Splitter {
    limit_bytes: usize,
    /// Offset of the first byte that was not yet pushed.
    offset: u64,
    /// The beginning of the line whose end was not yet seen, and its length so far.
    partial: Vec<u8>,
    length_bytes: u64,
    /// At most what one push brought.
    ready: VecDeque<Line>,
}

impl Splitter {
    fn new(offset: u64, limit_bytes: usize) -> Self {
        Self {
            limit_bytes,
            offset,
            partial: Vec::new(),
            length_bytes: 0,
            ready: VecDeque::new(),
        }
    }

    fn push(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, terminated) = match piece.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (piece, false),
            };
            let room = self.limit_bytes.saturating_sub(self.partial.len());
            self.partial
                .extend_from_slice(&text[..text.len().min(room)]);
            self.length_bytes += text.len() as u64;
            self.offset += piece.len() as u64;
            if terminated {
                let line = self.take(true);
                self.ready.push_back(line);
            }
        }
    }

    /// The line that the end of output ended.
    fn finish(&mut self) -> Option<Line> {
        (self.length_bytes > 0).then(|| self.take(false))
    }

    fn take(&mut self, terminated: bool) -> Line {
        let line = Line {
            bytes: std::mem::take(&mut self.partial),
            length_bytes: self.length_bytes,
            end_offset: self.offset,
            terminated,
        };
        self.length_bytes = 0;
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expected: text, length, end offset, terminated.
    fn check(pieces: &[&str], expected: &[(&str, u64, u64, bool)]) {
        let mut splitter = Splitter::new(100, 4);
        for piece in pieces {
            splitter.push(piece.as_bytes());
        }
        let mut lines: Vec<Line> = splitter.ready.drain(..).collect();
        lines.extend(splitter.finish());
        let seen: Vec<_> = lines
            .iter()
            .map(|line| {
                (
                    line.text().into_owned(),
                    line.length_bytes,
                    line.end_offset,
                    line.terminated,
                )
            })
            .collect();
        let expected: Vec<_> = expected
            .iter()
            .map(|&(text, length, end, ended)| (text.to_owned(), length, end, ended))
            .collect();
        assert_eq!(seen, expected, "{pieces:?}");
    }

    #[test]
    fn lines_come_out_of_any_pieces() {
        check(&[], &[]);
        check(&["a\nb\n"], &[("a", 1, 102, true), ("b", 1, 104, true)]);
        check(&["a", "", "b", "\n"], &[("ab", 2, 103, true)]);
        check(&["\n\n"], &[("", 0, 101, true), ("", 0, 102, true)]);
        check(&["a\nb"], &[("a", 1, 102, true), ("b", 1, 103, false)]);
        check(&["a\r\n"], &[("a\r", 2, 103, true)]);
    }

    #[test]
    fn a_long_line_is_cut_and_its_length_kept() {
        check(&["abcd\n"], &[("abcd", 4, 105, true)]);
        check(
            &["abc", "def", "ghi\nj\n"],
            &[("abcd", 9, 110, true), ("j", 1, 112, true)],
        );
        check(&["abcdef"], &[("abcd", 6, 106, false)]);
    }
}
