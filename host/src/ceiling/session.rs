//! Decides which sessions a restrained principal may let an agent continue.

use claudine_domain::{
    attempt::Attempt,
    outcome::ReasonClass,
    principal::Principal,
    task::{Class, Task},
};

use super::{Refusal, SHOWN, fields, is_of_others, way};
use crate::{
    config::McpCeiling,
    store::{Filter, Store, StoreError},
};

/// Number of tasks of a session that are read at a time.
const SESSION_TASKS: usize = 100;

/// Why a session may not be continued.
#[derive(Debug)]
pub(crate) enum SessionError {
    Refused(Refusal),
    /// The tasks that have reported the session cannot be read.
    Store(StoreError),
}

/// Decides whether a principal may let an agent continue a session, which stored tasks have
/// reported.
pub(crate) fn may_enter(
    store: &dyn Store,
    by: &Principal,
    session: &str,
    ceiling: &McpCeiling,
) -> Result<(), SessionError> {
    let mut filter = Filter {
        session: Some(session.to_owned()),
        ..Filter::default()
    };
    loop {
        let page = store
            .list(&filter, SESSION_TASKS)
            .map_err(SessionError::Store)?;
        may_continue(by, session, &page.tasks, ceiling).map_err(SessionError::Refused)?;
        if page.next.is_none() {
            return Ok(());
        }
        filter.before = page.next;
    }
}

/// Decides whether a restrained principal may let a task continue a session, which `tasks` have
/// reported. A conversation of a person, or of a task of somebody less restrained, would otherwise
/// contain words that the person does not expect there.
pub(crate) fn may_continue(
    by: &Principal,
    session: &str,
    tasks: &[Task],
    ceiling: &McpCeiling,
) -> Result<(), Refusal> {
    if !by.restrained {
        return Ok(());
    }
    let most = ceiling.most();
    let is_beyond = |task: &&Task| {
        let authority = task.request.authority.as_deref();
        authority.is_none_or(|authority| !most.covers(authority))
    };
    let why = if let Some(task) = tasks.iter().find(|task| is_of_others(by, task)) {
        format!("it belongs to task {:#} of {}", task.id, task.request.by)
    } else if let Some((task, user)) = tasks
        .iter()
        .find_map(|task| Some((task, less_restrained_user(task, session)?)))
    {
        format!("{user} has continued it in task {:#}", task.id)
    } else if let Some(task) = tasks.iter().find(is_beyond) {
        format!(
            "task {:#}, which reported it, may do more than the settings allow",
            task.id
        )
    } else if tasks.is_empty() {
        "no stored task of this host has reported it".to_owned()
    } else {
        return Ok(());
    };
    let shown: String = session.chars().take(SHOWN).collect();
    let message = format!(
        "session `{}` may not be continued {}: {why}",
        shown.escape_debug(),
        way(by)
    );
    Err(Refusal {
        message,
        hint: "let a new task begin a session of its own, or name a session that only tasks of yours have used; a person can continue any session".to_owned(),
    })
}

/// Somebody unrestrained who has requested an attempt of this task that uses the session. An
/// attempt that has not reported its session yet may use it too.
fn less_restrained_user<'a>(task: &'a Task, session: &str) -> Option<&'a Principal> {
    let may_use = |attempt: &&Attempt| {
        let reported = attempt.session.as_ref();
        !attempt.by_hand && reported.is_none_or(|reported| reported.id == session)
    };
    let attempts = task.attempts.iter().filter(may_use);
    let numbers = attempts.map(|attempt| attempt.number);
    let to_come = (!task.is_done()).then_some(u32::MAX);
    let mut requesters = numbers.chain(to_come).map(|it| task.requester_of(it));
    requesters
        .find(|requester| !requester.restrained)
        .map(|requester| &**requester)
}

/// Failures after which executors begin a new conversation. After all others they may continue the
/// last one without being told to.
const BEGUN_ANEW: [ReasonClass; 7] = [
    ReasonClass::Auth,
    ReasonClass::Cancelled,
    ReasonClass::Conflict,
    ReasonClass::Exit,
    ReasonClass::Invalid,
    ReasonClass::MaxTurns,
    ReasonClass::Permission,
];

/// The session of a task's earlier attempts that another attempt may continue. `is_resumed` is
/// whether the attempt continues the last one by request.
pub(crate) fn session_continued(earlier: &[Attempt], is_resumed: bool) -> Option<&str> {
    // The executor is not told of attempts that never began.
    let ran = |attempt: &&Attempt| {
        let ended = attempt.ended.as_ref();
        !attempt.by_hand && ended.is_some_and(|ended| !ended.never_began)
    };
    let last = earlier.iter().rev().find(ran)?.ended.as_ref();
    let reason = last.and_then(|ended| ended.reason.as_ref());
    let goes_on = reason.is_some_and(|reason| !BEGUN_ANEW.contains(&reason.class));
    let mut latest_first = earlier.iter().rev();
    let session = latest_first.find_map(|attempt| attempt.session.as_ref());
    session
        .filter(|_| is_resumed || goes_on)
        .map(|session| session.id.as_str())
}

/// The session that an agent's document names. If it cannot be read, the document is refused, and
/// does not count as one that names no session.
pub(crate) fn session_of(class: Class, spec: &str) -> Result<Option<String>, Refusal> {
    #[derive(serde::Deserialize)]
    struct Names {
        resume_session: Option<String>,
    }
    if class == Class::Command {
        return Ok(None);
    }
    let names = fields::<Names>(spec).map_err(|error| Refusal {
        message: format!("the session that the task's document names cannot be read: {error}"),
        hint: "give `resume_session` once, as a text, or leave it out".to_owned(),
    })?;
    Ok(names.resume_session)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Otherwise an executor could find a session that was not checked.
    #[test]
    fn a_document_whose_session_cannot_be_read_is_refused() {
        let names = |spec: &str, expected: Option<&str>| {
            let expected = Ok(expected.map(str::to_owned));
            assert_eq!(session_of(Class::Agent, spec), expected, "{spec}");
        };
        let refused = |spec: &str| {
            let refusal = session_of(Class::Agent, spec).err();
            let message = refusal.map(|it| format!("{}; {}", it.message, it.hint));
            let message = message.unwrap_or_default();
            let says = "the session that the task's document names cannot be read: ";
            assert!(message.starts_with(says), "{spec}: {message}");
            assert!(message.ends_with("or leave it out"), "{spec}: {message}");
            // The document of a command names no session.
            assert_eq!(session_of(Class::Command, spec), Ok(None), "{spec}");
        };
        names(r#"{"prompt":"p"}"#, None);
        names(r#"{"resume_session":null}"#, None);
        names(r#" {"resume_session":"a","prompt":"p"}"#, Some("a"));
        refused(r#"{"resume_session":"a","resume_session":"b"}"#);
        refused(r#"{"resume_session":null,"resume_session":"b"}"#);
        for wrong in ["1", "true", r#"["a"]"#, r#"{"id":"a"}"#] {
            refused(&format!(r#"{{"resume_session":{wrong}}}"#));
        }
        // Some readers take a list for the fields in their order.
        for wrong in [r#"["a"]"#, "[]", "null", r#""a""#, "", r#"{"resume"#] {
            refused(wrong);
        }
    }
}
