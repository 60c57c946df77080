//! Joins the lines of doc comments in JSON Schemas: comments are wrapped for readers of the source,
//! but a description should have each paragraph on one line.

use schemars::{Schema, generate::SchemaSettings, transform::RecursiveTransform};
use serde_json::Value;

pub(super) fn joined(settings: SchemaSettings) -> SchemaSettings {
    settings.with_transform(RecursiveTransform(join as fn(&mut Schema)))
}

fn join(schema: &mut Schema) {
    if let Some(Value::String(text)) = schema.get_mut("description") {
        let paragraphs = text.split("\n\n").map(|text| text.replace('\n', " "));
        *text = paragraphs.collect::<Vec<_>>().join("\n\n");
    }
}

#[cfg(test)]
mod tests {
    use schemars::JsonSchema;

    use super::*;

    /// What is asked, in words that
    /// go on here.
    ///
    /// And more.
    #[derive(JsonSchema)]
    #[expect(dead_code, reason = "only its description is read")]
    struct Asked {
        /// A field whose words
        /// go on as well.
        field: u32,
    }

    #[test]
    fn each_paragraph_becomes_one_line() {
        let settings = joined(SchemaSettings::draft2020_12());
        let schema = settings.into_generator().into_root_schema_for::<Asked>();
        assert_eq!(
            schema.get("description"),
            Some(&Value::from(
                "What is asked, in words that go on here.\n\nAnd more."
            ))
        );
        let field = schema.pointer("/properties/field/description");
        assert_eq!(
            field,
            Some(&Value::from("A field whose words go on as well."))
        );
    }
}
