//! Characters by which foreign text could mislead a reader or a terminal, and text without them.

/// Whether a character does something instead of being seen: it moves the cursor, changes a title,
/// turns the reading direction, ends a line unseen, or hides what is around it. Also what is not
/// seen at all: two names would look the same, and a text could say more than its reader sees.
pub(crate) fn is_harmful(c: char) -> bool {
    c.is_control()
        || matches!(c,
            // Marks, embeddings, overrides and isolates of the reading direction.
            '\u{61C}' | '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{206F}'
            // Ends of lines and of paragraphs.
            | '\u{2028}' | '\u{2029}'
            // Annotations, whose text is not shown, and the mark of another byte order.
            | '\u{FFF9}'..='\u{FFFB}' | '\u{FEFF}'
            // Without a width: a hyphen, joiners that join nothing, spaces, operators, fillers of
            // syllables, selectors of Mongolian.
            | '\u{AD}' | '\u{34F}' | '\u{200B}' | '\u{2060}'..='\u{2064}' | '\u{115F}' | '\u{1160}'
            | '\u{3164}' | '\u{FFA0}' | '\u{17B4}' | '\u{17B5}' | '\u{180B}'..='\u{180F}'
            // Tags, in which any text can be written unseen, and selectors beside them.
            | '\u{E0000}'..='\u{E0FFF}')
}

/// Foreign text on one line.
pub(crate) fn harmless(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\r' | '\t' => shown.push(' '),
            c if is_harmful(c) => shown.extend(c.escape_unicode()),
            c => shown.push(c),
        }
    }
    shown
}

/// The same for text of several lines, whose ends and tabs stay.
pub(crate) fn harmless_lines(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\r' if rest.peek() == Some(&'\n') => {}
            '\n' | '\t' => shown.push(c),
            c if is_harmful(c) => shown.extend(c.escape_unicode()),
            c => shown.push(c),
        }
    }
    shown
}

/// A JSON document in which no text is harmful when it is shown: the same document to a program.
/// Outside of its texts a document has only the ends of its lines, which stay.
pub(crate) fn harmless_json(document: &str) -> String {
    if !document.contains(|c| c != '\n' && is_harmful(c)) {
        return document.to_owned();
    }
    let mut shown = String::with_capacity(document.len());
    for c in document.chars() {
        if c != '\n' && is_harmful(c) {
            let mut units = [0; 2];
            let units = c.encode_utf16(&mut units).iter();
            shown.extend(units.map(|unit| format!("\\u{unit:04x}")));
        } else {
            shown.push(c);
        }
    }
    shown
}

/// Text cut to so many characters, and a mark if something is missing.
pub(crate) fn shortened(text: &str, most_chars: usize) -> String {
    match text.char_indices().nth(most_chars) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// One line of at most so many characters, without runs of spaces.
pub(crate) fn one_line(text: &str, most_chars: usize) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    harmless(&shortened(&line, most_chars))
}

/// One line of a log, of at most so many bytes before it is made harmless.
pub(crate) fn line_of_log(text: &str, most_bytes: usize) -> String {
    let end = text.floor_char_boundary(most_bytes);
    let mut line = harmless(&text[..end]);
    if end < text.len() {
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_cannot_steer_the_terminal() {
        let check = |text: &str, expected: &str| assert_eq!(harmless(text), expected, "{text:?}");
        check("plain – text", "plain – text");
        check("a\nb\tc\r", "a b c ");
        check("\x1b]0;title\x07", "\\u{1b}]0;title\\u{7}");
        check("\u{9b}31m\u{7f}", "\\u{9b}31m\\u{7f}");
        check("abc\u{202E}def", "abc\\u{202e}def");
        check("\u{61C}\u{2028}\u{2029}", "\\u{61c}\\u{2028}\\u{2029}");
        check("\u{2066}\u{206E}\u{FEFF}", "\\u{2066}\\u{206e}\\u{feff}");
        check("de\u{200B}ploy\u{AD}", "de\\u{200b}ploy\\u{ad}");
        check("\u{3164}\u{2060}", "\\u{3164}\\u{2060}");
        check("x\u{E0041}", "x\\u{e0041}");
        // Joiners are part of ordinary writing and of emoji.
        check(
            "👩\u{200D}🔧 می\u{200C}خواهم",
            "👩\u{200D}🔧 می\u{200C}خواهم",
        );
    }

    #[test]
    fn lines_stay_lines() {
        let check = |text: &str, expected: &str| {
            assert_eq!(harmless_lines(text), expected, "{text:?}");
            assert_eq!(harmless_lines(expected), expected, "twice: {text:?}");
        };
        check("a\tb\r\nc\n", "a\tb\nc\n");
        check("half\rof it", "half\\u{d}of it");
        check("a\x1b[2J\u{2029}\nb", "a\\u{1b}[2J\\u{2029}\nb");
    }

    #[test]
    fn a_document_says_the_same_without_harm() {
        let value = serde_json::json!({"a\u{7f}": ["\x1b[2J", "\u{9b}\u{202E}\u{2028}", "ü\n"]});
        for document in [value.to_string(), format!("{value:#}")] {
            let shown = harmless_json(&document);
            assert!(!shown.contains(|c| c != '\n' && is_harmful(c)), "{shown}");
            let read: Result<serde_json::Value, _> = serde_json::from_str(&shown);
            assert_eq!(read.ok(), Some(value.clone()));
        }
    }

    #[test]
    fn one_short_line() {
        let check = |text: &str, expected: &str| assert_eq!(one_line(text, 20), expected);
        check("Bash: npm test", "Bash: npm test");
        check("  two\n lines\twith\u{1b}[m ", "two lines with\\u{1b}[m");
        check("", "");
        check(&"x".repeat(20), &"x".repeat(20));
        check(&"ä".repeat(21), &format!("{}…", "ä".repeat(20)));
    }

    #[test]
    fn a_line_of_a_log_is_cut() {
        let check = |message: &str, expected: &str| assert_eq!(line_of_log(message, 11), expected);
        check("plain text", "plain text");
        check("two\nlines\0", "two lines\\u{0}");
        check(&"ä".repeat(6), &format!("{}…", "ä".repeat(5)));
    }
}
