//! Reads a database that no host has open.
//!
//! Reading leaves no trace and makes no other process wait. If the write-ahead log is empty, the
//! file contains everything that was committed. In this case the file is read without a lock, and
//! without the index of the log, which SQLite would have to create. If a host begins to write
//! during a query, the log grows first. This is detected, and the query is run again. If the log is
//! not empty, SQLite's own locks are used. They allow writers and readers at the same time, and no
//! file has to be created, because log and index already exist.

use std::{
    ffi::OsStr,
    fs, io,
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::{Path, PathBuf},
};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use rusqlite::Connection;

use super::{
    super::StoreError,
    fault::{Fault, beside, from_io},
    open,
};

/// The maximum number of times that a query is run without locks. If a host has changed the file
/// each time, the query is run with SQLite's locks.
const TRIES: u32 = 5;

/// Characters of a path that need not be escaped in a URI.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'/')
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// The database of a data directory, which may not exist yet.
#[derive(Debug)]
pub(super) struct Unattended {
    path: PathBuf,
}

/// The files in which everything that was committed is stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// Nothing is stored: there is no database, or it is empty.
    Empty,
    /// Everything is in the file, which has this stamp. If the database is being created, it has no
    /// tables.
    InFile(Stamp),
    /// Everything is in the file and its log.
    InLog,
}

/// The values that change if a file is written: device, inode, length, and time of the last write.
type Stamp = (u64, u64, u64, (i64, i64));

impl Unattended {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Runs a query, and runs it again if the file was changed during it.
    pub(super) fn with<T>(
        &self,
        mut query: impl FnMut(&Connection) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        for _ in 0..TRIES {
            let before = self.state()?;
            let connection = match before {
                State::Empty => open::empty(&self.path),
                State::InFile(_) => open::unchanging(&self.path, &uri(&self.path)),
                State::InLog => break,
            };
            // While another process writes the file, even opening it may fail.
            let answer = connection.and_then(|connection| query(&connection));
            if self.state()? == before {
                return answer;
            }
        }
        query(&open::existing(&self.path)?)
    }

    fn state(&self) -> Result<State, StoreError> {
        let log = found(&beside(&self.path, "-wal"))?.filter(|log| log.len() > 0);
        let file = found(&self.path)?.filter(|file| file.len() > 0);
        match (file, log) {
            (Some(_), Some(_)) => Ok(State::InLog),
            (Some(file), None) => {
                let written = (file.mtime(), file.mtime_nsec());
                Ok(State::InFile((file.dev(), file.ino(), file.len(), written)))
            }
            (None, None) => Ok(State::Empty),
            (None, Some(_)) => Err(open::lost(&self.path)),
        }
    }
}

fn found(path: &Path) -> Result<Option<fs::Metadata>, StoreError> {
    match fs::metadata(path) {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            Err(StoreError::Unreadable {
                path: path.to_owned(),
                why: error.to_string(),
            })
        }
        Err(error) => Err(from_io(path, error)),
    }
}

/// The URI with which SQLite opens a file without locks, on the assumption that the file does not
/// change while it is open.
fn uri(path: &Path) -> String {
    let path: &OsStr = path.as_os_str();
    let path = percent_encode(path.as_bytes(), PLAIN);
    format!("file:{path}?mode=ro&immutable=1")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::{collections::BTreeSet, ffi::OsString};

    use claudine_domain::batch::Batch;

    use super::{
        super::{
            super::{Filter, Store, samples::batch},
            SqliteStore,
        },
        *,
    };

    fn names(dir: &Path) -> BTreeSet<OsString> {
        let entries = fs::read_dir(dir).unwrap();
        entries.map(|entry| entry.unwrap().file_name()).collect()
    }

    fn tasks(store: &SqliteStore) -> usize {
        let page = store.list(&Filter::default(), 1_000).unwrap();
        page.tasks.len()
    }

    /// A directory whose name contains special characters of URIs and shells.
    fn directory() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let odd = directory.path().join("a?b#c%20 d'");
        fs::create_dir(&odd).unwrap();
        let path = odd.join("claudine.db");
        (directory, path)
    }

    #[test]
    fn a_missing_database_is_empty_and_is_not_created() {
        let (_directory, path) = directory();
        let dir = path.parent().unwrap();
        let store = SqliteStore::open_unattended(&path, |_| ());
        assert_eq!(tasks(&store), 0);
        assert!(store.load(claudine_domain::time::Timestamp(0)).is_ok());
        assert!(names(dir).is_empty());
        fs::remove_dir(dir).unwrap();
        assert_eq!(tasks(&store), 0);
    }

    #[test]
    fn reading_beside_a_host_leaves_no_trace() {
        let (_directory, path) = directory();
        let dir = path.parent().unwrap();
        let writer = SqliteStore::open(&path).unwrap();
        let epoch = writer.lead().unwrap();
        let reader = SqliteStore::open_unattended(&path, |_| ());
        assert_eq!(tasks(&reader), 0);
        writer.commit(epoch, &batch()).unwrap();
        // The commit is in the log.
        let all = batch().tasks.len();
        assert_eq!(tasks(&reader), all);
        writer.close().unwrap();
        let after = names(dir);
        assert_eq!(tasks(&reader), all);
        assert_eq!(names(dir), after, "there is no log and no index of a log");
        // A refused write does not leave a file either.
        assert!(reader.lead().is_err());
        assert!(reader.commit(epoch, &Batch::default()).is_err());
        assert_eq!(names(dir), after);
    }

    #[test]
    fn a_database_of_another_schema_is_not_changed() {
        let (_directory, path) = directory();
        SqliteStore::open(&path).unwrap().close().unwrap();
        let set = |version: i64| {
            let database = Connection::open(&path).unwrap();
            database
                .pragma_update(None, "user_version", version)
                .unwrap();
        };
        let reader = SqliteStore::open_unattended(&path, |_| ());
        let refused = || reader.last_batch().unwrap_err();
        set(1);
        let before = fs::read(&path).unwrap();
        let older = refused();
        assert!(matches!(older, StoreError::Older { .. }), "{older}");
        assert!(older.hint().unwrap().contains("claudine up"));
        assert_eq!(fs::read(&path).unwrap(), before);
        set(9_999);
        assert!(matches!(refused(), StoreError::Newer { .. }));
    }

    /// The test covers each moment between the creation of the file and the creation of the first
    /// table, since the creator may be killed at each of them.
    #[test]
    fn a_database_that_is_being_created_counts_as_empty() {
        let check = |make: &dyn Fn(&Path) -> Option<Connection>| {
            let (_directory, path) = directory();
            let dir = path.parent().unwrap();
            let maker = make(&path);
            let before = names(dir);
            let reader = SqliteStore::open_unattended(&path, |_| ());
            assert_eq!(tasks(&reader), 0);
            assert!(reader.load(claudine_domain::time::Timestamp(0)).is_ok());
            assert_eq!(names(dir), before);
            assert!(!SqliteStore::is_made(&path).unwrap());
            assert_eq!(SqliteStore::content(&path).unwrap(), None);
            drop(maker);
            // The next process that opens the database creates everything that is missing.
            let store = SqliteStore::open(&path).unwrap();
            store.commit(store.lead().unwrap(), &batch()).unwrap();
            assert_eq!(tasks(&reader), batch().tasks.len());
            assert!(SqliteStore::is_made(&path).unwrap());
        };
        let in_log_mode = |path: &Path| {
            let maker = Connection::open(path).unwrap();
            let mode = "PRAGMA journal_mode = WAL";
            let mode: String = maker.query_row(mode, [], |row| row.get(0)).unwrap();
            assert_eq!(mode, "wal");
            assert!(fs::metadata(path).unwrap().len() > 0);
            maker
        };
        check(&|path| {
            fs::write(path, "").unwrap();
            None
        });
        check(&|path| {
            drop(in_log_mode(path));
            None
        });
        check(&|path| Some(in_log_mode(path)));
        check(&|path| {
            let maker = in_log_mode(path);
            maker.pragma_update(None, "user_version", 0).unwrap();
            assert!(fs::metadata(beside(path, "-wal")).unwrap().len() > 0);
            Some(maker)
        });
    }

    /// The log belongs to a database that was lost. An empty queue would hide this loss.
    #[test]
    fn a_log_without_its_database_is_refused() {
        let (_directory, path) = directory();
        fs::write(beside(&path, "-wal"), "all that was committed").unwrap();
        let reader = SqliteStore::open_unattended(&path, |_| ());
        let check = || {
            let refused = reader.last_batch().unwrap_err();
            assert!(matches!(refused, StoreError::Corrupt { .. }), "{refused}");
            let refused = SqliteStore::is_made(&path).unwrap_err();
            assert!(matches!(refused, StoreError::Corrupt { .. }), "{refused}");
        };
        check();
        fs::write(&path, "").unwrap();
        check();
    }

    #[test]
    fn a_query_is_run_again_if_a_host_changed_the_file_during_it() {
        let (_directory, path) = directory();
        let writer = SqliteStore::open(&path).unwrap();
        let epoch = writer.lead().unwrap();
        writer.close().unwrap();
        let unattended = Unattended::new(path.clone());
        let mut tries = 0;
        let count = unattended.with(|reader| {
            tries += 1;
            if tries == 1 {
                let writer = SqliteStore::open(&path).unwrap();
                writer.commit(epoch, &batch()).unwrap();
                writer.close().unwrap();
            }
            let count = "SELECT count(*) FROM task";
            Ok(reader.query_row(count, [], |row| row.get::<_, i64>(0))?)
        });
        let all = i64::try_from(batch().tasks.len()).unwrap();
        assert_eq!(count.map_err(|fault| fault.at(&path)).unwrap(), all);
        assert_eq!(tries, 2);
    }
}
