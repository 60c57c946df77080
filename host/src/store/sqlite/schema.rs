//! The numbered migration steps from an empty file to this version's schema.
//!
//! The statements of a released step are never changed. A new schema is one more step.
//! `tests/fixtures/store` has a database of every past schema, and each of these must open. The
//! number of steps that were taken is stored as SQLite's `user_version`, and `application_id`
//! identifies our files.

use std::path::Path;

use rusqlite::{Connection, Transaction, TransactionBehavior};

use super::{before, edges, fault::Fault};

/// A step: SQL statements, and code for the changes that SQL cannot express.
struct Step {
    sql: &'static str,
    then: fn(&Transaction<'_>) -> Result<(), Fault>,
}

impl Step {
    const fn of(sql: &'static str) -> Self {
        Self {
            sql,
            then: |_| Ok(()),
        }
    }
}

const STEPS: &[Step] = &[
    Step::of(include_str!("1.sql")),
    Step::of(include_str!("2.sql")),
    Step::of(include_str!("3.sql")),
    Step::of(include_str!("4.sql")),
    Step {
        sql: include_str!("5.sql"),
        then: edges::migrate,
    },
    Step::of(include_str!("6.sql")),
    Step::of(include_str!("7.sql")),
    Step::of(include_str!("8.sql")),
    Step::of(include_str!("9.sql")),
    Step::of(include_str!("10.sql")),
];

/// The characters "Clau".
const APPLICATION_ID: i32 = 0x436c_6175;

pub(super) const KNOWN: usize = STEPS.len();

/// The header of a file. It shows whether the file is ours, and how many steps were taken.
struct Header {
    application_id: i32,
    version: usize,
    tables: u32,
}

impl Header {
    /// Whether no step was taken yet, because the file is being created or its creator was killed.
    fn is_new(&self) -> bool {
        self.version == 0 && self.tables == 0
    }
}

fn header(connection: &Connection) -> Result<Header, Fault> {
    let number = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i32>(0));
    Ok(Header {
        application_id: number("PRAGMA application_id")?,
        version: usize::try_from(number("PRAGMA user_version")?).unwrap_or(usize::MAX),
        tables: connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?,
    })
}

/// Checks that the file is ours, and of a version that this program knows. Called before anything
/// is written.
pub(super) fn check(connection: &Connection) -> Result<(), Fault> {
    let header = header(connection)?;
    if !header.is_new() && header.application_id != APPLICATION_ID {
        return Err(Fault::NotOurs);
    }
    if header.version > KNOWN {
        return Err(Fault::Newer {
            found: number(header.version),
            known: number(KNOWN),
        });
    }
    Ok(())
}

/// Whether the file has no tables yet. The first host makes the tables.
pub(super) fn is_new(connection: &Connection) -> Result<bool, Fault> {
    Ok(header(connection)?.is_new())
}

/// Refuses a file with an older schema. The file must have passed [`check`].
pub(super) fn check_not_older(connection: &Connection) -> Result<(), Fault> {
    let found = header(connection)?.version;
    if found < KNOWN {
        return Err(Fault::Older {
            found: number(found),
            known: number(KNOWN),
        });
    }
    Ok(())
}

/// The number of a schema, as users see it.
pub(super) fn number(version: usize) -> u32 {
    u32::try_from(version).unwrap_or(u32::MAX)
}

/// Takes the missing steps, all in one transaction. A database of an earlier version is copied
/// first.
pub(super) fn migrate(connection: &mut Connection, path: &Path) -> Result<(), Fault> {
    let version = header(connection)?.version;
    if version == KNOWN {
        return Ok(());
    }
    if version > 0 {
        before::copy(connection, path, KNOWN)?;
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // The version is read again under the lock, because two programs may have opened the file at
    // the same time.
    let done = header(&transaction)?.version;
    for step in STEPS.iter().skip(done) {
        transaction.execute_batch(step.sql)?;
        (step.then)(&transaction)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(
        None,
        "user_version",
        u32::try_from(KNOWN).unwrap_or(u32::MAX),
    )?;
    Ok(transaction.commit()?)
}
