//! How wide text is on a terminal, and cutting it to a width.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// The columns of a terminal that the text takes.
pub(crate) fn columns(text: &str) -> usize {
    text.width()
}

/// Cuts text to so many columns.
pub(crate) fn fit(text: &str, most: usize) -> String {
    if columns(text) <= most {
        return text.to_owned();
    }
    // The mark for what is missing takes a column.
    let room = most.saturating_sub(1);
    let cut = bytes_within(text.chars(), room, |c| c.width().unwrap_or(0));
    format!("{}…", &text[..cut])
}

/// The bytes of those characters, from the first one on, that together take no more than `room`.
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
}
