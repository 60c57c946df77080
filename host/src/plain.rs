//! Text for people, wherever it is shown: foreign text made harmless, cut to fit, and spans of time in words.
//!
//! Names, prompts and messages come from anybody. What could move a cursor, change a title or turn the reading direction is shown here,
//! not done; how a format quotes is the format's own affair.

use std::time::Duration;

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Text of tasks on one line.
pub(crate) fn harmless(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\r' | '\t' => shown.push(' '),
            c if c.is_control() || is_direction(c) => shown.extend(c.escape_unicode()),
            c => shown.push(c),
        }
    }
    shown
}

/// The same for text of several lines.
pub(crate) fn harmless_lines(text: &str) -> String {
    text.lines().map(harmless).collect::<Vec<_>>().join("\n")
}

fn is_direction(c: char) -> bool {
    matches!(c, '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

/// How many columns of a terminal it takes.
pub(crate) fn columns(text: &str) -> usize {
    text.width()
}

/// Cut to so many columns.
pub(crate) fn fit(text: &str, most: usize) -> String {
    if columns(text) <= most {
        return text.to_owned();
    }
    let mut cut = String::new();
    // The mark for what is missing takes a column.
    let mut left = most.saturating_sub(1);
    for c in text.chars() {
        let Some(rest) = left.checked_sub(c.width().unwrap_or(0)) else {
            break;
        };
        cut.push(c);
        left = rest;
    }
    cut.push('…');
    cut
}

/// A span as a person says it: two units at most.
pub(crate) fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) if seconds < 10 => format!("{seconds}.{}s", span.subsec_millis() / 100),
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, minutes) => format!("{minutes}m{:02}s", seconds % 60),
        (0, hours, minutes) => format!("{hours}h{minutes:02}m"),
        (days, hours, _) => format!("{days}d{hours:02}h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_cannot_steer_the_terminal() {
        let check = |text: &str, expected: &str| assert_eq!(harmless(text), expected, "{text:?}");
        check("plain – text", "plain – text");
        check("a\nb\tc", "a b c");
        check("\x1b]0;title\x07", "\\u{1b}]0;title\\u{7}");
        check("\u{9b}31m", "\\u{9b}31m");
        check("abc\u{202E}def", "abc\\u{202e}def");
    }

    #[test]
    fn what_does_not_fit_is_cut() {
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
    fn spans() {
        let check =
            |millis: u64, expected: &str| assert_eq!(span(Duration::from_millis(millis)), expected);
        check(0, "0.0s");
        check(1_290, "1.2s");
        check(59_999, "59s");
        check(61_000, "1m01s");
        check(3_660_000, "1h01m");
        check(90_000_000, "1d01h");
    }
}
