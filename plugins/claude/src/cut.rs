//! Completes a line that was cut because of its length. The text of a result may have any length,
//! and the other fields of the result come before the text, so the beginning of the line contains
//! them.

/// Completes a JSON document that is cut inside a string: closes the string and everything around
/// it. Returns `None` if the document is cut elsewhere.
pub(crate) fn closed(beginning: &[u8]) -> Option<Vec<u8>> {
    let mut open = Vec::new();
    let mut text_since = None;
    let mut escape_since = None;
    // Half of a surrogate pair is not a character, so it is removed.
    let mut half_since = None;
    let mut at = 0;
    while let Some(byte) = beginning.get(at) {
        match (text_since, byte) {
            (None, b'"') => text_since = Some(at),
            (None, b'{') => open.push(b'}'),
            (None, b'[') => open.push(b']'),
            (None, b'}' | b']') => drop(open.pop()),
            (None, _) => {}
            (Some(_), b'"') => (text_since, half_since) = (None, None),
            (Some(_), b'\\') => {
                let length = if beginning.get(at + 1) == Some(&b'u') {
                    6
                } else {
                    2
                };
                if at + length > beginning.len() {
                    escape_since = Some(at);
                    break;
                }
                let is_half = matches!(
                    &beginning[at..at + length],
                    [
                        _,
                        b'u',
                        b'd' | b'D',
                        b'8' | b'9' | b'a' | b'b' | b'A' | b'B',
                        ..
                    ]
                );
                half_since = is_half.then_some(at);
                at += length;
                continue;
            }
            (Some(_), _) => half_since = None,
        }
        at += 1;
    }
    text_since?;
    let end = half_since.or(escape_since).unwrap_or(beginning.len());
    let text = beginning.get(..end)?;
    let end = match std::str::from_utf8(text) {
        Ok(_) => end,
        Err(error) if error.error_len().is_none() => error.valid_up_to(),
        Err(_) => return None,
    };
    let mut closed = beginning.get(..end)?.to_vec();
    closed.push(b'"');
    closed.extend(open.iter().rev());
    Some(closed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cut_text_ends_at_the_cut() {
        let check = |beginning: &[u8], expected: Option<&str>| {
            let found = closed(beginning);
            let found = found.as_deref().map(String::from_utf8_lossy);
            assert_eq!(found.as_deref(), expected);
        };
        check(br#"{"a":1,"b":"te"#, Some(r#"{"a":1,"b":"te"}"#));
        check(br#"{"a":[{"b":"{[te"#, Some(r#"{"a":[{"b":"{[te"}]}"#));
        check(br#"{"a":"x\"y\\"#, Some(r#"{"a":"x\"y\\"}"#));
        check(br#"{"a":"x\"#, Some(r#"{"a":"x"}"#));
        check(br#"{"a":"x\u00e"#, Some(r#"{"a":"x"}"#));
        check(br#"{"a":"x\ud83d"#, Some(r#"{"a":"x"}"#));
        check(br#"{"a":"x\ud83d\ude"#, Some(r#"{"a":"x"}"#));
        check(br#"{"a":"x\ud83d\ude00"#, Some(r#"{"a":"x\ud83d\ude00"}"#));
        check(b"{\"a\":\"x\xc3", Some(r#"{"a":"x"}"#));
        check(b"{\"a\":\"x\xff\xff", None);
        check(br#"{"a":12"#, None);
        check(br#"{"a":"x","b""#, None);
    }
}
