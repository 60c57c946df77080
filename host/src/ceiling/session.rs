//! Decides which sessions a restrained principal may let an agent continue, and finds the tasks of
//! restrained principals that use a session.

use claudine_domain::{
    attempt::Attempt,
    outcome::ReasonClass,
    principal::{Authority, Principal},
    queue::Queue,
    session::{SESSION_ID_MAX_BYTES, is_same_session, is_session_id},
    task::{Class, Task},
    time::Timestamp,
};

use super::{Refusal, SHOWN, fields, is_of_others, way};
use crate::{
    config::McpCeiling,
    store::{Filter, States, Status, Store, StoreError},
};

/// Number of tasks of a session that are read at a time.
const SESSION_TASKS: usize = 100;

/// Why a session may not be continued.
#[derive(Debug)]
pub(crate) enum SessionError {
    Refused(Refusal),
    /// The tasks of the session cannot be read.
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
    let filter = Filter {
        session: Some(session.to_owned()),
        ..Filter::default()
    };
    match may_continue(by, session, each_task(store, filter), ceiling)? {
        Some(last_use) => still_known(store, by, session, last_use, |queue| {
            queue.sessions_forgotten_to
        }),
        None => Ok(()),
    }
}

/// Refuses a session if nobody knows whether others have continued it since its last use: their
/// tasks may have been removed because of their age, while a task that has reported the session is
/// still stored. `forgotten_to` is the time up to which such uses are forgotten. Must be called
/// after the tasks of the session were read, because some may be removed meanwhile.
fn still_known(
    store: &dyn Store,
    by: &Principal,
    session: &str,
    last_use: Timestamp,
    forgotten_to: fn(&Queue) -> Option<Timestamp>,
) -> Result<(), SessionError> {
    let queue = store.queue().map_err(SessionError::Store)?;
    if forgotten_to(&queue).is_none_or(|to| to <= last_use) {
        return Ok(());
    }
    let why = "a task that has continued it since its last use may be no longer stored";
    Err(SessionError::Refused(refusal(by, session, why)))
}

/// The tasks that pass the filter, newest first. A page of them is read at a time.
fn each_task(
    store: &dyn Store,
    mut filter: Filter,
) -> impl Iterator<Item = Result<Task, StoreError>> {
    let mut is_over = false;
    let pages = std::iter::from_fn(move || {
        if is_over {
            return None;
        }
        let page: Vec<_> = match store.list(&filter, SESSION_TASKS) {
            Ok(page) => {
                is_over = page.next.is_none();
                filter.before = page.next;
                page.tasks.into_iter().map(Ok).collect()
            }
            Err(error) => {
                is_over = true;
                vec![Err(error)]
            }
        };
        Some(page)
    });
    pages.flatten()
}

/// Decides whether a restrained principal may let a task continue a session, and returns the start
/// of the last attempt in that session. `tasks` have reported the session, or name it. A
/// conversation of a person, or of a task of somebody less restrained,
/// would otherwise contain words that the person does not expect there.
pub(crate) fn may_continue(
    by: &Principal,
    session: &str,
    tasks: impl Iterator<Item = Result<Task, StoreError>>,
    ceiling: &McpCeiling,
) -> Result<Option<Timestamp>, SessionError> {
    if !by.restrained {
        return Ok(None);
    }
    let most = ceiling.most();
    let mut latest: Option<Timestamp> = None;
    for task in tasks {
        let task = task.map_err(SessionError::Store)?;
        if let Some(why) = obstacle(by, session, &task, &most) {
            return Err(SessionError::Refused(refusal(by, session, &why)));
        }
        latest = latest.max(last_use(&task, session));
    }
    if latest.is_some() {
        return Ok(latest);
    }
    let why = "no stored task of this host has reported it";
    Err(SessionError::Refused(refusal(by, session, why)))
}

/// Decides whether a restrained principal may let a task of somebody else go on in a session. It
/// says nothing there, but the person may have gone on in the session with another task, or another
/// task may have said something there that the person does not expect.
pub(crate) fn may_go_on(
    store: &dyn Store,
    by: &Principal,
    task: &Task,
    session: &str,
) -> Result<(), SessionError> {
    let filter = Filter {
        session: Some(session.to_owned()),
        ..Filter::default()
    };
    let wanted = last_wanted(task);
    for other in each_task(store, filter) {
        let other = other.map_err(SessionError::Store)?;
        if other.id == task.id {
            continue;
        }
        let why = if is_of_others(by, &other) {
            obstacle(by, session, &other, &Authority::full())
        } else {
            unexpected(&other, session, task, wanted)
        };
        if let Some(why) = why {
            return Err(SessionError::Refused(refusal(by, session, &why)));
        }
    }
    let last_use = last_use(task, session);
    let known_since = last_use.unwrap_or(task.created_at);
    still_known(store, by, session, known_since, |queue| {
        queue.sessions_forgotten_to
    })?;
    // A use at that very time is unexpected too. Once the task itself has used the session, the
    // session is closed to restrained principals.
    let before = Timestamp(wanted.0.saturating_sub(1));
    let known_since = before.max(last_use.unwrap_or(before));
    still_known(store, by, session, known_since, |queue| {
        queue.all_sessions_forgotten_to
    })
}

/// Why the submitter of a task does not expect it to go on in a session, because of another task
/// that a restrained principal submitted. `wanted` is the time at which somebody unrestrained last
/// asked for the task.
fn unexpected(other: &Task, session: &str, task: &Task, wanted: Timestamp) -> Option<String> {
    let id = other.id;
    if let Some(user) = user_since(other, session, wanted, |_| true) {
        let submitter = &task.request.by;
        return Some(format!(
            "{user} has continued it in task {id:#} since {submitter} last asked for this task"
        ));
    }
    let next = other.requester_of(u32::MAX);
    (!other.is_done() && !next.restrained)
        .then(|| format!("{next} is to continue it in task {id:#}"))
}

/// Time at which somebody unrestrained last asked for this task: its submission, or the beginning
/// of the last attempt that they have requested. A request that no attempt has followed is not
/// known, so this time may be too early.
pub(crate) fn last_wanted(task: &Task) -> Timestamp {
    let is_theirs =
        |attempt: &&Attempt| !attempt.by_hand && !task.requester_of(attempt.number).restrained;
    let attempts = task.attempts.iter().filter(is_theirs);
    let begun = attempts.map(|attempt| attempt.assigned_at).max();
    task.created_at.max(begun.unwrap_or(task.created_at))
}

fn refusal(by: &Principal, session: &str, why: &str) -> Refusal {
    Refusal {
        message: format!(
            "session {} may not be continued {}: {why}",
            shown(session),
            way(by)
        ),
        hint: "let a new task begin a session of its own, or name a session that only tasks of yours have used; a person can continue any session".to_owned(),
    }
}

fn shown(session: &str) -> String {
    let start: String = session.chars().take(SHOWN).collect();
    format!("`{}`", start.escape_debug())
}

/// Why a restrained principal may not continue a session that this task has reported or names.
fn obstacle(by: &Principal, session: &str, task: &Task, most: &Authority) -> Option<String> {
    let (id, submitter) = (task.id, &task.request.by);
    let is_reported = has_reported(task, session);
    if is_of_others(by, task) {
        // A task that has ended without an attempt has not used the session that it names.
        return if is_reported {
            Some(format!("it belongs to task {id:#} of {submitter}"))
        } else if !task.is_done() {
            Some(format!("task {id:#} of {submitter} is to continue it"))
        } else if perhaps_users(task, session).next().is_some() {
            Some(format!("task {id:#} of {submitter} may have continued it"))
        } else {
            None
        };
    }
    let user = perhaps_users(task, session).find(|user| !user.restrained);
    if let Some(user) = user {
        return Some(format!("{user} has continued it in task {id:#}"));
    }
    let authority = task.request.authority.as_deref();
    let is_beyond = authority.is_none_or(|authority| !most.covers(authority));
    (is_reported && is_beyond)
        .then(|| format!("task {id:#}, which reported it, may do more than the settings allow"))
}

fn has_reported(task: &Task, session: &str) -> bool {
    last_use(task, session).is_some()
}

/// Start of the last attempt of this task that has reported the session.
fn last_use(task: &Task, session: &str) -> Option<Timestamp> {
    let reported = |attempt: &&Attempt| {
        let reported = attempt.session.as_ref();
        reported.is_some_and(|reported| is_same_session(&reported.id, session))
    };
    let attempts = task.attempts.iter().filter(reported);
    attempts.map(|attempt| attempt.assigned_at).max()
}

/// Whether an attempt uses the session, or may use it because it has not reported one.
fn perhaps_uses(attempt: &Attempt, session: &str) -> bool {
    let reported = attempt.session.as_ref();
    !attempt.by_hand && reported.is_none_or(|reported| is_same_session(&reported.id, session))
}

/// Those who have requested the attempts of this task that use the session, or may use it: an
/// attempt that has not reported its session yet, and the next attempt of an unfinished task.
fn perhaps_users<'a>(task: &'a Task, session: &str) -> impl Iterator<Item = &'a Principal> {
    let attempts = task.attempts.iter();
    let attempts = attempts.filter(|attempt| perhaps_uses(attempt, session));
    let mut numbers: Vec<u32> = attempts.map(|attempt| attempt.number).collect();
    numbers.extend((!task.is_done()).then_some(u32::MAX));
    let requesters = numbers
        .into_iter()
        .map(move |number| task.requester_of(number));
    requesters.map(|requester| &**requester)
}

/// The requester of the task's latest attempt among those that began at or after `since` and use
/// the session, or may use it. Attempts whose requester does not count are left out.
fn user_since<'a>(
    task: &'a Task,
    session: &str,
    since: Timestamp,
    counts: fn(&Principal) -> bool,
) -> Option<&'a Principal> {
    let has_begun = |attempt: &&Attempt| {
        let never_began = attempt.ended.as_ref().is_some_and(|it| it.never_began);
        // An attempt may be prepared, or wait for its turn, long before it begins.
        let begun = attempt.started_at.unwrap_or(attempt.assigned_at);
        !never_began && begun >= since
    };
    let latest_first = task.attempts.iter().rev().filter(has_begun);
    let users = latest_first.filter(|attempt| perhaps_uses(attempt, session));
    let mut requesters = users.map(|attempt| &**task.requester_of(attempt.number));
    requesters.find(|requester| counts(requester))
}

/// What somebody unrestrained has to know before a task of theirs continues a session: an
/// unfinished task of a restrained principal uses the session too, or is to use it. A running task
/// is named rather than a queued one.
pub(crate) fn shared_with(store: &dyn Store, session: &str) -> Result<Option<String>, StoreError> {
    let filter = Filter {
        states: States::unfinished(),
        session: Some(session.to_owned()),
        ..Filter::default()
    };
    let mut queued = None;
    for task in each_task(store, filter) {
        let task = task?;
        let Some(is_running) = is_used_by_restrained(&task, session) else {
            continue;
        };
        let told = told_of(&task, session, is_running);
        if is_running {
            return Ok(Some(told));
        }
        queued = queued.or(Some(told));
    }
    Ok(queued)
}

/// Whether an unfinished task uses the session at the moment. `None` if it is not a task of a
/// restrained principal, or if its attempt uses another session.
fn is_used_by_restrained(task: &Task, session: &str) -> Option<bool> {
    if !task.requester_of(u32::MAX).restrained {
        return None;
    }
    let is_running = Status::of(task) == Status::Running;
    let last = task.last_attempt().filter(|_| is_running);
    let reported = last.and_then(|last| last.session.as_ref());
    let is_elsewhere = reported.is_some_and(|reported| !is_same_session(&reported.id, session));
    (!is_elsewhere).then_some(is_running)
}

fn told_of(task: &Task, session: &str, is_running: bool) -> String {
    let (id, requester, session) = (task.id, task.requester_of(u32::MAX), shown(session));
    if is_running {
        format!(
            "task {id:#} of {requester} runs in session {session} now, and what it says becomes part \
             of the conversation; `claudine wait {id:#}` waits for its end, `claudine cancel {id:#}` ends it"
        )
    } else {
        format!(
            "task {id:#} of {requester} is queued to continue session {session} too; it is refused at \
             its start, unless your task is cancelled before"
        )
    }
}

/// What somebody unrestrained has to know before a task of theirs continues a session once more: a
/// task of a restrained principal has gone on there since they last asked for theirs. A running one
/// is left to [`shared_with`].
pub(crate) fn gone_on_in(
    store: &dyn Store,
    session: &str,
    since: Timestamp,
) -> Result<Option<String>, StoreError> {
    let filter = Filter {
        session: Some(session.to_owned()),
        ..Filter::default()
    };
    for task in each_task(store, filter) {
        let task = task?;
        if !task.request.by.restrained || Status::of(&task) == Status::Running {
            continue;
        }
        if let Some(user) = user_since(&task, session, since, |user| user.restrained) {
            let (id, session) = (task.id, shown(session));
            return Ok(Some(format!(
                "task {id:#} of {user} has gone on in session {session} meanwhile, and what it \
                 said is part of the conversation; `claudine logs {id:#}` shows it"
            )));
        }
    }
    Ok(None)
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
/// does not count as one that names no session. The same applies to a text that is no id: it could
/// be another spelling of a session's id, which no comparison would find.
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
    match names.resume_session {
        Some(session) if !is_session_id(&session) => Err(Refusal {
            message: format!(
                "the session {} that the task's document names cannot be continued: it is not a \
                 session id",
                shown(&session)
            ),
            hint: format!(
                "a session id begins with a letter or a digit, and has at most \
                 {SESSION_ID_MAX_BYTES} letters, digits, `-` and `_`; `claudine status` shows it"
            ),
        }),
        session => Ok(session),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::sync::Arc;

    use claudine_domain::{
        attempt::{Ended, Phase},
        batch::Batch,
        outcome::Outcome,
        principal::Via,
        revision::Requested,
        session::Session,
        task::State,
    };

    use super::*;
    use crate::store::{memory::MemoryStore, sample_task};

    const SESSION: &str = "0b6b";

    fn chat() -> Principal {
        Principal {
            via: Via::Mcp,
            restrained: true,
            ..Principal::default()
        }
    }

    /// A queued task that is to continue the session.
    fn queued(number: u64, by: Principal) -> Task {
        let mut task = sample_task(number);
        let request = Arc::make_mut(&mut task.request);
        request.by = Arc::new(by);
        request.authority = Some(Arc::new(Authority::of_words("read", [])));
        request.resumes_session = Some(SESSION.into());
        task
    }

    fn running(mut task: Task, session: Option<&str>) -> Task {
        let mut attempt = Attempt::new(1, task.created_at);
        attempt.session = session.map(|id| Session {
            id: id.to_owned(),
            model: None,
        });
        task.attempts.push(attempt);
        task.state = State::Running {
            phase: Phase::Live,
            since: task.created_at,
        };
        task
    }

    fn done(mut task: Task) -> Task {
        task.state = State::Done {
            at: task.created_at,
            outcome: Outcome::Succeeded,
            reason: None,
            culprit: None,
        };
        task
    }

    fn store(tasks: Vec<Task>) -> MemoryStore {
        let store = MemoryStore::new();
        let batch = Batch {
            number: 1,
            tasks: tasks.into_iter().map(Arc::new).collect(),
            ..Batch::default()
        };
        store.commit(store.lead().unwrap(), &batch).unwrap();
        store
    }

    #[test]
    fn all_tasks_of_a_session_are_looked_at() {
        let pages = u64::try_from(SESSION_TASKS).unwrap() * 2 + 10;
        let first = |by: Principal| done(running(queued(1, by), Some(SESSION)));
        let others = || (2..pages).map(|number| queued(number, chat()));
        let enter = |oldest: Task| {
            let tasks = std::iter::once(oldest).chain(others());
            let store = store(tasks.collect());
            may_enter(&store, &chat(), SESSION, &McpCeiling::default())
        };
        enter(first(chat())).unwrap();
        let why = |error: SessionError| match error {
            SessionError::Refused(refusal) => refusal.message,
            SessionError::Store(error) => error.to_string(),
        };
        let message = why(enter(first(Principal::default())).unwrap_err());
        assert!(message.contains("it belongs to task"), "{message}");
        let message = why(enter(queued(1, chat())).unwrap_err());
        assert!(message.contains("no stored task"), "{message}");
    }

    #[test]
    fn a_persons_task_does_not_go_on_in_a_session_in_which_another_task_of_the_person_has_gone_on()
    {
        let first = done(running(queued(1, Principal::default()), Some(SESSION)));
        let check = |others: Vec<Task>, expected: Option<&str>| {
            let store = store([vec![first.clone()], others].concat());
            let why = match may_go_on(&store, &chat(), &first, SESSION) {
                Err(SessionError::Refused(refusal)) => refusal.message,
                other => format!("{other:?}"),
            };
            assert!(why.contains(expected.unwrap_or("Ok(())")), "{why}");
        };
        let person = || queued(2, Principal::default());
        check(Vec::new(), None);
        check(vec![queued(2, chat())], None);
        check(
            vec![running(person(), Some("77aa"))],
            Some("is to continue it"),
        );
        check(vec![person()], Some("is to continue it"));
        check(
            vec![running(person(), Some(SESSION))],
            Some("it belongs to task"),
        );
        check(
            vec![done(running(person(), Some(SESSION)))],
            Some("it belongs to task"),
        );
        check(vec![done(person())], None);
    }

    fn time(seconds: u64) -> Timestamp {
        Timestamp(1_000 * seconds)
    }

    /// A finished task that names the session, with an attempt that has begun at this time.
    fn begun(number: u64, by: Principal, at: Timestamp, session: Option<&str>) -> Task {
        let mut task = queued(number, by);
        task.created_at = at;
        done(running(task, session))
    }

    fn edited(mut task: Task, edit: impl FnOnce(&mut Task)) -> Task {
        edit(&mut task);
        task
    }

    /// A client could cancel the person's task, go on in its session, and run the task again.
    #[test]
    fn a_persons_task_does_not_go_on_if_a_client_has_since_gone_on_in_its_session() {
        let person = Principal::default;
        // The task was cancelled before it began.
        let mine = edited(done(queued(1, person())), |task| {
            task.created_at = time(10);
        });
        let requested = |by: Principal| {
            vec![Requested {
                from_attempt: 1,
                by: Arc::new(by),
            }]
        };
        let again = |by: Principal| {
            edited(mine.clone(), |task| {
                task.attempts.push(Attempt::new(1, time(20)));
                task.requested = requested(by);
            })
        };
        let check = |mine: &Task, other: Task, expected: Option<&str>| {
            let store = store(vec![mine.clone(), other]);
            let why = match may_go_on(&store, &chat(), mine, SESSION) {
                Err(SessionError::Refused(refusal)) => refusal.message,
                other => format!("{other:?}"),
            };
            assert!(why.contains(expected.unwrap_or("Ok(())")), "{why}");
        };
        let theirs = |at: u64, session: Option<&str>| begun(2, chat(), time(at), session);
        let said = Some("owner via mcp has continued it in task");
        check(&mine, theirs(9, Some(SESSION)), None);
        check(&mine, theirs(10, Some(SESSION)), said);
        check(&mine, theirs(11, Some(SESSION)), said);
        check(&mine, theirs(11, Some(&SESSION.to_uppercase())), said);
        check(&mine, theirs(11, Some("0b-6b")), said);
        check(&mine, theirs(11, None), said);
        check(&mine, theirs(11, Some("77aa")), None);
        let late = edited(theirs(9, Some(SESSION)), |task| {
            task.attempts[0].started_at = Some(time(11));
        });
        check(&mine, late, said);
        let never = edited(theirs(11, None), |task| {
            task.attempts[0].ended = Some(Ended {
                never_began: true,
                ..Ended::new(time(11), Outcome::Failed)
            });
        });
        check(&mine, never, None);
        // The client's task still waits, so it is refused at its start.
        check(&mine, queued(2, chat()), None);
        let resumed = edited(queued(2, chat()), |task| {
            task.requested = requested(person());
        });
        check(&mine, resumed, Some("owner is to continue it in task"));
        let resumed = edited(theirs(11, Some(SESSION)), |task| {
            task.requested = requested(person());
        });
        check(&mine, resumed, Some("owner has continued it in task"));
        // The person has run the task since the client went on, or the client has.
        check(&again(person()), theirs(11, Some(SESSION)), None);
        check(&again(person()), theirs(21, Some(SESSION)), said);
        check(&again(chat()), theirs(11, Some(SESSION)), said);
    }

    #[test]
    fn a_person_is_told_if_a_client_has_gone_on_in_the_session_since_the_person_asked() {
        let check = |task: Task, expected: Option<&str>| {
            let told = gone_on_in(&store(vec![task]), SESSION, time(10)).unwrap();
            assert_eq!(told.is_some(), expected.is_some(), "{told:?}");
            let (told, expected) = (told.unwrap_or_default(), expected.unwrap_or_default());
            assert!(told.contains(expected), "{told}");
        };
        let theirs = |at: u64| begun(2, chat(), time(at), Some(SESSION));
        let told = Some("of owner via mcp has gone on in session `0b6b` meanwhile");
        check(theirs(9), None);
        check(theirs(11), told);
        check(queued(2, chat()), None);
        check(begun(2, Principal::default(), time(11), None), None);
        // The person has run the client's task again.
        let resumed = edited(theirs(11), |task| {
            task.requested = vec![Requested {
                from_attempt: 1,
                by: Arc::default(),
            }];
        });
        check(resumed, None);
        // Another message names the running tasks.
        let runs = edited(queued(2, chat()), |task| task.created_at = time(11));
        check(running(runs, Some(SESSION)), None);
    }

    /// A store that lacks tasks in which persons have used sessions up to this time, and clients
    /// too if the queue says so.
    fn forgetful(tasks: Vec<Task>, queue: Queue) -> MemoryStore {
        let store = store(tasks);
        let batch = Batch {
            number: 2,
            queue: Some(queue),
            ..Batch::default()
        };
        store.commit(store.lead().unwrap(), &batch).unwrap();
        store
    }

    /// The refusal if a client is to go on in the session with this task, its own or a person's; or
    /// `Ok(())`.
    fn decided_for_a_client(store: &MemoryStore, task: &Task) -> String {
        let decided = if task.request.by.restrained {
            may_enter(store, &chat(), SESSION, &McpCeiling::default())
        } else {
            may_go_on(store, &chat(), task, SESSION)
        };
        match decided {
            Err(SessionError::Refused(refusal)) => refusal.message,
            other => format!("{other:?}"),
        }
    }

    /// Otherwise a session that a person has continued would be open again as soon as the person's
    /// task is removed.
    #[test]
    fn a_session_is_closed_if_a_task_that_has_continued_it_since_its_last_use_may_be_removed() {
        let begun = queued(1, chat()).created_at;
        let later = Timestamp(begun.0 + 9);
        // The client has used the session twice.
        let twice = |mut task: Task| {
            let mut attempt = Attempt::new(2, later);
            attempt.session.clone_from(&task.attempts[0].session);
            task.attempts.push(attempt);
            done(task)
        };
        let used = |by: Principal| running(queued(1, by), Some(SESSION));
        let persons_to = |to: Timestamp| Queue {
            sessions_forgotten_to: Some(to),
            ..Queue::default()
        };
        let check = |task: Task, forgotten_to: Timestamp, is_open: bool| {
            let store = forgetful(vec![task.clone()], persons_to(forgotten_to));
            let why = decided_for_a_client(&store, &task);
            let says = if is_open {
                "Ok(())"
            } else {
                "may not be continued over MCP: a task that has continued it since"
            };
            assert!(why.contains(says), "{forgotten_to:?}: {why}");
        };
        let after = |time: Timestamp| Timestamp(time.0 + 1);
        for by in [chat(), Principal::default()] {
            check(done(used(by.clone())), begun, true);
            check(done(used(by.clone())), after(begun), false);
            check(twice(used(by.clone())), later, true);
            check(twice(used(by)), after(later), false);
        }
        // The person's task names the session, and has not begun.
        check(queued(1, Principal::default()), begun, true);
        check(queued(1, Principal::default()), after(begun), false);
        // Somebody unrestrained may continue every session.
        let store = forgetful(vec![done(used(chat()))], persons_to(after(begun)));
        may_enter(
            &store,
            &Principal::default(),
            SESSION,
            &McpCeiling::default(),
        )
        .unwrap();
    }

    /// Otherwise a client could go on in the session with a task that is removed at once.
    #[test]
    fn a_persons_task_does_not_go_on_if_a_clients_task_may_be_removed_that_has_gone_on_there() {
        let check = |task: &Task, to: u64, is_open: bool| {
            let queue = Queue {
                all_sessions_forgotten_to: Some(time(to)),
                ..Queue::default()
            };
            let store = forgetful(vec![task.clone()], queue);
            let why = decided_for_a_client(&store, task);
            let says = if is_open {
                "Ok(())"
            } else {
                "may be no longer stored"
            };
            assert!(why.contains(says), "{to}: {why}");
        };
        let mine = edited(done(queued(1, Principal::default())), |task| {
            task.created_at = time(10);
        });
        check(&mine, 9, true);
        check(&mine, 10, false);
        check(&mine, 11, false);
        let again = edited(mine, |task| task.attempts.push(Attempt::new(1, time(20))));
        check(&again, 11, true);
        check(&again, 20, false);
        let used = edited(again, |task| {
            let mut attempt = Attempt::new(2, time(30));
            attempt.session = Some(Session {
                id: SESSION.to_owned(),
                model: None,
            });
            task.attempts.push(attempt);
        });
        check(&used, 30, true);
        check(&used, 31, false);
        // The client may go on itself, since the removed tasks are those of clients.
        check(&begun(1, chat(), time(10), Some(SESSION)), 11, true);
    }

    #[test]
    fn somebody_unrestrained_is_told_of_unfinished_tasks_of_clients_that_use_a_session() {
        let check = |tasks: Vec<Task>, expected: Option<&str>| {
            let told = shared_with(&store(tasks), SESSION).unwrap();
            assert_eq!(told.is_some(), expected.is_some(), "{told:?}");
            let (told, expected) = (told.unwrap_or_default(), expected.unwrap_or_default());
            assert!(told.contains(expected), "{told}");
        };
        let runs = Some("runs in session `0b6b` now");
        let waits = Some("is queued to continue session `0b6b` too");
        check(Vec::new(), None);
        check(vec![queued(1, chat())], waits);
        check(vec![running(queued(1, chat()), None)], runs);
        check(vec![running(queued(1, chat()), Some(SESSION))], runs);
        check(vec![running(queued(1, chat()), Some("77aa"))], None);
        check(vec![done(queued(1, chat()))], None);
        check(vec![queued(1, Principal::default())], None);
        // A running task is named first, even if a queued one is newer.
        let both = [running(queued(1, chat()), Some(SESSION)), queued(2, chat())];
        check(both.to_vec(), runs);
        // A person has run a client's task again.
        let mut again = queued(1, chat());
        again.requested = vec![Requested {
            from_attempt: 1,
            by: Arc::default(),
        }];
        check(vec![again], None);
    }

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
        for wrong in [
            "",
            "-c",
            "--add-dir=/",
            "a\\n",
            " a",
            "./a",
            "a.jsonl",
            "{a}",
        ] {
            let spec = format!(r#"{{"resume_session":"{wrong}"}}"#);
            let refusal = session_of(Class::Agent, &spec).err();
            let message = refusal.map(|it| it.message).unwrap_or_default();
            assert!(
                message.ends_with("it is not a session id"),
                "{spec}: {message}"
            );
        }
        // Some readers take a list for the fields in their order.
        for wrong in [r#"["a"]"#, "[]", "null", r#""a""#, "", r#"{"resume"#] {
            refused(wrong);
        }
    }
}
