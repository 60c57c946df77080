//! Idempotency keys: the spaces of principals.

use std::collections::BTreeSet;

use crate::{
    id::TaskId,
    idempotency::{given_key, in_present_form, is_reserved, stored_key},
    principal::{Kind, Principal, Via},
};

fn by(kind: Kind, restrained: bool) -> Principal {
    Principal {
        kind,
        restrained,
        ..Principal::default()
    }
}

fn agent(task: Option<u64>) -> Principal {
    let task = task.map(|number| TaskId::new(7, number.into()));
    by(Kind::Agent { task }, true)
}

#[test]
fn each_principal_has_a_space_of_its_own() {
    let all = [
        Principal::default(),
        by(Kind::Owner, true),
        agent(None),
        agent(Some(1)),
        agent(Some(2)),
    ];
    let keys = ["k", ":k", "k:k", "task_1:k", ""];
    let mut stored = BTreeSet::new();
    for by in &all {
        for key in keys {
            let kept = stored_key(by, key);
            assert_eq!(given_key(&kept), key);
            assert_eq!(in_present_form(kept.clone(), by), kept);
            assert_eq!(is_reserved(&kept), by.restrained, "{kept}");
            assert!(stored.insert(kept), "{by} {key}");
        }
    }
    // All chats are one principal, and so are an agent at the command line and over MCP.
    let over_mcp = |by: &Principal| Principal {
        via: Via::Mcp,
        ..by.clone()
    };
    for by in &all {
        assert_eq!(stored_key(&over_mcp(by), "k"), stored_key(by, "k"));
    }
    // What persons and commands that they have submitted use is one space.
    let command = by(Kind::Agent { task: None }, false);
    assert_eq!(stored_key(&command, "k"), "k");
}

#[test]
fn keys_of_earlier_versions_belong_to_the_submitter_of_their_task() {
    let check = |stored: &str, by: &Principal, expected: &str| {
        assert_eq!(in_present_form(stored.to_owned(), by), expected);
    };
    check("k", &Principal::default(), "k");
    check("restrained:k", &by(Kind::Owner, true), "restrained:k");
    check("restrained:k", &agent(None), "restrained-by::k");
    let agent = agent(Some(1));
    check("restrained:a:b", &agent, &stored_key(&agent, "a:b"));
}
