//! Exports a whole store for a backup, and imports it into an empty store.

use std::sync::Arc;

use claudine_domain::{
    batch::Batch, board::Unreadable, budget::Scope, event::Event, id::TaskId, task::Task,
};
use rusqlite::{Connection, Row, Transaction, params};

use super::{
    super::{Bytes, Counters, Record, Sequence},
    commit, edges,
    fault::Fault,
    load, row,
};

/// Function that gets each record, and returns whether to continue.
type Each<'a> = &'a mut dyn FnMut(Record) -> bool;

/// Whether to continue after a part of the export.
type Read = Result<bool, Fault>;

/// Exports within one transaction, so that all records are from one moment, even if batches are
/// committed during the export.
pub(super) fn export(reader: &Connection, each: Each<'_>) -> Result<(), Fault> {
    let moment = reader.unchecked_transaction()?;
    let parts: [fn(&Connection, Each<'_>) -> Read; 9] = [
        counters, tasks, documents, groups, queue, accounts, profiles, spent, events,
    ];
    for part in parts {
        if !part(&moment, each)? {
            break;
        }
    }
    Ok(moment.finish()?)
}

/// Passes each row of a query to `each` as a record. Only one row is in memory at a time.
fn rows(
    reader: &Connection,
    sql: &str,
    each: Each<'_>,
    record: impl Fn(&Row<'_>) -> Result<Record, Fault>,
) -> Read {
    let mut query = reader.prepare(sql)?;
    let mut rows = query.query([])?;
    while let Some(found) = rows.next()? {
        if !each(record(found)?) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn counters(reader: &Connection, each: Each<'_>) -> Read {
    let sql = "SELECT epoch, last_batch, last_event FROM leader";
    rows(reader, sql, each, |found| {
        let number = |column: usize| found.get::<_, i64>(column).map(i64::unsigned_abs);
        Ok(Record::Counters(Counters {
            epoch: number(0)?,
            last_batch: number(1)?,
            last_event: number(2)?,
        }))
    })
}

fn tasks(reader: &Connection, each: Each<'_>) -> Read {
    let sql = "SELECT body FROM task ORDER BY id";
    rows(reader, sql, each, |found| {
        let task: Box<Task> = row::decode("task", found, 0)?;
        let depends_on = edges::of_task(reader, task.id)?.to_vec();
        Ok(Record::Task { task, depends_on })
    })
}

fn documents(reader: &Connection, each: Each<'_>) -> Read {
    let sql = "SELECT task, kind, attempt, bytes FROM document ORDER BY task, kind, attempt";
    rows(reader, sql, each, |found| {
        let task = TaskId::from_bytes(found.get(0)?);
        Ok(Record::Document {
            key: row::document_key_of(task, found.get(1)?, found.get(2)?)?,
            bytes: Bytes::of(found.get(3)?),
        })
    })
}

fn groups(reader: &Connection, each: Each<'_>) -> Read {
    let sql = "SELECT name, body FROM task_group ORDER BY name";
    rows(reader, sql, each, |found| {
        Ok(Record::Group {
            name: found.get(0)?,
            group: row::decode("group", found, 1)?,
        })
    })
}

fn queue(reader: &Connection, each: Each<'_>) -> Read {
    rows(reader, "SELECT body FROM queue", each, |found| {
        Ok(Record::Queue(row::decode("queue", found, 0)?))
    })
}

/// Returns all rows. Fails if a row cannot be read, because a backup must not leave out a row.
fn all<T>(
    reader: &Connection,
    load: fn(&Connection, &mut Vec<Unreadable>) -> Result<Vec<T>, Fault>,
) -> Result<Vec<T>, Fault> {
    let mut aside = Vec::new();
    let rows = load(reader, &mut aside)?;
    match aside.first() {
        None => Ok(rows),
        Some(Unreadable { what, .. }) => Err(Fault::Aside { what }),
    }
}

fn accounts(reader: &Connection, each: Each<'_>) -> Read {
    for (key, parked) in all(reader, load::accounts)? {
        if !each(Record::Account { key, parked }) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn profiles(reader: &Connection, each: Each<'_>) -> Read {
    for (key, profile) in all(reader, load::profiles)? {
        let profile = Box::new(profile);
        if !each(Record::Profile { key, profile }) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn spent(reader: &Connection, each: Each<'_>) -> Read {
    let sql = "SELECT scope, id, micro_usd FROM spent ORDER BY scope, id";
    rows(reader, sql, each, |found| {
        let id = found.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?;
        let scope: Scope = row::scope_of(found.get(0)?, id)?;
        let micro_usd = found.get::<_, i64>(2)?.unsigned_abs();
        Ok(Record::Spent { scope, micro_usd })
    })
}

fn events(reader: &Connection, each: Each<'_>) -> Read {
    let sql = "SELECT sequence, body FROM event ORDER BY sequence";
    rows(reader, sql, each, |found| {
        Ok(Record::Event {
            sequence: found.get::<_, i64>(0)?.unsigned_abs(),
            event: row::decode("event", found, 1)?,
        })
    })
}

/// Imports a part of an export. Parts are numbered from 0.
pub(super) fn import(
    writer: &mut Connection,
    part: u32,
    records: Vec<Record>,
) -> Result<(), Fault> {
    let transaction = commit::begin(writer)?;
    let mut batch = Batch::default();
    let mut events = Vec::new();
    for record in records {
        match record {
            Record::Counters(counters) => set_counters(&transaction, counters)?,
            Record::Event { sequence, event } => events.push((sequence, *event)),
            other => add(&mut batch, other)?,
        }
    }
    // Batches are numbered from 1, so imported parts use negative numbers.
    commit::write_rows(&transaction, -1 - i64::from(part), &batch)?;
    write_events(&transaction, &events)?;
    Ok(transaction.commit()?)
}

fn add(batch: &mut Batch, record: Record) -> Result<(), Fault> {
    match record {
        Record::Task { task, depends_on } => {
            if !depends_on.is_empty() {
                batch.dependencies.push((task.id, depends_on.into()));
            }
            batch.tasks.push(Arc::new(*task));
        }
        Record::Document { key, bytes } => {
            let bytes = bytes.into_vec().ok_or(Fault::NoHex)?;
            batch.documents.push((key, bytes.into()));
        }
        Record::Group { name, group } => batch.groups.push((name, Some(group))),
        Record::Queue(queue) => batch.queue = Some(queue),
        Record::Account { key, parked } => batch.accounts.push((key, Some(parked))),
        Record::Profile { key, profile } => batch.profiles.push((key, Some(*profile))),
        Record::Spent { scope, micro_usd } => batch.spent.push((scope, micro_usd)),
        Record::Counters(_) | Record::Event { .. } => {}
    }
    Ok(())
}

fn set_counters(transaction: &Transaction<'_>, counters: Counters) -> Result<(), Fault> {
    let Counters {
        epoch,
        last_batch,
        last_event,
    } = counters;
    transaction.execute(
        "UPDATE leader SET epoch = ?1, last_batch = ?2, last_event = ?3",
        params![
            row::integer(epoch),
            row::integer(last_batch),
            row::integer(last_event)
        ],
    )?;
    Ok(())
}

fn write_events(transaction: &Transaction<'_>, events: &[(Sequence, Event)]) -> Result<(), Fault> {
    let numbered = events.iter().map(|(sequence, event)| (*sequence, event));
    commit::write_numbered_events(transaction, numbered)
}

/// A summary of a database with any schema.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Content {
    /// Whether a table other than the leader's has a row.
    pub(crate) has_rows: bool,
    pub(crate) epoch: u64,
}

/// Reads the names of the tables from the database, so that a database with an older or newer
/// schema can be summarised too.
pub(super) fn content(reader: &Connection) -> Result<Content, Fault> {
    let mut has_rows = false;
    for table in tables(reader)?.iter().filter(|table| *table != "leader") {
        let quoted = table.replace('"', "\"\"");
        let sql = format!("SELECT EXISTS (SELECT 1 FROM \"{quoted}\")");
        has_rows |= reader.query_row(&sql, [], |row| row.get::<_, bool>(0))?;
    }
    let epoch = "SELECT max(epoch) FROM leader";
    let epoch: Option<i64> = reader.query_row(epoch, [], |row| row.get(0))?;
    Ok(Content {
        has_rows,
        epoch: epoch.map_or(0, i64::unsigned_abs),
    })
}

fn tables(reader: &Connection) -> Result<Vec<String>, Fault> {
    let mut query = reader.prepare(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'
         ORDER BY name",
    )?;
    let names = query.query_map([], |row| row.get(0))?;
    Ok(names.collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::{super::SqliteStore, *};

    /// Each new table needs a record, or an entry here with the reason why it needs none.
    #[test]
    fn every_table_is_in_a_backup() {
        let directory = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&directory.path().join("claudine.db")).unwrap();
        let expected = [
            "account",
            // The table is derived from `depends_on`.
            "dependant",
            "depends_on",
            "document",
            "event",
            "leader",
            "profile",
            "queue",
            "spent",
            "task",
            "task_group",
        ];
        assert_eq!(tables(&store.writer()).unwrap(), expected);
    }
}
