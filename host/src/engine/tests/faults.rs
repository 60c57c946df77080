//! Failures of the parts on which the engine relies. The engine still answers, and ends with a
//! reason if it cannot continue.

use super::*;

/// The error with which `command` is refused while the board cannot be loaded.
async fn refused_meanwhile(fixture: &Fixture) -> EngineError {
    loop {
        match fixture.engine.command(Input::SetSlots(None)).await {
            Err(error @ EngineError::Reloading(_)) => return error,
            // The failing commit is not over yet.
            _ => tokio::task::yield_now().await,
        }
    }
}

#[tokio::test]
async fn an_engine_whose_store_was_taken_over_ends_with_a_reason() {
    let fixture = begin(Arc::default(), 1);
    fixture.store.lead().unwrap();
    assert!(matches!(
        fixture.submit(1).await,
        Err(EngineError::Store(_))
    ));
    let end = fixture.task.await.unwrap().unwrap_err();
    assert!(matches!(end, EngineEnd::Fenced), "{end}");
    let after = fixture.engine.command(Input::Drain).await;
    assert!(matches!(after, Err(EngineError::Leaving)), "{after:?}");
    assert!(!fixture.engine.answers().await);
}

#[tokio::test]
async fn an_engine_whose_store_is_removed_refuses_the_work_and_ends_with_a_reason() {
    let fixture = begin(Arc::default(), 1);
    fixture.store.lose_files();
    assert!(matches!(
        fixture.submit(1).await,
        Err(EngineError::Store(_))
    ));
    let end = fixture.task.await.unwrap().unwrap_err();
    assert!(matches!(end, EngineEnd::Gone(_)), "{end}");
}

#[tokio::test]
async fn an_engine_without_its_commit_thread_ends_with_a_reason() {
    let fixture = begin(Arc::default(), 1);
    assert!(fixture.engine.answers().await);
    fixture.store.panic_at_commit();
    assert!(matches!(fixture.submit(1).await, Err(EngineError::Down)));
    let end = fixture.task.await.unwrap().unwrap_err();
    assert!(matches!(end, EngineEnd::CommitThread), "{end}");
}

#[tokio::test]
async fn commands_are_answered_while_the_board_cannot_be_loaded() {
    let fixture = begin(Arc::default(), 1);
    fixture.store.fail_commits(2);
    fixture.store.fail_loads(u32::MAX);
    fixture.submit(1).await.unwrap_err();
    let error = refused_meanwhile(&fixture).await;
    assert!(
        error.to_string().contains("cannot read its store"),
        "{error}"
    );
    assert!(
        fixture.engine.answers().await,
        "the engine tries to load the board"
    );
    assert!(fixture.engine.capacity().await.is_err());
    while fixture.engine.snapshot().trouble.unreadable.is_none() {
        tokio::task::yield_now().await;
    }
    // The engine can be stopped while the board cannot be loaded.
    fixture.stop().await;
}

#[tokio::test]
async fn the_engine_works_after_a_later_try_has_loaded_the_board() {
    let mut fixture = begin(Arc::default(), 1);
    fixture.store.fail_commits(2);
    fixture.store.fail_loads(3);
    fixture.submit(1).await.unwrap_err();
    while fixture.submit(2).await.is_err() {}
    assert_eq!(fixture.told().await, Told::Start(attempt(2)));
    assert_eq!(fixture.engine.snapshot().trouble.unreadable, None);
    fixture.stop().await;
}

#[tokio::test]
async fn an_engine_ends_if_its_store_stays_unreadable() {
    let fixture = begin(Arc::default(), 1);
    fixture.store.fail_commits(2);
    fixture.store.fail_loads(u32::MAX);
    fixture.submit(1).await.unwrap_err();
    let end = fixture.task.await.unwrap().unwrap_err();
    assert!(matches!(end, EngineEnd::Reload { tries: 30, .. }), "{end}");
}

#[tokio::test]
async fn an_engine_that_can_store_nothing_says_so_after_several_tries_and_can_be_stopped() {
    let fixture = begin(Arc::default(), 1);
    fixture.store.fail_commits(u32::MAX);
    let fails = || fixture.engine.command(Input::Pause(true));
    fails().await.unwrap_err();
    // An earlier failure does not count.
    while fixture.engine.snapshot().trouble.unstored().is_none() {
        tokio::task::yield_now().await;
    }
    let engine = fixture.engine.clone();
    let waiting = tokio::spawn(async move { engine.stores_nothing().await });
    tokio::task::yield_now().await;
    for _ in 0..3 {
        assert!(!waiting.is_finished());
        fails().await.unwrap_err();
    }
    let why = waiting.await.unwrap();
    assert!(why.contains("no space is left"), "{why}");
    // The engine ends although this decision cannot be stored.
    let (refused, ()) = tokio::join!(fails(), fixture.engine.stop());
    refused.unwrap_err();
    fixture.task.await.unwrap().unwrap();
}
