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
pub(crate) fn wrapped(text: &str, most: usize, indent: usize) -> String {
    let mut shown = String::new();
    let mut used = 0;
    for word in text.split_inclusive(' ') {
        let mut word = word;
        let bare = columns(word.trim_end());
        if used > 0 && used + bare > most {
            break_line(&mut shown, indent);
            used = indent;
        }
        // A word that is longer than a line is broken at the end of the line.
        while used + columns(word.trim_end()) > most && used < most {
            let room = most - used;
            let fits = bytes_within(word.chars(), room, |c| c.width().unwrap_or(0));
            if fits == 0 {
                break;
            }
            shown.push_str(&word[..fits]);
            word = &word[fits..];
            break_line(&mut shown, indent);
            used = indent;
        }
        shown.push_str(word);
        used += columns(word);
    }
    shown.truncate(shown.trim_end().len());
    shown
}

fn break_line(text: &mut String, indent: usize) {
    text.truncate(text.trim_end_matches(' ').len());
    text.push('\n');
    text.extend(std::iter::repeat_n(' ', indent));
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
    }
}
