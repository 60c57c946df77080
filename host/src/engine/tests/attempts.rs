//! Orders to attempts, and their reports.

use claudine_domain::{attempt::Phase, event::Fact, step::Cancelling};

use super::*;

#[tokio::test]
async fn the_next_attempt_is_prepared_early_and_dismissed_if_it_is_no_longer_next() {
    let mut fixture = begin(Arc::default(), 1);
    for number in 1..=3 {
        fixture.submit(number).await.unwrap();
    }
    assert_eq!(fixture.next.recv().await, Some(Next::Prepare(attempt(2))));
    let cancel = Input::Cancel {
        task: id(2),
        reason: None,
    };
    fixture.engine.command(cancel).await.unwrap();
    let named = [fixture.next.recv().await, fixture.next.recv().await];
    let expected = [Next::Prepare(attempt(3)), Next::Dismiss(attempt(2))];
    assert_eq!(named, expected.map(Some));
    assert_eq!(fixture.told().await, Told::Start(attempt(1)));
}

/// The test covers the phase `preparing`, before the attempt's first process, and the phase
/// `settling`, before its work is settled.
#[tokio::test]
async fn an_attempt_continues_once_its_phase_is_durable() {
    let mut fixture = begin(Arc::default(), 1);
    let measured = Request {
        start_timeout: Some(std::time::Duration::from_mins(2)),
        ..request()
    };
    fixture.submit_as(1, measured).await.unwrap();
    assert_eq!(fixture.told().await, Told::Start(attempt(1)));
    let phase = |fixture: &Fixture| {
        let task = fixture.store.task(id(1)).unwrap().unwrap();
        task.phase().cloned()
    };
    assert_eq!(phase(&fixture), Some(Phase::Preparing));
    fixture.tell(attempt(1), Report::Prepared).await;
    assert_eq!(fixture.told().await, Told::Spawn(attempt(1)));
    assert_eq!(phase(&fixture), Some(Phase::Starting));
    let settling = Report::Settling(Box::new(success()));
    fixture.store.fail_commits(2);
    fixture.tell(attempt(1), settling.clone()).await;
    // The report was not written. Therefore nothing is settled, and the attempt is asked to repeat
    // the report.
    assert_eq!(fixture.told().await, Told::Resume(attempt(1)));
    fixture.tell(attempt(1), settling).await;
    assert_eq!(fixture.told().await, Told::Settle(attempt(1)));
    assert_eq!(phase(&fixture), Some(Phase::Settling));
    let store = fixture.stop().await;
    // Another host continues from the state on disk.
    let mut next = begin(store, 1);
    assert_eq!(next.told().await, Told::Resume(attempt(1)));
    next.end(attempt(1)).await;
    assert_eq!(next.told().await, Told::Release(attempt(1)));
    assert_eq!(next.outcome(1), Some(Outcome::Succeeded));
}

/// Two checkpoints are stored at the same time: each call returns when its own checkpoint is
/// durable, even if reports are repeated after a reload.
#[tokio::test]
async fn a_call_that_stores_a_checkpoint_returns_when_that_checkpoint_is_durable() {
    let mut fixture = one_running(1).await;
    let checkpoint = |number: u64| Report::Checkpoint {
        number,
        state: Arc::from(*b"state"),
    };
    fixture.store.fail_commits(2);
    fixture.tell(attempt(1), checkpoint(1)).await;
    assert_eq!(fixture.told().await, Told::Resume(attempt(1)));
    fixture.tell(attempt(1), checkpoint(1)).await;
    fixture.tell(attempt(1), checkpoint(2)).await;
    let told = [fixture.told().await, fixture.told().await];
    assert_eq!(told, [1, 2].map(|number| Told::Stored(attempt(1), number)));
}

/// A report that is repeated after a reload is applied, and a duplicate is ignored.
#[tokio::test]
async fn each_report_counts_once_and_is_acknowledged_once_it_is_durable() {
    let mut fixture = one_running(1).await;
    let progress = |number: u64| Report::Progress {
        kind: "step".to_owned(),
        data: number.to_string(),
    };
    let tell = async |fixture: &Fixture, number| {
        fixture.tell_as(attempt(1), number, progress(number)).await;
    };
    tell(&fixture, 1).await;
    assert_eq!(fixture.acknowledged.recv().await, Some(1));
    fixture.store.fail_commits(2);
    tell(&fixture, 2).await;
    assert_eq!(fixture.told().await, Told::Resume(attempt(1)));
    assert!(
        fixture.acknowledged.try_recv().is_err(),
        "the report was not written"
    );
    for number in [2, 1, 2, 3] {
        tell(&fixture, number).await;
    }
    for number in [2, 3] {
        assert_eq!(fixture.acknowledged.recv().await, Some(number));
    }
    let store = fixture.stop().await;
    let events = store.events_after(0, usize::MAX).unwrap();
    let told = events
        .into_iter()
        .filter_map(|(_, event)| match event.fact {
            Fact::Progress { data, .. } => Some(data),
            _ => None,
        });
    assert_eq!(told.collect::<Vec<_>>(), ["1", "2", "3"]);
}

#[tokio::test]
async fn an_attempt_is_asked_to_repeat_an_end_whose_commit_failed() {
    let mut fixture = one_running(1).await;
    fixture.store.fail_commits(2);
    fixture.end(attempt(1)).await;
    // The board was loaded again. This host knows the attempt, so the attempt is asked to repeat
    // its reports.
    assert_eq!(fixture.told().await, Told::Resume(attempt(1)));
    assert_eq!(fixture.outcome(1), None);
    fixture.end(attempt(1)).await;
    assert_eq!(fixture.told().await, Told::Release(attempt(1)));
    assert_eq!(fixture.outcome(1), Some(Outcome::Succeeded));
}

#[tokio::test]
async fn reports_after_the_end_are_dropped_and_counted() {
    let mut fixture = one_running(1).await;
    fixture.end(attempt(1)).await;
    assert_eq!(fixture.told().await, Told::Release(attempt(1)));
    fixture.tell(attempt(1), Report::Alive).await;
    fixture.end(attempt(1)).await;
    // After a repeated end, the attempt is released again. The answer to the next submission shows
    // that all earlier reports of the round are counted.
    assert_eq!(fixture.told().await, Told::Release(attempt(1)));
    fixture.submit(2).await.unwrap();
    assert_eq!(fixture.engine.snapshot().dropped_reports, 2);
    // The end of a wait inside an attempt that is over does not count as a report.
    drop(fixture.engine.wait_of(attempt(1)));
    // The board is loaded again after a failed commit; the count is not reset.
    fixture.store.fail_commits(2);
    fixture.submit(3).await.unwrap_err();
    fixture.submit(4).await.unwrap();
    assert_eq!(fixture.engine.snapshot().dropped_reports, 2);
}

#[tokio::test]
async fn cancelling_a_running_task_stops_it_and_it_ends_as_cancelled() {
    let mut fixture = one_running(1).await;
    let answer = fixture
        .engine
        .command(Input::Cancel {
            task: id(1),
            reason: None,
        })
        .await
        .unwrap();
    assert_eq!(
        answer,
        Answer::Cancelling {
            task: id(1),
            how: Cancelling::Stopping
        }
    );
    assert_eq!(fixture.told().await, Told::Stop(attempt(1)));
    let killed = Ending {
        cause: Cause::Class(claudine_domain::outcome::ReasonClass::Signal),
        signal: Some(15),
        ..success()
    };
    fixture
        .tell(attempt(1), Report::Ended(Box::new(killed)))
        .await;
    assert_eq!(fixture.told().await, Told::Release(attempt(1)));
    assert_eq!(fixture.outcome(1), Some(Outcome::Cancelled));
}
