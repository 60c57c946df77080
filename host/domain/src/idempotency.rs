//! Spaces of idempotency keys.
//!
//! Persons share one space, all chats over MCP share another, and the agent of each task has its
//! own. Otherwise somebody who uses a key first would keep another's request with this key from
//! being carried out, or would get the other's task. A key is stored with its space at its
//! beginning. Earlier versions had one space for all restrained principals, the one that chats have
//! now.

use crate::principal::{Kind, Principal};

/// Beginning of the stored keys of chats. No key that is given begins so.
pub const OF_CHATS: &str = "restrained:";
/// Beginning of the stored keys of agents; the agent and a colon follow. No key that is given
/// begins so.
pub const OF_AGENTS: &str = "restrained-by:";

/// Whether a key that is given could be the stored form of another.
pub fn is_reserved(key: &str) -> bool {
    key.starts_with(OF_CHATS) || key.starts_with(OF_AGENTS)
}

/// The form in which the key of a principal is stored.
pub fn stored_key(by: &Principal, key: &str) -> String {
    match by.kind {
        _ if !by.restrained => key.to_owned(),
        Kind::Agent { task } => {
            // Agents whose task is not known are one principal.
            let agent = task.map_or(String::new(), |task| task.to_string());
            format!("{OF_AGENTS}{agent}:{key}")
        }
        _ => format!("{OF_CHATS}{key}"),
    }
}

/// The key as it was given.
pub fn given_key(stored: &str) -> &str {
    let of_agent = || stored.strip_prefix(OF_AGENTS)?.split_once(':');
    let of_chat = stored.strip_prefix(OF_CHATS);
    of_chat
        .or_else(|| of_agent().map(|(_, key)| key))
        .unwrap_or(stored)
}

/// A stored key in the form of this version. `by` has submitted the key's task, perhaps to an
/// earlier version.
pub fn in_present_form(stored: String, by: &Principal) -> String {
    match stored.strip_prefix(OF_CHATS) {
        Some(key) if by.restrained => stored_key(by, key),
        _ => stored,
    }
}
