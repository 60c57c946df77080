//! Output line by line, in bounded memory whatever the child prints.

use std::borrow::Cow;
use std::collections::VecDeque;

use super::output::Output;
use crate::Failure;

/// One line of a child's output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Bytes of the line, without its line feed; only the beginning if the line is longer than the
    /// limit.
    pub bytes: Vec<u8>,
    /// Length of the whole line without its line feed, including any part removed by the cap on the
    /// attempt's output. (Such a part may span several lines.)
    pub length_bytes: u64,
    /// Offset of the first byte after the line. If this line was the last one processed, continue
    /// from there.
    pub end_offset: u64,
    /// Whether the line ends with a line feed. A last line may have none.
    pub terminated: bool,
}

impl Line {
    /// Whether a part is missing: the line exceeds the limit, or a part was removed by the cap.
    pub fn is_cut(&self) -> bool {
        self.length_bytes > self.bytes.len() as u64
    }

    /// The line as text; invalid UTF-8 is replaced.
    pub fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.bytes)
    }
}

/// A child's output line by line.
pub struct Lines {
    output: Output,
    splitter: Splitter,
}

impl Output {
    /// The rest of the output line by line. Only the first `limit_bytes` of each line are kept.
    pub fn lines(self, limit_bytes: usize) -> Lines {
        let splitter = Splitter::new(self.offset(), limit_bytes);
        Lines {
            output: self,
            splitter,
        }
    }
}

impl Lines {
    /// The next line; `None` once the child has ended and everything was read. The future may be
    /// dropped and the call repeated: no line is lost or repeated. Fails if the log cannot be read.
    pub async fn next(&mut self) -> Result<Option<Line>, Failure> {
        loop {
            if let Some(line) = self.splitter.ready.pop_front() {
                return Ok(Some(line));
            }
            let Some(bytes) = self.output.read().await? else {
                self.splitter.skip_to(self.output.offset());
                return Ok(self.splitter.finish());
            };
            // Computed from the offset, so that a dropped and repeated read cannot count a gap
            // twice.
            let begin = self.output.offset() - bytes.len() as u64;
            self.splitter.skip_to(begin);
            self.splitter.push(&bytes);
        }
    }
}

/// Splits bytes that come in pieces into lines.
pub(crate) struct Splitter {
    limit_bytes: usize,
    /// Offset of the next byte to push.
    offset: u64,
    /// Beginning of the current line, whose end was not yet seen.
    pub(crate) partial: Vec<u8>,
    pub(crate) length_bytes: u64,
    /// Complete lines that were not returned yet, at most those of one push.
    pub(crate) ready: VecDeque<Line>,
}

impl Splitter {
    pub(crate) fn new(offset: u64, limit_bytes: usize) -> Self {
        Self {
            limit_bytes,
            offset,
            partial: Vec::new(),
            length_bytes: 0,
            ready: VecDeque::new(),
        }
    }

    /// Skips bytes that were removed. They count as part of the line that they interrupt, and
    /// nothing more of this line is kept, because the bytes that follow may belong to another line.
    fn skip_to(&mut self, offset: u64) {
        self.length_bytes += offset.saturating_sub(self.offset);
        self.offset = self.offset.max(offset);
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, terminated) = match piece.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (piece, false),
            };
            let is_whole = self.length_bytes == self.partial.len() as u64;
            let room = if is_whole {
                self.limit_bytes.saturating_sub(self.partial.len())
            } else {
                0
            };
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

    /// The last line, if it has no line feed.
    pub(crate) fn finish(&mut self) -> Option<Line> {
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
    fn lines_do_not_depend_on_the_pieces() {
        check(&[], &[]);
        check(&["a\nb\n"], &[("a", 1, 102, true), ("b", 1, 104, true)]);
        check(&["a", "", "b", "\n"], &[("ab", 2, 103, true)]);
        check(&["\n\n"], &[("", 0, 101, true), ("", 0, 102, true)]);
        check(&["a\nb"], &[("a", 1, 102, true), ("b", 1, 103, false)]);
        check(&["a\r\n"], &[("a\r", 2, 103, true)]);
    }

    #[test]
    fn long_line_is_cut_and_its_length_kept() {
        check(&["abcd\n"], &[("abcd", 4, 105, true)]);
        check(
            &["abc", "def", "ghi\nj\n"],
            &[("abcd", 9, 110, true), ("j", 1, 112, true)],
        );
        check(&["abcdef"], &[("abcd", 6, 106, false)]);
    }

    #[test]
    fn gap_belongs_to_the_line_that_it_interrupts() {
        let mut splitter = Splitter::new(100, 8);
        splitter.push(b"one\ntw");
        splitter.skip_to(150);
        splitter.push(b"end of another\nlast\n");
        let seen: Vec<_> = splitter
            .ready
            .iter()
            .map(|line| (line.text(), line.is_cut(), line.end_offset))
            .collect();
        assert_eq!(
            seen,
            [
                ("one".into(), false, 104),
                ("tw".into(), true, 165),
                ("last".into(), false, 170)
            ]
        );
    }
}
