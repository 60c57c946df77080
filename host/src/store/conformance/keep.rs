//! Tests that all written data is read back unchanged: tasks, documents, keys, groups, sums and
//! profiles.

use std::{collections::BTreeMap, sync::Arc};

use claudine_domain::{
    attempt::{Phase, StopWhy},
    batch::{Batch, DocumentKey, Pruned},
    budget::{Day, Scope},
    group::Group,
    id::{AttemptId, TaskId},
    outcome::Outcome,
    principal::{Kind, Principal},
    profile::{Profile, ProfileKey},
    queue::Queue,
    task::{Idempotency, State, Task, WaitingFor},
    time::{MonotonicMs, Timestamp},
};

use super::{Leader, check};
use crate::store::{
    Filter, Intent, Resolved, Status,
    samples::{asked, at, batch, done, id, named, profile, profiles, queue, ready, running, tasks},
};

#[test]
fn a_new_store_is_empty() {
    check(|store| {
        let stored = store.load(Timestamp(0)).unwrap();
        assert!(stored.unfinished.is_empty() && stored.accounts.is_empty());
        assert_eq!((stored.last_batch, stored.remembered.len()), (0, 0));
        assert_eq!(store.task(id(1)).unwrap(), None);
        assert_eq!(store.document(DocumentKey::Spec(id(1))).unwrap(), None);
        assert_eq!(store.list(&Filter::default(), 10).unwrap().next, None);
        assert_eq!(
            store.resolve("anything", Intent::Change).unwrap(),
            Resolved::NotFound
        );
        assert_eq!(store.counts().unwrap(), []);
        assert_eq!(store.events_after(0, 10).unwrap(), []);
        assert_eq!(store.events_after(u64::MAX, 10).unwrap(), []);
        assert_eq!(store.env_digests_in_use().unwrap(), Vec::<String>::new());
    });
}

#[test]
fn tasks_in_the_states_of_schema_1_are_read_back_unchanged() {
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
fn tasks_in_later_states_are_read_back_unchanged() {
    let since = at(5);
    let in_state = |number, state| Task {
        state,
        ..ready(number)
    };
    let mut later = vec![
        in_state(1, State::Blocked { since }),
        in_state(2, State::Held { since }),
        in_state(
            3,
            State::Ready {
                since,
                clock: Some((MonotonicMs(81_000), "c5c3a2c6-5b8e-4f0f".into())),
            },
        ),
    ];
    let waits = [WaitingFor::StartTime, WaitingFor::Retry];
    later.extend((10..).zip(waits).map(|(number, why)| {
        let until = at(number + 60);
        in_state(number, State::Waiting { until, why })
    }));
    let message = "the day's budget is spent".to_owned();
    let phases = [
        Phase::Preparing,
        Phase::Settling,
        Phase::Stopping(StopWhy::PrepareTimeout),
        Phase::Stopping(StopWhy::SettleTimeout),
        Phase::Stopping(StopWhy::Budget { message }),
    ];
    let running = (20..).zip(phases);
    later.extend(running.map(|(number, phase)| self::running(ready(number), phase)));
    check(|store| {
        let mut leader = Leader::of(store);
        leader.put(later.clone());
        for task in &later {
            assert_eq!(store.task(task.id).unwrap().as_ref(), Some(task));
        }
        assert_eq!(store.load(Timestamp(0)).unwrap().unfinished, later);
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
fn sums_spent_are_stored_and_removed_with_a_batch() {
    check(|store| {
        let mut leader = Leader::of(store);
        let day = |at: u64| Scope::Day(Day::of(Timestamp(at)));
        let graph = |at: u64| Scope::Graph(TaskId::new(at, 7));
        let book = |spent| Batch {
            spent,
            ..Batch::default()
        };
        let now = 1_790_000_000_000;
        let old = now - 24 * 3_600_000;
        let [old_day, old_graph] = [(day(old), 1), (graph(old), 2)];
        let [new_day, new_graph] = [(day(now), 3), (graph(now), 4)];
        leader.commit(book(vec![old_day, old_graph, new_day, new_graph]));
        let spent = || store.load(Timestamp(0)).unwrap().spent;
        assert_eq!(spent(), [old_day, new_day, old_graph, new_graph]);
        leader.commit(book(vec![(day(now), 30)]));
        assert_eq!(spent(), [old_day, (day(now), 30), old_graph, new_graph]);
        let spent_on = |scope| store.spent_on(scope).unwrap();
        assert_eq!([old_graph.0, day(now), graph(0)].map(spent_on), [2, 30, 0]);
        leader.forget(Pruned {
            spent_before: Some(Timestamp(now)),
            ..Pruned::default()
        });
        assert_eq!(spent(), [(day(now), 30), new_graph]);
    });
}

#[test]
fn profiles_are_replaced_and_removed_with_a_batch() {
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
        assert_eq!(
            learned().len(),
            1,
            "the failed batch would have removed this"
        );
        store.set_full(false);
    });
}

#[test]
fn a_document_is_replaced_by_a_later_document_with_the_same_key() {
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
fn idempotency_keys_since_a_time_are_found_with_their_latest_task() {
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
        let check = |since: u64, latest: &[(&str, u64)]| {
            let stored = store.load(at(since)).unwrap();
            let found = stored.remembered.into_iter().map(|(key, remembered)| {
                let number = (remembered.at.0 - at(0).0) / 1_000;
                assert_eq!(remembered.task, id(number));
                assert_eq!(remembered.payload_digest, format!("digest {number}"));
                (key, number)
            });
            let expected = latest
                .iter()
                .map(|(key, number)| ((*key).to_owned(), *number));
            assert_eq!(found.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
            for key in ["a", "b", "c"] {
                let found = store.task_of_key(key, at(since)).unwrap();
                let known = latest.iter().find(|(known, _)| *known == key);
                assert_eq!(
                    found.map(|task| task.id),
                    known.map(|(_, number)| id(*number)),
                    "{key} since {since}"
                );
            }
        };
        check(0, &[("a", 4), ("b", 3)]);
        check(3, &[("a", 4), ("b", 3)]);
        check(4, &[("a", 4)]);
        check(5, &[]);
    });
}

/// Earlier versions had one space of keys for all restrained principals.
#[test]
fn keys_of_agents_of_earlier_versions_are_remembered_as_theirs() {
    check(|store| {
        let mut leader = Leader::of(store);
        let keyed = |number, kind, key: &str| {
            asked(ready(number), |request| {
                request.by = Arc::new(Principal {
                    kind,
                    restrained: true,
                    ..Principal::default()
                });
                request.idempotency = Some(Box::new(Idempotency {
                    key: key.to_owned(),
                    payload_digest: "digest".to_owned(),
                }));
            })
        };
        let agent = |number| Kind::Agent {
            task: Some(id(number)),
        };
        let of_agent = |number: u64, key: &str| format!("restrained-by:{}:{key}", id(number));
        leader.put([
            keyed(2, Kind::Owner, "restrained:chat"),
            keyed(3, agent(1), "restrained:agent"),
            keyed(4, agent(2), &of_agent(2, "agent")),
        ]);
        let stored = store.load(at(0)).unwrap();
        let found = stored.remembered.into_iter();
        let found: BTreeMap<_, _> = found.map(|(key, it)| (key, it.task)).collect();
        let expected = [
            ("restrained:chat".to_owned(), id(2)),
            (of_agent(1, "agent"), id(3)),
            (of_agent(2, "agent"), id(4)),
        ];
        assert_eq!(found, BTreeMap::from(expected));
    });
}

#[test]
fn the_latest_setting_of_a_group_is_kept() {
    check(|store| {
        let mut leader = Leader::of(store);
        let set = |group: Option<Group>| Batch {
            groups: vec![("gpu".to_owned(), group)],
            ..Batch::default()
        };
        let group = |limit, paused| Some(Group { limit, paused });
        leader.commit(set(group(Some(1), false)));
        leader.commit(set(group(None, true)));
        let expected = Group {
            limit: None,
            paused: true,
        };
        assert_eq!(
            store.load(at(0)).unwrap().groups,
            [("gpu".to_owned(), expected)]
        );
        leader.commit(set(None));
        assert_eq!(store.load(at(0)).unwrap().groups, []);
    });
}

#[test]
fn the_latest_settings_of_the_queue_are_kept() {
    check(|store| {
        let mut leader = Leader::of(store);
        let kept = || store.load(at(0)).unwrap().queue;
        assert_eq!(kept(), Queue::default());
        for set in [queue(), Queue::default(), queue()] {
            leader.commit(Batch {
                queue: Some(set.clone()),
                ..Batch::default()
            });
            // A batch without a change to the queue leaves the queue's settings unchanged.
            leader.commit(Batch::default());
            assert_eq!(kept(), set);
            assert_eq!(store.queue().unwrap(), set);
        }
    });
}
