//! Tests with damaged files: each file is refused with a reason, nothing is removed, and nothing
//! panics.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use rusqlite::Connection;

use super::{
    super::{
        Filter, Status, Store, StoreError,
        conformance::everything,
        samples::{batch, done, id, ready},
    },
    SqliteStore, schema,
};
use claudine_domain::{
    batch::Batch, board::Unreadable, group::Group, id::TaskId, outcome::Outcome, task::Task,
    time::Timestamp,
};

/// A closed database with two hundred tasks in it.
fn stored(directory: &Path) -> PathBuf {
    let path = directory.join("claudine.db");
    let store = SqliteStore::open(&path).unwrap();
    let epoch = store.lead().unwrap();
    store.commit(epoch, &batch()).unwrap();
    let many = (100..300).map(|number| done(ready(number), Outcome::Succeeded).into());
    let many = Batch {
        number: 8,
        tasks: many.collect(),
        ..Batch::default()
    };
    store.commit(epoch, &many).unwrap();
    path
}

/// Everything that was read from a database.
#[derive(Debug)]
struct Read {
    tasks: Vec<Task>,
    unfinished: Vec<Task>,
    aside: Vec<Unreadable>,
    events: usize,
}

fn read_all(path: &Path) -> Result<Read, StoreError> {
    let store = SqliteStore::open(path)?;
    let stored = store.load(Timestamp(0))?;
    let events = store.events_after(0, 1_000)?.len();
    store.counts()?;
    let tasks = store.list(&Filter::default(), 1_000)?.tasks;
    for task in &tasks {
        // The task may be missing here, because a damaged index by id may lack the row.
        if let Some(found) = store.task(task.id)? {
            assert_eq!(found, *task);
        }
    }
    Ok(Read {
        tasks,
        unfinished: stored.unfinished,
        aside: stored.unreadable,
        events,
    })
}

/// Damages a database and checks the error of opening and reading it. The damaged file must not be
/// changed.
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
fn an_empty_or_missing_database_file_with_a_log_is_not_created_anew() {
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
fn databases_of_other_programs_and_newer_versions_are_refused() {
    check(
        |path| sql(path, "PRAGMA user_version = 9999"),
        &format!(
            "schema is 9999, but this program knows only schemas up to {}",
            schema::KNOWN
        ),
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
fn a_database_without_its_tables_is_refused() {
    check(|path| sql(path, "DELETE FROM leader"), "Corrupt");
    check(|path| sql(path, "DROP TABLE event"), "Corrupt");
}

/// Damages some rows in a copy of the database and reads all. Each damaged row must be named, and
/// no other row may be missing.
fn check_aside(stored: &Path, whole: &Read, spoil: &str, aside: &[&str], missing: [usize; 2]) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("claudine.db");
    fs::copy(stored, &path).unwrap();
    sql(&path, spoil);
    let read = read_all(&path).unwrap();
    let named: Vec<&str> = read.aside.iter().map(|row| row.what).collect();
    assert_eq!(named, aside, "{spoil}: {:?}", read.aside);
    let tasks = whole.tasks.len() - read.tasks.len();
    assert_eq!([tasks, whole.events - read.events], missing, "{spoil}");
    for task in &read.tasks {
        assert!(whole.tasks.contains(task), "{spoil}");
    }
    let unfinished = read.aside.iter().filter(|row| row.task.is_some()).count();
    assert_eq!(whole.unfinished.len() - read.unfinished.len(), unfinished);
}

#[test]
fn an_unreadable_row_is_set_aside_and_the_rest_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let path = stored(directory.path());
    let whole = read_all(&path).unwrap();
    let check_aside = |spoil: &str, aside: &[&str], missing: [usize; 2]| {
        check_aside(&path, &whole, spoil, aside, missing);
    };
    let one_of = |condition: &str| {
        format!("(SELECT id FROM task WHERE {condition} AND idempotency_key IS NULL LIMIT 1)")
    };
    let [unfinished, finished] = [one_of("status < 10"), one_of("status = 10")];
    for body in ["'{}'", "'x'", "CAST(x'ff' AS TEXT)", "''"] {
        let spoil = |of: &str| format!("UPDATE task SET body = {body} WHERE id = {of}");
        check_aside(&spoil(&unfinished), &["task"], [1, 0]);
        check_aside(&spoil(&finished), &[], [1, 0]);
        let spoil = |table: &str| format!("UPDATE {table} SET body = {body}");
        check_aside(&spoil("account"), &["account"], [0, 0]);
        let event = format!("UPDATE event SET body = {body} WHERE sequence IN (1, 3)");
        check_aside(&event, &[], [0, 2]);
    }
    // In the first case, a row has the body of another row. In the second case, the status of a row
    // contradicts its body.
    let other = format!(
        "UPDATE task SET body = (SELECT body FROM task WHERE id = {finished}) WHERE id = {unfinished}"
    );
    check_aside(&other, &["task"], [1, 0]);
    let status = format!("UPDATE task SET status = 16 WHERE id = {finished}");
    check_aside(&status, &[], [1, 0]);
    let edges = format!("INSERT INTO depends_on VALUES ({unfinished}, x'00')");
    check_aside(&edges, &["task"], [1, 0]);
    check_aside(
        "INSERT INTO profile VALUES ('a', 'b')",
        &["profile"],
        [0, 0],
    );
    check_aside("INSERT INTO spent VALUES (7, x'00', 1)", &["sum"], [0, 0]);
}

/// A group or a queue whose row cannot be read counts as paused, so that no task starts too early.
/// An idempotency key counts as taken, so that no request is executed twice.
#[test]
fn groups_and_queues_that_cannot_be_read_are_paused_and_keys_are_taken() {
    let directory = tempfile::tempdir().unwrap();
    let path = stored(directory.path());
    sql(&path, "INSERT INTO task_group VALUES ('gpu', '{')");
    sql(&path, "INSERT INTO queue VALUES (1, '{')");
    sql(
        &path,
        "UPDATE task SET body = '{', idempotency_key = 'k' WHERE id IN
             (SELECT id FROM task WHERE status >= 10 LIMIT 1)",
    );
    let store = SqliteStore::open(&path).unwrap();
    let stored = store.load(Timestamp(0)).unwrap();
    let paused = Group {
        limit: None,
        paused: true,
    };
    assert!(stored.groups.contains(&("gpu".to_owned(), paused)));
    assert!(stored.queue.paused.is_some());
    let (_, remembered) = stored
        .remembered
        .iter()
        .find(|(key, _)| key == "k")
        .unwrap();
    assert_eq!(remembered.payload_digest, "");
    let named: Vec<&str> = stored.unreadable.iter().map(|row| row.what).collect();
    assert_eq!(named, ["group", "queue", "idempotency key"]);
    // No environment may be removed, because it is unknown which environment the unreadable task
    // needs.
    assert!(store.env_digests_in_use().is_err());
    assert!(store.group_counts().is_ok());
    let labelled = Filter {
        labels: vec![("team".to_owned(), "infra".to_owned())],
        ..Filter::default()
    };
    assert!(store.list(&labelled, 10).is_ok());
}

/// After any bytes were flipped, either each task that is read has its old status, or an error
/// reports that the file is damaged. A flipped character or digit inside a row cannot be detected.
#[test]
fn flipped_bytes_are_detected_or_change_no_status() {
    let directory = tempfile::tempdir().unwrap();
    let path = stored(directory.path());
    let whole = fs::read(&path).unwrap();
    let before = read_all(&path).unwrap().tasks.into_iter();
    let before: BTreeMap<TaskId, Status> =
        before.map(|task| (task.id, Status::of(&task))).collect();
    let (mut found, mut read) = (0, 0);
    let mut random: u64 = 0x9e37_79b9_7f4a_7c15;
    for flips in [1, 2, 4, 8, 16, 32, 64].repeat(20) {
        let mut spoilt = whole.clone();
        for _ in 0..flips {
            // Xorshift gives the same bytes every time, so that a failure can be reproduced.
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let place = usize::try_from(random % spoilt.len() as u64).unwrap();
            spoilt[place] ^= (random >> 56) as u8 | 1;
        }
        fs::write(&path, &spoilt).unwrap();
        match read_all(&path) {
            Ok(all) => {
                read += 1;
                for task in all.tasks.iter().chain(&all.unfinished) {
                    let status = Some(&Status::of(task));
                    assert_eq!(before.get(&task.id), status, "{task:?}");
                }
            }
            Err(StoreError::Corrupt { .. }) => found += 1,
            Err(other) => panic!("{other:?}"),
        }
    }
    assert!(found > 30 && read > 30, "found {found}, read {read}");
}

#[test]
fn a_directory_in_place_of_a_database_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let refused = SqliteStore::open(directory.path()).err().unwrap();
    assert!(matches!(refused, StoreError::Failed { .. }), "{refused:?}");
    let missing = directory.path().join("missing/claudine.db");
    let refused = SqliteStore::open(&missing).err().unwrap();
    assert!(matches!(refused, StoreError::Failed { .. }), "{refused:?}");
}

#[test]
fn files_are_private_to_their_owner() {
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
fn a_database_that_another_writer_has_locked_is_reported_as_busy() {
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

/// Commits of a process that ended without closing the store are read.
#[test]
fn a_log_left_by_a_killed_process_is_read() {
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
