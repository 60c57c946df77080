//! Tests of pruning: which rows are removed, and which are kept.

use std::sync::Arc;

use claudine_domain::{
    attempt::Phase,
    batch::{Batch, DocumentKey, Pruned},
    dependency::Condition,
    event::Fact,
    outcome::Outcome,
    principal::Principal,
    revision::Requested,
    task::{Class, Idempotency, State},
};

use super::{Leader, after, check, depending, ids, of_tasks, old};
use crate::store::{
    Filter, Old, Prunable,
    samples::{asked, at, child, done, event, id, in_graph, ready, running},
};

/// Tasks that have used a session can close it. It must stay closed after their removal.
#[test]
fn prunable_tasks_tell_until_when_and_by_whom_a_session_may_have_been_used_in_them() {
    check(|store| {
        let mut leader = Leader::of(store);
        let client = Arc::new(Principal {
            restrained: true,
            ..Principal::default()
        });
        let agent = |number, by: &Arc<Principal>| {
            asked(ready(number), |request| {
                request.class = Class::Agent;
                request.by = by.clone();
            })
        };
        let owner = Arc::default();
        let ran = |task| done(running(task, Phase::Live), Outcome::Failed);
        let mut resumed = ran(agent(4, &client));
        resumed.requested = vec![Requested {
            from_attempt: 1,
            by: Arc::clone(&owner),
        }];
        let tasks = [
            ran(ready(1)),
            ran(agent(2, &owner)),
            ran(agent(3, &client)),
            resumed,
            done(agent(5, &owner), Outcome::Cancelled),
        ];
        let ends = tasks.clone().map(|task| match task.state {
            State::Done { at, .. } => Some(at),
            _ => None,
        });
        leader.commit(of_tasks(tasks));
        let found = store.prunable(old(at(9)), None, 9).unwrap();
        let to: Vec<_> = found.iter().map(|found| found.session_to).collect();
        assert_eq!(to, [None, ends[1], ends[2], ends[3], None]);
        assert!(ends[1..4].iter().all(Option::is_some));
        let unrestrained: Vec<_> = found.iter().map(|found| found.is_unrestrained).collect();
        assert_eq!(unrestrained, [true, true, false, true, true]);
    });
}

#[test]
fn old_finished_tasks_are_pruned() {
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
        let found = store.prunable(old(at(8)), None, 2).unwrap();
        let expected = [(6, vec![]), (7, vec![1])].map(|(number, attempts)| Prunable {
            task: id(number),
            attempts,
            session_to: None,
            is_unrestrained: true,
        });
        assert_eq!(found, expected);
        let rest = store.prunable(old(at(8)), Some(id(6)), 2).unwrap();
        assert_eq!(rest, expected[1..]);
        assert_eq!(leader.prune(at(8), 2), [id(6), id(7)]);
        assert_eq!(leader.prune(at(8), 2), []);
        let all = (1..=9).map(id).collect();
        let known = store.known(&all).unwrap();
        assert_eq!(known, [2, 3, 4, 8].map(id).into());
        assert_eq!(ids(store, &Filter::default()), [id(8), id(4), id(3), id(2)]);
        for number in [1, 5, 6, 7] {
            assert_eq!(store.document(DocumentKey::Spec(id(number))).unwrap(), None);
        }
        let events = store.events_after(0, 100).unwrap();
        assert_eq!(events.len(), 8, "pruning tasks removes no events");
        // The parent task can be pruned once its child task has ended.
        leader.put([done(child(4, 3), Outcome::Succeeded), finished(2)]);
        assert_eq!(leader.prune(at(1_000), 100), [id(2), id(3), id(4), id(8)]);
        leader.forget(Pruned {
            events_to: 8,
            ..Pruned::default()
        });
        assert_eq!(store.events_after(0, 100).unwrap(), []);
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

/// While a task's key is remembered, a repeated request is answered with the task.
#[test]
fn a_task_with_a_key_is_kept_as_long_as_its_key() {
    check(|store| {
        let mut leader = Leader::of(store);
        let keyed = |number| {
            let task = asked(ready(number), |request| {
                request.idempotency = Some(Box::new(Idempotency {
                    key: format!("key {number}"),
                    payload_digest: "digest".to_owned(),
                }));
            });
            done(task, Outcome::Succeeded)
        };
        leader.put([
            keyed(1),
            done(ready(2), Outcome::Succeeded),
            keyed(3),
            keyed(4),
        ]);
        let check = |keyed_before: u64, expected: &[u64]| {
            let old = Old {
                finished_before: at(100),
                keyed_before: at(keyed_before),
            };
            let found = store.prunable(old, None, 10).unwrap();
            let expected: Vec<_> = expected.iter().map(|number| id(*number)).collect();
            let found: Vec<_> = found.into_iter().map(|found| found.task).collect();
            assert_eq!(found, expected, "{keyed_before}");
            // No task counts as old while its key is remembered.
            let remembered = store.load(at(keyed_before)).unwrap().remembered;
            let mut remembered = remembered.iter().map(|(_, remembered)| remembered.task);
            assert!(remembered.all(|task| !found.contains(&task)));
        };
        check(0, &[2]);
        check(1, &[2]);
        check(2, &[1, 2]);
        check(4, &[1, 2, 3]);
        check(100, &[1, 2, 3, 4]);
    });
}

#[test]
fn dependencies_of_unfinished_tasks_are_not_pruned() {
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

/// The name of a graph is stored in the graph's first task.
#[test]
fn the_first_task_of_a_graph_is_kept_as_long_as_any_other_task_of_the_graph() {
    check(|store| {
        let mut leader = Leader::of(store);
        let finished = |task| done(task, Outcome::Succeeded);
        leader.put([
            finished(in_graph(1, 1, Some("release"))),
            finished(in_graph(2, 1, None)),
            in_graph(3, 1, None),
            finished(in_graph(4, 4, Some("alone"))),
        ]);
        assert_eq!(leader.prune(at(1_000), 10), [id(2), id(4)]);
        assert_eq!(leader.prune(at(1_000), 10), []);
        assert_eq!(store.graphs_named("release", 10).unwrap(), [id(1)]);
        leader.put([finished(in_graph(3, 1, None))]);
        assert_eq!(leader.prune(at(1_000), 10), [id(3)]);
        assert_eq!(leader.prune(at(1_000), 10), [id(1)]);
    });
}
