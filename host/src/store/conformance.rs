//! What every back end has to do, run against each of them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::{collections::BTreeMap, sync::Arc};

use claudine_domain::{
    account::Parked,
    attempt::Phase,
    batch::{Batch, BatchNumber, DocumentKey},
    budget::{Day, Scope},
    dependency::{Condition, Dependency, End},
    event::Fact,
    group::Group,
    id::{AccountKey, AttemptId, TaskId},
    outcome::Outcome,
    profile::{Profile, ProfileKey},
    task::{Idempotency, State, Task},
    time::Timestamp,
};
use proptest::prelude::*;

use super::{
    Epoch, Filter, Pruned, Resolved, Status, StatusFilter, Store, StoreError,
    memory::MemoryStore,
    samples::{
        asked, at, batch, child, done, event, id, named, profile, profiles, ready, running, tasks,
    },
    sqlite::SqliteStore,
};

/// A back end that can be made to run out of space.
pub(super) trait Subject: Store {
    fn set_full(&self, full: bool);
}

impl Subject for MemoryStore {
    fn set_full(&self, full: bool) {
        self.fail_commits(if full { u32::MAX } else { 0 });
    }
}

impl Subject for SqliteStore {
    fn set_full(&self, full: bool) {
        self.limit_pages(full);
    }
}

/// Runs a case on an empty store of each kind.
fn check(case: impl Fn(&dyn Subject)) {
    case(&MemoryStore::new());
    let directory = tempfile::tempdir().unwrap();
    case(&SqliteStore::open(&directory.path().join("claudine.db")).unwrap());
}

/// A leader that commits one batch after the other.
struct Leader<'a> {
    store: &'a dyn Subject,
    epoch: Epoch,
    last: BatchNumber,
}

impl<'a> Leader<'a> {
    fn of(store: &'a dyn Subject) -> Self {
        let epoch = store.lead().unwrap();
        Self {
            store,
            epoch,
            last: 0,
        }
    }

    fn try_commit(&mut self, mut batch: Batch) -> Result<(), StoreError> {
        batch.number = self.last + 1;
        self.store.commit(self.epoch, &batch)?;
        self.last = batch.number;
        Ok(())
    }

    fn commit(&mut self, batch: Batch) {
        self.try_commit(batch).unwrap();
    }

    fn put(&mut self, tasks: impl IntoIterator<Item = Task>) {
        self.commit(of_tasks(tasks));
    }

    fn prune(&self, older_than: Timestamp, limit: usize) -> Vec<TaskId> {
        let gone = self.store.prune(self.epoch, older_than, limit).unwrap();
        gone.into_iter().map(|pruned| pruned.task).collect()
    }
}

fn of_tasks(tasks: impl IntoIterator<Item = Task>) -> Batch {
    Batch {
        tasks: tasks.into_iter().map(Arc::new).collect(),
        ..Batch::default()
    }
}

/// All that can be read, as text: two stores that show the same hold the same.
pub(super) fn everything(store: &dyn Store) -> String {
    let all = store.list(&Filter::default(), usize::MAX).unwrap();
    let documents = all.tasks.iter().flat_map(|task| {
        let of_attempts = task.attempts.iter().flat_map(|attempt| {
            let attempt = AttemptId {
                task: task.id,
                number: attempt.number,
            };
            [
                DocumentKey::Outputs(attempt),
                DocumentKey::Checkpoint(attempt),
            ]
        });
        let keys = of_attempts.chain([DocumentKey::Spec(task.id)]);
        keys.map(|key| (key, store.document(key).unwrap()))
            .collect::<Vec<_>>()
    });
    format!(
        "{:#?}",
        (
            store.load(Timestamp(0)).unwrap(),
            documents.collect::<Vec<_>>(),
            store.events_after(0, usize::MAX).unwrap(),
            store.counts().unwrap(),
            store.env_digests_in_use().unwrap(),
            all,
        )
    )
}

fn ids(store: &dyn Subject, filter: &Filter) -> Vec<TaskId> {
    let page = store.list(filter, 1_000).unwrap();
    page.tasks.iter().map(|task| task.id).collect()
}

#[test]
fn an_empty_store_has_nothing() {
    check(|store| {
        let stored = store.load(Timestamp(0)).unwrap();
        assert!(stored.unfinished.is_empty() && stored.accounts.is_empty());
        assert_eq!((stored.last_batch, stored.remembered.len()), (0, 0));
        assert_eq!(store.task(id(1)).unwrap(), None);
        assert_eq!(store.document(DocumentKey::Spec(id(1))).unwrap(), None);
        assert_eq!(store.list(&Filter::default(), 10).unwrap().next, None);
        assert_eq!(store.resolve("anything").unwrap(), Resolved::NotFound);
        assert_eq!(store.counts().unwrap(), []);
        assert_eq!(store.events_after(0, 10).unwrap(), []);
        assert_eq!(store.events_after(u64::MAX, 10).unwrap(), []);
        assert_eq!(store.env_digests_in_use().unwrap(), Vec::<String>::new());
    });
}

#[test]
fn every_state_comes_back_as_it_went() {
    check(|store| {
        let epoch = store.lead().unwrap();
        store.commit(epoch, &batch()).unwrap();
        for task in tasks() {
            assert_eq!(store.task(task.id).unwrap().as_ref(), Some(&task));
        }
        let stored = store.load(Timestamp(0)).unwrap();
        let unfinished = tasks().into_iter().filter(|task| !task.is_done());
        assert_eq!(stored.unfinished, unfinished.collect::<Vec<_>>());
        assert_eq!(stored.last_batch, 7);
        let (account, parked) = batch().accounts.remove(0);
        assert_eq!(stored.accounts, [(account, parked.unwrap())]);
        for (key, bytes) in batch().documents {
            assert_eq!(store.document(key).unwrap().as_deref(), Some(&*bytes));
        }
        let events = store.events_after(0, 100).unwrap();
        let expected: Vec<_> = (1..).zip(batch().events).collect();
        assert_eq!(events, expected);
    });
}

#[test]
fn a_task_is_replaced_as_a_whole() {
    check(|store| {
        let mut leader = Leader::of(store);
        let first = named(1, "one");
        leader.put([first.clone()]);
        let live = running(first, Phase::Live);
        leader.put([live.clone()]);
        assert_eq!(store.task(id(1)).unwrap(), Some(live.clone()));
        let ended = done(live, Outcome::Failed);
        leader.put([ended.clone()]);
        assert_eq!(store.load(Timestamp(0)).unwrap().unfinished, []);
        let again = running(ended, Phase::Assigned);
        leader.put([again.clone()]);
        assert_eq!(store.load(Timestamp(0)).unwrap().unfinished, [again]);
        assert_eq!(store.counts().unwrap(), [(Status::Ready, 1)]);
    });
}

#[test]
fn who_led_before_commits_no_more() {
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
        let refused = store.prune(old.epoch, at(100), 10).unwrap_err();
        assert!(matches!(refused, StoreError::Fenced { .. }), "{refused:?}");
        assert_eq!(store.task(id(2)).unwrap(), None);
        new.put([ready(3)]);
        assert_eq!(store.load(Timestamp(0)).unwrap().last_batch, 2);
    });
}

#[test]
fn a_batch_is_committed_once_and_in_order() {
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
fn a_commit_that_fails_leaves_nothing() {
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

#[test]
fn what_was_spent_is_kept_with_its_batch_and_forgotten_after_ninety_days() {
    check(|store| {
        let mut leader = Leader::of(store);
        let day = |at: u64| Scope::Day(Day::of(Timestamp(at)));
        let graph = |at: u64| Scope::Graph(TaskId::new(at, 7));
        let book = |spent| Batch {
            spent,
            ..Batch::default()
        };
        let now = 1_790_000_000_000;
        let old = now - 91 * 24 * 3_600_000;
        let [old_day, old_graph] = [(day(old), 1), (graph(old), 2)];
        let [new_day, new_graph] = [(day(now), 3), (graph(now), 4)];
        leader.commit(book(vec![old_day, old_graph, new_day, new_graph]));
        let spent = || store.load(Timestamp(0)).unwrap().spent;
        assert_eq!(spent(), [old_day, new_day, old_graph, new_graph]);
        leader.commit(book(vec![(day(now), 30)]));
        assert_eq!(spent(), [old_day, (day(now), 30), old_graph, new_graph]);
        let spent_on = |scope| store.spent_on(scope).unwrap();
        assert_eq!([old_graph.0, day(now), graph(0)].map(spent_on), [2, 30, 0]);
        store.prune(leader.epoch, Timestamp(now), 10).unwrap();
        assert_eq!(spent(), [(day(now), 30), new_graph]);
    });
}

#[test]
fn what_was_learned_is_replaced_and_forgotten_with_its_batch() {
    check(|store| {
        let mut leader = Leader::of(store);
        let teach = |profiles| Batch {
            profiles,
            ..Batch::default()
        };
        leader.commit(teach(profiles()));
        let [executor, class] = [0, 1].map(|place| profiles().swap_remove(place).0);
        let learned = || store.load(Timestamp(0)).unwrap().profiles;
        let kept = |profiles: Vec<(ProfileKey, Option<Profile>)>| {
            let mut kept: Vec<_> = profiles
                .into_iter()
                .filter_map(|(key, profile)| Some((key, profile?)))
                .collect();
            kept.sort_by(|(one, _), (other, _)| one.cmp(other));
            kept
        };
        assert_eq!(learned(), kept(profiles()));
        let again = profile(71, &[(1, 2)]);
        leader.commit(teach(vec![
            (executor.clone(), Some(again.clone())),
            (class.clone(), None),
        ]));
        assert_eq!(learned(), [(executor.clone(), again)]);
        store.set_full(true);
        let refused = leader.try_commit(Batch {
            documents: vec![(DocumentKey::Spec(id(50)), vec![7; 1 << 20].into())],
            ..teach(vec![(executor, None), (class, None)])
        });
        assert!(refused.is_err());
        assert_eq!(learned().len(), 1, "what the failed batch forgot");
        store.set_full(false);
    });
}

#[test]
fn lists_are_filtered() {
    check(|store| {
        let mut leader = Leader::of(store);
        leader.put(tasks());
        let check = |filter: Filter, expected: &[u64]| {
            let expected: Vec<_> = expected.iter().map(|number| id(*number)).collect();
            assert_eq!(ids(store, &filter), expected, "{filter:?}");
        };
        let status = |word: &str| Filter {
            status: Some(word.parse().unwrap()),
            ..Filter::default()
        };
        let label = |key: &str, value: &str| Filter {
            label: Some((key.to_owned(), value.to_owned())),
            ..Filter::default()
        };
        let name = |name: &str| Filter {
            name: Some(name.to_owned()),
            ..Filter::default()
        };
        let executor = |executor: &str| Filter {
            executor: Some(executor.to_owned()),
            ..Filter::default()
        };
        check(status("waiting"), &[0]);
        check(status("ready"), &[10, 3, 2, 1]);
        check(status("running"), &[17, 16, 15, 14, 13, 12, 11]);
        check(status("done"), &[31, 30, 26, 25, 24, 23, 22, 21, 20]);
        check(status("succeeded"), &[31, 20]);
        check(status("failed"), &[21]);
        check(status("cancelled"), &[30, 23]);
        check(name("nightly"), &[2]);
        check(name("night"), &[]);
        check(executor("claude"), &[0]);
        check(executor("mock"), &[]);
        check(label("team", "infra"), &[2]);
        check(label("team", "other"), &[]);
        check(label("a \"b\".c$[0]", "größe\\\n"), &[2]);
        check(label("", ""), &[2]);
        let parent = Some(id(2));
        check(
            Filter {
                parent,
                ..Filter::default()
            },
            &[3],
        );
        check(
            Filter {
                parent,
                ..status("ready")
            },
            &[3],
        );
        check(
            Filter {
                parent,
                ..status("running")
            },
            &[],
        );
        let before = Some(id(23));
        check(
            Filter {
                before,
                ..status("done")
            },
            &[22, 21, 20],
        );
        check(
            Filter {
                before,
                ..status("cancelled")
            },
            &[],
        );
        check(
            Filter {
                before: Some(id(2)),
                ..executor("shell")
            },
            &[1],
        );
    });
}

#[test]
fn pages_follow_each_other_without_gap_or_double() {
    check(|store| {
        let mut leader = Leader::of(store);
        leader.put((0..10).map(ready));
        let check = |limit: usize, expected: &[usize]| {
            let mut filter = Filter::default();
            let (mut sizes, mut seen) = (Vec::new(), Vec::new());
            loop {
                let page = store.list(&filter, limit).unwrap();
                sizes.push(page.tasks.len());
                seen.extend(page.tasks.into_iter().map(|task| task.id));
                let Some(next) = page.next else { break };
                filter.before = Some(next);
            }
            assert_eq!(sizes, expected, "pages of {limit}");
            let all: Vec<_> = (0..10).rev().map(id).collect();
            assert_eq!(seen, all, "pages of {limit}");
        };
        check(3, &[3, 3, 3, 1]);
        check(5, &[5, 5]);
        check(9, &[9, 1]);
        check(10, &[10]);
        check(usize::MAX, &[10]);
    });
}

#[test]
fn references_find_what_a_person_means() {
    check(|store| {
        let mut leader = Leader::of(store);
        let old = done(named(1, "build"), Outcome::Succeeded);
        let digits = id(7).to_string().replace("task_", "");
        leader.put([
            old,
            named(2, "build"),
            done(named(3, "build"), Outcome::Failed),
            done(named(4, "deploy"), Outcome::Failed),
            done(named(5, "deploy"), Outcome::Succeeded),
            named(6, &digits[..12]),
            ready(7),
        ]);
        // The samples' ids share their first digits; those of the second they were made in tell them apart.
        let whole = id(7).to_string();
        let all: Vec<_> = (1..8).rev().map(id).collect();
        let check = |reference: &str, expected: Resolved| {
            assert_eq!(store.resolve(reference).unwrap(), expected, "{reference}");
        };
        check("build", Resolved::Found(id(2)));
        check("deploy", Resolved::Found(id(5)));
        check("Build", Resolved::NotFound);
        check("buil", Resolved::NotFound);
        check("", Resolved::NotFound);
        check("task_", Resolved::NotFound);
        check(&whole, Resolved::Found(id(7)));
        check(
            &whole.to_uppercase().replace("TASK", "task"),
            Resolved::Found(id(7)),
        );
        check(&digits, Resolved::Found(id(7)));
        check(&digits[..13], Resolved::Found(id(7)));
        check(&digits[..12], Resolved::Found(id(6)));
        check(&whole[..17], Resolved::Found(id(7)));
        check(&id(9).to_string(), Resolved::NotFound);
        check(&digits[..6], Resolved::Ambiguous(all.clone()));
        check("task_0", Resolved::Ambiguous(all));
        check(&digits[..3], Resolved::NotFound);
        leader.put((20..40).map(ready));
        let newest = (30..40).rev().map(id).collect();
        check(&digits[..6], Resolved::Ambiguous(newest));
    });
}

#[test]
fn documents_are_replaced() {
    check(|store| {
        let mut leader = Leader::of(store);
        let attempt = |number| AttemptId {
            task: id(1),
            number,
        };
        let write = |documents: &[(DocumentKey, &[u8])]| Batch {
            documents: documents
                .iter()
                .map(|(key, bytes)| (*key, (*bytes).into()))
                .collect(),
            ..Batch::default()
        };
        leader.commit(write(&[
            (DocumentKey::Spec(id(1)), b"spec"),
            (DocumentKey::Checkpoint(attempt(1)), b"first"),
            (DocumentKey::Checkpoint(attempt(2)), b"other"),
            (DocumentKey::Outputs(attempt(1)), b""),
        ]));
        leader.commit(write(&[(DocumentKey::Checkpoint(attempt(1)), b"second")]));
        let check = |key: DocumentKey, expected: Option<&[u8]>| {
            assert_eq!(store.document(key).unwrap().as_deref(), expected, "{key:?}");
        };
        check(DocumentKey::Spec(id(1)), Some(b"spec"));
        check(DocumentKey::Checkpoint(attempt(1)), Some(b"second"));
        check(DocumentKey::Checkpoint(attempt(2)), Some(b"other"));
        check(DocumentKey::Outputs(attempt(1)), Some(b""));
        check(DocumentKey::Outputs(attempt(2)), None);
        check(DocumentKey::Spec(id(2)), None);
    });
}

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
fn keys_are_remembered_from_a_time_on_for_the_latest_task() {
    check(|store| {
        let mut leader = Leader::of(store);
        let keyed = |number, key: &str| {
            asked(ready(number), |request| {
                request.idempotency = Some(Box::new(Idempotency {
                    key: key.to_owned(),
                    payload_digest: format!("digest {number}"),
                }));
            })
        };
        leader.put([
            ready(1),
            keyed(2, "a"),
            done(keyed(3, "b"), Outcome::Succeeded),
            keyed(4, "a"),
        ]);
        let check = |since: u64, expected: &[(&str, u64)]| {
            let stored = store.load(at(since)).unwrap();
            let found = stored.remembered.into_iter().map(|(key, remembered)| {
                let number = (remembered.at.0 - at(0).0) / 1_000;
                assert_eq!(remembered.task, id(number));
                assert_eq!(remembered.payload_digest, format!("digest {number}"));
                (key, number)
            });
            let expected = expected
                .iter()
                .map(|(key, number)| ((*key).to_owned(), *number));
            assert_eq!(found.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
        };
        check(0, &[("a", 4), ("b", 3)]);
        check(3, &[("a", 4), ("b", 3)]);
        check(4, &[("a", 4)]);
        check(5, &[]);
    });
}

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

/// A batch of tasks with what they depend on.
fn depending(tasks: impl IntoIterator<Item = Task>) -> Batch {
    let batch = of_tasks(tasks);
    let edges = batch.tasks.iter();
    Batch {
        dependencies: edges
            .map(|task| (task.id, task.dependencies.clone()))
            .collect(),
        ..batch
    }
}

fn after(mut task: Task, upstream: &[(u64, Condition)]) -> Task {
    let edges = upstream.iter();
    task.dependencies = edges
        .map(|(number, condition)| Dependency {
            task: id(*number),
            condition: *condition,
        })
        .collect();
    task
}

#[test]
fn what_depends_on_what_is_found_both_ways_and_outlives_changes() {
    check(|store| {
        let mut leader = Leader::of(store);
        let both = [(1, Condition::Succeeded), (2, Condition::Any)];
        let third = after(ready(3), &both);
        let fourth = after(ready(4), &[(2, Condition::Completed)]);
        leader.commit(depending([
            ready(1),
            ready(2),
            third.clone(),
            fourth.clone(),
        ]));
        assert_eq!(store.task(id(3)).unwrap(), Some(third.clone()));
        assert_eq!(store.dependants(id(1)).unwrap(), [id(3)]);
        assert_eq!(store.dependants(id(2)).unwrap(), [id(3), id(4)]);
        assert_eq!(store.dependants(id(4)).unwrap(), []);
        // A row that changes is written without them.
        leader.put([running(third.clone(), Phase::Live)]);
        let found = store.task(id(3)).unwrap().unwrap();
        assert_eq!(found.dependencies, third.dependencies);
        let loaded = store.load(at(0)).unwrap().unfinished;
        let edges: Vec<_> = loaded.iter().map(|task| task.dependencies.len()).collect();
        assert_eq!(edges, [0, 0, 2, 1]);
        let page = store.list(&Filter::default(), 1).unwrap();
        assert_eq!(page.tasks, [fourth]);
    });
}

#[test]
fn ends_are_told_of_what_is_there() {
    check(|store| {
        let mut leader = Leader::of(store);
        let mut spoilt = done(ready(3), Outcome::UpstreamFailed);
        if let State::Done { culprit, .. } = &mut spoilt.state {
            *culprit = Some(id(2));
        }
        let failed = done(running(ready(2), Phase::Live), Outcome::Failed);
        leader.put([ready(1), failed, spoilt.clone()]);
        let end = |outcome, culprit| Some(End { outcome, culprit });
        let asked = (1..=4).map(id).collect();
        let expected = BTreeMap::from([
            (id(1), None),
            (id(2), end(Outcome::Failed, None)),
            (id(3), end(Outcome::UpstreamFailed, Some(id(2)))),
        ]);
        assert_eq!(store.ends(&asked).unwrap(), expected);
        assert_eq!(store.spoilt_by(id(2)).unwrap(), [spoilt]);
        // Revived, it is not the other's any more.
        leader.put([ready(3)]);
        assert_eq!(store.spoilt_by(id(2)).unwrap(), []);
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

#[test]
fn groups_are_kept_as_they_were_set_last() {
    check(|store| {
        let mut leader = Leader::of(store);
        let set = |limit, paused| Batch {
            groups: vec![("gpu".to_owned(), Group { limit, paused })],
            ..Batch::default()
        };
        leader.commit(set(Some(1), false));
        leader.commit(set(None, true));
        let expected = Group {
            limit: None,
            paused: true,
        };
        assert_eq!(
            store.load(at(0)).unwrap().groups,
            [("gpu".to_owned(), expected)]
        );
    });
}

#[test]
fn unfinished_tasks_are_counted_by_group() {
    check(|store| {
        let mut leader = Leader::of(store);
        let grouped = |number, group: &str| {
            asked(ready(number), |request| {
                request.group = Some(group.to_owned());
            })
        };
        leader.put([
            ready(1),
            grouped(2, "b"),
            grouped(3, "a"),
            grouped(4, "b"),
            running(grouped(5, "b"), Phase::Live),
            done(grouped(6, "a"), Outcome::Succeeded),
        ]);
        let count = |group: &str, status, count| (group.to_owned(), status, count);
        let expected = [
            count("a", Status::Ready, 1),
            count("b", Status::Ready, 2),
            count("b", Status::Running, 1),
        ];
        assert_eq!(store.group_counts().unwrap(), expected);
    });
}

#[test]
fn counts_and_environments() {
    check(|store| {
        let mut leader = Leader::of(store);
        leader.put(tasks());
        leader.put([asked(ready(40), |request| {
            request.env_digest = "00".into();
        })]);
        let mut expected = vec![
            (Status::Waiting, 1),
            (Status::Ready, 5),
            (Status::Running, 7),
        ];
        expected.extend(super::OUTCOMES.map(|outcome| match outcome {
            Outcome::Succeeded | Outcome::Cancelled => (Status::Done(outcome), 2),
            _ => (Status::Done(outcome), 1),
        }));
        assert_eq!(store.counts().unwrap(), expected);
        assert_eq!(
            store.env_digests_in_use().unwrap(),
            ["00".to_owned(), "0f".repeat(32)]
        );
    });
}

#[test]
fn filters_hold_for_the_status_that_is_counted() {
    check(|store| {
        let mut leader = Leader::of(store);
        leader.put(tasks());
        for (status, count) in store.counts().unwrap() {
            let filter = Filter {
                status: Some(StatusFilter::Is(status)),
                ..Filter::default()
            };
            assert_eq!(ids(store, &filter).len() as u64, count, "{status:?}");
        }
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

/// One of few tasks, in a random state. What was asked never changes after submission, so it depends on the number alone.
fn random_task() -> impl Strategy<Value = Task> {
    let states = prop::sample::select(tasks());
    (0u64..12, states).prop_map(|(number, like)| {
        let task = Task {
            id: id(number),
            created_at: at(number),
            ..like
        };
        asked(task, |request| {
            *request = (*ready(number).request).clone();
            request.parent = (number % 4 == 1).then(|| id(number - 1));
            request.name = (number % 2 == 0).then(|| if number < 7 { "a" } else { "b" }.to_owned());
            request.idempotency = (number % 3 == 0).then(|| {
                Box::new(Idempotency {
                    key: format!("key {}", number % 2),
                    payload_digest: format!("{number}"),
                })
            });
        })
    })
}

fn random_batch() -> impl Strategy<Value = Batch> {
    let number = 0u64..12;
    let attempt = || {
        (0u64..12, 1u32..3).prop_map(|(number, attempt)| AttemptId {
            task: id(number),
            number: attempt,
        })
    };
    let key = prop_oneof![
        number
            .clone()
            .prop_map(|number| DocumentKey::Spec(id(number))),
        attempt().prop_map(DocumentKey::Outputs),
        attempt().prop_map(DocumentKey::Checkpoint),
        (0u64..12).prop_map(|number| DocumentKey::Context(id(number))),
    ];
    let document = (key, prop::collection::vec(any::<u8>(), 0..6))
        .prop_map(|(key, bytes)| (key, bytes.into()));
    let account = ("[xy]", prop::option::of(0u64..9)).prop_map(|(key, until)| {
        let parked = until.map(|until| Parked::from_limit(at(until), None, None));
        (AccountKey(key), parked)
    });
    let learned = (0usize..2, prop::option::of(0u64..9)).prop_map(|(place, attempts)| {
        let (key, _) = profiles().swap_remove(place);
        (
            key,
            attempts.map(|attempts| profile(attempts, &[(1, attempts)])),
        )
    });
    let event = number.prop_map(|number| event(number, Fact::Submitted));
    (
        prop::collection::vec(random_task(), 0..6),
        prop::collection::vec(document, 0..4),
        prop::collection::vec(account, 0..2),
        prop::collection::vec(event, 0..4),
        prop::collection::vec(learned, 0..2),
    )
        .prop_map(|(tasks, documents, accounts, events, profiles)| {
            let one_each: BTreeMap<_, _> = tasks.into_iter().map(|task| (task.id, task)).collect();
            Batch {
                documents,
                accounts,
                events,
                profiles,
                ..of_tasks(one_each.into_values())
            }
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn both_back_ends_answer_the_same(
        history in prop::collection::vec((random_batch(), prop::option::of((0u64..14, 0usize..4))), 1..8),
    ) {
        let memory = MemoryStore::new();
        let directory = tempfile::tempdir().unwrap();
        let sqlite = SqliteStore::open(&directory.path().join("claudine.db")).unwrap();
        let mut leaders = [Leader::of(&memory), Leader::of(&sqlite)];
        for (batch, prune) in history {
            for leader in &mut leaders {
                leader.commit(batch.clone());
            }
            prop_assert_eq!(everything(&memory), everything(&sqlite));
            for reference in ["a", "b", "task_0", "01k7"] {
                prop_assert_eq!(memory.resolve(reference).unwrap(), sqlite.resolve(reference).unwrap());
            }
            if let Some((older_than, limit)) = prune {
                let [memory, sqlite] = leaders.each_ref().map(|leader| leader.prune(at(older_than), limit));
                prop_assert_eq!(memory, sqlite);
            }
        }
    }
}
