//! Queries for tasks, documents, events and counts.

use std::collections::{BTreeMap, BTreeSet};

use claudine_domain::{
    batch::{BatchNumber, DocumentKey},
    budget::Scope,
    dependency::End,
    event::Event,
    id::TaskId,
    task::Task,
    time::Timestamp,
};
use rusqlite::{Connection, OptionalExtension, params};

use super::{
    super::{Sequence, Status},
    edges,
    fault::Fault,
    row,
};

pub(super) fn task(reader: &Connection, id: TaskId) -> Result<Option<Task>, Fault> {
    let mut query = reader.prepare_cached("SELECT body, id, status FROM task WHERE id = ?1")?;
    let mut rows = query.query([id.to_bytes()])?;
    let Some(found) = rows.next()? else {
        return Ok(None);
    };
    whole(reader, found).map(Some)
}

/// The task of a row, with its dependencies.
fn whole(reader: &Connection, row: &rusqlite::Row<'_>) -> Result<Task, Fault> {
    let task = row::task(row)?;
    let dependencies = edges::of_task(reader, task.id)?;
    Ok(Task {
        dependencies,
        ..task
    })
}

/// The task of a row in a list. A task that cannot be read is logged and left out.
pub(super) fn if_readable(
    reader: &Connection,
    row: &rusqlite::Row<'_>,
) -> Result<Option<Task>, Fault> {
    match whole(reader, row) {
        Ok(task) => Ok(Some(task)),
        Err(fault) => {
            let (id, reason) = (row.get(1).map(TaskId::from_bytes)?, fault.of_one_row()?);
            tracing::warn!(%id, reason, "a stored task cannot be read and is left out");
            Ok(None)
        }
    }
}

pub(super) fn task_of_key(
    reader: &Connection,
    key: &str,
    since: Timestamp,
) -> Result<Option<Task>, Fault> {
    let mut query = reader.prepare_cached(
        "SELECT body, id, status FROM task WHERE idempotency_key = ?1 AND created_at >= ?2
         ORDER BY created_at DESC, id DESC LIMIT 1",
    )?;
    let mut rows = query.query(params![key, row::time(since)])?;
    match rows.next()? {
        Some(found) => if_readable(reader, found),
        None => Ok(None),
    }
}

pub(super) fn spoilt_by(reader: &Connection, culprit: TaskId) -> Result<Vec<Task>, Fault> {
    let mut query = reader
        .prepare_cached("SELECT body, id, status FROM task WHERE culprit = ?1 ORDER BY id")?;
    let mut rows = query.query([culprit.to_bytes()])?;
    let mut tasks = Vec::new();
    while let Some(found) = rows.next()? {
        tasks.extend(if_readable(reader, found)?);
    }
    Ok(tasks)
}

pub(super) fn spent_on(reader: &Connection, scope: Scope) -> Result<u64, Fault> {
    let (scope, id) = row::scope(scope);
    let mut query =
        reader.prepare_cached("SELECT micro_usd FROM spent WHERE scope = ?1 AND id = ?2")?;
    let found: Option<i64> = query
        .query_row(params![scope, id], |row| row.get(0))
        .optional()?;
    Ok(found.map_or(0, i64::unsigned_abs))
}

pub(super) fn ends(
    reader: &Connection,
    ids: &BTreeSet<TaskId>,
) -> Result<BTreeMap<TaskId, Option<End>>, Fault> {
    let mut query = reader.prepare_cached("SELECT status, culprit FROM task WHERE id = ?1")?;
    let mut ends = BTreeMap::new();
    for id in ids {
        let mut rows = query.query([id.to_bytes()])?;
        let Some(found) = rows.next()? else {
            continue;
        };
        let end = match row::status(found.get(0)?)? {
            Status::Done(outcome) => {
                let culprit: Option<[u8; 16]> = found.get(1)?;
                let culprit = culprit.map(TaskId::from_bytes);
                Some(End { outcome, culprit })
            }
            _ => None,
        };
        ends.insert(*id, end);
    }
    Ok(ends)
}

pub(super) fn known(
    reader: &Connection,
    ids: &BTreeSet<TaskId>,
) -> Result<BTreeSet<TaskId>, Fault> {
    let mut query = reader.prepare_cached("SELECT 1 FROM task WHERE id = ?1")?;
    let mut known = BTreeSet::new();
    for id in ids {
        if query.exists([id.to_bytes()])? {
            known.insert(*id);
        }
    }
    Ok(known)
}

pub(super) fn graphs_named(
    reader: &Connection,
    name: &str,
    limit: usize,
) -> Result<Vec<TaskId>, Fault> {
    let unrestrained = format!(" AND {} = 0", row::IS_RESTRAINED);
    for condition in [unrestrained.as_str(), ""] {
        let sql = format!(
            "SELECT id FROM task WHERE graph_name = ?1{condition} ORDER BY id DESC LIMIT ?2"
        );
        let mut query = reader.prepare_cached(&sql)?;
        let limit = row::integer(limit as u64);
        let found = query.query_map(params![name, limit], |row| {
            row.get(0).map(TaskId::from_bytes)
        })?;
        let found = found.collect::<Result<Vec<_>, _>>()?;
        if !found.is_empty() {
            return Ok(found);
        }
    }
    Ok(Vec::new())
}

pub(super) fn counts(reader: &Connection) -> Result<Vec<(Status, u64)>, Fault> {
    let mut query = reader.prepare_cached("SELECT status, count(*) FROM task GROUP BY status")?;
    let mut found = std::collections::BTreeMap::new();
    let mut rows = query.query([])?;
    while let Some(row) = rows.next()? {
        let (code, count): (i64, i64) = (row.get(0)?, row.get(1)?);
        found.insert(code, count.unsigned_abs());
    }
    let counts = Status::all().filter_map(|status| {
        let count = found.get(&row::code(status))?;
        Some((status, *count))
    });
    Ok(counts.collect())
}

pub(super) fn group_counts(reader: &Connection) -> Result<Vec<(String, Status, u64)>, Fault> {
    // The `+` prevents the use of the index on groups, which also has the finished tasks.
    let mut query = reader.prepare_cached(
        "SELECT in_group, status, count(*) FROM task
         WHERE status < ?1 AND +in_group IS NOT NULL GROUP BY in_group, status",
    )?;
    let mut rows = query.query([row::FIRST_OUTCOME])?;
    let mut counts = Vec::new();
    while let Some(found) = rows.next()? {
        let (code, count): (i64, i64) = (found.get(1)?, found.get(2)?);
        let status = Status::all().find(|status| row::code(*status) == code);
        if let Some(status) = status {
            counts.push((found.get(0)?, status, count.unsigned_abs()));
        }
    }
    counts
        .sort_by_key(|(group, status, _): &(String, Status, u64)| (group.clone(), status.place()));
    Ok(counts)
}

pub(super) fn document(reader: &Connection, key: DocumentKey) -> Result<Option<Vec<u8>>, Fault> {
    let (task, kind, attempt) = row::document_key(key);
    let mut query = reader.prepare_cached(
        "SELECT bytes FROM document WHERE task = ?1 AND kind = ?2 AND attempt = ?3",
    )?;
    let bytes = query.query_row(params![task.to_bytes(), kind, attempt], |row| row.get(0));
    Ok(bytes.optional()?)
}

pub(super) fn events_after(
    reader: &Connection,
    sequence: Sequence,
    limit: usize,
) -> Result<Vec<(Sequence, Event)>, Fault> {
    let mut query = reader
        .prepare_cached("SELECT sequence, body FROM event WHERE sequence > ?1 ORDER BY sequence")?;
    let mut rows = query.query([row::integer(sequence)])?;
    let mut events = Vec::new();
    while events.len() < limit
        && let Some(found) = rows.next()?
    {
        let sequence: i64 = found.get(0)?;
        match row::decode("event", found, 1) {
            Ok(event) => events.push((sequence.unsigned_abs(), event)),
            Err(fault) => {
                let reason = fault.of_one_row()?;
                tracing::warn!(
                    sequence,
                    reason,
                    "a stored event cannot be read and is left out"
                );
            }
        }
    }
    Ok(events)
}

pub(super) fn last_epoch(reader: &Connection) -> Result<u64, Fault> {
    let mut query = reader.prepare_cached("SELECT epoch FROM leader")?;
    let last: i64 = query.query_row([], |row| row.get(0))?;
    Ok(last.unsigned_abs())
}

pub(super) fn last_batch(reader: &Connection) -> Result<BatchNumber, Fault> {
    let mut query = reader.prepare_cached("SELECT last_batch FROM leader")?;
    let last: i64 = query.query_row([], |row| row.get(0))?;
    Ok(last.unsigned_abs())
}

pub(super) fn last_event(reader: &Connection) -> Result<Sequence, Fault> {
    let mut query = reader.prepare_cached("SELECT last_event FROM leader")?;
    let last: i64 = query.query_row([], |row| row.get(0))?;
    Ok(last.unsigned_abs())
}

pub(super) fn first_event_since(
    reader: &Connection,
    at: Timestamp,
) -> Result<Option<Sequence>, Fault> {
    let mut query = reader
        .prepare_cached("SELECT sequence FROM event WHERE at >= ?1 ORDER BY sequence LIMIT 1")?;
    let first = query.query_row([row::time(at)], |row| row.get::<_, i64>(0));
    Ok(first.optional()?.map(i64::unsigned_abs))
}

pub(super) fn env_digests(reader: &Connection) -> Result<Vec<String>, Fault> {
    let mut query = reader.prepare(
        "SELECT DISTINCT CASE WHEN json_valid(body)
             THEN json_extract(body, '$.request.env_digest') END AS digest
         FROM task ORDER BY digest",
    )?;
    let digests = query.query_map([], |row| row.get::<_, Option<String>>(0))?;
    let digests: Option<Vec<String>> = digests.collect::<Result<_, _>>()?;
    // A task that cannot be read may need any environment, so the list would be incomplete.
    digests.ok_or(Fault::Aside { what: "task" })
}
