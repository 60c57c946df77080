//! Attempts that are stopped.

use std::{pin::pin, sync::Arc, time::Duration};

use tokio::sync::oneshot;

use super::House;
use crate::{
    clock,
    plugin::{
        error::GuestEnd,
        fixtures::{self, Recorder, Wat},
        port::{GuestOutcome, Start, StopRequest},
    },
};

async fn stopped(wat: Wat, grace: Duration) -> Result<GuestOutcome, GuestEnd> {
    stopped_in(&Arc::default(), wat, grace).await
}

async fn stopped_in(
    host: &Arc<Recorder>,
    wat: Wat,
    grace: Duration,
) -> Result<GuestOutcome, GuestEnd> {
    let house = House::with(&wat.component());
    let (ask, stop) = oneshot::channel();
    ask.send(StopRequest {
        reason: "cancelled".into(),
        grace,
        last_words: SHORT,
    })
    .unwrap();
    house
        .executor()
        .run(fixtures::task(), Start::Fresh, host.clone(), stop)
        .await
}

const LONG: Duration = Duration::from_mins(1);

const SHORT: Duration = Duration::from_millis(50);

#[tokio::test]
async fn stop_is_called_while_run_is_pending() {
    let outcome = stopped(Wat::good().with("run", fixtures::RUN_UNTIL_STOPPED), LONG)
        .await
        .unwrap();
    assert_eq!(outcome.cause, "success");
}

#[tokio::test]
async fn a_returned_outcome_counts_whether_or_not_the_guest_ends_after_it() {
    let wat = Wat::good().with("run", fixtures::RUN_RETURNS_AND_STAYS);
    // This guest ends once `stop` was called, long before the end of the grace period.
    let stopped_in_time = Box::pin(clock::within(LONG / 2, stopped(wat.clone(), LONG)));
    assert_eq!(stopped_in_time.await.unwrap().unwrap().cause, "success");
    // This guest ignores the stop, and is dropped after the grace period.
    assert_eq!(
        stopped(wat.with("stop", "(return)"), SHORT)
            .await
            .unwrap()
            .cause,
        "success"
    );
}

#[tokio::test]
async fn a_guest_that_does_not_stop_is_dropped() {
    for wat in [
        Wat::good().run(fixtures::SLEEP_FOR_A_DAY),
        Wat::good()
            .with("run", fixtures::RUN_UNTIL_STOPPED)
            .with("stop", "(return)"),
        Wat::good().run(fixtures::SPIN),
    ] {
        assert_eq!(stopped(wat, SHORT).await.unwrap_err(), GuestEnd::Dropped);
    }
}

/// Only the guest can tell what the child has done, which may be known long after the stop: its
/// supervisor may be suspended.
#[tokio::test]
async fn a_guest_is_not_dropped_as_long_as_a_child_may_be_alive() {
    let host = Arc::<Recorder>::default();
    host.is_child_alive.send_replace(true);
    let sleeps = Wat::good().run(fixtures::SLEEP_FOR_A_DAY);
    let mut run = pin!(stopped_in(&host, sleeps, SHORT));
    let asked_about_children = async {
        // The guest is told to stop, and then its children are watched.
        while host.is_child_alive.receiver_count() == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        end = &mut run => panic!("{end:?} while a child is alive"),
        () = asked_about_children => {}
    }
    let waits = clock::within(SHORT * 4, &mut run).await;
    assert!(waits.is_none(), "{waits:?} while a child is alive");
    host.is_child_alive.send_replace(false);
    assert_eq!(run.await.unwrap_err(), GuestEnd::Dropped);
}

#[tokio::test]
async fn a_crash_while_stopping_is_not_resumed() {
    let end = stopped(
        Wat::good()
            .with("run", fixtures::RUN_UNTIL_STOPPED)
            .with("stop", fixtures::TRAP),
        LONG,
    )
    .await
    .unwrap_err();
    assert!(matches!(end, GuestEnd::Crashed { times: 1, .. }), "{end}");
}
