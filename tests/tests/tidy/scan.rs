//! Separates code from comments and literals in Rust sources: a scanner, not a parser, which is
//! enough for rules about names.

/// The source with every comment, string and character literal replaced by blanks; everything else
/// keeps its offset.
pub(crate) fn code_only(source: &str) -> String {
    let bytes = source.as_bytes();
    let mut code = String::with_capacity(source.len());
    let mut at = 0;
    while at < bytes.len() {
        let end = literal_end(bytes, at);
        if end > at {
            let blank = |byte: u8| if byte == b'\n' { '\n' } else { ' ' };
            code.extend(source[at..end].bytes().map(blank));
            at = end;
        } else {
            let c = source[at..].chars().next().unwrap();
            code.push(c);
            at += c.len_utf8();
        }
    }
    code
}

/// String literals of a source as they are written, each with its offset. Lines that a backslash
/// continues are joined.
pub(crate) fn strings(source: &str) -> impl Iterator<Item = (usize, String)> {
    let bytes = source.as_bytes();
    let mut at = 0;
    std::iter::from_fn(move || {
        while at < bytes.len() {
            let start = at;
            at = literal_end(bytes, start).max(start + 1);
            if let Some(text) = source.get(start..at).and_then(string) {
                return Some((start, text));
            }
        }
        None
    })
}

/// The text of a string literal; `None` if it is another literal.
fn string(literal: &str) -> Option<String> {
    let raw = literal.strip_prefix('r');
    let quoted = raw.unwrap_or(literal).trim_matches('#');
    let text = quoted.strip_prefix('"')?.strip_suffix('"')?;
    if raw.is_some() {
        return Some(text.to_owned());
    }
    let mut lines = text.split("\\\n");
    let first = lines.next().unwrap_or_default().to_owned();
    Some(lines.fold(first, |text, line| text + line.trim_start()))
}

/// End of the comment or literal that begins at `at`, or `at` itself if neither begins there.
fn literal_end(bytes: &[u8], at: usize) -> usize {
    let rest = &bytes[at..];
    let word_before = at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_');
    match rest {
        [b'/', b'/', ..] => at + rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len()),
        [b'/', b'*', ..] => block_comment_end(bytes, at),
        [b'"', ..] => string_end(bytes, at),
        [b'r' | b'b' | b'c', ..] if !word_before => raw_string_end(bytes, at),
        [b'\'', b'\\', ..] => character_end(bytes, at + 2),
        // A lifetime has no second quote after its first letter; a character literal has its second
        // quote after one character, which has at most four bytes.
        [b'\'', ..] => {
            let next = std::str::from_utf8(&rest[1..rest.len().min(5)]);
            let letter = match next {
                Ok(text) => text.chars().next(),
                Err(error) => std::str::from_utf8(&rest[1..=error.valid_up_to()])
                    .ok()
                    .and_then(|text| text.chars().next()),
            };
            match letter {
                Some(letter) if rest.get(1 + letter.len_utf8()) == Some(&b'\'') => {
                    at + 2 + letter.len_utf8()
                }
                _ => at,
            }
        }
        _ => at,
    }
}

fn block_comment_end(bytes: &[u8], start: usize) -> usize {
    let mut depth = 0;
    let mut at = start;
    while at < bytes.len() {
        match bytes[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    bytes.len()
}

fn string_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// End of `r"…"`, `r#"…"#`, `b"…"`, `br"…"` or `c"…"`, or `start` if no such literal begins there.
fn raw_string_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start;
    while at < start + 2 && matches!(bytes.get(at), Some(b'r' | b'b' | b'c')) {
        at += 1;
    }
    let raw = bytes[start..at].contains(&b'r');
    let hashes = bytes[at..].iter().take_while(|b| **b == b'#').count();
    if bytes.get(at + hashes) != Some(&b'"') || (hashes > 0 && !raw) {
        return start;
    }
    if !raw {
        return string_end(bytes, at);
    }
    let mut closing = vec![b'"'];
    closing.extend(std::iter::repeat_n(b'#', hashes));
    let body = at + hashes + 1;
    let length = bytes[body..]
        .windows(closing.len())
        .position(|window| window == closing);
    length.map_or(bytes.len(), |length| body + length + closing.len())
}

fn character_end(bytes: &[u8], escaped: usize) -> usize {
    let close = bytes[escaped + 1..].iter().position(|b| *b == b'\'');
    close.map_or(bytes.len(), |close| escaped + close + 2)
}

/// End of the block that opens after `from`, as an offset into code without literals; `None` if a
/// `;` comes before the block, or the block does not end.
pub(crate) fn block_end(code: &str, from: usize) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, c) in code[from..].char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 1 => return Some(from + at + 1),
            '}' => depth = depth.checked_sub(1)?,
            ';' if depth == 0 => return None,
            _ => {}
        }
    }
    None
}

/// Identifiers in some code, with their offsets.
pub(crate) fn words(code: &str) -> impl Iterator<Item = (usize, &str)> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut at = 0;
    std::iter::from_fn(move || {
        let start = at + code[at..].find(is_word)?;
        let end = code[start..]
            .find(|c| !is_word(c))
            .map_or(code.len(), |length| start + length);
        at = end;
        Some((start, &code[start..end]))
    })
}

#[test]
fn comments_and_literals_are_replaced_by_blanks() {
    let check = |source: &str, expected: &str| assert_eq!(code_only(source), expected, "{source}");
    check("a // b\nc", "a     \nc");
    check("a /* b /* c */ d */ e", "a                   e");
    check(r#"f("x // y")"#, "f(        )");
    check(r##"f(r#"a "quoted" b"#, g)"##, "f(                 , g)");
    check(r#"f(b"x", br"\")"#, "f(    ,      )");
    check(
        r"match c { '\'' => '{', '\n' => x::<'a>() }",
        "match c {      =>    ,      => x::<'a>() }",
    );
    check("for r in b {}", "for r in b {}");
    check("f(\"ä\") // ö\nü", "f(    )      \nü");
}

#[test]
fn strings_are_found_with_their_continued_lines_joined() {
    let check = |source: &str, expected: &[(usize, &str)]| {
        let found: Vec<(usize, String)> = strings(source).collect();
        let found: Vec<(usize, &str)> = found.iter().map(|(at, it)| (*at, it.as_str())).collect();
        assert_eq!(found, expected, "{source}");
    };
    check(r#"f("a b", 'c', b"d") // "e""#, &[(2, "a b")]);
    check(r##"ä(r#"a "b" c"#, "")"##, &[(3, r#"a "b" c"#), (17, "")]);
    check("\"a \\\n      b\\n\nc\"", &[(0, "a b\\n\nc")]);
}
