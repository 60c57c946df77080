//! Cuts a long output to a size that fits an agent's context, with a line that says how much is
//! missing and how to get it.

use crate::text::bytes_within;

/// Size limit of the texts in an answer, as written in JSON. Clients give an agent about 25,000
/// tokens of an answer, and cut or drop longer answers.
pub(super) const ANSWER_BYTES: usize = 40_000;

/// The end or the beginning of a text, cut to a size limit.
pub(super) struct Fitted {
    pub(super) text: String,
    /// Number of bytes that were cut off: those before the kept end, or after the kept beginning.
    pub(super) left_out: u64,
}

impl Fitted {
    /// Keeps the end of the text, from the beginning of a line if there is one nearby.
    pub(super) fn end_of(text: &str, most_bytes: usize) -> Self {
        let mut start = text.len() - bytes_within(text.chars().rev(), most_bytes, written);
        if start > 0 && !text[..start].ends_with('\n') {
            let soon = text.ceil_char_boundary(text.len().min(start + most_bytes / 4));
            if let Some(newline) = text[start..soon].find('\n') {
                start += newline + 1;
            }
        }
        Self {
            text: text[start..].to_owned(),
            left_out: start as u64,
        }
    }

    /// Keeps the beginning of the text, up to the end of a line if there is one nearby.
    pub(super) fn start_of(text: &str, most_bytes: usize) -> Self {
        let mut end = bytes_within(text.chars(), most_bytes, written);
        if end < text.len() && !text[..end].ends_with('\n') {
            let soon = text.floor_char_boundary(end - end / 4);
            if let Some(newline) = text[soon..end].rfind('\n') {
                end = soon + newline + 1;
            }
        }
        Self {
            text: text[..end].to_owned(),
            left_out: (text.len() - end) as u64,
        }
    }

    /// The end of a text, below a line about the missing bytes, if there are any.
    pub(super) fn told(self, also_missing: u64, whole: &str) -> String {
        match self.left_out + also_missing {
            0 => self.text,
            bytes => format!(
                "[claudine: {bytes} earlier bytes are left out; {whole} prints them]\n{}",
                self.text
            ),
        }
    }

    /// The beginning of a text, above a line about the missing bytes, if there are any. `more` says
    /// that the text was already incomplete before [`Self::start_of`] cut it.
    pub(super) fn told_of_start(self, more: bool, whole: &str) -> String {
        let Self { mut text, left_out } = self;
        if left_out == 0 && !more {
            return text;
        }
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        let least = if more { "at least " } else { "" };
        text + &format!(
            "[claudine: {least}{left_out} more bytes are left out; {whole} prints them]\n"
        )
    }
}

/// The share of each text in a common size limit. If a short text does not need all of its share,
/// the rest is divided among the longer texts.
pub(super) fn shares(texts: &[&str], most_bytes: usize) -> Vec<usize> {
    let taken = |text: &str| text.chars().map(written).take(most_bytes).sum::<usize>();
    let mut shortest_first: Vec<(usize, usize)> =
        texts.iter().map(|it| taken(it)).enumerate().collect();
    shortest_first.sort_by_key(|(_, bytes)| *bytes);
    let mut shares = vec![0; texts.len()];
    let mut left = most_bytes;
    for (others, (place, bytes)) in (1..=texts.len()).rev().zip(shortest_first) {
        shares[place] = bytes.min(left / others);
        left -= shares[place];
    }
    shares
}

/// Number of bytes that a character takes in JSON.
fn written(c: char) -> usize {
    match c {
        '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
        c if c < ' ' => 6,
        c => c.len_utf8(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_fits_the_limit_and_missing_bytes_are_counted() {
        let check = |text: &str, most: usize, expected: &str| {
            let fitted = Fitted::end_of(text, most);
            assert_eq!(fitted.text, expected, "{text:?} in {most}");
            assert_eq!(fitted.left_out + expected.len() as u64, text.len() as u64);
            let json = serde_json::json!(fitted.text).to_string();
            assert!(json.len() <= most + 2, "{json}");
        };
        check("one\ntwo\n", 100, "one\ntwo\n");
        check("one\ntwo\n", 5, "two\n");
        check("one\ntwo\n", 6, "two\n");
        check("zero one\ntwo\nthree\n", 16, "two\nthree\n");
        check("äöü", 5, "öü");
        check("\u{1b}[0m\u{1b}", 6, "\u{1b}");
        check("", 0, "");
    }

    #[test]
    fn the_beginning_fits_the_limit_and_missing_bytes_are_counted() {
        let check = |text: &str, most: usize, expected: &str| {
            let fitted = Fitted::start_of(text, most);
            assert_eq!(fitted.text, expected, "{text:?} in {most}");
            assert_eq!(fitted.left_out + expected.len() as u64, text.len() as u64);
            let json = serde_json::json!(fitted.text).to_string();
            assert!(json.len() <= most + 2, "{json}");
        };
        check("one\ntwo\n", 100, "one\ntwo\n");
        check("one\ntwo\n", 6, "one\nt");
        check("one\ntwo\n", 5, "one\n");
        check("one two three\nx four", 16, "one two three\n");
        check("one\ntwo two two", 12, "one\ntwo two");
        check("äöü", 5, "äö");
        check("\u{1b}[0m\u{1b}", 6, "\u{1b}");
        check("", 0, "");
    }

    #[test]
    fn the_limit_is_divided_equally_and_unused_shares_go_to_longer_texts() {
        let check = |lengths: &[usize], expected: &[usize]| {
            let texts: Vec<String> = lengths.iter().map(|length| "x".repeat(*length)).collect();
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            assert_eq!(shares(&texts, 1_000), expected, "{lengths:?}");
        };
        check(&[], &[]);
        check(&[10, 20], &[10, 20]);
        check(&[5_000, 0], &[1_000, 0]);
        check(&[5_000, 100], &[900, 100]);
        check(&[5_000, 5_000], &[500, 500]);
        check(&[5_000, 10, 5_000, 90], &[450, 10, 450, 90]);
    }

    #[test]
    fn missing_bytes_are_reported_with_the_command_that_prints_them() {
        let check = |text: &str, also: u64, expected: &str| {
            let told = Fitted::end_of(text, 4).told(also, "`claudine logs t`");
            assert_eq!(told, expected);
        };
        check("abc", 0, "abc");
        check(
            "abcdef",
            10,
            "[claudine: 12 earlier bytes are left out; `claudine logs t` prints them]\ncdef",
        );
        let check = |text: &str, more: bool, expected: &str| {
            let told = Fitted::start_of(text, 4).told_of_start(more, "`git diff a b`");
            assert_eq!(told, expected);
        };
        check("abc", false, "abc");
        let after = "more bytes are left out; `git diff a b` prints them]\n";
        check("abcdef", false, &format!("abcd\n[claudine: 2 {after}"));
        check("ab\n", true, &format!("ab\n[claudine: at least 0 {after}"));
    }
}
