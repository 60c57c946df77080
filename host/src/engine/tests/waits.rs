//! Attempts that wait for their own descendants. Each attempt releases its slot while it waits.

use super::*;

#[tokio::test]
async fn an_attempt_gets_its_slot_back_whenever_its_wait_ends() {
    let mut fixture = one_running(1).await;
    for _ in 0..10_000 {
        // More waits end here than an inbox could hold, and the engine has not run yet, because
        // this runtime has one thread.
        drop(fixture.engine.wait_of(attempt(1)));
    }
    fixture.submit(2).await.unwrap();
    assert_eq!(fixture.engine.capacity().await.unwrap().running, 1);
    let waits = [(); 2].map(|()| fixture.engine.wait_of(attempt(1)));
    assert_eq!(
        fixture.told().await,
        Told::Start(attempt(2)),
        "the slot of the waiting attempt is free"
    );
    fixture.end(attempt(2)).await;
    assert_eq!(fixture.told().await, Told::Release(attempt(2)));
    drop(waits);
    fixture.submit(3).await.unwrap();
    fixture.engine.capacity().await.unwrap();
    assert!(
        fixture.told.try_recv().is_err(),
        "the attempt has its slot back"
    );
    fixture.stop().await;
}

#[tokio::test]
async fn a_wait_survives_reloading_the_board() {
    let mut fixture = one_running(1).await;
    let wait = fixture.engine.wait_of(attempt(1));
    fixture.store.fail_commits(2);
    fixture.submit(2).await.unwrap_err();
    assert_eq!(fixture.told().await, Told::Resume(attempt(1)));
    while fixture.submit(3).await.is_err() {}
    assert_eq!(fixture.told().await, Told::Start(attempt(3)));
    drop(wait);
    fixture.stop().await;
}
