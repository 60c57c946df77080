//! Reads JSON whose objects have each field once.
//!
//! Of several values of a field, serde_json keeps the last one. A person who has written a field
//! twice would not learn that one of the values is ignored.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Error, Map, Value};

use crate::text::shortened;

/// Length limit of the name of a field in a message.
const SHOWN_CHARS: usize = 120;
/// The beginning of the message about a field that is given twice. No other error of serde_json
/// begins like this.
const TWICE: &str = "the field '";

/// A value whose objects have each field once, at any depth.
#[derive(Debug)]
pub(super) struct Once(pub(super) Value);

/// The message about a field that is given twice, in all formats.
pub(super) fn given_twice(field: &str) -> String {
    format!("{TWICE}{}' is given twice", shortened(field, SHOWN_CHARS))
}

/// Whether the error is about a field that is given twice.
pub(super) fn is_given_twice(error: &Error) -> bool {
    error.to_string().starts_with(TWICE)
}

impl<'de> Deserialize<'de> for Once {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Any).map(Self)
    }
}

struct Any;

impl<'de> Visitor<'de> for Any {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_bool<E>(self, word: bool) -> Result<Value, E> {
        Ok(word.into())
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(Once(item)) = list.next_element()? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut fields = Map::new();
        while let Some(name) = map.next_key::<String>()? {
            if fields.contains_key(&name) {
                return Err(A::Error::custom(given_twice(&name)));
            }
            let Once(value) = map.next_value()?;
            fields.insert(name, value);
        }
        Ok(Value::Object(fields))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn a_field_that_is_given_twice_is_an_error_at_any_depth() {
        let read = |text: &str| serde_json::from_str::<Once>(text);
        let text = r#"{"a": [null, true, -1, 2, 0.5, "x", {"a": {}}], "b": {"a": []}}"#;
        let plain: Value = serde_json::from_str(text).unwrap();
        assert_eq!(read(text).unwrap().0, plain);
        for text in [r#"{"a": 1, "a": 1}"#, r#"[{"b": {"a": 1, "\u0061": 2}}]"#] {
            let error = read(text).unwrap_err();
            assert!(is_given_twice(&error), "{error}");
            assert!(
                error
                    .to_string()
                    .starts_with("the field 'a' is given twice"),
                "{error}"
            );
        }
        assert!(!is_given_twice(&read("{").unwrap_err()));
    }
}
