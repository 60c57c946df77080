//! Parses documents into types, and reports faults with their place.

use serde::de::DeserializeOwned;
use serde_path_to_error::{Path, Segment};

use crate::Issue;

/// Parses a JSON text into a type. The issue names the place as a JSON Pointer.
pub fn parse<T: DeserializeOwned>(json: &str) -> Result<T, Issue> {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let value = serde_path_to_error::deserialize(&mut deserializer)
        .map_err(|error| Issue::new(pointer(error.path()), message(error.inner())))?;
    deserializer
        .end()
        .map_err(|error| Issue::new("", message(&error)))?;
    Ok(value)
}

fn pointer(path: &Path) -> String {
    let mut pointer = String::new();
    for segment in path {
        match segment {
            Segment::Seq { index } => {
                pointer.push('/');
                pointer.push_str(&index.to_string());
            }
            // Serde writes a variant with content as an object whose only key is the variant's
            // name.
            Segment::Map { key } | Segment::Enum { variant: key } => {
                pointer.push('/');
                pointer.push_str(&key.replace('~', "~0").replace('/', "~1"));
            }
            Segment::Unknown => {}
        }
    }
    pointer
}

/// The message of an error. Line and column are removed if the JSON itself is valid, because people
/// rarely see a spec as text.
fn message(error: &serde_json::Error) -> String {
    let mut text = error.to_string();
    if error.is_data()
        && let Some(end) = text.rfind(" at line ")
    {
        text.truncate(end);
    }
    text
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code, reason = "only its shape matters")]
    struct Spec {
        argv: Vec<String>,
        limit: Option<Limit>,
        step: Option<Step>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code, reason = "only its shape matters")]
    struct Limit {
        #[serde(rename = "a/b~c")]
        turns: u8,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "snake_case")]
    #[allow(dead_code, reason = "only its shape matters")]
    enum Step {
        SleepMs(u64),
    }

    fn check(json: &str, path: &str, message: &str) {
        let issue = parse::<Spec>(json).err();
        assert_eq!(issue, Some(Issue::new(path, message)), "{json}");
    }

    #[test]
    fn issue_names_its_place() {
        check(
            r#"{"argv": ["ls", 3]}"#,
            "/argv/1",
            "invalid type: integer `3`, expected a string",
        );
        check(
            r#"{"argv": [], "limit": {"a/b~c": 300}}"#,
            "/limit/a~1b~0c",
            "invalid value: integer `300`, expected u8",
        );
        check(
            r#"{"argv": [], "step": {"sleep_ms": "long"}}"#,
            "/step/sleep_ms",
            "invalid type: string \"long\", expected u64",
        );
        check("{}", "", "missing field `argv`");
        check(
            "[]",
            "",
            "invalid length 0, expected struct Spec with 3 elements",
        );
        check(
            r#"{"argv": []} x"#,
            "",
            "trailing characters at line 1 column 14",
        );
        check(
            r#"{"argv": ["#,
            "/argv",
            "EOF while parsing a list at line 1 column 10",
        );
    }

    #[test]
    fn misspelt_field_is_named() {
        let issue = parse::<Spec>(r#"{"argv": [], "argc": 1}"#)
            .err()
            .map(|issue| issue.message);
        assert_eq!(
            issue.as_deref(),
            Some("unknown field `argc`, expected one of `argv`, `limit`, `step`")
        );
    }
}
