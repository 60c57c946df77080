//! Sessions of agents that tasks are to continue: who may let a task continue them, and who else
//! uses them.

use std::collections::{BTreeMap, BTreeSet};

use claudine_domain::{
    principal::Principal,
    session::normal_form,
    step::Retry,
    task::{Class, Task},
    time::Timestamp,
};

use super::{error::AppError, host::Host};
use crate::ceiling::{
    Refusal, is_of_others,
    session::{
        gone_on_in, last_wanted, may_enter, may_go_on, session_continued, session_of, shared_with,
    },
};

impl Host {
    /// Decides whether tasks with these documents may continue the sessions that they name. An
    /// error comes with the index of its document. Each session is looked up once, however many
    /// documents name it, because a look-up passes over all stored tasks.
    pub(super) async fn may_continue_sessions(
        &self,
        by: &Principal,
        documents: &[(Class, &str)],
    ) -> Result<(), (usize, AppError)> {
        if !by.restrained {
            return Ok(());
        }
        let named = named_by(documents);
        let named = named.map_err(|(index, refusal)| (index, AppError::from(refusal)))?;
        for (index, session) in named {
            let entered = self.may_enter(by, session).await;
            entered.map_err(|error| (index, error))?;
        }
        Ok(())
    }

    /// Decides whether a restrained principal may let an agent continue this session.
    async fn may_enter(&self, by: &Principal, session: String) -> Result<(), AppError> {
        let (by, ceiling) = (by.clone(), self.settings.mcp.clone());
        self.read(move |reader| {
            may_enter(&*reader.store, &by, &session, &ceiling)?;
            Ok(())
        })
        .await
    }

    /// Decides whether a restrained principal may let a task of somebody else go on in these
    /// sessions.
    async fn may_go_on(
        &self,
        by: &Principal,
        task: &Task,
        sessions: Vec<String>,
    ) -> Result<(), AppError> {
        let (by, task) = (by.clone(), task.clone());
        self.read(move |reader| {
            for session in sessions {
                may_go_on(&*reader.store, &by, &task, &session)?;
            }
            Ok(())
        })
        .await
    }

    /// Decides whether another attempt of a restrained principal's task may continue the session
    /// that the task's document names, or that its earlier attempts have used. A task of somebody
    /// else runs only as it is, so the principal says nothing in its sessions. The task may go on
    /// there unless another task has gone on there, or may have, which its submitter does not
    /// expect.
    pub(super) async fn may_enter_again(
        &self,
        by: &Principal,
        task: &Task,
        spec: &str,
        is_resumed: bool,
    ) -> Result<(), AppError> {
        if task.request.class == Class::Command {
            return Ok(());
        }
        let continued = session_continued(&task.attempts, is_resumed).map(str::to_owned);
        let named = session_of(task.request.class, spec)?;
        let sessions = continued.into_iter().chain(named);
        if is_of_others(by, task) {
            return self.may_go_on(by, task, sessions.collect()).await;
        }
        for session in sessions {
            self.may_enter(by, session).await?;
        }
        Ok(())
    }

    /// Warnings for somebody unrestrained whose tasks are to continue these sessions, if tasks of
    /// restrained principals use them too.
    pub(super) async fn shared_sessions(
        &self,
        by: &Principal,
        sessions: BTreeSet<String>,
    ) -> Result<BTreeMap<String, String>, AppError> {
        if by.restrained || sessions.is_empty() {
            return Ok(BTreeMap::new());
        }
        self.read(move |reader| {
            let mut shared = BTreeMap::new();
            for session in sessions {
                if let Some(told) = shared_with(&*reader.store, &session)? {
                    shared.insert(session, told);
                }
            }
            Ok(shared)
        })
        .await
    }

    /// A warning for somebody unrestrained who runs a task again, if a task of a restrained
    /// principal uses one of the sessions too that are to be continued, or has gone on there since
    /// they last asked for theirs.
    pub(super) async fn shared_again(
        &self,
        by: &Principal,
        retry: &Retry,
    ) -> Result<Option<String>, AppError> {
        let shared = self.shared_sessions(by, continued_by(retry)).await?;
        let shared = shared.into_values().next();
        let once_more = continued_once_more(retry);
        if by.restrained || once_more.is_empty() {
            return Ok(shared);
        }
        let gone_on = self.read(move |reader| {
            for (session, since) in once_more {
                let told = gone_on_in(&*reader.store, &session, since)?;
                if told.is_some() {
                    return Ok(told);
                }
            }
            Ok(None)
        });
        let told: Vec<String> = shared.into_iter().chain(gone_on.await?).collect();
        Ok((!told.is_empty()).then(|| told.join("; ")))
    }
}

/// The sessions that these documents name, each at the index of the first document that names it.
fn named_by(documents: &[(Class, &str)]) -> Result<BTreeMap<usize, String>, (usize, Refusal)> {
    let mut seen = BTreeSet::new();
    let mut named = BTreeMap::new();
    for (index, (class, spec)) in documents.iter().enumerate() {
        let session = session_of(*class, spec).map_err(|refusal| (index, refusal))?;
        if let Some(session) = session.filter(|session| seen.insert(normal_form(session))) {
            named.insert(index, session);
        }
    }
    Ok(named)
}

/// The sessions that a task and its dependants may continue if they run again, if restrained
/// principals may use these sessions too. They may not use a session that a task of somebody less
/// restrained has begun.
fn continued_by(retry: &Retry) -> BTreeSet<String> {
    let task = &retry.task;
    let revised = retry.revision.as_ref().map(|it| &it.request);
    let request = revised.unwrap_or(&task.request);
    let is_shareable = request.by.restrained || request.resumes_session.is_some();
    let continued = session_continued(&task.attempts, retry.resume.is_some());
    let below = retry.downstream.iter();
    let named = below.filter_map(|task| task.request.resumes_session.as_deref());
    let named = named.chain(request.resumes_session.as_deref());
    let all = continued.filter(|_| is_shareable).into_iter().chain(named);
    all.map(str::to_owned).collect()
}

/// The sessions that tasks of somebody unrestrained are to continue once more, each as one of the
/// tasks spells it, with the time at which they last asked for one of these tasks. Restrained
/// principals may have gone on there since.
fn continued_once_more(retry: &Retry) -> Vec<(String, Timestamp)> {
    let task = &retry.task;
    let named = task.request.resumes_session.as_deref();
    let continued = session_continued(&task.attempts, retry.resume.is_some());
    // Restrained principals may not use a session that the task itself has begun.
    let continued = continued.filter(|_| named.is_some());
    // A session that only the changed task names is chosen just now.
    let changed = retry.revision.as_ref();
    let changed = changed.map(|it| it.request.resumes_session.as_deref());
    let named = named.filter(|_| changed.is_none_or(|changed| changed == named));
    let own = continued.into_iter().chain(named);
    let own = own.map(|session| (task, session));
    let below = retry.downstream.iter().filter_map(|task| {
        let named = task.request.resumes_session.as_deref()?;
        Some((task, named))
    });
    let mut all: BTreeMap<String, (String, Timestamp)> = BTreeMap::new();
    for (task, session) in own.chain(below) {
        if !task.request.by.restrained {
            let wanted = last_wanted(task);
            let one = all.entry(normal_form(session));
            let (_, earliest) = one.or_insert_with(|| (session.to_owned(), wanted));
            *earliest = wanted.min(*earliest);
        }
    }
    all.into_values().collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::sync::Arc;

    use claudine_domain::{
        attempt::{Attempt, Ended},
        outcome::Outcome,
        session::Session,
        step::{Ends, Revision},
    };

    use super::*;
    use crate::store::sample_task;

    /// A task of an agent whose only attempt has reported this session.
    fn ended(by: Principal, session: &str) -> Task {
        let mut task = sample_task(1);
        let request = Arc::make_mut(&mut task.request);
        request.by = Arc::new(by);
        let mut attempt = Attempt::new(1, task.created_at);
        attempt.session = Some(Session {
            id: session.to_owned(),
            model: None,
        });
        attempt.ended = Some(Ended::new(task.created_at, Outcome::Succeeded));
        task.attempts = vec![attempt];
        task
    }

    fn naming(mut task: Task, session: &str) -> Task {
        Arc::make_mut(&mut task.request).resumes_session = Some(session.into());
        task
    }

    #[test]
    fn each_session_that_documents_name_is_looked_up_once() {
        let named = |documents: &[(Class, &str)]| {
            let found = named_by(documents).map_err(|(index, refusal)| (index, refusal.message));
            found.map(|named| named.into_iter().collect::<Vec<_>>())
        };
        let agent = |spec: &'static str| (Class::Agent, spec);
        let documents = [
            agent(r#"{"prompt":"p"}"#),
            agent(r#"{"resume_session":"0B6b"}"#),
            agent(r#"{"resume_session":"77aa"}"#),
            agent(r#"{"resume_session":"0b6b"}"#),
            (Class::Command, r#"{"resume_session":"11"}"#),
            agent(r#"{"resume_session":"77aa"}"#),
        ];
        let expected: [(usize, String); 2] = [(1, "0B6b".to_owned()), (2, "77aa".to_owned())];
        assert_eq!(named(&documents).unwrap(), expected);
        let (index, message) =
            named(&[documents[0], agent(r#"{"resume_session":7}"#)]).unwrap_err();
        assert_eq!(index, 1);
        assert!(message.contains("cannot be read"), "{message}");
    }

    #[test]
    fn only_sessions_that_clients_may_use_are_looked_up_before_a_task_runs_again() {
        let client = || Principal {
            restrained: true,
            ..Principal::default()
        };
        let retry = |task: Task, is_resumed: bool| Retry {
            task,
            downstream: Vec::new(),
            ended: Ends::default(),
            resume: is_resumed.then(|| Arc::from(&b"mine"[..])),
            revision: None,
        };
        let check = |retry: Retry, expected: &[&str]| {
            let found = continued_by(&retry);
            assert_eq!(found.iter().collect::<Vec<_>>(), expected, "{retry:?}");
        };
        let (own, theirs) = (
            ended(Principal::default(), "own"),
            ended(client(), "theirs"),
        );
        check(retry(own.clone(), true), &[]);
        check(retry(theirs.clone(), true), &["theirs"]);
        // The attempt begins a session of its own.
        check(retry(theirs.clone(), false), &[]);
        let named = naming(ended(Principal::default(), "named"), "named");
        check(retry(named.clone(), true), &["named"]);
        check(retry(named.clone(), false), &["named"]);
        let below = Retry {
            downstream: vec![own.clone(), named],
            ..retry(theirs, true)
        };
        check(below, &["named", "theirs"]);
        let revised = naming(own.clone(), "other").request;
        let changed = Retry {
            revision: Some(Box::new(Revision {
                request: (*revised).clone(),
                spec: None,
                differences: Vec::new(),
            })),
            ..retry(own, false)
        };
        check(changed, &["other"]);
    }

    #[test]
    fn a_persons_sessions_are_looked_up_since_the_person_last_asked_for_the_task() {
        let client = || Principal {
            restrained: true,
            ..Principal::default()
        };
        let at = |task: Task, created: u64, begun: u64| {
            let mut task = naming(task, "Named");
            task.created_at = Timestamp(created);
            task.attempts[0].assigned_at = Timestamp(begun);
            task
        };
        let retry = |task: Task, downstream: Vec<Task>| Retry {
            task,
            downstream,
            ended: Ends::default(),
            resume: None,
            revision: None,
        };
        let check = |retry: &Retry, expected: Option<u64>| {
            let found = continued_once_more(retry);
            let expected = expected.map(|since| ("Named".to_owned(), Timestamp(since)));
            assert_eq!(found, Vec::from_iter(expected), "{retry:?}");
        };
        let mine = at(ended(Principal::default(), "other"), 3, 7);
        let theirs = at(ended(client(), "other"), 1, 2);
        check(&retry(mine.clone(), Vec::new()), Some(7));
        check(&retry(theirs.clone(), Vec::new()), None);
        let mut queued = mine.clone();
        queued.attempts.clear();
        // Spells the same session in another way.
        Arc::make_mut(&mut queued.request).resumes_session = Some("na-med".into());
        check(&retry(theirs, vec![mine.clone(), queued]), Some(3));
        // The person names the session just now.
        let mut before = mine.clone();
        Arc::make_mut(&mut before.request).resumes_session = None;
        let mut changed = retry(before, Vec::new());
        changed.revision = Some(Box::new(Revision {
            request: (*mine.request).clone(),
            spec: None,
            differences: Vec::new(),
        }));
        check(&changed, None);
    }
}
