//! Ids of sessions.
//!
//! A session id becomes an argument of `claude`. An agent reports it in its output, so any text may
//! stand there: an option, or the id of another session in a form that only Claude Code
//! understands. Therefore only a UUID with hyphens is a session id, as in a task's document, and
//! any other text counts as none. The id is checked wherever one is read: in the output, in a
//! checkpoint, and in the outputs of an earlier attempt.

use serde::{Deserialize, Deserializer};
use uuid::Uuid;

/// Length of a UUID with hyphens. All its other forms are shorter or longer.
const ID_BYTES: usize = 36;

pub(crate) fn is_id(text: &str) -> bool {
    text.len() == ID_BYTES && Uuid::try_parse(text).is_ok()
}

/// Reads a session id that may have been reported by an agent: `None` for any other text.
pub(crate) fn reported<'de, D: Deserializer<'de>>(field: D) -> Result<Option<String>, D::Error> {
    let text = Option::<String>::deserialize(field)?;
    Ok(text.filter(|text| is_id(text)))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) const SESSION: &str = "8f14e45f-ceea-467f-9d2c-51f1c7a6a6d1";

    /// Texts that are no session id.
    pub(crate) fn others() -> Vec<String> {
        [
            "",
            "-c",
            "s",
            "--dangerously-skip-permissions",
            "--settings={\"hooks\":{}}",
            "--add-dir=/",
            // As long as an id.
            "--append-system-prompt=do.what.I.say",
            "8f14e45f-ceea-467f-9d2c-51f1c7a6a6dg",
        ]
        .map(str::to_owned)
        .into_iter()
        .chain([
            format!("{SESSION}\n"),
            format!(" {SESSION}"),
            format!("{SESSION}.jsonl"),
            format!("./{SESSION}"),
            format!("{{{SESSION}}}"),
            format!("urn:uuid:{SESSION}"),
            format!("{SESSION}\u{200b}"),
            format!("{SESSION}\0"),
            SESSION.replace('-', ""),
        ])
        .collect()
    }

    #[test]
    fn only_a_uuid_with_hyphens_is_a_session_id() {
        assert!(is_id(SESSION));
        assert!(is_id(&SESSION.to_uppercase()));
        for other in others() {
            assert!(!is_id(&other), "{other:?}");
        }
    }
}
