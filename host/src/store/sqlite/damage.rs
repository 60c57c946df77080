//! Files that are not what they should be: each is refused with a reason, nothing is wiped, and nothing panics.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use rusqlite::Connection;

use super::{
    super::{
        Filter, Store, StoreError,
        conformance::everything,
        samples::{batch, done, id, ready},
    },
    SqliteStore, schema,
};
use claudine_domain::{batch::Batch, outcome::Outcome, time::Timestamp};

/// A closed database with some hundred tasks in it.
fn stored(directory: &Path) -> PathBuf {
    let path = directory.join("claudine.db");
    let store = SqliteStore::open(&path).unwrap();
    let epoch = store.lead().unwrap();
    store.commit(epoch, &batch()).unwrap();
    let many = (100..600).map(|number| done(ready(number), Outcome::Succeeded).into());
    let many = Batch {
        number: 8,
        tasks: many.collect(),
        ..Batch::default()
    };
    store.commit(epoch, &many).unwrap();
    path
}

fn read_all(path: &Path) -> Result<(), StoreError> {
    let store = SqliteStore::open(path)?;
    store.load(Timestamp(0))?;
    store.events_after(0, 1_000)?;
    store.counts()?;
    store.env_digests_in_use()?;
    let page = store.list(&Filter::default(), 1_000)?;
    for task in page.tasks {
        store.task(task.id)?;
    }
    Ok(())
}

/// Spoils a database and says what opening and reading it has to answer; the file has to stay as it was spoilt.
fn check(spoil: impl FnOnce(&Path), expected: &str) {
    let directory = tempfile::tempdir().unwrap();
    let path = stored(directory.path());
    spoil(&path);
    let before = fs::read(&path).unwrap_or_default();
    let refused = read_all(&path).unwrap_err();
    let found = format!("{refused:?}: {refused}");
    assert!(found.contains(expected), "{found}");
    assert!(
        fs::read(&path).unwrap_or_default() == before,
        "the file was changed: {found}"
    );
}

fn sql(path: &Path, sql: &str) {
    let connection = Connection::open(path).unwrap();
    connection.execute_batch(sql).unwrap();
}

fn truncate(path: &Path, keep: impl FnOnce(u64) -> u64) {
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.set_len(keep(file.metadata().unwrap().len())).unwrap();
}

#[test]
fn damaged_files_are_refused() {
    check(|path| truncate(path, |all| all / 2), "Corrupt");
    check(|path| truncate(path, |_| 4_096), "Corrupt");
    check(|path| truncate(path, |_| 100), "Corrupt");
    check(|path| truncate(path, |all| all - 5_000), "Corrupt");
    check(
        |path| fs::write(path, "not a database at all, ".repeat(500)).unwrap(),
        "Corrupt",
    );
    check(|path| fs::write(path, [0xff; 10_000]).unwrap(), "Corrupt");
}

#[test]
fn a_file_that_vanished_from_under_its_log_is_not_begun_anew() {
    let log = |path: &Path| fs::write(path.with_extension("db-wal"), [1; 5_000]).unwrap();
    check(
        |path| {
            truncate(path, |_| 0);
            log(path);
        },
        "is empty, but its log",
    );
    check(
        |path| {
            fs::remove_file(path).unwrap();
            log(path);
        },
        "is empty, but its log",
    );
}

#[test]
fn other_databases_and_versions_are_refused() {
    check(
        |path| sql(path, "PRAGMA user_version = 9999"),
        &format!("schema is 9999, this program knows {}", schema::KNOWN),
    );
    check(|path| sql(path, "PRAGMA user_version = -1"), "Newer");
    check(
        |path| sql(path, "PRAGMA application_id = 1"),
        "another program",
    );
    check(
        |path| {
            fs::remove_file(path).unwrap();
            sql(path, "CREATE TABLE notes (text)");
        },
        "another program",
    );
}

#[test]
fn contents_that_make_no_sense_are_refused() {
    let task = "a stored task cannot be read";
    check(
        |path| sql(path, "UPDATE task SET body = '{}' WHERE status < 10"),
        task,
    );
    check(|path| sql(path, "UPDATE task SET body = 'x'"), task);
    check(
        |path| {
            sql(
                path,
                "UPDATE task SET body = CAST(x'ff' AS TEXT) WHERE status < 10",
            );
        },
        "Corrupt",
    );
    check(
        |path| sql(path, "UPDATE event SET body = ''"),
        "a stored event cannot be read",
    );
    check(
        |path| sql(path, "UPDATE account SET body = '[]'"),
        "a stored account cannot be read",
    );
    check(|path| sql(path, "DELETE FROM leader"), "Corrupt");
    check(|path| sql(path, "DROP TABLE event"), "Corrupt");
}

/// Whatever bytes are flipped, the answer is either all of it or an error that says the file is damaged.
#[test]
fn flipped_bytes_are_found_or_harmless() {
    let directory = tempfile::tempdir().unwrap();
    let path = stored(directory.path());
    let whole = fs::read(&path).unwrap();
    let mut found = 0;
    let mut random: u64 = 0x9e37_79b9_7f4a_7c15;
    for _ in 0..100 {
        let mut spoilt = whole.clone();
        for _ in 0..64 {
            // Xorshift: the same bytes every time, so that a failure can be looked at.
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let place = usize::try_from(random % spoilt.len() as u64).unwrap();
            spoilt[place] ^= (random >> 56) as u8 | 1;
        }
        fs::write(&path, &spoilt).unwrap();
        match read_all(&path) {
            Ok(()) => {}
            Err(StoreError::Corrupt { .. }) => found += 1,
            Err(other) => panic!("{other:?}"),
        }
    }
    assert!(found > 50, "only {found} of 100 were found");
}

#[test]
fn a_directory_is_no_database() {
    let directory = tempfile::tempdir().unwrap();
    let refused = SqliteStore::open(directory.path()).err().unwrap();
    assert!(matches!(refused, StoreError::Failed { .. }), "{refused:?}");
    let missing = directory.path().join("missing/claudine.db");
    let refused = SqliteStore::open(&missing).err().unwrap();
    assert!(matches!(refused, StoreError::Failed { .. }), "{refused:?}");
}

#[test]
fn files_are_for_their_owner_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("claudine.db");
    let store = SqliteStore::open(&path).unwrap();
    store.lead().unwrap();
    for suffix in ["", "-wal", "-shm"] {
        let file = super::fault::beside(&path, suffix);
        let mode = fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", file.display());
    }
}

#[test]
fn another_writer_is_busy_and_not_a_failure() {
    let directory = tempfile::tempdir().unwrap();
    let path = stored(directory.path());
    let other = Connection::open(&path).unwrap();
    let store = SqliteStore::open(&path).unwrap();
    store
        .writer()
        .busy_timeout(std::time::Duration::ZERO)
        .unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let refused = store.lead().unwrap_err();
    assert!(matches!(refused, StoreError::Busy { .. }), "{refused:?}");
    assert!(store.task(id(1)).unwrap().is_some());
    other.execute_batch("ROLLBACK").unwrap();
    store.lead().unwrap();
}

/// What was committed is there after the process ended without closing anything.
#[test]
fn a_log_that_was_left_behind_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("claudine.db");
    let store = SqliteStore::open(&path).unwrap();
    let epoch = store.lead().unwrap();
    store.commit(epoch, &batch()).unwrap();
    let copy = directory.path().join("copy.db");
    for suffix in ["", "-wal"] {
        let from = super::fault::beside(&path, suffix);
        fs::copy(from, super::fault::beside(&copy, suffix)).unwrap();
    }
    let again = SqliteStore::open(&copy).unwrap();
    assert_eq!(everything(&again), everything(&store));
    assert!(again.lead().unwrap() > epoch);
}
