//! Queries for the tasks that a reference may mean.

use claudine_domain::id::{ID_DIGIT_BITS, IdEnd, TaskId};
use rusqlite::{Connection, OptionalExtension, params};

use super::{
    super::{
        Intent, Resolved, Status,
        reference::{Reference, SHOWN_AMBIGUOUS},
    },
    fault::Fault,
    row,
};

pub(super) fn resolve(
    reader: &Connection,
    reference: &str,
    intent: Intent,
) -> Result<Resolved, Fault> {
    let (name, begin, end) = match Reference::parse(reference, intent) {
        Reference::Last => return Ok(Resolved::of_one(newest(reader, None)?)),
        Reference::LastRunning => {
            let running = newest(reader, Some(Status::Running))?;
            return Ok(Resolved::of_one(running));
        }
        Reference::Named { name, begin, end } => (name, begin, end),
    };
    if let Some(name) = name
        && let Some(id) = newest_of_name(reader, name)?
    {
        return Ok(Resolved::Found(id));
    }
    with_parts(reader, begin, end)
}

/// Like [`resolve`], but ignores names.
pub(super) fn resolve_part(
    reader: &Connection,
    part: &str,
    intent: Intent,
) -> Result<Resolved, Fault> {
    match Reference::parse(part, intent) {
        Reference::Last | Reference::LastRunning => Ok(Resolved::NotFound),
        Reference::Named { begin, end, .. } => with_parts(reader, begin, end),
    }
}

/// The tasks whose ids have this beginning or this end.
fn with_parts(
    reader: &Connection,
    begin: Option<(TaskId, TaskId)>,
    end: Option<IdEnd>,
) -> Result<Resolved, Fault> {
    let mut matches = Vec::new();
    if let Some((low, high)) = begin {
        let mut query = reader.prepare_cached(
            "SELECT id FROM task WHERE id BETWEEN ?1 AND ?2 ORDER BY id DESC LIMIT ?3",
        )?;
        let limit = row::integer(SHOWN_AMBIGUOUS as u64 + 1);
        let found = query.query_map(params![low.to_bytes(), high.to_bytes(), limit], |row| {
            row.get(0).map(TaskId::from_bytes)
        })?;
        matches = found.collect::<Result<_, _>>()?;
    }
    if let Some(end) = end {
        matches.extend(with_end(reader, end)?);
    }
    Ok(Resolved::of_matches(matches))
}

/// The newest of all tasks, or the newest of the tasks with this status.
fn newest(reader: &Connection, status: Option<Status>) -> Result<Option<TaskId>, Fault> {
    let (sql, status) = match status {
        None => ("SELECT id FROM task ORDER BY id DESC LIMIT 1", None),
        Some(status) => (
            "SELECT id FROM task WHERE status = ?1 ORDER BY id DESC LIMIT 1",
            Some(row::code(status)),
        ),
    };
    let mut query = reader.prepare_cached(sql)?;
    let id = query
        .query_row(rusqlite::params_from_iter(status), |row| row.get(0))
        .optional()?;
    Ok(id.map(TaskId::from_bytes))
}

/// The number of bits at the end of an id that the index contains: five hexadecimal digits.
const END_BITS: usize = 20;
const OF_END: &str = "SELECT id FROM task WHERE substr(hex(id), 28) = ?1";

/// The tasks whose ids have this end. If the end has fewer bits than the index contains, all
/// matching values are looked up in the index: 32 values for an end of three digits.
fn with_end(reader: &Connection, end: IdEnd) -> Result<Vec<TaskId>, Fault> {
    const MASK: u128 = (1 << END_BITS) - 1;
    let known = (end.digits() * ID_DIGIT_BITS).min(END_BITS);
    let mut query = reader.prepare_cached(OF_END)?;
    let mut ids = Vec::new();
    for unknown in 0..1_u128 << (END_BITS - known) {
        let bits = (end.value() & MASK) | (unknown << known);
        let found = query.query_map([format!("{bits:05X}")], |row| {
            row.get(0).map(TaskId::from_bytes)
        })?;
        for id in found {
            ids.extend(Some(id?).filter(|id| end.fits(*id)));
        }
    }
    Ok(ids)
}

fn newest_of_name(reader: &Connection, name: &str) -> Result<Option<TaskId>, Fault> {
    const UNFINISHED: &str = " AND status < 10";
    let first = |conditions: &str| {
        let sql =
            format!("SELECT id FROM task WHERE name = ?1{conditions} ORDER BY id DESC LIMIT 1");
        let mut query = reader.prepare_cached(&sql)?;
        let id = query.query_row([name], |row| row.get(0)).optional()?;
        Ok::<_, Fault>(id.map(TaskId::from_bytes))
    };
    let unrestrained = format!(" AND {} = 0", row::IS_RESTRAINED);
    for conditions in [
        format!("{UNFINISHED}{unrestrained}"),
        unrestrained,
        UNFINISHED.to_owned(),
        String::new(),
    ] {
        if let Some(id) = first(&conditions)? {
            return Ok(Some(id));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::{super::SqliteStore, *};

    /// A scan of all ids would become slower with every task.
    #[test]
    fn the_end_of_an_id_is_looked_up_in_an_index() {
        let directory = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&directory.path().join("claudine.db")).unwrap();
        let writer = store.writer();
        let mut plan = writer
            .prepare(&format!("EXPLAIN QUERY PLAN {OF_END}"))
            .unwrap();
        let plan: String = plan.query_row(["0"], |row| row.get(3)).unwrap();
        assert!(
            plan.contains("INDEX task_by_last_digits (<expr>=?)"),
            "{plan}"
        );
    }
}
