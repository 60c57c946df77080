//! Text with colours. Each piece of foreign text is escaped when it is added, so the text contains
//! no escape sequences except those for colours.

use super::{
    harmless_lines,
    screen::{Part, each_part},
};

#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct Painted {
    text: String,
}

impl Painted {
    pub(crate) fn push(&mut self, text: &str) {
        self.text += &harmless_lines(text);
    }

    /// Adds text in a colour, given by its terminal code.
    pub(crate) fn push_in(&mut self, colour: Option<u8>, text: &str) {
        match colour {
            Some(code) if !text.is_empty() => {
                let (code, text) = (code.to_string(), harmless_lines(text));
                self.text.extend(["\x1b[", &code, "m", &text, "\x1b[0m"]);
            }
            _ => self.push(text),
        }
    }

    /// Adds output that a program has written for a terminal. Of its escape sequences, only colours
    /// are kept, and these only if `colours` is true. Colours are reset at the end of the text. If
    /// there is a `style` (terminal codes), each line begins with it, and colours are reset at the
    /// end of each line.
    pub(crate) fn push_written(&mut self, colours: bool, style: Option<&str>, text: &str) {
        let style = style.filter(|_| colours);
        let (mut begun, mut coloured) = (false, false);
        each_part(text, |part| {
            if let Some(style) = style.filter(|_| !begun && part != Part::End) {
                self.text.extend(["\x1b[", style, "m"]);
                coloured = true;
            }
            begun = part != Part::End;
            match part {
                Part::Text(text) => self.push(text),
                Part::Colour(sequence) if colours => {
                    self.text.push_str(sequence);
                    coloured = true;
                }
                Part::Colour(_) => {}
                Part::End => {
                    if style.is_some() && std::mem::take(&mut coloured) {
                        self.text.push_str("\x1b[0m");
                    }
                    self.text.push('\n');
                }
            }
        });
        if coloured {
            self.text.push_str("\x1b[0m");
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
    fn painted_text_has_only_our_own_colours() {
        let mut text = Painted::default();
        text.push_in(Some(31), "failed\x1b[2J");
        text.push_in(None, " a\x1b[32m");
        text.push_in(Some(31), "");
        assert_eq!(
            text.as_str(),
            "\x1b[31mfailed\\u{1b}[2J\x1b[0m a\\u{1b}[32m"
        );
    }

    #[test]
    fn output_of_a_program_keeps_only_its_colours() {
        let check = |colours: bool, style: Option<&str>, text: &str, expected: &str| {
            let mut shown = Painted::default();
            shown.push_written(colours, style, text);
            assert_eq!(shown.as_str(), expected, "{text:?} {style:?}");
        };
        let text = "\x1b[32mPASS\x1b[2J\nb\x1b[m\n";
        check(false, None, text, "PASS\\u{1b}[2J\nb\n");
        check(false, Some("2;31"), text, "PASS\\u{1b}[2J\nb\n");
        check(true, None, text, "\x1b[32mPASS\\u{1b}[2J\nb\x1b[m\n\x1b[0m");
        check(
            true,
            Some("2;31"),
            "a\n\nb",
            "\x1b[2;31ma\x1b[0m\n\n\x1b[2;31mb\x1b[0m",
        );
        check(true, None, "plain\n", "plain\n");
    }
}
