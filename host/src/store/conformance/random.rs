//! Tests with random batches, after which both back ends must return the same results.

use std::{collections::BTreeMap, sync::Arc};

use claudine_domain::{
    account::Parked,
    batch::{Batch, DocumentKey},
    event::Fact,
    id::{AccountKey, AttemptId},
    principal::Principal,
    task::{Idempotency, InGraph, Task},
};
use proptest::prelude::*;

use super::{
    Leader, everything, of_tasks,
    transfer::{comes_through, records},
};
use crate::store::{
    Filter, Intent, States, Store,
    memory::MemoryStore,
    samples::{asked, at, event, id, profile, profiles, ready, tasks},
    sqlite::SqliteStore,
};

/// Makes one of a few tasks, in a random state. The request of a task never changes, so it is
/// derived only from the task's number.
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
            request.by = Arc::new(Principal {
                restrained: number % 3 == 1,
                ..Principal::default()
            });
            request.group = (number % 5 == 1).then(|| "gpu".to_owned());
            request.graph = (number > 8).then(|| {
                Arc::new(InGraph {
                    first: id(9),
                    name: (number == 9).then(|| "release".to_owned()),
                })
            });
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
    fn both_back_ends_return_the_same_results(
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
            prop_assert_eq!(records(&memory), records(&sqlite));
            for word in ["active", "failed,lost,running", "stopping", "done"] {
                let filter = Filter {
                    states: States::parse([word]).unwrap(),
                    ..Filter::default()
                };
                prop_assert_eq!(memory.list(&filter, 9).unwrap(), sqlite.list(&filter, 9).unwrap());
                let filter = Filter { unrestrained: true, ..filter };
                prop_assert_eq!(memory.list(&filter, 9).unwrap(), sqlite.list(&filter, 9).unwrap());
            }
            let references = ["a", "b", "task_0", "01k7", "000", "0000", "0001", "@last", "@running"];
            for intent in [Intent::Look, Intent::Change] {
                let are_parts = |store: &dyn Store| store.are_parts(&references, intent).unwrap();
                prop_assert_eq!(are_parts(&memory), are_parts(&sqlite));
                for reference in references {
                    let found = |store: &dyn Store| {
                        let part = store.resolve_part(reference, intent).unwrap();
                        (store.resolve(reference, intent).unwrap(), part)
                    };
                    prop_assert_eq!(found(&memory), found(&sqlite), "{}", reference);
                }
            }
            if let Some((older_than, limit)) = prune {
                let [memory, sqlite] = leaders.each_mut().map(|leader| leader.prune(at(older_than), limit));
                prop_assert_eq!(memory, sqlite);
            }
        }
        comes_through(&sqlite, 5);
    }
}
