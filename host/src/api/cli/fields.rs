//! `--json=FIELDS`: selects fields of an answer.
//!
//! If the answer is a list or has a list named `tasks`, the fields of each item are selected,
//! otherwise the fields of the answer itself.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

/// Field with the items of an answer that is not itself a list.
const ITEMS: &str = "tasks";

/// The names of the fields that a schema defines. Returns none if the schema allows any field.
pub(super) fn of(schema: &Value) -> Option<BTreeSet<String>> {
    let is_list = |schema: &Value| schema["type"] == "array";
    let items = &schema["properties"][ITEMS];
    let of = match (is_list(schema), is_list(items)) {
        (true, _) => &schema["items"],
        (_, true) => &items["items"],
        _ => schema,
    };
    let mut names = BTreeSet::new();
    let is_open = gather(schema, of, &mut names);
    (!is_open && !names.is_empty()).then_some(names)
}

/// Collects the names of the fields; returns whether the schema allows other fields.
fn gather(root: &Value, schema: &Value, names: &mut BTreeSet<String>) -> bool {
    let others = &schema["additionalProperties"];
    let mut is_open = !others.is_null() && *others != Value::Bool(false);
    if let Some(properties) = schema["properties"].as_object() {
        names.extend(properties.keys().cloned());
    }
    if let Some(path) = schema["$ref"].as_str().and_then(|at| at.strip_prefix('#'))
        && let Some(referred) = root.pointer(path).filter(|_| !path.is_empty())
    {
        is_open |= gather(root, referred, names);
    }
    for word in ["allOf", "anyOf", "oneOf"] {
        for part in schema[word].as_array().into_iter().flatten() {
            is_open |= gather(root, part, names);
        }
    }
    is_open
}

/// Reduces an answer to these fields. Unset fields become null.
pub(super) fn picked(answer: Value, fields: &[String]) -> Value {
    match answer {
        Value::Array(items) => items
            .into_iter()
            .map(|item| of_item(item, fields))
            .collect(),
        Value::Object(mut whole) => match whole.get_mut(ITEMS) {
            Some(Value::Array(items)) => {
                for item in items {
                    *item = of_item(item.take(), fields);
                }
                Value::Object(whole)
            }
            _ => of_item(Value::Object(whole), fields),
        },
        other => other,
    }
}

fn of_item(item: Value, fields: &[String]) -> Value {
    let Value::Object(mut item) = item else {
        return item;
    };
    let pick = |field: &String| (field.clone(), item.remove(field).unwrap_or_default());
    Value::Object(fields.iter().map(pick).collect::<Map<_, _>>())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn fields_are_selected_from_each_item_of_a_list() {
        let check = |answer: Value, expected: Value| {
            assert_eq!(picked(answer, &names(&["id", "cost_usd"])), expected);
        };
        let task = json!({"id": "a", "state": "done", "cost_usd": 1.5});
        let short = json!({"id": "a", "cost_usd": 1.5});
        check(task.clone(), short.clone());
        check(
            json!([task, {}]),
            json!([short, {"id": null, "cost_usd": null}]),
        );
        check(
            json!({"tasks": [task], "next": "b"}),
            json!({"tasks": [short], "next": "b"}),
        );
        check(json!({"tasks": 3}), json!({"id": null, "cost_usd": null}));
        check(json!(7), json!(7));
    }

    #[test]
    fn the_known_fields_come_from_the_schema() {
        let check = |schema: Value, expected: Option<&[&str]>| {
            let found = of(&schema).map(|found| found.into_iter().collect::<Vec<_>>());
            assert_eq!(found, expected.map(names), "{schema}");
        };
        let row = json!({"type": "object", "properties": {"id": {}, "state": {}}});
        check(row.clone(), Some(&["id", "state"]));
        check(
            json!({"type": "array", "items": row}),
            Some(&["id", "state"]),
        );
        let listed = json!({
            "properties": {"tasks": {"type": "array", "items": {"$ref": "#/$defs/Row"}}, "next": {}},
            "$defs": {"Row": row},
        });
        check(listed, Some(&["id", "state"]));
        let either = json!({"anyOf": [row, {"properties": {"class": {}}}]});
        check(either, Some(&["class", "id", "state"]));
        check(
            json!({"properties": {"tasks": {"type": "integer"}}}),
            Some(&["tasks"]),
        );
        check(json!(true), None);
        check(
            json!({"properties": {"at": {}}, "additionalProperties": true}),
            None,
        );
    }
}
