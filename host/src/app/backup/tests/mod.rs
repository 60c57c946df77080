//! Backups of a small queue with tasks in all states: taken, damaged, restored, and interrupted at
//! every step.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod cut;
mod damage;

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use claudine_domain::{
    batch::{Batch, DocumentKey},
    capacity::Limits,
    id::{AttemptId, TaskId},
    outcome::Outcome,
    task::{State, Task},
};

use super::{
    super::error::{AppError, ErrorKind},
    BackupTaken, QueueRestored, Restore, check, discard,
    entry::Name,
    read::read,
    refuse_used, restore,
    take::to_file,
};
use crate::{
    config::EnvRules,
    environment::{Environment, Environments},
    layout::Layout,
    restored::Restored,
    store::{Record, Store, sample_batch, sqlite::SqliteStore},
};

/// Digest of the environment that all samples use.
const OWN: &str = "0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f";

/// A data directory that is removed at the end of the test.
struct Place {
    _dir: tempfile::TempDir,
    layout: Layout,
}

fn empty() -> Place {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::new(dir.path().join("data"));
    layout.create().unwrap();
    Place { _dir: dir, layout }
}

/// A data directory with tasks in all states, output of each attempt, an environment, and files
/// that are not part of the queue.
fn used() -> Place {
    let place = empty();
    let layout = &place.layout;
    let store = SqliteStore::open(&layout.database()).unwrap();
    let epoch = store.lead().unwrap();
    store.commit(epoch, &sample_batch()).unwrap();
    for (attempt, segment) in attempts() {
        let path = log(layout, attempt, segment);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, output(attempt, segment)).unwrap();
    }
    write(&layout.environment(OWN), b"TOKEN=environment-secret\0");
    for elsewhere in ["host.json", "plugins/shell/grant.json", "worktrees/x.json"] {
        write(&layout.root().join(elsewhere), b"secret of another kind");
    }
    store.close().unwrap();
    place
}

fn write(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// All attempts of the samples, and how many segments the log of each has.
fn attempts() -> Vec<(AttemptId, u32)> {
    let of = |task: &Task| {
        let numbers = task.attempts.iter().map(|attempt| attempt.number);
        let task = task.id;
        let ids = numbers.map(move |number| (AttemptId { task, number }, 0));
        ids.collect::<Vec<_>>()
    };
    let batch = sample_batch();
    let mut attempts: Vec<_> = batch.tasks.iter().flat_map(|task| of(task)).collect();
    let long = attempts[0].0;
    attempts.extend([(long, 1), (long, 12)]);
    attempts
}

fn output(attempt: AttemptId, segment: u32) -> Vec<u8> {
    format!("output {segment} of {attempt}\n").repeat(30).into()
}

fn log(layout: &Layout, attempt: AttemptId, segment: u32) -> PathBuf {
    let path = layout.log(attempt);
    match segment {
        0 => path,
        segment => PathBuf::from(format!("{}.{segment}", path.display())),
    }
}

fn backup(of: &Place, with_environments: bool) -> (PathBuf, BackupTaken) {
    let file = of.layout.root().join("../queue.backup");
    let taken = to_file(&of.layout, &file, with_environments, true).unwrap();
    (file, taken)
}

fn how() -> Restore {
    Restore {
        limits: Limits::default(),
        rules: EnvRules::default(),
        environment: Environment {
            base: BTreeMap::from([("WHO".to_owned(), "restorer".to_owned())]),
            ..Environment::default()
        },
    }
}

fn restored(file: &Path, into: &Place) -> Result<QueueRestored, AppError> {
    restore(&check(file)?, &into.layout, how())
}

fn records(layout: &Layout) -> Vec<Record> {
    let store = SqliteStore::open_read_only(&layout.database()).unwrap();
    let mut records = Vec::new();
    let keep = &mut |record| {
        records.push(record);
        true
    };
    store.export(keep).unwrap();
    records
}

fn tasks(layout: &Layout) -> BTreeMap<TaskId, Task> {
    let task = |record| match record {
        Record::Task { task, .. } => Some((task.id, *task)),
        _ => None,
    };
    records(layout).into_iter().filter_map(task).collect()
}

#[test]
fn everything_is_restored_and_nothing_runs() {
    let (old, new) = (used(), empty());
    let (file, taken) = backup(&old, false);
    let told = restored(&file, &new).unwrap();
    let (before, after) = (tasks(&old.layout), tasks(&new.layout));
    assert_eq!(taken.tasks, before.len() as u64);
    assert_eq!((told.tasks, taken.logs), (taken.tasks, told.logs));
    assert!(before.keys().eq(after.keys()));
    let mut held = 0;
    for (id, then) in &before {
        let now = &after[id];
        assert_eq!(
            (&now.request, now.created_at),
            (&then.request, then.created_at)
        );
        match (&then.state, &now.state) {
            (State::Done { .. }, _) => assert_eq!(now, then),
            (_, State::Held { .. }) => {
                held += 1;
                assert!(now.restored_from.is_some() && !now.has_open_attempt());
            }
            (State::Running { .. }, State::Done { outcome, .. }) => {
                let stopped = [Outcome::Lost, Outcome::Cancelled, Outcome::TimedOut];
                assert!(stopped.contains(outcome), "{id} {outcome:?}");
            }
            (then, now) => panic!("{id} was {then:?} and is {now:?}"),
        }
    }
    assert_eq!(told.held, held);
    assert!(told.lost > 0 && told.lost + told.held == taken.unfinished);
    for (attempt, segment) in attempts() {
        let path = log(&new.layout, attempt, segment);
        assert_eq!(fs::read(path).unwrap(), output(attempt, segment));
    }
}

/// Ends, documents, totals and event numbers are unchanged; the restore only appends events, and
/// notes with the queue that tasks may be missing.
#[test]
fn a_restore_does_not_change_the_history() {
    let (old, new) = (used(), empty());
    let (file, taken) = backup(&old, false);
    restored(&file, &new).unwrap();
    let ended = tasks(&old.layout);
    let unchanged = |record: &Record| match record {
        Record::Counters(_) | Record::Queue(_) => false,
        Record::Task { task, .. } => ended[&task.id].is_done(),
        Record::Event { sequence, .. } => *sequence <= taken.events,
        _ => true,
    };
    let of = |place: &Place| {
        let records = records(&place.layout).into_iter().filter(unchanged);
        records.collect::<Vec<_>>()
    };
    assert_eq!(of(&new), of(&old));
    let sequences = |record: &Record| match record {
        Record::Event { sequence, .. } => Some(*sequence),
        _ => None,
    };
    let all = records(&new.layout);
    let numbers: Vec<u64> = all.iter().filter_map(sequences).collect();
    let expected: Vec<u64> = (1..=numbers.len() as u64).collect();
    assert!(numbers == expected && numbers.len() as u64 > taken.events);
}

/// Both the backup and the restored files are readable by their owner only.
#[test]
fn all_written_files_are_private() {
    let (old, new) = (used(), empty());
    let (file, _) = backup(&old, true);
    restored(&file, &new).unwrap();
    let (attempt, segment) = attempts()[0];
    for path in [
        file,
        new.layout.database(),
        new.layout.environment(OWN),
        new.layout.restored_file(),
        log(&new.layout, attempt, segment),
    ] {
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", path.display());
    }
}

#[test]
fn a_backup_has_secrets_only_in_environments_and_no_grants() {
    let old = used();
    let text_of = |with_environments: bool| {
        let (file, _) = backup(&old, with_environments);
        let mut text = Vec::new();
        let mut compressed = flate2::read::GzDecoder::new(fs::File::open(file).unwrap());
        compressed.read_to_end(&mut text).unwrap();
        String::from_utf8_lossy(&text).into_owned()
    };
    let without = text_of(false);
    assert!(!without.contains("secret"));
    assert!(
        without.contains(OWN),
        "the task says which environment it had"
    );
    let with = text_of(true);
    assert!(with.contains("environment-secret") && !with.contains("another kind"));
}

#[test]
fn environments_are_included_only_on_request() {
    let check = |with_environments: bool| {
        let (old, new) = (used(), empty());
        let (file, taken) = backup(&old, with_environments);
        assert_eq!(taken.environments, with_environments.then_some(1));
        let told = restored(&file, &new).unwrap();
        assert_eq!(told.stands_in, !with_environments);
        assert_eq!(told.environments, u64::from(with_environments));
        let environments = Environments::new(new.layout.clone(), EnvRules::default());
        let variables = environments.read(OWN).unwrap();
        let expected = if with_environments { "TOKEN" } else { "WHO" };
        assert!(variables.keys().eq([expected]), "{variables:?}");
        let known = Restored::read(&new.layout).unwrap().unwrap();
        assert_eq!(crate::clock::rfc3339(known.taken_at), taken.taken_at);
    };
    check(false);
    check(true);
}

/// The backup has logs of a task and of an attempt that are not in its rows, as if both had begun
/// after the rows were read.
#[test]
fn only_output_of_attempts_in_the_history_is_restored() {
    let (old, new) = (used(), empty());
    let stranger = AttemptId {
        task: TaskId::new(1, 1),
        number: 1,
    };
    write(&old.layout.log(stranger), b"of no task");
    let (known, _) = attempts()[0];
    let another = AttemptId {
        number: 70,
        ..known
    };
    write(&old.layout.log(another), b"of a later attempt");
    let (file, taken) = backup(&old, false);
    let told = restored(&file, &new).unwrap();
    assert_eq!(told.logs + 2, taken.logs);
    assert!(!new.layout.log(stranger).exists() && !new.layout.log(another).exists());
}

#[test]
fn no_backup_is_made_without_logs_that_cannot_be_looked_at() {
    let old = used();
    let shard = old.layout.logs().join("unreadable");
    // A link to itself cannot be followed, not even by root.
    std::os::unix::fs::symlink(&shard, &shard).unwrap();
    let file = old.layout.root().join("../queue.backup");
    let error = to_file(&old.layout, &file, false, true).unwrap_err();
    let expected = format!("cannot read {}", shard.display());
    assert!(error.message.contains(&expected), "{error:?}");
    assert!(!file.exists());
}

#[test]
fn a_directory_with_a_queue_is_refused_and_not_changed() {
    let (old, other) = (used(), used());
    let (file, _) = backup(&old, false);
    let before = records(&other.layout);
    let refused = restored(&file, &other).err().unwrap();
    assert_eq!(refused.kind, ErrorKind::Conflict);
    assert!(
        refused.message.ends_with("already has a queue"),
        "{refused}"
    );
    assert_eq!(records(&other.layout), before);
    assert!(!other.layout.restoring().exists());
}

#[test]
fn a_file_in_place_of_the_data_directory_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    for root in [file.clone(), file.join("below")] {
        let refused = refuse_used(&Layout::new(root)).unwrap_err();
        let expected = format!("{} is not a directory", file.display());
        assert_eq!(refused.message, expected);
    }
}

#[test]
fn the_space_for_output_is_counted_once() {
    let old = used();
    let needed = || check(&backup(&old, false).0).unwrap().needed_bytes;
    let before = needed();
    let (attempt, segment) = attempts()[0];
    let path = log(&old.layout, attempt, segment);
    write(&path, "x".repeat(10 << 20).as_bytes());
    // The old output of this attempt took one block.
    assert_eq!(needed() - before, (10 << 20) - (4 << 10));
}

#[test]
fn a_restore_without_room_leaves_no_data_directory() {
    let (old, new, complete) = (used(), empty(), empty());
    let mut checked = check(&backup(&old, false).0).unwrap();
    let missing = Layout::new(new.layout.root().join("not/there"));
    checked.look_for_room(&missing).unwrap();
    checked.needed_bytes = u64::MAX;
    let refused = checked.look_for_room(&missing).unwrap_err();
    assert_eq!(refused.kind, ErrorKind::StoreFull);
    assert!(!missing.root().exists());

    fs::create_dir(complete.layout.to_be_placed()).unwrap();
    for kept in [&old, &complete] {
        discard(&kept.layout);
        assert!(kept.layout.root().exists());
    }
    discard(&new.layout);
    assert!(!new.layout.root().exists());
}

/// A host without tasks may still be running when a restore puts a queue into its data directory.
#[test]
fn an_earlier_host_of_the_directory_can_no_longer_write() {
    let (old, new) = (used(), empty());
    let (file, _) = backup(&old, false);
    let before = SqliteStore::open(&new.layout.database()).unwrap();
    for _ in 0..9 {
        before.lead().unwrap();
    }
    drop(before);
    assert_eq!(refuse_used(&new.layout).unwrap(), 9);
    restored(&file, &new).unwrap();
    let store = SqliteStore::open(&new.layout.database()).unwrap();
    assert!(store.last_epoch().unwrap() > 9);
    assert_eq!(tasks(&new.layout).len(), tasks(&old.layout).len());
}

/// Otherwise the next host would take the restored database for an earlier copy of the lost one.
#[test]
fn a_restored_database_is_later_than_one_that_was_lost() {
    let (old, new) = (used(), empty());
    let (file, _) = backup(&old, false);
    let supervisors = new.layout.supervisors();
    fs::create_dir_all(&supervisors).unwrap();
    fs::write(supervisors.join("leader"), "1000").unwrap();
    restored(&file, &new).unwrap();
    let store = SqliteStore::open(&new.layout.database()).unwrap();
    assert!(store.last_epoch().unwrap() > 1000);
}

/// The size of one read does not grow with the queue: rows are in entries of a megabyte, and logs
/// are read in pieces.
#[test]
fn rows_are_split_into_entries() {
    let old = used();
    let store = SqliteStore::open(&old.layout.database()).unwrap();
    let epoch = store.lead().unwrap();
    let large = DocumentKey::Spec(TaskId::new(1, 1));
    let documents = (0..5).map(|number| {
        let key = DocumentKey::Context(TaskId::new(2, number));
        (key, vec![b'x'; 400 << 10].into())
    });
    let batch = Batch {
        number: 8,
        documents: documents
            .chain([(large, vec![b'y'; 3 << 20].into())])
            .collect(),
        ..Batch::default()
    };
    store.commit(epoch, &batch).unwrap();
    store.close().unwrap();
    let (file, _) = backup(&old, false);
    let mut rows = Vec::new();
    read(&file, &mut |_, name, from| {
        if let Name::Rows(number) = name {
            let length = io::copy(from, &mut io::sink()).unwrap();
            rows.push((*number, length));
        }
        Ok(())
    })
    .unwrap();
    assert!(rows.len() >= 3, "{rows:?}");
    assert!(rows.iter().all(|(_, length)| *length < 5 << 20), "{rows:?}");
    let new = empty();
    restored(&file, &new).unwrap();
    let documents = |place: &Place| {
        let is_document = |record: &Record| matches!(record, Record::Document { .. });
        records(&place.layout)
            .into_iter()
            .filter(is_document)
            .count()
    };
    assert_eq!(documents(&new), documents(&old));
}
