//! Jumps of the wall clock. A wait for a time of the wall clock follows the jump, but a deadline
//! does not.

use super::*;

const HOUR_MS: i64 = 3_600_000;

fn limited(retry_after: std::time::Duration) -> Ending {
    Ending {
        cause: Cause::Class(claudine_domain::outcome::ReasonClass::RateLimit),
        retry_after: Some(retry_after),
        ..success()
    }
}

/// Starts a task that has an account, and ends its first attempt at a usage limit.
async fn park(fixture: &mut Fixture, ending: Ending) {
    let account = claudine_domain::id::AccountKey("a".to_owned());
    let parked = Request {
        account: Some(account),
        ..request()
    };
    fixture.submit_as(1, parked).await.unwrap();
    assert_eq!(fixture.told().await, Told::Start(attempt(1)));
    let ending = Report::Ended(Box::new(ending));
    fixture.tell(attempt(1), ending).await;
    assert_eq!(fixture.told().await, Told::Release(attempt(1)));
}

/// The second attempt of the parked task.
fn again() -> AttemptId {
    AttemptId {
        task: id(1),
        number: 2,
    }
}

/// The wall clock is read whenever the engine wakes, and after half a minute at the latest.
#[tokio::test]
async fn a_wait_ends_even_if_the_clock_jumps_past_its_end() {
    let mut fixture = begin(Arc::default(), 1);
    park(&mut fixture, limited(std::time::Duration::from_hours(1))).await;
    // The clock is set back to a time before the submission, and the task waits.
    crate::clock::jump_wall(-3 * HOUR_MS);
    fixture.engine.capacity().await.unwrap();
    assert_eq!(fixture.engine.capacity().await.unwrap().running, 0);
    crate::clock::jump_wall(3 * HOUR_MS + HOUR_MS);
    fixture.engine.capacity().await.unwrap();
    assert_eq!(fixture.told().await, Told::Start(again()));
    fixture.stop().await;
}

/// If the end of a usage limit is unknown, a task waits for an hour at most.
#[tokio::test]
async fn setting_the_clock_back_does_not_prolong_a_wait() {
    let mut fixture = begin(Arc::default(), 1);
    let ending = Ending {
        retry_after: None,
        ..limited(std::time::Duration::ZERO)
    };
    park(&mut fixture, ending).await;
    crate::clock::jump_wall(-24 * HOUR_MS);
    for _ in 0..2 {
        assert_eq!(fixture.engine.capacity().await.unwrap().running, 0);
    }
    crate::clock::jump_wall(HOUR_MS);
    fixture.engine.capacity().await.unwrap();
    assert_eq!(fixture.told().await, Told::Start(again()));
    fixture.stop().await;
}

/// Deadlines use the clock that does not jump.
#[tokio::test]
async fn a_clock_jump_causes_no_timeout() {
    let mut fixture = begin(Arc::default(), 1);
    let bounded = Request {
        timeout: Some(std::time::Duration::from_hours(1)),
        start_timeout: Some(std::time::Duration::from_mins(2)),
        ..request()
    };
    fixture.submit_as(1, bounded).await.unwrap();
    assert_eq!(fixture.told().await, Told::Start(attempt(1)));
    let mut later = 100;
    for jump in [48 * HOUR_MS, -96 * HOUR_MS, 48 * HOUR_MS] {
        crate::clock::jump_wall(jump);
        later += 1;
        fixture.submit(later).await.unwrap();
        assert_eq!(fixture.engine.capacity().await.unwrap().running, 1);
    }
    fixture.end(attempt(1)).await;
    loop {
        match fixture.told().await {
            Told::Release(of) if of == attempt(1) => break,
            Told::Start(_) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(fixture.outcome(1), Some(Outcome::Succeeded));
    fixture.stop().await;
}
