//! Copies the database before its schema changes, so that the user can return to the version that
//! wrote it.
//!
//! `claudine.db.before-schema-6` is a copy beside the database, made when a version with schema 6
//! first opened the database. The copy is written under another name and renamed once it is
//! complete. The copy is never removed automatically. To go back, end the host, remove the database
//! with its `-wal` and `-shm`, put the copy in its place, and use the older version.

use std::{
    io,
    path::{Path, PathBuf},
};

use rusqlite::Connection;

use super::{
    super::StoreError,
    fault::{Fault, beside, from_io},
};
use crate::fsx::{self, Lasting};

/// Space that must remain free beside the copy, because the host also writes when it starts.
const SPARE_BYTES: u64 = 16 << 20;

/// The path of the copy that is made before the database is migrated to this schema.
pub(super) fn path_of(database: &Path, schema: usize) -> PathBuf {
    beside(database, &format!(".before-schema-{schema}"))
}

/// Copies everything that was committed, from the file and from its write-ahead log.
pub(super) fn copy(connection: &Connection, database: &Path, schema: usize) -> Result<(), Fault> {
    look_for_room(connection, database)?;
    let path = path_of(database, schema);
    let fresh = beside(&path, ".new");
    let at = |error| from_io(&fresh, error);
    fsx::remove_file(&fresh).map_err(at)?;
    // `VACUUM INTO` fills an empty file and keeps its mode.
    fsx::private()
        .write(true)
        .create_new(true)
        .open(&fresh)
        .map_err(at)?;
    let name = fresh.to_str().ok_or_else(|| no_text(&fresh))?;
    let copied = connection
        .execute("VACUUM INTO ?1", [name])
        .map_err(Fault::from)
        .and_then(|_| {
            let put = fsx::rename(&fresh, &path, Lasting::PowerCut);
            put.map_err(|error| at(error).into())
        });
    if copied.is_err() {
        // A failure of this removal is ignored: the caller gets the first error, and the next try
        // removes the file.
        drop(fsx::remove_file(&fresh));
    }
    copied?;
    tracing::info!(
        copy = %path.display(),
        schema,
        "the database was copied before its schema changes"
    );
    Ok(())
}

fn look_for_room(connection: &Connection, database: &Path) -> Result<(), Fault> {
    let pages = "SELECT (page_count - freelist_count) * page_size
         FROM pragma_page_count, pragma_freelist_count, pragma_page_size";
    let bytes: i64 = connection.query_row(pages, [], |row| row.get(0))?;
    let free_bytes = fsx::free_bytes(database).map_err(|error| from_io(database, error))?;
    Ok(fits(database, bytes.unsigned_abs(), free_bytes)?)
}

fn fits(database: &Path, bytes: u64, free_bytes: u64) -> Result<(), StoreError> {
    let needed_bytes = bytes.saturating_add(SPARE_BYTES);
    if free_bytes >= needed_bytes {
        return Ok(());
    }
    Err(StoreError::NoRoom {
        path: database.to_owned(),
        needed_bytes,
        free_bytes,
    })
}

fn no_text(path: &Path) -> StoreError {
    let error = io::Error::new(
        io::ErrorKind::InvalidFilename,
        "the path is not valid UTF-8",
    );
    from_io(path, error)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::{
        super::{super::Store, SqliteStore, schema},
        *,
    };

    fn fixture(version: usize, path: &Path) {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/store");
        fs::copy(fixtures.join(format!("v{version}.db")), path).unwrap();
    }

    fn version(path: &Path) -> (usize, i64) {
        let connection = Connection::open(path).unwrap();
        let number = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0));
        let tasks = number("SELECT count(*) FROM task").unwrap();
        let version = number("PRAGMA user_version").unwrap();
        (usize::try_from(version).unwrap(), tasks)
    }

    #[test]
    fn the_database_is_copied_before_each_change_of_its_schema() {
        for old in 1..schema::KNOWN {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("claudine.db");
            fixture(old, &path);
            let tasks = version(&path).1;
            let store = SqliteStore::open(&path).unwrap();
            let copy = path_of(&path, schema::KNOWN);
            assert_eq!(version(&copy), (old, tasks));
            assert_eq!(
                fs::metadata(&copy).unwrap().permissions().mode() & 0o777,
                0o600
            );
            store.lead().unwrap();
            store.close().unwrap();
            assert_eq!(version(&path), (schema::KNOWN, tasks));
            // The copy, put in the place of the database, has the old content and can be migrated
            // again.
            fs::copy(&copy, &path).unwrap();
            SqliteStore::open(&path).unwrap().lead().unwrap();
        }
    }

    #[test]
    fn new_and_up_to_date_databases_are_not_copied() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("claudine.db");
        for _ in 0..2 {
            SqliteStore::open(&path).unwrap().close().unwrap();
            assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        }
    }

    /// An unfinished copy and an older copy are replaced.
    #[test]
    fn an_unfinished_copy_and_an_older_copy_are_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("claudine.db");
        fixture(1, &path);
        let copy = path_of(&path, schema::KNOWN);
        fs::write(beside(&copy, ".new"), b"begun").unwrap();
        fs::write(&copy, b"of another day").unwrap();
        SqliteStore::open(&path).unwrap();
        assert_eq!(version(&copy).0, 1);
        assert!(!beside(&copy, ".new").exists());
    }

    #[test]
    fn a_copy_needs_space_for_itself_and_for_the_start_of_a_host() {
        let check = |free: u64| fits(Path::new("/d/claudine.db"), 1_000, free);
        assert!(check(SPARE_BYTES + 1_000).is_ok());
        assert!(check(SPARE_BYTES + 999).is_err());
        let refused = check(2048).unwrap_err().to_string();
        let expected = "no room for a copy of /d/claudine.db before its schema changes: 16.0 MiB are needed, 2.0 KiB are free";
        assert_eq!(refused, expected);
    }

    #[test]
    fn the_schema_is_not_changed_if_the_database_cannot_be_copied() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("claudine.db");
        fixture(1, &path);
        // A file cannot replace a directory that is not empty.
        let copy = path_of(&path, schema::KNOWN);
        fs::create_dir_all(copy.join("in the way")).unwrap();
        assert!(SqliteStore::open(&path).is_err());
        assert_eq!(version(&path).0, 1);
    }
}
