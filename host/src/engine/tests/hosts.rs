//! How a host that ends leaves its work, and how the next one takes it up.

use super::*;

/// A question in the first moment of a host is not answered as if there were nothing.
#[tokio::test]
async fn a_new_host_knows_from_the_start_what_is_queued() {
    let first = one_running(1).await;
    first.submit(2).await.unwrap();
    let store = first.stop().await;
    // It has not taken a turn yet: this runtime has one thread, and nothing is awaited.
    let second = begin(store, 1);
    let snapshot = second.engine.snapshot();
    assert_eq!(snapshot.running + snapshot.queued, 2);
    assert_eq!(snapshot.limits.slots, Slots::Fixed(1));
}

#[tokio::test]
async fn a_new_host_starts_again_what_nobody_received() {
    let mut first = begin(Arc::default(), 1);
    first.submit(1).await.unwrap();
    first.submit(2).await.unwrap();
    assert_eq!(first.told().await, Told::Start(attempt(1)));
    let store = first.stop().await;
    // The second host's attempts know nothing of either: no supervisor ever got them.
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
        "the second was not started"
    );
    assert_eq!(fixture.outcome(2), None);
}

async fn begun_by_another_host() -> Arc<MemoryStore> {
    one_running(2).await.stop().await
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
