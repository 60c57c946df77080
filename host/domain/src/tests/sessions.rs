//! Ids of sessions: which texts are ids, and which ids are the same.

use super::Desk;
use crate::{
    attempt::Attempt,
    session::{SESSION_ID_MAX_BYTES, Session, is_same_session, is_session_id},
    step::Report,
    time::Timestamp,
};

const ID: &str = "8f14e45f-ceea-467f-9d2c-51f1c7a6a6d1";

/// Texts that are no id.
fn others() -> Vec<String> {
    let other = [
        "",
        "-",
        "-c",
        "_a",
        "--dangerously-skip-permissions",
        "a b",
        "größe",
    ];
    let around = [
        format!("{ID}\n"),
        format!(" {ID}"),
        format!("-{ID}"),
        format!("{ID}.jsonl"),
        format!("./{ID}"),
        format!("{{{ID}}}"),
        format!("urn:uuid:{ID}"),
        format!("{ID}\u{200b}"),
        format!("{ID}\0"),
        "a".repeat(SESSION_ID_MAX_BYTES + 1),
    ];
    other.map(str::to_owned).into_iter().chain(around).collect()
}

#[test]
fn only_letters_digits_hyphens_and_underscores_make_an_id() {
    let longest = "a".repeat(SESSION_ID_MAX_BYTES);
    for id in [ID, "7", "ses_4fA", "T-0b6b", longest.as_str()] {
        assert!(is_session_id(id), "{id}");
    }
    for other in others() {
        assert!(!is_session_id(&other), "{other:?}");
    }
}

#[test]
fn ids_that_differ_in_case_or_hyphens_are_the_same() {
    let check = |other: &str, is_same: bool| {
        assert_eq!(is_same_session(ID, other), is_same, "{other}");
        assert_eq!(is_same_session(other, ID), is_same, "{other}");
    };
    check(ID, true);
    check(&ID.to_uppercase(), true);
    check(&ID.replace('-', ""), true);
    check(&ID.replace('-', "_"), false);
    check(&format!("{ID}0"), false);
}

/// Otherwise an agent could name a session in a spelling that no comparison finds.
#[test]
fn session_whose_id_is_none_is_neither_stored_nor_read() {
    let session = |id: &str| Session {
        id: id.to_owned(),
        model: None,
    };
    let (mut desk, task) = Desk::in_phase("live");
    let stored_after = |desk: &mut Desk, id: &str| {
        desk.report(task, Report::Session(session(id)));
        let stored = desk.task(task).last_attempt().map(|it| it.session.clone());
        stored.flatten().map(|session| session.id)
    };
    // As an earlier version has stored it.
    let read = |id: &str| {
        let mut attempt = Attempt::new(1, Timestamp(7));
        attempt.session = Some(session(id));
        let json = serde_json::to_string(&attempt).unwrap();
        let attempt: Attempt = serde_json::from_str(&json).unwrap();
        attempt.session.map(|session| session.id)
    };
    for other in others() {
        assert_eq!(stored_after(&mut desk, &other), None, "{other:?}");
        assert_eq!(read(&other), None, "{other:?}");
    }
    assert_eq!(stored_after(&mut desk, ID).as_deref(), Some(ID));
    assert_eq!(read(ID).as_deref(), Some(ID));
    // A later report that names no session leaves the earlier one.
    assert_eq!(stored_after(&mut desk, "-c").as_deref(), Some(ID));
    let none = serde_json::to_string(&Attempt::new(1, Timestamp(7))).unwrap();
    let none: Attempt = serde_json::from_str(&none).unwrap();
    assert_eq!(none.session, None);
}
