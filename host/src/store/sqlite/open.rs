//! Connections, and what has to be true of a file before one is opened.

use std::{fs, io, os::unix::fs::OpenOptionsExt, path::Path, time::Duration};

use rusqlite::{Connection, OpenFlags};

use super::{
    super::StoreError,
    fault::{Fault, beside, from_io},
    schema,
};

/// How long a lock of another program (a backup, a shell) is waited for.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) const WRITER_CACHE_KIB: i64 = 4096;

pub(super) fn writer(path: &Path) -> Result<Connection, StoreError> {
    look_at_file(path)?;
    open_writer(path).map_err(|fault| fault.at(path))
}

/// Makes the file with its mode before SQLite would make it with another (log and index take theirs
/// from it), and refuses a file that was emptied or lost: SQLite would take it for a new database
/// and throw the log away, with all that was not yet folded back.
///
/// A file that is there is not opened: to close it again would drop the locks that this process may
/// have on it.
pub(super) fn look_at_file(path: &Path) -> Result<(), StoreError> {
    let made = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    match made {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(from_io(path, error)),
    }
    is_empty(path).map(drop)
}

/// Whether there is no database, or a file of no length. One that was emptied or lost is refused.
pub(super) fn is_empty(path: &Path) -> Result<bool, StoreError> {
    let has_log = length_of(&beside(path, "-wal"))? > 0;
    let is_empty = length_of(path)? == 0;
    if is_empty && has_log {
        return Err(lost(path));
    }
    Ok(is_empty)
}

/// Of a file that is empty or gone while its log is not. To look at the log first keeps a database
/// that is just being made from being taken for one.
pub(super) fn lost(path: &Path) -> StoreError {
    let log = beside(path, "-wal");
    StoreError::Corrupt {
        path: path.to_owned(),
        detail: format!("the file is empty, but its log {} is not", log.display()),
    }
}

/// 0 if there is no such file.
fn length_of(path: &Path) -> Result<u64, StoreError> {
    match fs::metadata(path) {
        Ok(found) => Ok(found.len()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(from_io(path, error)),
    }
}

fn open_writer(path: &Path) -> Result<Connection, Fault> {
    let mut connection = open(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    schema::check(&connection)?;
    let mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    if mode != "wal" {
        return Err(Fault::NoWal(mode));
    }
    // The log is folded back every 8 MiB, in some 10 ms, by whichever commit passes that mark; what
    // a burst added to it is given back.
    connection.execute_batch(
        "PRAGMA synchronous = FULL;
         PRAGMA wal_autocheckpoint = 2000;
         PRAGMA journal_size_limit = 16777216;",
    )?;
    connection.pragma_update(None, "cache_size", -WRITER_CACHE_KIB)?;
    schema::migrate(&mut connection, path)?;
    Ok(connection)
}

pub(super) fn reader(path: &Path) -> Result<Connection, Fault> {
    let connection = open(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    connection.execute_batch("PRAGMA cache_size = -1024;")?;
    Ok(connection)
}

/// A connection to a file of this version's schema that nobody writes to while it is open; the file
/// is named by a URI.
pub(super) fn unchanging(path: &Path, uri: &str) -> Result<Connection, Fault> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    fit(open(Path::new(uri), flags)?, path)
}

/// A connection to a database that is nowhere and has nothing in it.
pub(super) fn empty(path: &Path) -> Result<Connection, Fault> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_MEMORY;
    let mut connection = open(Path::new(":memory:"), flags)?;
    schema::migrate(&mut connection, path)?;
    Ok(connection)
}

/// A connection to a file of this version's schema, which is left as it is.
pub(super) fn existing(path: &Path) -> Result<Connection, Fault> {
    fit(reader(path)?, path)
}

/// The connection, if its file has this version's schema; one with nothing in it if the file has no
/// tables yet.
fn fit(connection: Connection, path: &Path) -> Result<Connection, Fault> {
    schema::check(&connection)?;
    if schema::is_new(&connection)? {
        return empty(path);
    }
    schema::check_not_older(&connection)?;
    Ok(connection)
}

/// A connection is used by one thread at a time, so SQLite's own locking is left out.
fn open(path: &Path, access: OpenFlags) -> Result<Connection, Fault> {
    let flags = access | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_EXRESCODE;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    // A damaged page is found when it is read, and a schema somebody tampered with runs nothing.
    connection.execute_batch("PRAGMA cell_size_check = ON; PRAGMA trusted_schema = OFF;")?;
    Ok(connection)
}
