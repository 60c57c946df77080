//! Queries for the tasks that a reference may mean.

use std::collections::{BTreeSet, HashMap};

use claudine_domain::id::{IdEnd, TaskId};
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

/// For each text, whether [`resolve_part`] would find tasks.
pub(super) fn are_parts(
    reader: &Connection,
    texts: &[&str],
    intent: Intent,
) -> Result<Vec<bool>, Fault> {
    let mut are = vec![false; texts.len()];
    let mut ends: HashMap<IdEnd, Vec<usize>> = HashMap::new();
    for (at, text) in texts.iter().enumerate() {
        let Reference::Named { begin, end, .. } = Reference::parse(text, intent) else {
            continue;
        };
        are[at] = with_parts(reader, begin, None)? != Resolved::NotFound;
        if let Some(end) = end.filter(|_| !are[at]) {
            ends.entry(end).or_default().push(at);
        }
    }
    // Comparing one end with all ids in SQL is quicker than reading the ids.
    if ends.len() == 1 {
        for (end, places) in ends {
            let is_part = !with_end(reader, end)?.is_empty();
            for at in places {
                are[at] = is_part;
            }
        }
        return Ok(are);
    }
    if ends.is_empty() {
        return Ok(are);
    }
    let lengths: BTreeSet<usize> = ends.keys().map(|end| end.digits()).collect();
    let mut query = reader.prepare_cached("SELECT id FROM task")?;
    let mut rows = query.query([])?;
    while let Some(row) = rows.next()? {
        let id = TaskId::from_bytes(row.get(0)?);
        for digits in &lengths {
            let places = ends.get(&IdEnd::of(id, *digits));
            for at in places.into_iter().flatten() {
                are[*at] = true;
            }
        }
    }
    Ok(are)
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

/// The tasks whose ids have this end. Looks at all ids: an index would make each commit slower.
/// SQLite compares the last byte, which is much quicker than passing each id on. Its eight bits are
/// known, because a reference has at least three digits of five bits.
fn with_end(reader: &Connection, end: IdEnd) -> Result<Vec<TaskId>, Fault> {
    let last_byte = end.value().to_be_bytes()[15];
    let mut query = reader.prepare_cached("SELECT id FROM task WHERE substr(id, 16) = ?1")?;
    let found = query.query_map([[last_byte]], |row| row.get(0).map(TaskId::from_bytes))?;
    let ids = found.collect::<Result<Vec<_>, _>>()?;
    Ok(ids.into_iter().filter(|id| end.fits(*id)).collect())
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
