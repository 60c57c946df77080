//! What is forgotten, and what stays.

use claudine_domain::{
    attempt::Phase,
    batch::{Batch, DocumentKey},
    dependency::Condition,
    event::Fact,
    outcome::Outcome,
};

use super::{Leader, after, check, depending, ids, of_tasks};
use crate::store::{
    Filter, Pruned,
    samples::{at, child, done, event, id, ready, running},
};

#[test]
fn what_is_old_and_finished_is_pruned() {
    check(|store| {
        let mut leader = Leader::of(store);
        let finished = |number| done(running(ready(number), Phase::Live), Outcome::Succeeded);
        let documents = (1..=8).map(|number| (DocumentKey::Spec(id(number)), b"x"[..].into()));
        leader.commit(Batch {
            documents: documents.collect(),
            events: (1..=8)
                .map(|number| event(number, Fact::Submitted))
                .collect(),
            ..of_tasks([
                finished(1),
                ready(2),
                finished(3),
                child(4, 3),
                finished(5),
                done(child(6, 5), Outcome::Failed),
                finished(7),
                finished(8),
            ])
        });
        assert_eq!(leader.prune(at(1), 10), []);
        assert_eq!(leader.prune(at(7), 2), [id(1), id(5)]);
        let gone = store.prune(leader.epoch, at(8), 2).unwrap();
        let expected = [(6, vec![]), (7, vec![1])].map(|(number, attempts)| Pruned {
            task: id(number),
            attempts,
        });
        assert_eq!(gone, expected);
        assert_eq!(leader.prune(at(8), 2), []);
        assert_eq!(ids(store, &Filter::default()), [id(8), id(4), id(3), id(2)]);
        for number in [1, 5, 6, 7] {
            assert_eq!(store.document(DocumentKey::Spec(id(number))).unwrap(), None);
        }
        let events = store.events_after(0, 100).unwrap();
        let left: Vec<_> = events.iter().map(|(sequence, _)| *sequence).collect();
        assert_eq!(left, [8]);
        // The parent goes once its child has ended.
        leader.put([done(child(4, 3), Outcome::Succeeded), finished(2)]);
        assert_eq!(leader.prune(at(1_000), 100), [id(2), id(3), id(4), id(8)]);
        leader.commit(Batch {
            events: vec![event(9, Fact::Submitted)],
            ..Batch::default()
        });
        assert_eq!(
            store.events_after(0, 100).unwrap(),
            [(9, event(9, Fact::Submitted))]
        );
    });
}

#[test]
fn what_an_unfinished_task_depends_on_is_not_pruned() {
    check(|store| {
        let mut leader = Leader::of(store);
        let needed = done(ready(1), Outcome::Succeeded);
        let waiting = after(ready(2), &[(1, Condition::Succeeded)]);
        leader.commit(depending([needed, waiting.clone()]));
        assert_eq!(leader.prune(at(1_000), 10), []);
        leader.put([done(waiting, Outcome::Succeeded)]);
        assert_eq!(leader.prune(at(1_000), 10), [id(1), id(2)]);
        assert_eq!(store.dependants(id(1)).unwrap(), []);
    });
}
