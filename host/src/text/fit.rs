//! Measures and cuts text by its width on a terminal.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Number of terminal columns that the text occupies.
pub(crate) fn columns(text: &str) -> usize {
    text.width()
}

/// Cuts text to this many columns.
pub(crate) fn fit(text: &str, most: usize) -> String {
    if columns(text) <= most {
        return text.to_owned();
    }
    // The ellipsis occupies one column.
    let room = most.saturating_sub(1);
    let cut = bytes_within(text.chars(), room, |c| c.width().unwrap_or(0));
    format!("{}…", &text[..cut])
}

/// Wraps text to this many columns, between words if possible. Continuation lines are indented.
/// Text in backquotes is broken only if it is longer than a line.
pub(crate) fn wrapped(text: &str, most: usize, indent: usize) -> String {
    let mut lines = Lines::new(0, most, indent);
    for word in words(text) {
        if indent + columns(word.trim_end()) <= most {
            lines.add(word, true);
        } else {
            for part in word.split_inclusive(' ') {
                lines.add(part, false);
            }
        }
    }
    lines.end()
}

/// Wraps text like [`wrapped`], on a line of which `begun` columns are in use, but never breaks a
/// word or text in backquotes. A path or a command that is longer than a line is wrapped only by
/// the terminal, so that it can still be copied.
pub(crate) fn wrapped_whole(text: &str, begun: usize, most: usize, indent: usize) -> String {
    let mut lines = Lines::new(begun, most, indent);
    for word in words(text) {
        lines.add(word, true);
    }
    lines.end()
}

/// Words of a text, each with the space after it. Text in backquotes belongs to one word.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let end = Some(word_end(rest)).filter(|end| *end > 0)?;
        let (word, after) = rest.split_at(end);
        rest = after;
        Some(word)
    })
}

/// Length of the first word and of the space after it.
fn word_end(text: &str) -> usize {
    let mut at = 0;
    loop {
        let rest = &text[at..];
        let end = rest.find(' ').map_or(rest.len(), |space| space + 1);
        let closed = rest[..end].find('`').and_then(|open| {
            let inside = open + 1;
            Some(inside + rest[inside..].find('`')? + 1)
        });
        match closed {
            Some(closed) => at += closed,
            None => return at + end,
        }
    }
}

/// Lines of wrapped text.
struct Lines {
    text: String,
    /// Number of columns that are used on the last line.
    used: usize,
    /// Whether the last line has more than its indentation.
    has_words: bool,
    most: usize,
    indent: usize,
}

impl Lines {
    fn new(begun: usize, most: usize, indent: usize) -> Self {
        Self {
            text: String::new(),
            used: begun,
            has_words: begun > 0,
            most,
            indent,
        }
    }

    /// Adds a word, on the next line if it does not fit on the last one. A word that is longer than
    /// a line is broken at the end of the line if `whole` is false.
    fn add(&mut self, word: &str, whole: bool) {
        let mut word = word;
        if self.has_words && !self.has_room_for(word) {
            self.break_line();
        }
        while !whole && !self.has_room_for(word) && self.used < self.most {
            let room = self.most - self.used;
            let fits = bytes_within(word.chars(), room, |c| c.width().unwrap_or(0));
            if fits == 0 {
                break;
            }
            self.text.push_str(&word[..fits]);
            word = &word[fits..];
            self.break_line();
        }
        self.text.push_str(word);
        self.used += columns(word);
        self.has_words |= word != " ";
    }

    fn has_room_for(&self, word: &str) -> bool {
        self.used + columns(word.trim_end()) <= self.most
    }

    fn break_line(&mut self) {
        self.text.truncate(self.text.trim_end_matches(' ').len());
        self.text.push('\n');
        self.text.extend(std::iter::repeat_n(' ', self.indent));
        self.used = self.indent;
        self.has_words = false;
    }

    fn end(mut self) -> String {
        self.text.truncate(self.text.trim_end().len());
        self.text
    }
}

/// Number of bytes of the longest prefix whose characters together occupy at most `room`. The
/// function `takes` returns the room that a character occupies.
pub(crate) fn bytes_within(
    chars: impl Iterator<Item = char>,
    room: usize,
    takes: impl Fn(char) -> usize,
) -> usize {
    let mut left = room;
    let within = chars.map_while(|c| {
        left = left.checked_sub(takes(c))?;
        Some(c.len_utf8())
    });
    within.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_that_does_not_fit_is_cut() {
        let check = |text: &str, most: usize, expected: &str| {
            assert_eq!(fit(text, most), expected, "{text:?} in {most}");
        };
        check("abc", 3, "abc");
        check("abcd", 3, "ab…");
        check("äöüß", 3, "äö…");
        check("漢字漢字", 8, "漢字漢字");
        check("漢字漢字", 6, "漢字…");
        check("e\u{301}e\u{301}", 2, "e\u{301}e\u{301}");
        check("abc", 0, "…");
    }

    #[test]
    fn text_is_wrapped_between_words() {
        let check = |text: &str, most: usize, indent: usize, expected: &str| {
            assert_eq!(wrapped(text, most, indent), expected, "{text:?} in {most}");
        };
        check("one two three", 20, 2, "one two three");
        check("one two three", 13, 2, "one two three");
        check("one two three", 12, 2, "one two\n  three");
        check("one two three", 7, 0, "one two\nthree");
        check("  one two", 7, 4, "  one\n    two");
        check(
            "a /very/long/path b",
            8,
            2,
            "a\n  /very/\n  long/p\n  ath b",
        );
        check("漢字漢字 漢字", 8, 0, "漢字漢字\n漢字");
        check("", 8, 2, "");
        check("abc", 1, 2, "a\n  bc");
        check("  abcdefgh i", 8, 4, "  abcdef\n    gh i");
    }

    #[test]
    fn text_in_backquotes_is_broken_only_to_fit_a_screen() {
        let check = |text: &str, most: usize, fitting: &str, whole: &str| {
            assert_eq!(wrapped(text, most, 2), fitting, "{text:?} in {most}");
            assert_eq!(wrapped_whole(text, 0, most, 2), whole, "{text:?} in {most}");
        };
        let same = |text: &str, most: usize, expected: &str| check(text, most, expected, expected);
        same("run `a b`, then", 12, "run `a b`,\n  then");
        same("run `a b`, then", 9, "run\n  `a b`,\n  then");
        same("(`a b`) or `c d`", 10, "(`a b`) or\n  `c d`");
        same("`a b`/`c d` e", 11, "`a b`/`c d`\n  e");
        // A backquote alone quotes nothing.
        same("it's `a b c", 7, "it's `a\n  b c");
        // A command that is longer than a line.
        check(
            "run `a b c d e`!",
            8,
            "run `a b\n  c d\n  e`!",
            "run\n  `a b c d e`!",
        );
        check("  `a b c d`", 8, "  `a b c\n  d`", "  `a b c d`");
        // A path that is longer than a line.
        check(
            "in /a/path b",
            6,
            "in\n  /a/p\n  ath\n  b",
            "in\n  /a/path\n  b",
        );
    }

    #[test]
    fn a_line_that_is_already_begun_has_less_room() {
        let check = |begun: usize, expected: &str| {
            assert_eq!(wrapped_whole("one two", begun, 8, 2), expected, "{begun}");
        };
        check(0, "one two");
        check(1, "one two");
        check(4, "one\n  two");
        check(6, "\n  one\n  two");
    }
}
