//! Writes to the database: every change goes through this module.

use claudine_domain::{
    account::Parked,
    batch::{Batch, BatchNumber, DocumentKey},
    budget::Scope,
    event::Event,
    id::{AccountKey, TaskId},
    profile::{Profile, ProfileKey},
    queue::{Pause, Queue},
};
use rusqlite::{Connection, Transaction, TransactionBehavior, params};

use super::{
    super::{Epoch, Sequence, Status, StoreError},
    edges,
    fault::Fault,
    load, open, prune, row,
};

pub(super) fn lead_after(writer: &mut Connection, led: u64) -> Result<Epoch, Fault> {
    let transaction = begin(writer)?;
    transaction.execute(
        "UPDATE leader SET epoch = max(epoch, ?1) + 1",
        [row::integer(led)],
    )?;
    let epoch = leader(&transaction)?.epoch;
    transaction.commit()?;
    Ok(epoch)
}

/// Pauses the queue, unless it is paused already.
pub(super) fn pause(writer: &mut Connection, pause: Pause) -> Result<(), Fault> {
    let transaction = begin(writer)?;
    // A row that cannot be read counts as a pause, and is kept.
    let mut queue = load::queue(&transaction, &mut Vec::new())?;
    if queue.paused.is_none() {
        queue.paused = Some(pause);
        write_queue(&transaction, Some(&queue))?;
    }
    Ok(transaction.commit()?)
}

/// The minimum number of dependencies in a batch at which SQLite's cache is enlarged. Dependants
/// are stored in random order, and a page that does not fit into the cache is written out and read
/// back repeatedly.
const MANY_EDGES: usize = 10_000;
/// The size of the enlarged cache in KiB: some hundred bytes per dependency, for a million
/// dependencies.
const LARGE_CACHE_KIB: i64 = 256 << 10;

pub(super) fn batch(writer: &mut Connection, epoch: Epoch, batch: &Batch) -> Result<(), Fault> {
    let edges = batch.dependencies.iter().map(|(_, edges)| edges.len());
    if edges.sum::<usize>() < MANY_EDGES {
        return write(writer, epoch, batch);
    }
    writer.pragma_update(None, "cache_size", -LARGE_CACHE_KIB)?;
    let written = write(writer, epoch, batch);
    writer.pragma_update(None, "cache_size", -open::WRITER_CACHE_KIB)?;
    writer.execute_batch("PRAGMA shrink_memory")?;
    written
}

fn write(writer: &mut Connection, epoch: Epoch, batch: &Batch) -> Result<(), Fault> {
    let transaction = begin(writer)?;
    let last_event = count(&transaction, epoch, batch)?;
    write_rows(&transaction, row::integer(batch.number), batch)?;
    write_events(&transaction, last_event, &batch.events)?;
    prune::remove(&transaction, &batch.pruned)?;
    Ok(transaction.commit()?)
}

/// Writes a batch without its events. Different batches may add rows about the dependants of the
/// same task. `number` distinguishes these rows.
pub(super) fn write_rows(
    transaction: &Transaction<'_>,
    number: i64,
    batch: &Batch,
) -> Result<(), Fault> {
    write_tasks(transaction, batch)?;
    edges::write(transaction, number, &batch.dependencies)?;
    write_groups(transaction, batch)?;
    write_queue(transaction, batch.queue.as_ref())?;
    write_documents(transaction, &batch.documents)?;
    write_accounts(transaction, &batch.accounts)?;
    write_profiles(transaction, &batch.profiles)?;
    write_spent(transaction, &batch.spent)
}

/// Copies the write-ahead log into the file, as far as this is possible without waiting for
/// readers.
pub(super) fn checkpoint_log(writer: &mut Connection) -> Result<(), Fault> {
    Ok(writer.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))?)
}

/// Copies the whole write-ahead log into the file, and empties the log.
pub(super) fn checkpoint_whole_log(writer: &Connection) -> Result<(), Fault> {
    let busy: bool = writer.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
    if busy {
        let busy = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY);
        return Err(rusqlite::Error::SqliteFailure(busy, None).into());
    }
    Ok(())
}

/// Begins a transaction that has the write lock at once, because a transaction that begins with a
/// read may fail to get this lock later.
pub(super) fn begin(writer: &mut Connection) -> Result<Transaction<'_>, Fault> {
    Ok(writer.transaction_with_behavior(TransactionBehavior::Immediate)?)
}

/// Checks that this batch may be committed after the last batch, and records the numbers of the
/// batch and of its last event. Returns the number of the last event before the batch.
fn count(transaction: &Transaction<'_>, epoch: Epoch, batch: &Batch) -> Result<Sequence, Fault> {
    let before = led_by(transaction, epoch)?;
    if batch.number <= before.last_batch {
        return Err(Fault::Refused(StoreError::OutOfOrder {
            number: batch.number,
            last: before.last_batch,
        }));
    }
    let last_event = before.last_event.saturating_add(batch.events.len() as u64);
    transaction
        .prepare_cached("UPDATE leader SET last_batch = ?1, last_event = ?2")?
        .execute([row::integer(batch.number), row::integer(last_event)])?;
    Ok(before.last_event)
}

/// Reads the leader's row. Fails if the row has another epoch than `held`.
fn led_by(transaction: &Transaction<'_>, held: Epoch) -> Result<Leader, Fault> {
    let leader = leader(transaction)?;
    if leader.epoch == held {
        return Ok(leader);
    }
    Err(Fault::Refused(StoreError::Fenced {
        held,
        current: leader.epoch,
    }))
}

struct Leader {
    epoch: Epoch,
    last_batch: BatchNumber,
    last_event: Sequence,
}

/// Reads the leader's row with a separate query, because `RETURNING` makes a table for its answer,
/// which takes longer than everything else in a small commit.
fn leader(transaction: &Transaction<'_>) -> Result<Leader, Fault> {
    let mut query =
        transaction.prepare_cached("SELECT epoch, last_batch, last_event FROM leader")?;
    Ok(query.query_row([], |row| {
        Ok(Leader {
            epoch: Epoch(number(row, 0)?),
            last_batch: number(row, 1)?,
            last_event: number(row, 2)?,
        })
    })?)
}

fn write_tasks(transaction: &Transaction<'_>, batch: &Batch) -> Result<(), Fault> {
    let mut write = transaction.prepare_cached(
        "INSERT INTO task
            (id, status, created_at, finished_at, executor, name, parent, idempotency_key, body, culprit,
             in_group, graph, graph_name)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)
         ON CONFLICT (id) DO UPDATE SET
            status = excluded.status, finished_at = excluded.finished_at, body = excluded.body,
            culprit = excluded.culprit",
    )?;
    let mut encoder = row::Encoder::default();
    for task in &batch.tasks {
        let request = &task.request;
        write.execute(params![
            task.id.to_bytes(),
            row::code(Status::of(task)),
            row::time(task.created_at),
            row::finished_at(task),
            request.executor,
            request.name,
            request.parent.map(TaskId::to_bytes),
            request
                .idempotency
                .as_ref()
                .map(|idempotency| &idempotency.key),
            encoder.encode("task", &**task)?,
            row::culprit(task),
            request.group,
            request.graph.as_ref().map(|graph| graph.first.to_bytes()),
            request
                .graph
                .as_ref()
                .and_then(|graph| graph.name.as_deref()),
        ])?;
    }
    Ok(())
}

fn write_groups(transaction: &Transaction<'_>, batch: &Batch) -> Result<(), Fault> {
    for (name, group) in &batch.groups {
        match group {
            Some(group) => transaction
                .prepare_cached("REPLACE INTO task_group (name, body) VALUES (?1, ?2)")?
                .execute(params![name, row::encode("group", group)?])?,
            None => transaction
                .prepare_cached("DELETE FROM task_group WHERE name = ?1")?
                .execute([name])?,
        };
    }
    Ok(())
}

fn write_queue(transaction: &Transaction<'_>, queue: Option<&Queue>) -> Result<(), Fault> {
    if let Some(queue) = queue {
        transaction
            .prepare_cached("REPLACE INTO queue (one, body) VALUES (1, ?1)")?
            .execute([row::encode("queue", queue)?])?;
    }
    Ok(())
}

fn write_documents(
    transaction: &Transaction<'_>,
    documents: &[(DocumentKey, std::sync::Arc<[u8]>)],
) -> Result<(), Fault> {
    if documents.is_empty() {
        return Ok(());
    }
    let mut write = transaction.prepare_cached(
        "REPLACE INTO document (task, kind, attempt, bytes) VALUES (?1, ?2, ?3, ?4)",
    )?;
    for (key, bytes) in documents {
        let (task, kind, attempt) = row::document_key(*key);
        write.execute(params![task.to_bytes(), kind, attempt, &**bytes])?;
    }
    Ok(())
}

fn write_accounts(
    transaction: &Transaction<'_>,
    accounts: &[(AccountKey, Option<Parked>)],
) -> Result<(), Fault> {
    for (key, parked) in accounts {
        match parked {
            Some(parked) => transaction
                .prepare_cached("REPLACE INTO account (key, body) VALUES (?1, ?2)")?
                .execute(params![key.0, row::encode("account", parked)?])?,
            None => transaction
                .prepare_cached("DELETE FROM account WHERE key = ?1")?
                .execute([&key.0])?,
        };
    }
    Ok(())
}

fn write_spent(transaction: &Transaction<'_>, spent: &[(Scope, u64)]) -> Result<(), Fault> {
    for (scope, micro_usd) in spent {
        let (scope, id) = row::scope(*scope);
        transaction
            .prepare_cached("REPLACE INTO spent (scope, id, micro_usd) VALUES (?1, ?2, ?3)")?
            .execute(params![scope, id, row::integer(*micro_usd)])?;
    }
    Ok(())
}

fn write_profiles(
    transaction: &Transaction<'_>,
    profiles: &[(ProfileKey, Option<Profile>)],
) -> Result<(), Fault> {
    for (key, profile) in profiles {
        let key = row::encode("profile key", key)?;
        match profile {
            Some(profile) => transaction
                .prepare_cached("REPLACE INTO profile (key, body) VALUES (?1, ?2)")?
                .execute(params![key, row::encode("profile", profile)?])?,
            None => transaction
                .prepare_cached("DELETE FROM profile WHERE key = ?1")?
                .execute([key])?,
        };
    }
    Ok(())
}

fn write_events(
    transaction: &Transaction<'_>,
    last: Sequence,
    events: &[Event],
) -> Result<(), Fault> {
    write_numbered_events(transaction, (last + 1..).zip(events))
}

pub(super) fn write_numbered_events<'a>(
    transaction: &Transaction<'_>,
    events: impl Iterator<Item = (Sequence, &'a Event)>,
) -> Result<(), Fault> {
    let mut write =
        transaction.prepare_cached("INSERT INTO event (sequence, at, body) VALUES (?1, ?2, ?3)")?;
    let mut encoder = row::Encoder::default();
    for (sequence, event) in events {
        write.execute(params![
            row::integer(sequence),
            row::time(event.at),
            encoder.encode("event", event)?
        ])?;
    }
    Ok(())
}

/// Reads a column of the leader's row. No column of this row is ever negative.
fn number(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<u64> {
    let value: i64 = row.get(column)?;
    u64::try_from(value).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, value))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use claudine_domain::time::Timestamp;

    use super::{super::SqliteStore, *};
    use crate::store::Store;

    #[test]
    fn a_pause_before_a_host_leads_is_stored_and_an_earlier_one_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("claudine.db");
        let paused = |since| Pause {
            since: Timestamp(since),
            ..Pause::default()
        };
        for since in [7, 8] {
            let store = SqliteStore::open(&path).unwrap();
            store.pause(paused(since)).unwrap();
            let stored = store.load(Timestamp(0)).unwrap();
            assert_eq!(stored.queue.paused, Some(paused(7)));
            assert_eq!(store.last_epoch().unwrap(), 0);
        }
    }
}
