//! Tests of events: they are numbered, found by number and by time, and removed.

use claudine_domain::{
    batch::{Batch, Pruned},
    event::Fact,
};

use super::{Leader, check, of_tasks};
use crate::store::samples::{at, event, id, ready};

#[test]
fn events_are_numbered_in_order_and_read_in_parts() {
    check(|store| {
        let mut leader = Leader::of(store);
        for first in [1, 4, 7] {
            let events = (first..first + 3).map(|number| event(number, Fact::Submitted));
            leader.commit(Batch {
                events: events.collect(),
                ..Batch::default()
            });
        }
        let check = |after: u64, limit: usize, expected: std::ops::Range<u64>| {
            let expected: Vec<_> = expected.map(|n| (n, event(n, Fact::Submitted))).collect();
            assert_eq!(store.events_after(after, limit).unwrap(), expected);
        };
        check(0, 100, 1..10);
        check(0, 4, 1..5);
        check(4, 4, 5..9);
        check(8, 4, 9..10);
        check(9, 4, 10..10);
        check(3, 0, 4..4);
    });
}

#[test]
fn events_are_found_by_their_time() {
    check(|store| {
        assert_eq!(store.last_event().unwrap(), 0);
        assert_eq!(store.first_event_since(at(0)).unwrap(), None);
        let mut leader = Leader::of(store);
        // The clock is set back after the second event.
        leader.commit(Batch {
            events: [1, 5, 3, 7]
                .map(|number| event(number, Fact::Submitted))
                .into(),
            ..Batch::default()
        });
        assert_eq!(store.last_event().unwrap(), 4);
        let check = |second: u64, expected: Option<u64>| {
            assert_eq!(store.first_event_since(at(second)).unwrap(), expected);
        };
        check(0, Some(1));
        check(1, Some(1));
        check(2, Some(2));
        check(5, Some(2));
        check(6, Some(4));
        check(8, None);
        leader.forget(Pruned {
            events_to: 3,
            ..Pruned::default()
        });
        check(0, Some(4));
        assert_eq!(store.last_event().unwrap(), 4);
    });
}

#[test]
fn old_events_are_found_oldest_first_and_in_parts() {
    check(|store| {
        let mut leader = Leader::of(store);
        leader.commit(Batch {
            // The eleventh event was written after the clock had been set back.
            events: (1..=60)
                .map(|number| event(if number == 11 { 1 } else { number }, Fact::Submitted))
                .collect(),
            ..of_tasks([ready(1)])
        });
        let mut check = |older_than: u64, limit: usize, expected: Option<u64>| {
            let last = store.last_old_event(at(older_than), limit).unwrap();
            assert_eq!(last, expected);
            leader.forget(Pruned {
                events_to: last.unwrap_or(0),
                ..Pruned::default()
            });
            let first = store.events_after(0, 1).unwrap();
            assert_eq!(first[0].0, last.map_or(first[0].0, |last| last + 1));
        };
        check(1, 100, None);
        check(10, 100, Some(9));
        check(10, 100, None);
        check(11, 100, Some(11));
        check(50, 16, Some(27));
        check(50, 0, None);
        check(50, 16, Some(43));
        check(50, 100, Some(49));
        check(50, 100, None);
        assert_eq!(store.task(id(1)).unwrap(), Some(ready(1)));
    });
}
