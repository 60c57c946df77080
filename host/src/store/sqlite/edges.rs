//! Dependencies and dependants of tasks: one row for the dependencies of a task, and one row for
//! all dependants that a batch adds to a task.
//!
//! Up to schema 4 there was a row for each dependency, with an index for the other direction. For a
//! large graph, these rows took most of the time and most of the file.

use std::sync::Arc;

use claudine_domain::{
    dependency::{Condition, Dependency},
    id::TaskId,
};
use rusqlite::{Connection, OptionalExtension, Statement, Transaction, params};

use super::{fault::Fault, row};

const ID_BYTES: usize = 16;
const EDGE_BYTES: usize = ID_BYTES + 1;

/// The query of [`select`], which a caller with many tasks prepares only once.
pub(super) const OF_TASK: &str = "SELECT edges FROM depends_on WHERE task = ?1";

/// The batch number in rows that were migrated from an older schema.
const BEFORE_ALL_BATCHES: i64 = 0;

/// Writes the edges of a batch.
pub(super) fn write(
    transaction: &Transaction<'_>,
    batch: i64,
    added: &[(TaskId, Arc<[Dependency]>)],
) -> Result<(), Fault> {
    // Most batches add none, and taking a statement from the cache has a price too.
    if added.is_empty() {
        return Ok(());
    }
    let mut forward =
        transaction.prepare_cached("INSERT INTO depends_on (task, edges) VALUES (?1, ?2)")?;
    let mut reverse = Vec::new();
    for (task, dependencies) in added {
        forward.execute(params![task.to_bytes(), encode(dependencies)])?;
        reverse.extend(dependencies.iter().map(|it| (it.task, *task)));
    }
    reverse.sort_unstable();
    let mut write = transaction
        .prepare_cached("INSERT INTO dependant (upstream, batch, tasks) VALUES (?1, ?2, ?3)")?;
    for of_one in reverse.chunk_by(|one, next| one.0 == next.0) {
        let tasks: Vec<u8> = of_one.iter().flat_map(|it| it.1.to_bytes()).collect();
        write.execute(params![of_one[0].0.to_bytes(), batch, tasks])?;
    }
    Ok(())
}

pub(super) fn of_task(reader: &Connection, task: TaskId) -> Result<Arc<[Dependency]>, Fault> {
    let mut query = reader.prepare_cached(OF_TASK)?;
    select(&mut query, task.to_bytes())
}

/// Reads the dependencies of a task.
pub(super) fn select(
    of_task: &mut Statement<'_>,
    task: [u8; ID_BYTES],
) -> Result<Arc<[Dependency]>, Fault> {
    let mut rows = of_task.query([task])?;
    match rows.next()? {
        Some(found) => decode(found.get_ref(0)?.as_blob().map_err(rusqlite::Error::from)?),
        None => Ok(Arc::default()),
    }
}

/// The existing finished and unfinished tasks that depend on a task, sorted.
pub(super) fn dependants(reader: &Connection, upstream: TaskId) -> Result<Vec<TaskId>, Fault> {
    let mut found = Vec::new();
    each_dependant(reader, upstream, |task, _| {
        found.push(task);
        true
    })?;
    found.sort_unstable();
    Ok(found)
}

/// Whether a dependant of the task has not ended.
pub(super) fn is_needed(reader: &Connection, upstream: TaskId) -> Result<bool, Fault> {
    let mut needed = false;
    each_dependant(reader, upstream, |_, status| {
        needed = status < row::FIRST_OUTCOME;
        !needed
    })?;
    Ok(needed)
}

/// Passes each existing dependant and the code of its status to `next`, until `next` returns
/// `false`.
fn each_dependant(
    reader: &Connection,
    upstream: TaskId,
    mut next: impl FnMut(TaskId, i64) -> bool,
) -> Result<(), Fault> {
    let mut named = reader.prepare_cached("SELECT tasks FROM dependant WHERE upstream = ?1")?;
    let mut status = reader.prepare_cached("SELECT status FROM task WHERE id = ?1")?;
    let mut rows = named.query([upstream.to_bytes()])?;
    while let Some(of_batch) = rows.next()? {
        let tasks = of_batch.get_ref(0)?.as_blob();
        let (ids, rest) = tasks
            .map_err(rusqlite::Error::from)?
            .as_chunks::<ID_BYTES>();
        well_formed(rest)?;
        for id in ids {
            let status = status.query_row([id], |row| row.get(0)).optional()?;
            if status.is_some_and(|status| !next(TaskId::from_bytes(*id), status)) {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Removes the rows about the dependencies and dependants of a removed task.
pub(super) fn forget(transaction: &Transaction<'_>, task: TaskId) -> Result<(), Fault> {
    for sql in [
        "DELETE FROM depends_on WHERE task = ?1",
        "DELETE FROM dependant WHERE upstream = ?1",
    ] {
        transaction
            .prepare_cached(sql)?
            .execute([task.to_bytes()])?;
    }
    Ok(())
}

/// Migrates the edges from a schema with a row for each edge.
pub(super) fn migrate(transaction: &Transaction<'_>) -> Result<(), Fault> {
    let mut added: Vec<(TaskId, Vec<Dependency>)> = Vec::new();
    let mut query = transaction
        .prepare("SELECT task, upstream, condition FROM dependency ORDER BY task, upstream")?;
    let mut rows = query.query([])?;
    while let Some(edge) = rows.next()? {
        let task = TaskId::from_bytes(edge.get(0)?);
        let dependency = Dependency {
            task: TaskId::from_bytes(edge.get(1)?),
            condition: row::condition(edge.get(2)?)?,
        };
        match added.last_mut() {
            Some((last, dependencies)) if *last == task => dependencies.push(dependency),
            _ => added.push((task, vec![dependency])),
        }
    }
    drop(rows);
    drop(query);
    let added: Vec<_> = added
        .into_iter()
        .map(|(task, dependencies)| (task, dependencies.into()))
        .collect();
    write(transaction, BEFORE_ALL_BATCHES, &added)?;
    Ok(transaction.execute_batch("DROP TABLE dependency")?)
}

fn encode(dependencies: &[Dependency]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(dependencies.len() * EDGE_BYTES);
    for Dependency { task, condition } in dependencies {
        bytes.extend(task.to_bytes());
        bytes.push(row::condition_code(*condition));
    }
    bytes
}

fn decode(bytes: &[u8]) -> Result<Arc<[Dependency]>, Fault> {
    let (edges, rest) = bytes.as_chunks::<EDGE_BYTES>();
    well_formed(rest)?;
    let edge = |[id @ .., code]: &[u8; EDGE_BYTES]| {
        let condition: Condition = row::condition(i64::from(*code))?;
        Ok(Dependency {
            task: TaskId::from_bytes(*id),
            condition,
        })
    };
    edges.iter().map(edge).collect()
}

/// Fails if bytes are left after the last whole entry, because no version writes such a blob.
fn well_formed(rest: &[u8]) -> Result<(), Fault> {
    if rest.is_empty() {
        return Ok(());
    }
    Err(
        rusqlite::Error::InvalidColumnType(0, "edges".to_owned(), rusqlite::types::Type::Blob)
            .into(),
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn an_incomplete_blob_of_edges_is_an_error() {
        let edge = Dependency {
            task: TaskId::new(1, 2),
            condition: Condition::Completed,
        };
        let whole = encode(&[edge, edge]);
        assert_eq!(*decode(&whole).unwrap(), [edge, edge]);
        assert!(decode(&whole[..whole.len() - 1]).is_err());
        let mut unknown = whole;
        unknown[ID_BYTES] = 9;
        assert!(decode(&unknown).is_err());
    }
}
