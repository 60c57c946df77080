//! Parses output that programs have written for a terminal: separates colours, and drops
//! overwritten text.
//!
//! Only parts that can be dropped safely are dropped: sequences that set colours, erase a line, or
//! show or hide the cursor, and text before a carriage return in the same line. All other sequences
//! are kept, and are escaped when they are shown.

/// A part of a program's output.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Part<'a> {
    Text(&'a str),
    /// A complete sequence that sets colours and styles.
    Colour(&'a str),
    /// The end of a line.
    End,
}

/// Length limit of a sequence. A longer sequence counts as text.
const LONGEST_SEQUENCE_BYTES: usize = 64;

/// The text without colours, as the screen would finally show it.
pub(crate) fn plain(text: &str) -> String {
    if !text.contains(['\x1b', '\r']) {
        return text.to_owned();
    }
    let mut shown = String::with_capacity(text.len());
    each_part(text, |part| match part {
        Part::Text(text) => shown.push_str(text),
        Part::Colour(_) => {}
        Part::End => shown.push('\n'),
    });
    shown
}

/// Calls `take` with each part in order. If the last line has no newline, it gets no `End`.
pub(super) fn each_part<'a>(text: &'a str, mut take: impl FnMut(Part<'a>)) {
    for line in text.split_inclusive('\n') {
        let (line, ends) = match line.strip_suffix('\n') {
            Some(line) => (line, true),
            None => (line, false),
        };
        let line = line.trim_end_matches('\r');
        let (over, line) = match line.rfind('\r') {
            Some(at) => line.split_at(at + 1),
            None => ("", line),
        };
        // Colours that were set in overwritten text remain in effect.
        parts_of_line(over, &mut |part| {
            if let Part::Colour(_) = part {
                take(part);
            }
        });
        parts_of_line(line, &mut take);
        if ends {
            take(Part::End);
        }
    }
}

fn parts_of_line<'a>(line: &'a str, take: &mut impl FnMut(Part<'a>)) {
    let (mut text_from, mut at) = (0, 0);
    while let Some(found) = line[at..].find('\x1b') {
        let start = at + found;
        let Some((end, is_colour)) = sequence(&line[start..]) else {
            at = start + 1;
            continue;
        };
        let end = start + end;
        if start > text_from {
            take(Part::Text(&line[text_from..start]));
        }
        if is_colour {
            take(Part::Colour(&line[start..end]));
        }
        (text_from, at) = (end, end);
    }
    if text_from < line.len() {
        take(Part::Text(&line[text_from..]));
    }
}

/// The length of the known sequence at the start of the text, and whether it sets colours; `None`
/// if the text starts with no known sequence.
fn sequence(text: &str) -> Option<(usize, bool)> {
    // This sequence selects the default character set, as a part of a full reset.
    if text.starts_with("\x1b(B") {
        return Some((3, false));
    }
    let body = text.strip_prefix("\x1b[")?.as_bytes();
    let is_parameter = |byte: &&u8| matches!(byte, b'0'..=b'?');
    let length = body.iter().take_while(is_parameter).count();
    if length > LONGEST_SEQUENCE_BYTES {
        return None;
    }
    let (parameters, rest) = body.split_at(length);
    let is_plain = || {
        let digits = |byte: &u8| matches!(byte, b'0'..=b';');
        parameters.iter().all(digits)
    };
    let is_colour = match rest.first()? {
        b'm' if is_plain() => true,
        b'K' if is_plain() => false,
        b'h' | b'l' if parameters == b"?25" => false,
        _ => return None,
    };
    Some((2 + length + 1, is_colour))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_and_overwritten_text_are_dropped() {
        let check = |text: &str, expected: &str| assert_eq!(plain(text), expected, "{text:?}");
        check("plain\ntext", "plain\ntext");
        check("\x1b[32mPASS\x1b[0m a\n", "PASS a\n");
        check("\x1b[1;38;5;208mx\x1b[m\x1b(B", "x");
        check("10%\r\x1b[K20%\r\x1b[2K100%\r\nend\r\n", "100%\nend\n");
        check("\x1b[?25lspin\rdone\x1b[?25h", "done");
        check("no end\r", "no end");
        check("\r\n", "\n");
        check("ä\x1b[31mö", "äö");
    }

    #[test]
    fn unknown_sequences_are_kept_as_text() {
        for text in [
            "\x1b[2J",
            "\x1b]0;title\x07",
            "\x1b[31",
            "\x1b",
            "\x1b[>4m",
            "\x1b[?1049h",
            "a\x1b\x1b[5n",
            "\u{9b}31m",
        ] {
            assert_eq!(plain(text), text, "{text:?}");
        }
        let long = format!("\x1b[{}m", "1".repeat(LONGEST_SEQUENCE_BYTES + 1));
        assert_eq!(plain(&long), long);
    }

    #[test]
    fn a_colour_in_overwritten_text_remains_in_effect() {
        let mut parts = Vec::new();
        each_part("a\x1b[31mb\rc\n", |part| parts.push(part));
        let expected = [Part::Colour("\x1b[31m"), Part::Text("c"), Part::End];
        assert_eq!(parts, expected);
    }
}
