//! Tests that the databases of all past schemas in `tests/fixtures/store` open and have their
//! content.
//!
//! An existing fixture is never replaced. If the fixture of the present schema is missing, a test
//! writes it and fails, so that somebody checks it in.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::{
    fs,
    path::{Path, PathBuf},
};

use claudine_domain::{
    dependency::{Condition, Dependency},
    time::Timestamp,
};

use super::{
    super::{
        Filter, Intent, Resolved, Store,
        conformance::everything,
        memory::MemoryStore,
        samples::{batch, id, name_principals, profiles, put_in_graph, queue, spent},
    },
    SqliteStore, row, schema,
};

fn file(version: usize) -> PathBuf {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/store");
    fixtures.join(format!("v{version}.db"))
}

/// Writes the samples that this schema version could hold.
fn put_samples(store: &dyn Store, version: usize) {
    let mut batch = batch();
    if version >= 3 {
        batch.profiles = profiles();
    }
    if version >= 4 {
        batch.spent = spent();
    }
    if version >= 6 {
        name_principals(&mut batch);
    }
    if version >= 7 {
        put_in_graph(&mut batch);
    }
    if version >= 8 {
        batch.queue = Some(queue());
    }
    let epoch = store.lead().unwrap();
    store.commit(epoch, &batch).unwrap();
}

#[test]
fn the_present_schema_has_a_fixture() {
    let path = file(schema::KNOWN);
    if path.exists() {
        return;
    }
    put_samples(&SqliteStore::open(&path).unwrap(), schema::KNOWN);
    panic!("{} was written: check it in", path.display());
}

#[test]
fn databases_of_every_past_schema_open_with_their_content() {
    for version in 1..=schema::KNOWN {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("claudine.db");
        fs::copy(file(version), &path).unwrap();
        let store = SqliteStore::open(&path).unwrap();
        let expected = MemoryStore::new();
        put_samples(&expected, version);
        assert_eq!(
            everything(&store),
            everything(&expected),
            "schema {version}"
        );
        assert_eq!(
            store.resolve("nightly", Intent::Change).unwrap(),
            Resolved::Found(id(2))
        );
        let remembered = store.load(Timestamp(0)).unwrap().remembered;
        assert_eq!(remembered[0].0, "nightly-42");
        // The database can be written: epochs and batch numbers continue from the numbers in the
        // file.
        let epoch = store.lead().unwrap();
        assert_eq!(epoch.0, 2);
        let mut next = batch();
        next.number = 8;
        next.profiles = profiles();
        next.spent = spent();
        next.queue = Some(queue());
        store.commit(epoch, &next).unwrap();
        assert_eq!(store.events_after(9, 1).unwrap()[0].0, 10);
        let learned = store.load(Timestamp(0)).unwrap().profiles;
        assert_eq!(learned.len(), profiles().len());
        assert_eq!(store.load(Timestamp(0)).unwrap().spent, spent());
        assert_eq!(store.load(Timestamp(0)).unwrap().queue, queue());
    }
}

/// The samples have no dependencies, so some are inserted here.
#[test]
fn dependencies_from_a_schema_with_a_row_for_each_dependency_are_migrated() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("claudine.db");
    fs::copy(file(4), &path).unwrap();
    let expected: [Dependency; 2] =
        [(1, Condition::Any), (2, Condition::Succeeded)].map(|(number, condition)| Dependency {
            task: id(number),
            condition,
        });
    let old = rusqlite::Connection::open(&path).unwrap();
    for edge in expected {
        old.execute(
            "INSERT INTO dependency (task, upstream, condition) VALUES (?1, ?2, ?3)",
            rusqlite::params![
                id(3).to_bytes(),
                edge.task.to_bytes(),
                row::condition_code(edge.condition)
            ],
        )
        .unwrap();
    }
    drop(old);
    let store = SqliteStore::open(&path).unwrap();
    assert_eq!(*store.task(id(3)).unwrap().unwrap().dependencies, expected);
    assert_eq!(store.dependants(id(1)).unwrap(), [id(3)]);
    assert_eq!(store.dependants(id(2)).unwrap(), [id(3)]);
}

#[test]
fn tasks_from_a_schema_without_a_group_column_are_found_by_group() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("claudine.db");
    fs::copy(file(6), &path).unwrap();
    let old = rusqlite::Connection::open(&path).unwrap();
    let set = "UPDATE task SET body = json_set(body, '$.request.group', 'gpu') WHERE id = ?1";
    old.execute(set, [id(3).to_bytes()]).unwrap();
    drop(old);
    let store = SqliteStore::open(&path).unwrap();
    let filter = Filter {
        group: Some("gpu".to_owned()),
        ..Filter::default()
    };
    let page = store.list(&filter, 10).unwrap();
    let found: Vec<_> = page.tasks.iter().map(|task| task.id).collect();
    assert_eq!(found, [id(3)]);
}
