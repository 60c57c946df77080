//! Text with colours of our own. Foreign text cannot bring any: a piece is made harmless as it is
//! added, so the only escape sequences are those that are written here.

use super::harmless_lines;

#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct Painted {
    text: String,
}

impl Painted {
    pub(crate) fn push(&mut self, text: &str) {
        self.text += &harmless_lines(text);
    }

    /// Adds text in a colour, by the number that terminals know it by.
    pub(crate) fn push_in(&mut self, colour: Option<u8>, text: &str) {
        match colour {
            Some(code) if !text.is_empty() => {
                let (code, text) = (code.to_string(), harmless_lines(text));
                self.text.extend(["\x1b[", &code, "m", &text, "\x1b[0m"]);
            }
            _ => self.push(text),
        }
    }

    pub(crate) fn append(&mut self, other: &Self) {
        self.text += &other.text;
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_colours_are_in_it() {
        let mut text = Painted::default();
        text.push_in(Some(31), "failed\x1b[2J");
        text.push_in(None, " a\x1b[32m");
        text.push_in(Some(31), "");
        assert_eq!(
            text.as_str(),
            "\x1b[31mfailed\\u{1b}[2J\x1b[0m a\\u{1b}[32m"
        );
    }
}
