//! Events: numbered, found by number and by time, and forgotten.

use claudine_domain::{batch::Batch, event::Fact};

use super::{Leader, check, of_tasks};
use crate::store::{
    Epoch,
    samples::{at, event, id, ready},
};

#[test]
fn events_are_numbered_on_and_read_in_parts() {
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
        // The clock is set back after the second.
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
        let pruned = store.prune(Epoch(1), at(6), 100).unwrap();
        assert_eq!(pruned, []);
        check(0, Some(4));
        assert_eq!(store.last_event().unwrap(), 4);
    });
}

#[test]
fn events_are_pruned_from_the_oldest_on_and_in_parts() {
    check(|store| {
        let mut leader = Leader::of(store);
        leader.commit(Batch {
            // The eleventh was written after the clock had been set back.
            events: (1..=60)
                .map(|number| event(if number == 11 { 1 } else { number }, Fact::Submitted))
                .collect(),
            ..of_tasks([ready(1)])
        });
        let check = |older_than: u64, limit: usize, left: std::ops::RangeInclusive<u64>| {
            assert_eq!(leader.prune(at(older_than), limit), []);
            let events = store.events_after(0, 100).unwrap();
            let found: Vec<_> = events.iter().map(|(sequence, _)| *sequence).collect();
            assert_eq!(found, left.collect::<Vec<_>>());
        };
        check(1, 10, 1..=60);
        check(10, 10, 10..=60);
        check(11, 10, 12..=60);
        check(50, 1, 28..=60);
        check(50, 0, 28..=60);
        check(50, 1, 44..=60);
        check(50, 10, 50..=60);
        assert_eq!(store.task(id(1)).unwrap(), Some(ready(1)));
    });
}
