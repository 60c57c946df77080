//! Cuts a long output to a size that fits an agent's context, with a line that says how much is
//! missing and how to get it.

use crate::text::bytes_within;

/// Size limit of the texts in an answer, as written in JSON. Clients give an agent about 25,000
/// tokens of an answer, and cut or drop longer ones.
pub(super) const ANSWER_BYTES: usize = 40_000;

/// The end of a text, cut to a size limit.
pub(super) struct Fitted {
    pub(super) text: String,
    /// Number of bytes missing before the text.
    pub(super) left_out: u64,
}

impl Fitted {
    /// Cuts the text, at the beginning of a line if there is one nearby.
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

    /// The text, below a line about the missing bytes, if there are any.
    pub(super) fn told(self, also_missing: u64, whole: &str) -> String {
        match self.left_out + also_missing {
            0 => self.text,
            bytes => format!(
                "[claudine: {bytes} earlier bytes are left out; {whole} prints them]\n{}",
                self.text
            ),
        }
    }
}

/// Cuts two texts to fit an answer together. A short one leaves its share to the other.
pub(super) fn both(first: &str, second: &str) -> (Fitted, Fitted) {
    let half = ANSWER_BYTES / 2;
    let room_beside = |text: &str| {
        let taken: usize = text.chars().map(written).take(half).sum();
        ANSWER_BYTES - taken.min(half)
    };
    (
        Fitted::end_of(first, room_beside(second)),
        Fitted::end_of(second, room_beside(first)),
    )
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
    fn two_texts_share_the_limit() {
        let check = |first: usize, second: usize, expected: (usize, usize)| {
            let (first, second) = both(&"x".repeat(first), &"y".repeat(second));
            assert_eq!((first.text.len(), second.text.len()), expected);
        };
        check(10, 20, (10, 20));
        check(1 << 20, 0, (ANSWER_BYTES, 0));
        check(1 << 20, 1_000, (ANSWER_BYTES - 1_000, 1_000));
        check(1 << 20, 1 << 20, (ANSWER_BYTES / 2, ANSWER_BYTES / 2));
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
    }
}
