//! Ids of agents' conversations.
//!
//! An id comes from an executor, which may have it from the output of an agent, or from the
//! document of a task. What an id means is the executor's affair; the host compares ids, and passes
//! them back to the executor. Executors make arguments and file names of them. Therefore only a
//! text of a certain form is an id, and any other text counts as none: then no id is an option, a
//! path or another spelling of a second id.

use serde::{Deserialize, Deserializer, Serialize};

/// Length limit of an id.
pub const SESSION_ID_MAX_BYTES: usize = 128;

/// An agent's conversation, as its executor reports it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Session {
    pub id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
}

impl Session {
    /// Whether the conversation has an id. It counts as none otherwise.
    pub fn has_id(&self) -> bool {
        is_session_id(&self.id)
    }
}

/// Whether a text is an id: ASCII letters, digits, `-` and `_`, of which the first is a letter or a
/// digit.
pub fn is_session_id(text: &str) -> bool {
    let is_of_id = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    text.len() <= SESSION_ID_MAX_BYTES
        && text.starts_with(|first: char| first.is_ascii_alphanumeric())
        && text.bytes().all(is_of_id)
}

/// The form in which ids are compared. An executor may accept an id in either case, and a UUID with
/// or without its hyphens.
pub fn normal_form(id: &str) -> String {
    id.to_ascii_lowercase().replace('-', "")
}

/// Whether two ids mean the same conversation.
pub fn is_same_session(one: &str, other: &str) -> bool {
    normal_form(one) == normal_form(other)
}

/// Reads the conversation of a stored attempt. Earlier versions have stored any text as an id.
pub(crate) fn stored<'de, D: Deserializer<'de>>(field: D) -> Result<Option<Session>, D::Error> {
    let session = Option::<Session>::deserialize(field)?;
    Ok(session.filter(Session::has_id))
}
