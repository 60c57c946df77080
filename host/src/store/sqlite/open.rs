//! Opens connections, and checks each file before it is opened.

use std::{fs, io, os::unix::fs::OpenOptionsExt, path::Path, time::Duration};

use rusqlite::{Connection, OpenFlags};

use super::{
    super::StoreError,
    fault::{Fault, beside, from_io},
    schema,
};

/// Maximum time to wait for a lock of another program (a backup, a `sqlite3` shell).
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) const WRITER_CACHE_KIB: i64 = 4096;

/// The length to which the log is truncated after a burst of commits.
pub(super) const LOG_LIMIT_BYTES: u64 = 16 << 20;

pub(super) fn writer(path: &Path) -> Result<Connection, StoreError> {
    look_at_file(path)?;
    open_writer(path).map_err(|fault| fault.at(path))
}

/// Creates a missing file with the right mode, which SQLite would not set. (Log and index get the
/// mode of the file.) If the file was emptied or lost but its log exists, the database is refused,
/// because SQLite would take the file for a new database and discard the log, with everything that
/// was not copied into the file yet.
///
/// An existing file is not opened, since closing it again would release the locks that this process
/// may have on it.
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

/// Whether the database does not exist, or is a file of length 0. Fails if the file was emptied or
/// lost, which its log shows.
pub(super) fn is_empty(path: &Path) -> Result<bool, StoreError> {
    let has_log = length_of(&beside(path, "-wal"))? > 0;
    let is_empty = length_of(path)? == 0;
    if is_empty && has_log {
        return Err(lost(path));
    }
    Ok(is_empty)
}

/// The error for a file that is empty or missing although its log is not. Callers check the log
/// before the file. In the other order, a new database could get its log between the two checks,
/// and would be taken for a lost database.
pub(super) fn lost(path: &Path) -> StoreError {
    let log = beside(path, "-wal");
    StoreError::Corrupt {
        path: path.to_owned(),
        detail: format!("the file is empty, but its log {} is not", log.display()),
    }
}

/// The length of a file; 0 if the file does not exist.
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
    // The log is copied into the file whenever it has grown by 8 MiB. This takes some 10 ms, in the
    // commit that reaches this size.
    connection.execute_batch(
        "PRAGMA synchronous = FULL;
         PRAGMA wal_autocheckpoint = 2000;",
    )?;
    connection.pragma_update(None, "journal_size_limit", LOG_LIMIT_BYTES.cast_signed())?;
    connection.pragma_update(None, "cache_size", -WRITER_CACHE_KIB)?;
    schema::migrate(&mut connection, path)?;
    Ok(connection)
}

pub(super) fn reader(path: &Path) -> Result<Connection, Fault> {
    let connection = open(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    connection.execute_batch("PRAGMA cache_size = -1024;")?;
    Ok(connection)
}

/// A connection to a file of this version's schema. Nobody may write to the file while the
/// connection is open. `uri` names the file.
pub(super) fn unchanging(path: &Path, uri: &str) -> Result<Connection, Fault> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    fit(open(Path::new(uri), flags)?, path)
}

/// A connection to an empty database in memory.
pub(super) fn empty(path: &Path) -> Result<Connection, Fault> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_MEMORY;
    let mut connection = open(Path::new(":memory:"), flags)?;
    schema::migrate(&mut connection, path)?;
    Ok(connection)
}

/// A read-only connection to a file of this version's schema.
pub(super) fn existing(path: &Path) -> Result<Connection, Fault> {
    fit(reader(path)?, path)
}

/// Returns the connection if its file has this version's schema, or a connection to an empty
/// database if the file has no tables yet.
fn fit(connection: Connection, path: &Path) -> Result<Connection, Fault> {
    schema::check(&connection)?;
    if schema::is_new(&connection)? {
        return empty(path);
    }
    schema::check_not_older(&connection)?;
    Ok(connection)
}

/// Opens a connection. Only one thread at a time uses it, so SQLite's own locking is switched off.
fn open(path: &Path, access: OpenFlags) -> Result<Connection, Fault> {
    let flags = access | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_EXRESCODE;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    // With these settings, damaged pages are detected when they are read, and a schema that
    // somebody has changed cannot run code.
    connection.execute_batch("PRAGMA cell_size_check = ON; PRAGMA trusted_schema = OFF;")?;
    Ok(connection)
}
