//! What the engine does when something that it relies on fails: it answers, it ends where it cannot
//! go on, and says why.

use super::*;
use crate::clock;

/// What `command` answers while the board cannot be loaded.
async fn refused_meanwhile(fixture: &Fixture) -> EngineError {
    loop {
        match fixture.engine.command(Input::SetSlots(Slots::Auto)).await {
            Err(error @ EngineError::Reloading(_)) => return error,
            // The commit that fails is not over yet.
            _ => tokio::task::yield_now().await,
        }
    }
}

#[tokio::test]
async fn an_engine_whose_store_was_taken_over_ends_and_says_so() {
    let fixture = begin(Arc::default(), 1);
    fixture.store.lead().unwrap();
    assert!(matches!(
        fixture.submit(1).await,
        Err(EngineError::Store(_))
    ));
    let end = fixture.task.await.unwrap().unwrap_err();
    assert!(matches!(end, EngineEnd::Fenced), "{end}");
    let after = fixture.engine.command(Input::Drain).await;
    assert!(matches!(after, Err(EngineError::Down)), "{after:?}");
    assert!(!fixture.engine.answers().await);
}

#[tokio::test]
async fn an_engine_without_its_commit_thread_ends_and_says_so() {
    let fixture = begin(Arc::default(), 1);
    assert!(fixture.engine.answers().await);
    fixture.store.panic_at_commit();
    assert!(matches!(fixture.submit(1).await, Err(EngineError::Down)));
    let end = fixture.task.await.unwrap().unwrap_err();
    assert!(matches!(end, EngineEnd::CommitThread), "{end}");
}

#[tokio::test]
async fn a_board_that_cannot_be_loaded_keeps_nobody_waiting() {
    let fixture = begin(Arc::default(), 1);
    fixture.store.fail_commits(2);
    fixture.store.fail_loads(u32::MAX);
    fixture.submit(1).await.unwrap_err();
    let error = refused_meanwhile(&fixture).await;
    assert!(
        error.to_string().contains("cannot read its store"),
        "{error}"
    );
    assert!(fixture.engine.answers().await, "it is at work on it");
    assert!(fixture.engine.capacity().await.is_err());
    while fixture.engine.snapshot().trouble.is_none() {
        tokio::task::yield_now().await;
    }
    // And it can be stopped.
    fixture.stop().await;
}

#[tokio::test]
async fn a_board_that_is_loaded_at_last_goes_on() {
    let mut fixture = begin(Arc::default(), 1);
    fixture.store.fail_commits(2);
    fixture.store.fail_loads(3);
    fixture.submit(1).await.unwrap_err();
    while fixture.submit(2).await.is_err() {}
    assert_eq!(fixture.told().await, Told::Start(attempt(2)));
    assert_eq!(fixture.engine.snapshot().trouble, None);
    fixture.stop().await;
}

#[tokio::test]
async fn an_engine_gives_up_on_a_store_that_stays_unreadable() {
    let fixture = begin(Arc::default(), 1);
    fixture.store.fail_commits(2);
    fixture.store.fail_loads(u32::MAX);
    fixture.submit(1).await.unwrap_err();
    let end = fixture.task.await.unwrap().unwrap_err();
    assert!(matches!(end, EngineEnd::Reload { tries: 30, .. }), "{end}");
}

/// The number that a reader waits for is dropped with its batch.
#[tokio::test]
async fn a_reader_does_not_wait_for_what_will_never_be_written() {
    let mut fixture = begin(Arc::default(), 1);
    fixture.submit(1).await.unwrap();
    assert_eq!(fixture.told().await, Told::Start(attempt(1)));
    let after = Dependency {
        task: id(1),
        condition: Condition::Succeeded,
    };
    fixture
        .submit_after(2, request(), vec![after])
        .await
        .unwrap();
    fixture.engine.caught_up().await;
    fixture.store.fail_commits(2);
    let store = fixture.store.clone();
    let stalled = store.stall();
    fixture.end(attempt(1)).await;
    assert_eq!(fixture.told().await, Told::Start(attempt(2)));
    let mut caught_up = std::pin::pin!(fixture.engine.caught_up());
    let look = |context: &mut Context<'_>| Poll::Ready(caught_up.as_mut().poll(context));
    assert!(poll_fn(look).await.is_pending());
    drop(stalled);
    let in_time = clock::within(CATCH_UP / 2, caught_up).await;
    assert!(in_time.is_some(), "the reload wakes it");
}

#[tokio::test]
async fn whoever_stops_waiting_at_any_moment_leaves_no_slot_behind() {
    let mut fixture = begin(Arc::default(), 1);
    fixture.submit(1).await.unwrap();
    assert_eq!(fixture.told().await, Told::Start(attempt(1)));
    for _ in 0..10_000 {
        // More than any inbox holds, and nobody has taken a turn: this runtime has one thread.
        drop(fixture.engine.wait_of(attempt(1)));
    }
    fixture.submit(2).await.unwrap();
    assert_eq!(fixture.engine.capacity().await.unwrap().running, 1);
    let waits = [(); 2].map(|()| fixture.engine.wait_of(attempt(1)));
    assert_eq!(
        fixture.told().await,
        Told::Start(attempt(2)),
        "its slot is free"
    );
    fixture.end(attempt(2)).await;
    assert_eq!(fixture.told().await, Told::Release(attempt(2)));
    drop(waits);
    fixture.submit(3).await.unwrap();
    fixture.engine.capacity().await.unwrap();
    assert!(fixture.told.try_recv().is_err(), "it has its slot back");
    fixture.stop().await;
}

#[tokio::test]
async fn a_wait_outlasts_a_board_that_is_loaded_again() {
    let mut fixture = begin(Arc::default(), 1);
    fixture.submit(1).await.unwrap();
    assert_eq!(fixture.told().await, Told::Start(attempt(1)));
    let wait = fixture.engine.wait_of(attempt(1));
    fixture.store.fail_commits(2);
    fixture.submit(2).await.unwrap_err();
    assert_eq!(fixture.told().await, Told::Resume(attempt(1)));
    while fixture.submit(3).await.is_err() {}
    assert_eq!(fixture.told().await, Told::Start(attempt(3)));
    drop(wait);
    fixture.stop().await;
}

async fn begun_by_another_host() -> Arc<MemoryStore> {
    let mut first = begin(Arc::default(), 2);
    first.submit(1).await.unwrap();
    assert_eq!(first.told().await, Told::Start(attempt(1)));
    first.stop().await
}

/// To start it again could have it run twice.
#[tokio::test]
async fn what_a_silent_supervisor_may_have_waits_for_it_and_nothing_else_does() {
    let mut second = begin_beside(begun_by_another_host().await, 2, true);
    second.submit(2).await.unwrap();
    assert_eq!(
        second.told().await,
        Told::Start(attempt(2)),
        "and not the first"
    );
    second.reports.reached().await;
    second.engine.capacity().await.unwrap();
    assert!(
        second.told.try_recv().is_err(),
        "another one is silent still"
    );

    second.attempts.silent.store(false, Ordering::Release);
    second.reports.reached().await;
    assert_eq!(
        second.told().await,
        Told::Start(attempt(1)),
        "nobody has it"
    );
    second.stop().await;
}

#[tokio::test]
async fn what_turns_up_with_a_silent_supervisor_is_taken_up() {
    let mut second = begin_beside(begun_by_another_host().await, 2, true);
    second.attempts.known.lock().unwrap().push(attempt(1));
    second.attempts.silent.store(false, Ordering::Release);
    second.reports.reached().await;
    assert_eq!(second.told().await, Told::Resume(attempt(1)));
    second.stop().await;
}
