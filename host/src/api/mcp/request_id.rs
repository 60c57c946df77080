//! Finds the id of an unreadable request, which the answer needs.
//!
//! The search is byte by byte, so that it works on invalid JSON, on incomplete requests, and on
//! requests too large to keep.

use rmcp::model::NumberOrString;
use serde::Deserialize;
use serde_json::Value;

/// Length limit of an id, which is longer than the ids of any client.
const LONGEST_ID: usize = 256;

/// Position of the search in the document.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum At {
    /// Outside of strings.
    Between,
    /// In a string, which may be the name of a field.
    Text { escaped: bool },
    /// In the value of the field `id`.
    Id { text: bool, escaped: bool },
}

/// Searches for the field `id` of the outermost object.
#[derive(Debug)]
pub(super) struct RequestId {
    at: At,
    depth: u32,
    /// The current or last string, as written.
    text: Vec<u8>,
    /// Whether the name `id` and its colon were just read.
    named: bool,
    id: Vec<u8>,
    found: Option<Value>,
}

impl Default for RequestId {
    fn default() -> Self {
        Self {
            at: At::Between,
            depth: 0,
            text: Vec::new(),
            named: false,
            id: Vec::new(),
            found: None,
        }
    }
}

impl RequestId {
    /// The id in a whole line.
    pub(super) fn of(line: &[u8]) -> Option<Value> {
        let mut search = Self::default();
        search.feed(line);
        search.found()
    }

    /// The id found so far: a string or an integer of 64 bits, which may be written as `7.0`.
    /// Anything else is not a valid id, and a client could not find its request by it.
    pub(super) fn found(mut self) -> Option<Value> {
        self.end_of_id();
        self.found
    }

    pub(super) fn feed(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if self.found.is_some() {
                return;
            }
            self.take(*byte);
        }
    }

    fn take(&mut self, byte: u8) {
        match self.at {
            At::Between => self.between(byte),
            At::Text { escaped } => {
                if byte == b'"' && !escaped {
                    self.at = At::Between;
                } else if self.text.len() < LONGEST_ID {
                    self.text.push(byte);
                }
                if let At::Text { escaped } = &mut self.at {
                    *escaped = byte == b'\\' && !*escaped;
                }
            }
            At::Id { text, escaped } => self.in_id(byte, text, escaped),
        }
    }

    fn between(&mut self, byte: u8) {
        match byte {
            _ if self.named && !byte.is_ascii_whitespace() => {
                self.named = false;
                let text = byte == b'"';
                if text || byte == b'-' || byte.is_ascii_digit() {
                    self.id = vec![byte];
                    self.at = At::Id {
                        text,
                        escaped: false,
                    };
                } else {
                    self.between(byte);
                }
            }
            b'"' => {
                self.text.clear();
                self.at = At::Text { escaped: false };
            }
            b':' => self.named = self.depth == 1 && self.text == b"id",
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
    }

    fn in_id(&mut self, byte: u8, text: bool, escaped: bool) {
        let is_end = if text {
            byte == b'"' && !escaped
        } else {
            matches!(byte, b',' | b'}') || byte.is_ascii_whitespace()
        };
        if text || !is_end {
            self.id.push(byte);
        }
        if is_end || self.id.len() > LONGEST_ID {
            self.end_of_id();
            self.at = At::Between;
            if !text {
                self.between(byte);
            }
        } else {
            let escaped = text && byte == b'\\' && !escaped;
            self.at = At::Id { text, escaped };
        }
    }

    fn end_of_id(&mut self) {
        let read = serde_json::from_slice::<Value>(&std::mem::take(&mut self.id));
        if self.found.is_none() {
            self.found = read
                .ok()
                .and_then(|id| match NumberOrString::deserialize(&id) {
                    Ok(id) => Some(id.into_json_value()),
                    // Too large for a request, but its client knows it.
                    Err(_) => Some(id).filter(Value::is_u64),
                });
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_id_of_an_unreadable_request_is_found() {
        let check = |line: &str, expected: Value| {
            let expected = Some(expected).filter(|id| !id.is_null());
            assert_eq!(RequestId::of(line.as_bytes()), expected, "{line}");
            let mut search = RequestId::default();
            line.as_bytes()
                .iter()
                .for_each(|byte| search.feed(&[*byte]));
            assert_eq!(search.found(), expected, "byte by byte: {line}");
        };
        check(r#"{"id":1,"params":{"text":"\ud83d"}}"#, json!(1));
        check(
            r#"{"params":{"text":"\ud83d"},"id" : "a-1" }"#,
            json!("a-1"),
        );
        check(r#"{"params":{"id":7,"b":[{"id":8}]},"id":-9"#, json!(-9));
        check(r#"{"params":"\"id\":5,\\","id":6,"#, json!(6));
        check(r#"{"note":"id","id":"q\"uote"}"#, json!("q\"uote"));
        check(r#"{"id":2"#, json!(2));
        check(r#"{"id":null,"method":"x"}"#, Value::Null);
        check(r#"{"id":1.5}"#, Value::Null);
        // As in a request that can be read.
        check(r#"{"id":7.0,"method":5}"#, json!(7));
        check(r#"{"id":-2e1}"#, json!(-20));
        check(r#"{"id":1e300}"#, Value::Null);
        check(r#"{"id":18446744073709551615}"#, json!(u64::MAX));
        check(r#"{"id":18446744073709551616}"#, Value::Null);
        check(r#"{"id":{"id":3}}"#, Value::Null);
        check(r#"{"method":"id"}"#, Value::Null);
        check(r#"[{"id":1}]"#, Value::Null);
        check("hello", Value::Null);
        check("", Value::Null);
    }
}
