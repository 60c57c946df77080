//! Text that an agent can read: as much of a long output as fits into its context, and a line that
//! says what is missing and how to get it.

use crate::text::bytes_within;

/// How long the texts of an answer may be together, as JSON writes them. Clients give an agent some
/// 25,000 tokens of an answer, and cut or drop a longer one.
pub(super) const ANSWER_BYTES: usize = 40_000;

/// The end of a text that fits into so many bytes.
pub(super) struct Fitted {
    pub(super) text: String,
    /// How many bytes are missing before it.
    pub(super) left_out: u64,
}

impl Fitted {
    /// Cut where a line begins, if one begins soon.
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

    /// The text, below a line that says what is missing before it, if anything is.
    pub(super) fn told(self, also_missing: u64, whole: &str) -> String {
        match self.left_out + also_missing {
            0 => self.text,
            bytes => format!(
                "[claudine: {bytes} bytes before this are left out; {whole} prints them]\n{}",
                self.text
            ),
        }
    }
}

/// Both texts, in what is given to the two together. A short one leaves its share to the other.
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

/// The bytes that a character takes in JSON.
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
    fn the_end_fits_and_what_is_missing_is_counted() {
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
    fn two_texts_share_what_there_is() {
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
    fn what_is_missing_is_told_with_where_it_is() {
        let check = |text: &str, also: u64, expected: &str| {
            let told = Fitted::end_of(text, 4).told(also, "`claudine logs t`");
            assert_eq!(told, expected);
        };
        check("abc", 0, "abc");
        check(
            "abcdef",
            10,
            "[claudine: 12 bytes before this are left out; `claudine logs t` prints them]\ncdef",
        );
    }
}
