//! Tests of commits: which leader may commit, in which order batches are committed, and that a
//! batch is stored as a whole or not at all.

use claudine_domain::{
    batch::{Batch, DocumentKey},
    event::Fact,
    id::AccountKey,
    outcome::Outcome,
    time::Timestamp,
};

use super::{Leader, check, everything, ids, of_tasks};
use crate::store::{
    Filter, StoreError,
    samples::{batch, done, event, id, ready},
};

#[test]
fn a_replaced_leader_cannot_commit() {
    check(|store| {
        let mut old = Leader::of(store);
        old.put([ready(1)]);
        let mut new = Leader {
            last: old.last,
            ..Leader::of(store)
        };
        assert!(new.epoch > old.epoch);
        let refused = old.try_commit(of_tasks([ready(2)])).unwrap_err();
        assert!(
            matches!(refused, StoreError::Fenced { held, current } if held == old.epoch && current == new.epoch),
            "{refused:?}"
        );
        assert_eq!(store.task(id(2)).unwrap(), None);
        assert_eq!(store.lead_after(70).unwrap().0, 71);
        assert!(store.lead_after(70).unwrap().0 > 71);
        new.epoch = store.lead().unwrap();
        new.put([ready(3)]);
        assert_eq!(store.load(Timestamp(0)).unwrap().last_batch, 2);
    });
}

#[test]
fn batches_are_committed_once_and_in_order() {
    check(|store| {
        let epoch = store.lead().unwrap();
        let numbered = |number, task| Batch {
            number,
            ..of_tasks([task])
        };
        store.commit(epoch, &numbered(4, ready(1))).unwrap();
        for number in [0, 3, 4] {
            let refused = store
                .commit(epoch, &numbered(number, ready(2)))
                .unwrap_err();
            assert!(
                matches!(refused, StoreError::OutOfOrder { last: 4, .. }),
                "{refused:?}"
            );
        }
        store.commit(epoch, &numbered(6, ready(3))).unwrap();
        assert_eq!(ids(store, &Filter::default()), [id(3), id(1)]);
    });
}

#[test]
fn a_failed_commit_changes_nothing_in_the_store() {
    check(|store| {
        let mut leader = Leader::of(store);
        leader.commit(batch());
        let before = everything(store);
        store.set_full(true);
        let large = Batch {
            documents: vec![(DocumentKey::Spec(id(50)), vec![7; 1 << 20].into())],
            accounts: vec![(AccountKey("/home/someone/.claude#5c".to_owned()), None)],
            events: vec![event(50, Fact::Submitted)],
            ..of_tasks([ready(50), done(ready(1), Outcome::Succeeded)])
        };
        let refused = leader.try_commit(large.clone()).unwrap_err();
        assert!(matches!(refused, StoreError::Full { .. }), "{refused:?}");
        assert_eq!(everything(store), before);
        store.set_full(false);
        leader.commit(large);
        assert_eq!(
            store.events_after(9, 10).unwrap(),
            [(10, event(50, Fact::Submitted))]
        );
        assert!(store.load(Timestamp(0)).unwrap().accounts.is_empty());
        assert_eq!(
            store
                .document(DocumentKey::Spec(id(50)))
                .unwrap()
                .unwrap()
                .len(),
            1 << 20
        );
    });
}
