//! Decides which variables a restrained principal may set for its tasks.

use std::{collections::BTreeSet, sync::Arc};

use claudine_domain::principal::Principal;

use super::{Refusal, SHOWN, way};
use crate::config::{McpCeiling, is_dangerous};

/// Names of the variables that a restrained principal has set for a task.
pub(crate) type Names = Arc<BTreeSet<String>>;

/// Refuses variables that a restrained principal may not set.
pub(crate) fn may_set<'a>(
    by: &Principal,
    ceiling: &McpCeiling,
    names: impl IntoIterator<Item = &'a String>,
) -> Result<(), Refusal> {
    if !by.restrained {
        return Ok(());
    }
    let mut names = names.into_iter();
    let Some(name) = names.find(|name| !ceiling.may_set(name)) else {
        return Ok(());
    };
    let shown: String = name.chars().take(SHOWN).collect();
    let refused = format!(
        "variable `{}` may not be set {}",
        shown.escape_debug(),
        way(by)
    );
    if is_dangerous(name) {
        return Err(Refusal {
            message: format!("{refused}: this variable can make programs run something else"),
            hint: "no setting allows it; put what is needed into the prompt or the script"
                .to_owned(),
        });
    }
    let message = match ceiling.env.as_slice() {
        [] => format!("{refused}; no variable is allowed"),
        names => format!("{refused}; allowed are: {}", names.join(", ")),
    };
    Err(Refusal::of_setting(message, "env"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use claudine_domain::principal::{Kind, Via};

    use super::*;

    #[test]
    fn a_restrained_principal_sets_only_listed_variables() {
        let check = |by: &Principal, name: &str, expected: Option<&str>| {
            let found = may_set(by, &McpCeiling::default(), [&name.to_owned()]).err();
            if let Some(Refusal { hint, .. }) = &found {
                assert_eq!(hint.contains("mcp.env"), !is_dangerous(name), "{hint}");
            }
            let found = found.map(|refusal| refusal.message);
            assert_eq!(found.is_some(), expected.is_some(), "{by} {name}");
            if let Some(expected) = expected {
                assert!(found.unwrap().starts_with(expected), "{by} {name}");
            }
        };
        let owner = Principal::default();
        let chat = Principal {
            via: Via::Mcp,
            restrained: true,
            ..Principal::default()
        };
        let agent = Principal {
            kind: Kind::Agent { task: None },
            via: Via::Cli,
            ..chat.clone()
        };
        check(&owner, "PATH", None);
        check(&chat, "CI", None);
        check(&agent, "LC_ALL", None);
        check(
            &chat,
            "PATH",
            Some("variable `PATH` may not be set over MCP"),
        );
        check(
            &agent,
            "GIT_CONFIG_COUNT",
            Some("variable `GIT_CONFIG_COUNT` may not be set by an agent"),
        );
        check(
            &chat,
            "A\u{1b}[2J",
            Some("variable `A\\u{1b}[2J` may not be set over MCP"),
        );
    }
}
