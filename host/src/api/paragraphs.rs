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

    /// A description that continues
    /// on a second line.
    ///
    /// A second paragraph.
    #[derive(JsonSchema)]
    #[expect(dead_code, reason = "only its description is read")]
    struct Asked {
        /// A field whose description
        /// has two lines.
        field: u32,
    }

    #[test]
    fn each_paragraph_becomes_one_line() {
        let settings = joined(SchemaSettings::draft2020_12());
        let schema = settings.into_generator().into_root_schema_for::<Asked>();
        assert_eq!(
            schema.get("description"),
            Some(&Value::from(
                "A description that continues on a second line.\n\nA second paragraph."
            ))
        );
        let field = schema.pointer("/properties/field/description");
        assert_eq!(
            field,
            Some(&Value::from("A field whose description has two lines."))
        );
    }
}
