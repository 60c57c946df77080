//! Answers to commands. An answer is sent after the command's changes are durable.

use claudine_domain::{dependency::Condition, step::Accepted, task::Idempotency};

use super::*;

#[tokio::test]
async fn an_answered_command_is_in_the_store() {
    let mut fixture = begin(Arc::default(), 1);
    let answer = fixture.submit(1).await.unwrap();
    assert_eq!(
        answer,
        Answer::Accepted(vec![Accepted {
            task: id(1),
            existing: false
        }])
    );
    assert!(fixture.store.task(id(1)).unwrap().is_some());
    assert_eq!(fixture.told().await, Told::Start(attempt(1)));
    fixture.end(attempt(1)).await;
    assert_eq!(fixture.told().await, Told::Release(attempt(1)));
    // The end of a task is committed before its attempt is released.
    assert_eq!(fixture.outcome(1), Some(Outcome::Succeeded));
}

#[tokio::test]
async fn waiters_are_woken_after_the_end_is_durable() {
    let mut fixture = begin(Arc::default(), 1);
    let finished = fixture.engine.finish_of(id(1));
    fixture.submit(1).await.unwrap();
    assert_eq!(fixture.told().await, Told::Start(attempt(1)));
    fixture.end(attempt(1)).await;
    finished.await.unwrap();
    assert_eq!(fixture.outcome(1), Some(Outcome::Succeeded));
}

#[tokio::test]
async fn a_failed_commit_is_reported_to_the_caller_and_has_no_effect() {
    let mut fixture = begin(Arc::default(), 1);
    fixture.store.fail_commits(2);
    let error = fixture.submit(1).await.unwrap_err();
    assert!(matches!(error, EngineError::StoreFull(_)), "{error}");
    assert!(fixture.store.task(id(1)).unwrap().is_none());
    assert!(fixture.told.try_recv().is_err(), "nothing was started");
    fixture.engine.stop().await;
}

/// The refusal is based on another command in the same batch. The commit of this batch fails.
#[tokio::test]
async fn a_refusal_waits_for_the_batch_on_which_it_is_based() {
    let fixture = begin(Arc::default(), 1);
    let keyed = |payload: &str| Request {
        idempotency: Some(Box::new(Idempotency {
            key: "key".to_owned(),
            payload_digest: payload.to_owned(),
        })),
        ..request()
    };
    fixture.store.fail_commits(2);
    let (taken, refused) = tokio::join!(
        fixture.submit_as(1, keyed("a")),
        fixture.submit_as(2, keyed("b")),
    );
    for answer in [taken, refused] {
        assert!(
            matches!(answer, Err(EngineError::StoreFull(_))),
            "{answer:?}"
        );
    }
    fixture.engine.stop().await;
}

#[tokio::test]
async fn a_full_disk_uses_the_ballast_before_anyone_gets_an_error() {
    let fixture = begin(Arc::default(), 1);
    fixture.store.fail_commits(1);
    fixture.submit(1).await.unwrap();
    assert!(fixture.store.task(id(1)).unwrap().is_some());
    assert!(
        matches!(fixture.submit(2).await, Err(EngineError::StoreFull(_))),
        "from here on new work is refused"
    );
}

/// The state is published after every round.
#[tokio::test]
async fn the_published_state_does_not_grow_with_the_queue() {
    let fixture = one_running(1).await;
    let published = || {
        let snapshot = fixture.engine.snapshot();
        let all_but_queued = Snapshot {
            queued: 0,
            ..Snapshot::clone(&snapshot)
        };
        (snapshot.queued, format!("{all_but_queued:?}"))
    };
    let (_, before) = published();
    for number in 2..=200 {
        let in_group = Request {
            group: Some(format!("group-{number}")),
            ..request()
        };
        fixture.submit_as(number, in_group).await.unwrap();
    }
    assert_eq!(published(), (199, before));
}

#[tokio::test]
async fn without_a_host_a_command_is_refused_as_by_a_host_and_changes_nothing() {
    let store = one_running(1).await.stop().await;
    let unread = || Err::<Sampler, _>(std::io::ErrorKind::Unsupported.into());
    let engine = absent(store.clone(), Limits::default(), unread);
    let not_done = engine.command(Input::TryNow { task: id(1) }).await;
    let not_done = not_done.unwrap_err();
    assert!(
        matches!(&not_done, EngineError::Refused(Refused::NotDone { .. })),
        "{not_done}"
    );
    let submit = |upstream: u64| {
        let submission = Submission {
            id: id(2),
            request: request(),
            dependencies: vec![Dependency {
                task: id(upstream),
                condition: Condition::Succeeded,
            }],
            held: false,
            parent: None,
            spec: Arc::from(*b"{}"),
        };
        Input::Submit(Submit {
            tasks: vec![submission],
            ..Submit::default()
        })
    };
    let cycle = engine.command(submit(2)).await.unwrap_err();
    assert!(
        matches!(&cycle, EngineError::Refused(Refused::Cycle { .. })),
        "{cycle}"
    );
    // Only a host can carry out a command that is not refused.
    let allowed = engine.command(submit(1)).await.unwrap_err();
    assert!(matches!(allowed, EngineError::NoHost), "{allowed}");
    assert!(store.task(id(2)).unwrap().is_none());
}
