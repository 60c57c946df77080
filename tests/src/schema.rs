//! Checks JSON against a schema, for the keywords that published schemas use. The check is stricter
//! than the schema: a field that the schema does not mention is a fault too.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

/// The end of a fault for a field that the schema does not mention.
pub const UNKNOWN: &str = ": not in the schema";

/// All deviations of the value from the schema, each with its place.
pub fn faults(schema: &Value, value: &Value) -> Vec<String> {
    whole(schema, schema, value, "")
}

/// Faults of a complete value. Each of the value's fields must be named in some part of the schema.
fn whole(root: &Value, schema: &Value, value: &Value, path: &str) -> Vec<String> {
    let mut found = part(root, schema, value, path);
    if let Value::Object(fields) = value
        && let Some(known) = known(root, schema)
    {
        let unknown = fields.keys().filter(|name| !known.contains(*name));
        found.extend(unknown.map(|name| format!("{path}/{name}{UNKNOWN}")));
    }
    found
}

fn part(root: &Value, schema: &Value, value: &Value, path: &str) -> Vec<String> {
    let Value::Object(schema) = schema else {
        let refused = *schema == Value::Bool(false);
        return Vec::from_iter(refused.then(|| format!("{path}: nothing may be here")));
    };
    let mut found = of_type(schema, value, path);
    if let Some(referred) = referred(root, schema) {
        found.extend(part(root, referred, value, path));
    }
    for one in list(schema, "allOf") {
        found.extend(part(root, one, value, path));
    }
    for word in ["anyOf", "oneOf"] {
        let choices = list(schema, word).map(|one| part(root, one, value, path));
        // A field that a schema does not mention says less about the choice than a field that is
        // missing or has another type.
        let weight = |faults: &Vec<String>| {
            let unknown = faults.iter().filter(|fault| fault.ends_with(UNKNOWN));
            let unknown = unknown.count();
            (faults.len() - unknown, unknown)
        };
        if let Some(least) = choices.min_by_key(weight) {
            found.extend(least);
        }
    }
    if let (Value::Array(items), Some(of_items)) = (value, schema.get("items")) {
        for (index, item) in items.iter().enumerate() {
            found.extend(whole(root, of_items, item, &format!("{path}/{index}")));
        }
    }
    if let Value::Object(fields) = value {
        found.extend(of_fields(root, schema, fields, path));
    }
    found
}

fn of_fields(
    root: &Value,
    schema: &Map<String, Value>,
    fields: &Map<String, Value>,
    path: &str,
) -> Vec<String> {
    let mut found = Vec::new();
    for name in list(schema, "required").filter_map(Value::as_str) {
        if !fields.contains_key(name) {
            found.push(format!("{path}/{name}: missing"));
        }
    }
    let properties = schema.get("properties").and_then(Value::as_object);
    for (name, value) in fields {
        let own = properties.and_then(|properties| properties.get(name));
        let others = schema.get("additionalProperties");
        if let Some(schema) = own.or(others.filter(|_| own.is_none())) {
            found.extend(whole(root, schema, value, &format!("{path}/{name}")));
        }
    }
    found
}

fn of_type(schema: &Map<String, Value>, value: &Value, path: &str) -> Vec<String> {
    let mut found = Vec::new();
    let is = |kind: &str| match kind {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => false,
    };
    let fits = match schema.get("type") {
        None => true,
        Some(Value::String(kind)) => is(kind),
        Some(kinds) => kinds
            .as_array()
            .is_some_and(|kinds| kinds.iter().filter_map(Value::as_str).any(is)),
    };
    if !fits {
        found.push(format!("{path}: {value} is not {}", schema["type"]));
    }
    let mut choices = list(schema, "enum").chain(schema.get("const")).peekable();
    if choices.peek().is_some() && !choices.any(|choice| choice == value) {
        found.push(format!("{path}: {value} is not among the values"));
    }
    if schema.get("format") == Some(&"date-time".into())
        && value.as_str().is_some_and(|time| !is_time(time))
    {
        found.push(format!("{path}: {value} is not a time in UTC"));
    }
    if let (Some(least), Some(number)) = (schema.get("minimum"), value.as_f64())
        && least.as_f64().is_some_and(|least| number < least)
    {
        found.push(format!("{path}: {value} is less than {least}"));
    }
    found
}

/// Whether the text is a time in UTC, such as `2026-11-22T14:51:33.042Z`.
fn is_time(text: &str) -> bool {
    let form = "0000-00-00T00:00:00";
    let (date, rest) = text.split_at_checked(form.len()).unwrap_or(("", ""));
    let alike = date
        .chars()
        .zip(form.chars())
        .all(|(one, other)| match other {
            '0' => one.is_ascii_digit(),
            other => one == other,
        });
    !date.is_empty() && alike && rest.ends_with('Z')
}

/// Fields that an object may have; `None` if it may have any field.
fn known(root: &Value, schema: &Value) -> Option<BTreeSet<String>> {
    let Value::Object(schema) = schema else {
        return None;
    };
    let parts = ["allOf", "anyOf", "oneOf"]
        .into_iter()
        .flat_map(|word| list(schema, word))
        .chain(referred(root, schema));
    let own = schema.get("properties").and_then(Value::as_object);
    let is_open = match schema.get("additionalProperties") {
        Some(others) => *others != Value::Bool(false),
        None => own.is_none() && schema.get("type").is_none() && parts.clone().next().is_none(),
    };
    if is_open {
        return None;
    }
    let mut names: BTreeSet<String> = own.into_iter().flat_map(Map::keys).cloned().collect();
    for part in parts {
        // Skips parts for values other than objects, because such parts name no fields.
        let is_object = |part: &Value| part.get("type").is_none_or(|kind| kind == "object");
        if is_object(part) {
            names.extend(known(root, part)?);
        }
    }
    Some(names)
}

fn referred<'a>(root: &'a Value, schema: &Map<String, Value>) -> Option<&'a Value> {
    let at = schema.get("$ref")?.as_str()?.strip_prefix('#')?;
    root.pointer(at)
}

fn list<'a>(schema: &'a Map<String, Value>, word: &str) -> impl Iterator<Item = &'a Value> + Clone {
    let list = schema.get(word).and_then(Value::as_array);
    list.into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn deviations_from_a_schema_are_found() {
        let schema = json!({
            "type": "object",
            "properties": {
                "id": {"type": "string"},
                "state": {"enum": ["ready", "done"]},
                "at": {"type": ["string", "null"], "format": "date-time"},
                "by": {"$ref": "#/$defs/By"},
                "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                "tasks": {"type": "array", "items": {"type": "integer", "minimum": 0}},
            },
            "required": ["id"],
            "$defs": {"By": {"anyOf": [
                {"type": "object", "properties": {"kind": {"const": "owner"}}, "required": ["kind"]},
                {"type": "string"},
            ]}},
        });
        let check = |value: Value, expected: &[&str]| {
            assert_eq!(faults(&schema, &value), expected, "{value}");
        };
        let time = "2026-11-22T14:51:33.042Z";
        check(
            json!({"id": "a", "state": "done", "at": time, "by": {"kind": "owner"}, "labels": {"a": "b"}}),
            &[],
        );
        check(
            json!({"id": "a", "at": null, "by": "x", "tasks": [1, 2]}),
            &[],
        );
        check(
            json!({"state": "gone"}),
            &["/id: missing", "/state: \"gone\" is not among the values"],
        );
        check(json!({"id": 3}), &["/id: 3 is not \"string\""]);
        check(
            json!({"id": "a", "colour": "red"}),
            &["/colour: not in the schema"],
        );
        check(
            json!({"id": "a", "at": "yesterday"}),
            &["/at: \"yesterday\" is not a time in UTC"],
        );
        check(
            json!({"id": "a", "by": {"kind": "owner", "x": 1}}),
            &["/by/x: not in the schema"],
        );
        check(
            json!({"id": "a", "labels": {"a": 1}}),
            &["/labels/a: 1 is not \"string\""],
        );
        check(
            json!({"id": "a", "tasks": [-1]}),
            &["/tasks/0: -1 is less than 0"],
        );
        check(json!([]), &[": [] is not \"object\""]);
    }
}
