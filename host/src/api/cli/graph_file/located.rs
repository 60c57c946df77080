//! Parses a YAML or JSON document with the position of every value.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Value};
use serde_path_to_error::Segment;
use serde_saphyr::Spanned;

/// A value and its position.
pub(super) type Node = Spanned<Content>;

#[derive(Debug)]
pub(super) enum Content {
    Scalar(Value),
    List(Vec<Node>),
    /// Fields in the order of the document.
    Map(Vec<(Spanned<String>, Node)>),
}

impl Content {
    /// The value without positions.
    pub(super) fn value(&self) -> Value {
        match self {
            Self::Scalar(value) => value.clone(),
            Self::List(items) => items.iter().map(|item| item.value.value()).collect(),
            Self::Map(fields) => {
                let fields = fields
                    .iter()
                    .map(|(name, node)| (name.value.clone(), node.value.value()));
                Value::Object(fields.collect::<Map<_, _>>())
            }
        }
    }

    /// The field with this name: the position of the name, and the value.
    pub(super) fn field(&self, name: &str) -> Option<(&Spanned<String>, &Node)> {
        let Self::Map(fields) = self else { return None };
        let found = fields.iter().find(|(field, _)| field.value == name);
        found.map(|(field, node)| (field, node))
    }

    pub(super) fn item(&self, index: usize) -> Option<&Node> {
        match self {
            Self::List(items) => items.get(index),
            _ => None,
        }
    }
}

/// The value at a path, or the deepest existing value on the path.
pub(super) fn follow<'a>(node: &'a Node, path: &[Segment]) -> &'a Node {
    let mut at = node;
    for segment in path {
        let next = match segment {
            Segment::Seq { index } => at.value.item(*index),
            Segment::Map { key } => at.value.field(key).map(|(_, node)| node),
            _ => None,
        };
        match next {
            Some(next) => at = next,
            None => return at,
        }
    }
    at
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Any)
    }
}

struct Any;

impl<'de> Visitor<'de> for Any {
    type Value = Content;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_bool<E>(self, word: bool) -> Result<Content, E> {
        Ok(Content::Scalar(word.into()))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Content, E> {
        Ok(Content::Scalar(number.into()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Content, E> {
        Ok(Content::Scalar(number.into()))
    }

    /// Keeps infinite numbers and NaN as strings, because JSON has no such numbers.
    fn visit_f64<E>(self, number: f64) -> Result<Content, E> {
        let written = serde_json::Number::from_f64(number).map(Value::Number);
        Ok(Content::Scalar(
            written.unwrap_or_else(|| number.to_string().into()),
        ))
    }

    fn visit_str<E>(self, text: &str) -> Result<Content, E> {
        Ok(Content::Scalar(text.into()))
    }

    fn visit_unit<E>(self) -> Result<Content, E> {
        Ok(Content::Scalar(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Content, E> {
        Ok(Content::Scalar(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Content, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Content, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok(Content::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Content, A::Error> {
        let mut fields = Vec::new();
        while let Some(field) = map.next_entry()? {
            fields.push(field);
        }
        Ok(Content::Map(fields))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use serde_json::json;

    use super::*;

    #[test]
    fn every_name_and_value_has_its_position() {
        let text = "- {name: a, argv: [make, 3]}\n- name: b\n  hold: true\n  env: {A: ~}\n";
        let node: Node = serde_saphyr::from_str(text).unwrap();
        assert_eq!(
            node.value.value(),
            json!([
                {"name": "a", "argv": ["make", 3]},
                {"name": "b", "hold": true, "env": {"A": null}},
            ])
        );
        let place = |at: serde_saphyr::Location| (at.line(), at.column());
        let second = node.value.item(1).unwrap();
        let (name, value) = second.value.field("hold").unwrap();
        assert_eq!(place(name.referenced), (3, 3));
        assert_eq!(place(value.referenced), (3, 9));
        let path = [
            Segment::Seq { index: 0 },
            Segment::Map {
                key: "argv".to_owned(),
            },
            Segment::Seq { index: 1 },
            Segment::Unknown,
        ];
        assert_eq!(place(follow(&node, &path).referenced), (1, 26));
        assert!(second.value.field("nothing").is_none());
    }
}
