//! Tests of exporting a whole store and importing it into another store.

use claudine_domain::{
    batch::{Batch, DocumentKey},
    dependency::Condition,
    event::Fact,
    group::Group,
};

use super::{Leader, Subject, after, check, depending, everything};
use crate::store::{
    Record, Store, StoreError,
    memory::MemoryStore,
    samples::{batch, event, id, profiles, queue, ready, spent},
    sqlite::SqliteStore,
};

/// Exports a store.
pub(super) fn records(store: &dyn Store) -> Vec<Record> {
    let mut records = Vec::new();
    let keep = &mut |record| {
        records.push(record);
        true
    };
    store.export(keep).unwrap();
    records
}

/// Imports records into an empty store in the way the restore of a backup does: as lines of text,
/// in parts of `at_once` records.
fn put(store: &dyn Store, records: &[Record], at_once: usize) {
    for (part, records) in (0..).zip(records.chunks(at_once)) {
        let line = |record: &Record| {
            let text = serde_json::to_string(record).unwrap();
            serde_json::from_str(&text).unwrap()
        };
        store
            .import(part, records.iter().map(line).collect())
            .unwrap();
    }
}

/// Checks that both kinds of store can import the records of `store`, and that they export and show
/// the same records afterwards.
pub(super) fn comes_through(store: &dyn Store, at_once: usize) {
    let given = records(store);
    let directory = tempfile::tempdir().unwrap();
    let sqlite = SqliteStore::open(&directory.path().join("claudine.db")).unwrap();
    let memory = MemoryStore::new();
    let others: [&dyn Store; 2] = [&sqlite, &memory];
    for other in others {
        put(other, &given, at_once);
        assert_eq!(records(other), given);
        assert_eq!(everything(other), everything(store));
    }
}

fn full(leader: &mut Leader<'_>) {
    leader.commit(Batch {
        profiles: profiles(),
        spent: spent(),
        groups: vec![("web".to_owned(), Some(Group::default()))],
        queue: Some(queue()),
        ..batch()
    });
    leader.commit(depending([
        after(ready(40), &[(1, Condition::Any), (2, Condition::Succeeded)]),
        after(ready(41), &[(40, Condition::Completed)]),
    ]));
}

#[test]
fn an_imported_store_equals_the_exported_one() {
    check(|store| {
        let mut leader = Leader::of(store);
        full(&mut leader);
        for at_once in [1, 7, usize::MAX] {
            comes_through(store, at_once);
        }
    });
}

#[test]
fn an_empty_store_is_exported_and_imported() {
    check(|store| comes_through(store, 1));
}

/// The next batch and the next event get the next numbers of the exported store, and a new task can
/// depend on an imported task.
#[test]
fn an_imported_store_continues_the_numbering() {
    check(|store| {
        let mut leader = Leader::of(store);
        full(&mut leader);
        let given = records(store);
        let goes_on = |other: &dyn Subject| {
            put(other, &given, 3);
            assert_eq!(other.last_event().unwrap(), store.last_event().unwrap());
            let epoch = other.lead().unwrap();
            assert!(epoch > leader.epoch);
            let mut next = depending([after(ready(42), &[(40, Condition::Any)])]);
            next.number = 2;
            let old = other.commit(epoch, &next);
            assert!(matches!(old, Err(StoreError::OutOfOrder { .. })), "{old:?}");
            next.number = 3;
            next.events = vec![event(42, Fact::Submitted)];
            other.commit(epoch, &next).unwrap();
            assert_eq!(other.last_event().unwrap(), store.last_event().unwrap() + 1);
            assert_eq!(other.dependants(id(40)).unwrap(), [id(41), id(42)]);
        };
        check(goes_on);
    });
}

#[test]
fn an_export_stops_once_its_callback_returns_false() {
    check(|store| {
        let mut leader = Leader::of(store);
        full(&mut leader);
        for most in [1, 2, 30] {
            let mut seen = 0;
            let stop = &mut |_| {
                seen += 1;
                seen < most
            };
            store.export(stop).unwrap();
            assert_eq!(seen, most);
        }
    });
}

/// A batch that is committed during an export is not part of the export.
#[test]
fn all_records_of_an_export_are_from_one_moment() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("claudine.db");
    let store = SqliteStore::open(&path).unwrap();
    let mut leader = Leader::of(&store);
    full(&mut leader);
    let before = records(&store);
    // The store is opened in the way another process opens it.
    let reading = SqliteStore::open_read_only(&path).unwrap();
    let mut read = Vec::new();
    let each = &mut |record| {
        let number = 100 + read.len() as u64;
        read.push(record);
        leader.commit(Batch {
            documents: vec![(DocumentKey::Spec(id(number)), b"late"[..].into())],
            events: vec![event(number, Fact::Submitted)],
            ..super::of_tasks([ready(number)])
        });
        true
    };
    reading.export(each).unwrap();
    assert_eq!(read, before);
    assert!(records(&store).len() > before.len());
}

#[test]
fn a_read_only_store_refuses_changes() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("claudine.db");
    let missing = SqliteStore::open_read_only(&path);
    assert!(missing.is_err() && !path.exists());
    let store = SqliteStore::open(&path).unwrap();
    Leader::of(&store).commit(batch());
    let reading = SqliteStore::open_read_only(&path).unwrap();
    assert!(matches!(reading.lead(), Err(StoreError::ReadOnly { .. })));
    assert_eq!(everything(&reading), everything(&store));
}

#[test]
fn the_content_of_a_database_with_an_old_schema_is_summarised() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("claudine.db");
    assert_eq!(SqliteStore::content(&path).unwrap(), None);
    let store = SqliteStore::open(&path).unwrap();
    let found = || {
        let content = SqliteStore::content(&path).unwrap().unwrap();
        (content.has_rows, content.epoch)
    };
    assert_eq!(found(), (false, 0));
    let mut leader = Leader::of(&store);
    assert_eq!(found(), (false, 1));
    leader.commit(Batch {
        spent: spent(),
        ..Batch::default()
    });
    assert_eq!(found(), (true, 1));
    let fixtures = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/store");
    let old = directory.path().join("old.db");
    std::fs::copy(fixtures.join("v1.db"), &old).unwrap();
    assert!(SqliteStore::content(&old).unwrap().unwrap().has_rows);
    let refused = SqliteStore::open_read_only(&old).err();
    assert!(matches!(refused, Some(StoreError::Older { found: 1, .. })));
}

#[test]
fn a_closed_store_consists_of_one_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("claudine.db");
    let store = SqliteStore::open(&path).unwrap();
    Leader::of(&store).commit(batch());
    let expected = everything(&store);
    store.close().unwrap();
    let files = std::fs::read_dir(directory.path()).unwrap();
    assert_eq!(files.count(), 1);
    assert_eq!(everything(&SqliteStore::open(&path).unwrap()), expected);
}
