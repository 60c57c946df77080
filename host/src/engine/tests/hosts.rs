//! The state that a host leaves behind, and how the next host continues from it.

use super::*;

/// A question in the first moments of a host is answered from the whole queue.
#[tokio::test]
async fn a_new_host_knows_the_queue_from_the_start() {
    let first = one_running(1).await;
    first.submit(2).await.unwrap();
    let store = first.stop().await;
    // The engine has not run yet, because this runtime has one thread and nothing is awaited.
    let second = begin(store, 1);
    let snapshot = second.engine.snapshot();
    assert_eq!(snapshot.running + snapshot.queued, 2);
    assert_eq!(snapshot.limits.slots, Slots::Fixed(1));
}

#[tokio::test]
async fn a_new_host_restarts_attempts_that_no_supervisor_received() {
    let mut first = begin(Arc::default(), 1);
    first.submit(1).await.unwrap();
    first.submit(2).await.unwrap();
    assert_eq!(first.told().await, Told::Start(attempt(1)));
    let store = first.stop().await;
    // The second host's runner does not know the two attempts, because no supervisor ever received
    // them.
    let mut second = begin(store, 1);
    assert_eq!(second.told().await, Told::Start(attempt(1)));
    second.end(attempt(1)).await;
    let mut rest = vec![second.told().await, second.told().await];
    rest.sort_by_key(|told| matches!(told, Told::Start(_)));
    assert_eq!(rest, [Told::Release(attempt(1)), Told::Start(attempt(2))]);
}

#[tokio::test]
async fn a_drained_host_starts_nothing_and_is_idle_after_the_last_end() {
    let mut fixture = begin(Arc::default(), 1);
    fixture.submit(1).await.unwrap();
    fixture.submit(2).await.unwrap();
    assert_eq!(fixture.told().await, Told::Start(attempt(1)));
    fixture.engine.command(Input::Drain).await.unwrap();
    assert!(matches!(
        fixture.submit(3).await,
        Err(EngineError::Draining)
    ));
    let engine = fixture.engine.clone();
    let idle = tokio::spawn(async move { engine.idle().await });
    fixture.end(attempt(1)).await;
    idle.await.unwrap().unwrap();
    assert_eq!(fixture.told().await, Told::Release(attempt(1)));
    assert!(
        fixture.told.try_recv().is_err(),
        "the second task was not started"
    );
    assert_eq!(fixture.outcome(2), None);
}

async fn begun_by_another_host() -> Arc<MemoryStore> {
    one_running(2).await.stop().await
}

/// A silent supervisor may have an attempt of an earlier host. If this host started the attempt
/// again, the attempt could run twice.
#[tokio::test]
async fn an_attempt_waits_for_a_silent_supervisor_only_if_the_supervisor_may_have_it() {
    let mut second = begin_beside(begun_by_another_host().await, 2, true);
    second.submit(2).await.unwrap();
    assert_eq!(
        second.told().await,
        Told::Start(attempt(2)),
        "the first attempt waits for the silent supervisor"
    );
    second.reports.reached().await;
    second.engine.capacity().await.unwrap();
    assert!(
        second.told.try_recv().is_err(),
        "another supervisor is still silent"
    );

    second.attempts.silent.store(false, Ordering::Release);
    second.reports.reached().await;
    assert_eq!(
        second.told().await,
        Told::Start(attempt(1)),
        "no supervisor has the attempt"
    );
    second.stop().await;
}

#[tokio::test]
async fn attempts_found_at_a_silent_supervisor_are_taken_over() {
    let mut second = begin_beside(begun_by_another_host().await, 2, true);
    second.attempts.known.lock().unwrap().push(attempt(1));
    second.attempts.silent.store(false, Ordering::Release);
    second.reports.reached().await;
    assert_eq!(second.told().await, Told::Resume(attempt(1)));
    second.stop().await;
}
