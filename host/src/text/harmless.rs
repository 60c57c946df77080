//! Escapes characters in foreign text that could mislead a reader or a terminal.

/// Whether a character has an effect instead of being visible, for example because it moves the
/// cursor, changes a title, reverses the reading direction, ends a line unnoticed, or hides its
/// surroundings. Invisible characters count too, because they could make two different names look
/// the same, or hide a part of a text from its reader.
pub(crate) fn is_harmful(c: char) -> bool {
    c.is_control()
        || matches!(c,
            // Marks, embeddings, overrides and isolates of the reading direction.
            '\u{61C}' | '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{206F}'
            // Line and paragraph separators.
            | '\u{2028}' | '\u{2029}'
            // Annotations, whose text is not shown, and the byte order mark.
            | '\u{FFF9}'..='\u{FFFB}' | '\u{FEFF}'
            // Zero-width characters: a soft hyphen, joiners without effect, spaces, operators,
            // fillers of syllables, Mongolian variation selectors.
            | '\u{AD}' | '\u{34F}' | '\u{200B}' | '\u{2060}'..='\u{2064}' | '\u{115F}' | '\u{1160}'
            | '\u{3164}' | '\u{FFA0}' | '\u{17B4}' | '\u{17B5}' | '\u{180B}'..='\u{180F}'
            // Tags, which can encode invisible text, and variation selectors.
            | '\u{E0000}'..='\u{E0FFF}')
}

/// Escapes foreign text and puts it on one line.
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

/// Escapes foreign text of several lines, keeping newlines and tabs.
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

/// Escapes harmful characters in the strings of a JSON document. A program parses the escaped
/// document to the same value. Outside of strings, a document contains no harmful characters except
/// newlines, which are kept.
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

/// Cuts text to this many characters, and adds an ellipsis if anything was cut.
pub(crate) fn shortened(text: &str, most_chars: usize) -> String {
    match text.char_indices().nth(most_chars) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Puts text on one line, without repeated spaces, and cuts it to this many characters.
pub(crate) fn one_line(text: &str, most_chars: usize) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    harmless(&shortened(&line, most_chars))
}

/// Puts text on one line like [`one_line`], but leaves out its middle. An error of a program begins
/// with the command and ends with the reason.
pub(crate) fn ends_on_one_line(text: &str, most_chars: usize) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let chars = line.chars().count();
    if chars <= most_chars {
        return harmless(&line);
    }
    let half = most_chars / 2;
    let head: String = line.chars().take(half).collect();
    let tail: String = line.chars().skip(chars - half).collect();
    harmless(&format!("{} … {}", head.trim_end(), tail.trim_start()))
}

/// Makes a line for the log. The text is cut to this many bytes before it is escaped.
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
    fn foreign_text_cannot_control_the_terminal() {
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
        // Joiners are part of ordinary text and of emoji.
        check(
            "👩\u{200D}🔧 می\u{200C}خواهم",
            "👩\u{200D}🔧 می\u{200C}خواهم",
        );
    }

    #[test]
    fn newlines_and_tabs_are_kept() {
        let check = |text: &str, expected: &str| {
            assert_eq!(harmless_lines(text), expected, "{text:?}");
            assert_eq!(harmless_lines(expected), expected, "twice: {text:?}");
        };
        check("a\tb\r\nc\n", "a\tb\nc\n");
        check("half\rof it", "half\\u{d}of it");
        check("a\x1b[2J\u{2029}\nb", "a\\u{1b}[2J\\u{2029}\nb");
    }

    #[test]
    fn an_escaped_json_document_is_parsed_to_the_same_value() {
        let value = serde_json::json!({"a\u{7f}": ["\x1b[2J", "\u{9b}\u{202E}\u{2028}", "ü\n"]});
        for document in [value.to_string(), format!("{value:#}")] {
            let shown = harmless_json(&document);
            assert!(!shown.contains(|c| c != '\n' && is_harmful(c)), "{shown}");
            let read: Result<serde_json::Value, _> = serde_json::from_str(&shown);
            assert_eq!(read.ok(), Some(value.clone()));
        }
    }

    #[test]
    fn text_is_shortened_to_one_line() {
        let check = |text: &str, expected: &str| assert_eq!(one_line(text, 20), expected);
        check("Bash: npm test", "Bash: npm test");
        check("  two\n lines\twith\u{1b}[m ", "two lines with\\u{1b}[m");
        check("", "");
        check(&"x".repeat(20), &"x".repeat(20));
        check(&"ä".repeat(21), &format!("{}…", "ä".repeat(20)));
    }

    #[test]
    fn the_middle_of_a_long_text_is_left_out() {
        let check = |text: &str, expected: &str| assert_eq!(ends_on_one_line(text, 20), expected);
        check("two\nlines\u{1b}[m", "two lines\\u{1b}[m");
        check(&"ä".repeat(20), &"ä".repeat(20));
        let error = format!("git failed: {}the reason", "line\n".repeat(50));
        check(&error, "git failed … the reason");
    }

    #[test]
    fn a_line_of_a_log_is_cut() {
        let check = |message: &str, expected: &str| assert_eq!(line_of_log(message, 11), expected);
        check("plain text", "plain text");
        check("two\nlines\0", "two lines\\u{0}");
        check(&"ä".repeat(6), &format!("{}…", "ä".repeat(5)));
    }
}
