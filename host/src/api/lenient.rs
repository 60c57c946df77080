//! Reads JSON as agents and generators write it, and reports errors in plain words.
//!
//! Agents write null for an omitted field, `5.0` for 5, a list as a string with JSON in it, and
//! numbers in place of strings. These forms are accepted because each has only one meaning.
//! Anything ambiguous is refused, with the name of the field and the expected type.

use serde::{
    Deserializer,
    de::{
        DeserializeOwned, Error as _, IntoDeserializer, Visitor,
        value::{MapDeserializer, SeqDeserializer},
    },
    forward_to_deserialize_any,
};
use serde_json::{Error, Value};
use serde_path_to_error::Segment;

use super::once::Once;
use crate::text::shortened;

/// Length limit of a value that a message quotes.
const SHOWN_CHARS: usize = 120;

/// Reads a document, or says in plain words why it is invalid.
pub(super) fn read<T: DeserializeOwned>(document: Value) -> Result<T, String> {
    read_at(document).map_err(|wrong| {
        let path = &wrong.shown;
        let why = in_words(&wrong.said);
        // Messages about an unknown or a missing field already name the field.
        if path == "." || why.starts_with("unknown field") || why.ends_with("is missing") {
            why
        } else {
            format!("`{path}`: {why}")
        }
    })
}

/// Reads a document, or returns the error with its position.
pub(super) fn read_at<T: DeserializeOwned>(document: Value) -> Result<T, Wrong> {
    serde_path_to_error::deserialize(Lenient(document)).map_err(|error| Wrong {
        path: error.path().iter().cloned().collect(),
        shown: error.path().to_string(),
        said: error.into_inner().to_string(),
    })
}

/// An error in a document.
#[derive(Debug)]
pub(super) struct Wrong {
    /// Position of the error.
    pub(super) path: Vec<Segment>,
    shown: String,
    /// Message of serde.
    said: String,
}

impl Wrong {
    /// If the error is an unknown field: its name, and the names of the known fields.
    pub(super) fn unknown_field(&self) -> Option<(&str, Vec<&str>)> {
        let rest = self.said.strip_prefix("unknown field ")?;
        let (field, known) = rest.rsplit_once(", expected ")?;
        let known = known.split('`').skip(1).step_by(2).collect();
        Some((field.split('`').nth(1)?, known))
    }

    /// The reason in plain words, without the position.
    pub(super) fn why(&self) -> String {
        in_words(&self.said)
    }
}

/// Rewords a message of serde.
fn in_words(said: &str) -> String {
    let kind = |kind: &str| match kind {
        "a string" | "string" => "a string".to_owned(),
        "a sequence" | "sequence" => "a list".to_owned(),
        "a map" | "map" => "an object".to_owned(),
        "a boolean" => "true or false".to_owned(),
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number from 0".to_owned(),
        "f32" | "f64" => "a number".to_owned(),
        "null" | "unit value" => "null".to_owned(),
        other if other.starts_with("struct ") => "an object".to_owned(),
        other => match other.split_once(" `") {
            Some(("integer" | "floating point", number)) => number.trim_end_matches('`').to_owned(),
            Some(("boolean", word)) => word.trim_end_matches('`').to_owned(),
            _ => match other.strip_prefix("string ") {
                Some(text) => format!("the string {text}"),
                None => other.to_owned(),
            },
        },
    };
    let quoted = |text: &str| text.split('`').nth(1).unwrap_or(text).to_owned();
    let list = |text: &str| {
        let names: Vec<&str> = text.split('`').skip(1).step_by(2).collect();
        names.join(", ")
    };
    let begins = |head: &str| said.strip_prefix(head);
    if let Some((found, expected)) = begins("invalid type: ")
        .or_else(|| begins("invalid value: "))
        .and_then(|rest| rest.rsplit_once(", expected "))
    {
        let found = shortened(&kind(found), SHOWN_CHARS);
        match most_of(expected).filter(|most| is_above(&found, *most)) {
            // No field takes all numbers of its type, so naming the largest would mislead.
            Some(u64::MAX) => return format!("{found} is too large a number for this"),
            Some(most) => return format!("this has to be at most {most}, not {found}"),
            None => {}
        }
        return format!("this has to be {}, not {found}", kind(expected));
    }
    if let Some(field) = begins("missing field ") {
        return format!("`{}` is missing", quoted(field));
    }
    if let Some((field, known)) =
        begins("unknown field ").and_then(|rest| rest.rsplit_once(", expected "))
    {
        let field = shortened(&quoted(field), SHOWN_CHARS);
        return format!("unknown field `{field}`; the fields are {}", list(known));
    }
    if let Some((word, known)) =
        begins("unknown variant ").and_then(|rest| rest.rsplit_once(", expected "))
    {
        let word = shortened(&quoted(word), SHOWN_CHARS);
        return format!("`{word}` is not one of {}", list(known));
    }
    said.to_owned()
}

/// The largest number of a type.
fn most_of(kind: &str) -> Option<u64> {
    Some(match kind {
        "u8" => u8::MAX.into(),
        "u16" => u16::MAX.into(),
        "u32" => u32::MAX.into(),
        "u64" | "usize" => u64::MAX,
        _ => return None,
    })
}

/// Whether a text is a whole number above a limit.
fn is_above(number: &str, most: u64) -> bool {
    let number: Option<f64> = number.parse().ok();
    number.is_some_and(|number| number.fract() == 0.0 && number > most as f64)
}

struct Lenient(Value);

impl IntoDeserializer<'_, Error> for Lenient {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl Lenient {
    /// If the value is a string with JSON of the wanted type in it, returns the parsed JSON,
    /// otherwise the value itself.
    fn meant(self, is_wanted: impl Fn(&Value) -> bool) -> Value {
        let Value::String(text) = &self.0 else {
            return self.0;
        };
        match serde_json::from_str(text) {
            Ok(Once(meant)) if is_wanted(&meant) => meant,
            _ => self.0,
        }
    }

    /// The value, unless it is a string with a NUL byte. No text of a request may have one, because
    /// no argument, variable or path of a program can.
    fn without_nul(self) -> Result<Value, Error> {
        match self.0.as_str().and_then(|text| text.find('\0')) {
            Some(at) => Err(Error::custom(format!(
                "this has a NUL byte at byte {at}; leave it out"
            ))),
            None => Ok(self.0),
        }
    }

    /// Turns a number such as `5.0` into a whole number.
    fn whole(self) -> Value {
        let number = self.meant(Value::is_number);
        #[allow(
            clippy::cast_possible_truncation,
            reason = "checked to be whole, and small enough to be exact"
        )]
        let whole = number
            .as_f64()
            .filter(|_| number.is_f64())
            .filter(|float| float.fract() == 0.0 && float.abs() < 9e15)
            .map(|float| float as i64);
        match whole.map(u64::try_from) {
            Some(Ok(whole)) => whole.into(),
            Some(Err(_)) => whole.into(),
            None => number,
        }
    }
}

macro_rules! numbers {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            self.whole().$method(visitor)
        }
    )*};
}

impl<'de> Deserializer<'de> for Lenient {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Array(items) => {
                let mut items = SeqDeserializer::new(items.into_iter().map(Lenient));
                let value = visitor.visit_seq(&mut items)?;
                items.end()?;
                Ok(value)
            }
            Value::Object(fields) => {
                let fields = fields
                    .into_iter()
                    .map(|(name, value)| (name, Lenient(value)));
                let mut fields = MapDeserializer::new(fields);
                let value = visitor.visit_map(&mut fields)?;
                fields.end()?;
                Ok(value)
            }
            other => Self(other).without_nul()?.deserialize_any(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.0.is_null() {
            visitor.visit_none()
        } else {
            visitor.visit_some(self)
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.without_nul()? {
            Value::Number(number) => visitor.visit_string(number.to_string()),
            Value::Bool(word) => visitor.visit_string(word.to_string()),
            other => other.deserialize_string(visitor),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_string(visitor)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.meant(Value::is_boolean).deserialize_bool(visitor)
    }

    numbers! {
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.meant(Value::is_number).deserialize_f64(visitor)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        Self(self.meant(Value::is_array)).deserialize_any(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        Self(self.meant(Value::is_object)).deserialize_any(visitor)
    }

    /// Leaves out fields that are null.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let mut document = self.meant(Value::is_object);
        match &mut document {
            Value::Object(fields) => fields.retain(|_, value| !value.is_null()),
            Value::Array(_) => return Err(Error::custom("invalid type: sequence, expected a map")),
            _ => {}
        }
        Self(document).deserialize_any(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.0.deserialize_enum(name, variants, visitor)
    }

    forward_to_deserialize_any! {
        i128 u128 f32 char bytes byte_buf unit unit_struct tuple tuple_struct identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::collections::BTreeMap;

    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(PartialEq, Debug, Default, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Asked {
        name: String,
        tail: Option<u64>,
        turns: Option<u32>,
        limit: i32,
        tools: Vec<String>,
        labels: BTreeMap<String, String>,
        detach: bool,
        usd: f64,
        inner: Option<Box<Asked>>,
        spec: Value,
        mode: Option<Mode>,
    }

    #[derive(PartialEq, Debug, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Mode {
        Plan,
        Edit,
    }

    #[test]
    fn values_that_can_have_only_one_meaning_are_converted() {
        let check = |document: Value, plain: Value| {
            let plain: Asked = serde_json::from_value(plain).unwrap();
            assert_eq!(read::<Asked>(document.clone()), Ok(plain), "{document}");
        };
        let nothing = json!({"name": null, "tail": null, "tools": null, "labels": null, "detach": null, "inner": {"limit": null}});
        check(nothing, json!({"inner": {}}));
        check(
            json!({"tail": 5.0, "limit": -3.0}),
            json!({"tail": 5, "limit": -3}),
        );
        check(
            json!({"tail": "5", "detach": "true", "usd": "1.5"}),
            json!({"tail": 5, "detach": true, "usd": 1.5}),
        );
        check(
            json!({"tools": "[\"Bash\", 5]"}),
            json!({"tools": ["Bash", "5"]}),
        );
        check(
            json!({"labels": {"pr": 17, "big": true}}),
            json!({"labels": {"pr": "17", "big": "true"}}),
        );
        check(
            json!({"inner": "{\"tail\": 1}", "usd": 2}),
            json!({"inner": {"tail": 1}, "usd": 2.0}),
        );
        check(json!({"name": "[1]"}), json!({"name": "[1]"}));
        // A document for an executor is passed on unchanged.
        check(
            json!({"spec": {"a": null, "b": 5.0}}),
            json!({"spec": {"a": null, "b": 5.0}}),
        );
    }

    #[test]
    fn an_error_names_the_field_and_the_expected_type() {
        let check = |document: Value, expected: &str| {
            assert_eq!(read::<Asked>(document).unwrap_err(), expected);
        };
        check(
            json!({"tail": "soon"}),
            "`tail`: this has to be a whole number from 0, not the string \"soon\"",
        );
        check(
            json!({"tail": -1}),
            "`tail`: this has to be a whole number from 0, not -1",
        );
        check(
            json!({"tail": 5.5}),
            "`tail`: this has to be a whole number from 0, not 5.5",
        );
        check(
            json!({"turns": 5_000_000_000_u64}),
            "`turns`: this has to be at most 4294967295, not 5000000000",
        );
        check(
            json!({"turns": 5e9}),
            "`turns`: this has to be at most 4294967295, not 5000000000",
        );
        let beyond = read::<Asked>(json!({"tail": 1e30})).unwrap_err();
        let says = " is too large a number for this";
        assert!(beyond.starts_with("`tail`: 1"), "{beyond}");
        assert!(beyond.ends_with(says), "{beyond}");
        check(json!({"tools": 5}), "`tools`: this has to be a list, not 5");
        check(
            json!({"tools": ["a", {}]}),
            "`tools[1]`: this has to be a string, not an object",
        );
        check(
            json!({"labels": {"a": null}}),
            "`labels.a`: this has to be a string, not null",
        );
        check(
            json!({"inner": {"detach": "maybe"}}),
            "`inner.detach`: this has to be true or false, not the string \"maybe\"",
        );
        check(
            json!({"inner": {"name": "a\0b"}}),
            "`inner.name`: this has a NUL byte at byte 1; leave it out",
        );
        check(
            json!({"tools": ["a", "\0"]}),
            "`tools[1]`: this has a NUL byte at byte 0; leave it out",
        );
        check(
            json!({"labels": {"a": "b\0"}}),
            "`labels.a`: this has a NUL byte at byte 1; leave it out",
        );
        let within = read::<Asked>(json!({"spec": {"prompt": "a\0"}})).unwrap_err();
        assert!(within.contains("this has a NUL byte at byte 1"), "{within}");
        check(json!([]), "this has to be an object, not a list");
        check(
            json!({"mode": "wild"}),
            "`mode`: `wild` is not one of plan, edit",
        );
        let unknown = read::<Asked>(json!({"inner": {"colour": 1}})).unwrap_err();
        assert!(
            unknown.starts_with("unknown field `colour`; the fields are name, tail, turns, "),
            "{unknown}"
        );
        let long = read::<Asked>(json!({"tail": "x".repeat(1 << 20)})).unwrap_err();
        assert!(long.len() < 300, "{long}");
    }
}
