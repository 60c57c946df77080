//! Queries for tasks, documents, events and counts.

use std::collections::{BTreeMap, BTreeSet};

use claudine_domain::{
    batch::{BatchNumber, DocumentKey},
    budget::Scope,
    dependency::End,
    event::Event,
    id::{ID_DIGIT_BITS, IdEnd, TaskId},
    task::Task,
    time::Timestamp,
};
use rusqlite::{Connection, OptionalExtension, params, types::Value};

use super::{
    super::{
        Filter, Intent, Name, OUTCOMES, Page, Resolved, Sequence, Status,
        reference::{Reference, SHOWN_AMBIGUOUS},
    },
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
fn if_readable(reader: &Connection, row: &rusqlite::Row<'_>) -> Result<Option<Task>, Fault> {
    match whole(reader, row) {
        Ok(task) => Ok(Some(task)),
        Err(fault) => {
            let (id, reason) = (row.get(1).map(TaskId::from_bytes)?, fault.of_one_row()?);
            tracing::warn!(%id, reason, "a stored task cannot be read and is left out");
            Ok(None)
        }
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
    const UNFINISHED: &str =
        "SELECT id FROM task WHERE name = ?1 AND status < 10 ORDER BY id DESC LIMIT 1";
    const ANY: &str = "SELECT id FROM task WHERE name = ?1 ORDER BY id DESC LIMIT 1";
    for sql in [UNFINISHED, ANY] {
        let mut query = reader.prepare_cached(sql)?;
        let newest = query.query_row([name], |row| row.get(0)).optional()?;
        if let Some(id) = newest {
            return Ok(Some(TaskId::from_bytes(id)));
        }
    }
    Ok(None)
}

pub(super) fn graphs_named(
    reader: &Connection,
    name: &str,
    limit: usize,
) -> Result<Vec<TaskId>, Fault> {
    let mut query = reader
        .prepare_cached("SELECT id FROM task WHERE graph_name = ?1 ORDER BY id DESC LIMIT ?2")?;
    let limit = row::integer(limit as u64);
    let found = query.query_map(params![name, limit], |row| {
        row.get(0).map(TaskId::from_bytes)
    })?;
    Ok(found.collect::<Result<_, _>>()?)
}

pub(super) fn list(reader: &Connection, filter: &Filter, limit: usize) -> Result<Page, Fault> {
    let (sql, values) = list_query(filter);
    let mut query = reader.prepare_cached(&sql)?;
    let mut rows = query.query(rusqlite::params_from_iter(values))?;
    let mut tasks = Vec::new();
    // One task more than fits on the page is read, so that the caller knows whether there is a next
    // page.
    while tasks.len() <= limit
        && let Some(found) = rows.next()?
    {
        let task = if_readable(reader, found)?;
        tasks.extend(task.filter(|task| filter.states.allow(task)));
    }
    Ok(Page::cut(tasks, limit))
}

/// The ended tasks that pass the filter. The task that ended last is the first.
pub(super) fn last_ended(
    reader: &Connection,
    filter: &Filter,
    limit: usize,
) -> Result<Vec<Task>, Fault> {
    let (sql, values) = last_ended_query(filter);
    let mut query = reader.prepare_cached(&sql)?;
    let mut rows = query.query(rusqlite::params_from_iter(values))?;
    let mut tasks = Vec::new();
    while tasks.len() < limit
        && let Some(found) = rows.next()?
    {
        tasks.extend(if_readable(reader, found)?);
    }
    Ok(tasks)
}

fn last_ended_query(filter: &Filter) -> (String, Vec<Value>) {
    let (conditions, values) = list_conditions(filter);
    let statuses = filter.states.statuses();
    let among = if statuses.is_empty() {
        String::new()
    } else {
        let codes = statuses.iter().map(|status| row::code(*status).to_string());
        // The `+` prevents the use of the index on statuses, which has another order.
        format!(" AND +status IN ({})", codes.collect::<Vec<_>>().join(", "))
    };
    // The index is read from its latest row back to this time.
    let since = filter.since.map_or(0, row::time);
    let sql = format!(
        "SELECT body, id, status FROM task WHERE finished_at >= {since}{among}{conditions}
         ORDER BY finished_at DESC, id DESC"
    );
    (sql, values)
}

/// The query of a list. It has no limit, because some of the rows that it finds may be left out of
/// the list, so the number of rows that fill a page is not known beforehand.
fn list_query(filter: &Filter) -> (String, Vec<Value>) {
    let (conditions, values) = list_conditions(filter);
    let select =
        |status: &str| format!("SELECT body, id, status FROM task WHERE {status}{conditions}");
    let statuses = filter.states.statuses();
    let are_outcomes = statuses.iter().all(|status| status.is_done());
    let (selects, copies) = if statuses.is_empty() {
        (select("TRUE"), 1)
    } else if are_outcomes && statuses.len() == OUTCOMES.len() {
        (select(&format!("status >= {}", row::FIRST_OUTCOME)), 1)
    } else {
        // Each of these selects reads an index in the order of the whole list.
        let one = |status: &Status| select(&format!("status = {}", row::code(*status)));
        let all: Vec<String> = statuses.iter().map(one).collect();
        (all.join(" UNION ALL "), all.len())
    };
    let values = std::iter::repeat_n(values, copies).flatten().collect();
    (format!("{selects} ORDER BY id DESC"), values)
}

/// The SQL of all conditions except the status. Each condition begins with `AND`.
fn list_conditions(filter: &Filter) -> (String, Vec<Value>) {
    let mut sql = String::new();
    let mut values: Vec<Value> = Vec::new();
    let mut condition = |text: &str, value: Value| {
        sql.push_str(" AND ");
        sql.push_str(text);
        values.push(value);
    };
    match &filter.name {
        Some(Name::Is(name)) => condition("name = ?", name.clone().into()),
        // The `+` prevents the use of the index on names, which has another order.
        Some(Name::Like(pattern)) => {
            condition("+name GLOB ?", pattern.replace('[', "[[]").into());
        }
        None => {}
    }
    if let Some(executor) = &filter.executor {
        condition("executor = ?", executor.clone().into());
    }
    if let Some(group) = &filter.group {
        condition("in_group = ?", group.clone().into());
    }
    let id = |id: TaskId| Value::from(id.to_bytes().to_vec());
    if let Some(graph) = filter.graph {
        condition("graph = ?", id(graph));
    }
    if let Some(parent) = filter.parent {
        condition("parent = ?", id(parent));
    }
    let made_before = filter.until.map(|until| TaskId::new(until.0, 0));
    if let Some(before) = [filter.before, made_before].into_iter().flatten().min() {
        condition("id < ?", id(before));
    }
    if let Some(since) = filter.since {
        condition(
            "(+finished_at IS NULL OR +finished_at >= ?)",
            row::time(since).into(),
        );
    }
    if let Some(until) = filter.until {
        condition(
            "(+finished_at IS NULL OR +finished_at < ?)",
            row::time(until).into(),
        );
    }
    for (key, value) in &filter.labels {
        condition(
            "EXISTS (SELECT 1 FROM json_each(CASE WHEN json_valid(body) THEN body ELSE '{}' END,
                 '$.request.labels') AS label WHERE label.key = ?",
            key.clone().into(),
        );
        condition("label.value = ?)", value.clone().into());
    }
    (sql, values)
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
    let mut query = reader.prepare_cached(
        "SELECT in_group, status, count(*) FROM task
         WHERE status < ?1 AND in_group IS NOT NULL GROUP BY in_group, status",
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::{
        super::{
            super::{
                States,
                samples::{at, id},
            },
            SqliteStore,
        },
        *,
    };

    #[test]
    fn tasks_that_ended_last_are_found_by_an_index() {
        let directory = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&directory.path().join("claudine.db")).unwrap();
        let writer = store.writer();
        for states in ["done", "failed,lost"] {
            let filter = Filter {
                states: States::parse([states]).unwrap(),
                ..Filter::default()
            };
            let (sql, values) = last_ended_query(&filter);
            let explain = format!("EXPLAIN QUERY PLAN {sql}");
            let mut plan = writer.prepare(&explain).unwrap();
            let steps = plan
                .query_map(rusqlite::params_from_iter(values), |row| {
                    row.get::<_, String>(3)
                })
                .unwrap();
            let steps: Vec<_> = steps.map(Result::unwrap).collect();
            let expected = "SEARCH task USING INDEX task_by_end (finished_at>?)";
            assert_eq!(steps, [expected], "{states}");
        }
    }

    /// If a list sorted all matches or read all rows, it would become slower with every task that
    /// was ever created.
    #[test]
    fn lists_are_read_from_an_index_in_order() {
        let directory = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&directory.path().join("claudine.db")).unwrap();
        let writer = store.writer();
        let check = |filter: Filter, expected: &str| {
            let (sql, values) = list_query(&filter);
            let mut plan = writer
                .prepare(&format!("EXPLAIN QUERY PLAN {sql}"))
                .unwrap();
            let steps = plan
                .query_map(rusqlite::params_from_iter(values), |row| {
                    row.get::<_, String>(3)
                })
                .unwrap();
            let steps: Vec<_> = steps.map(Result::unwrap).collect();
            assert_eq!(
                steps.first().map(String::as_str),
                Some(expected),
                "{steps:?}"
            );
            assert!(
                !steps.iter().any(|step| step.contains("TEMP B-TREE")),
                "{steps:?}"
            );
        };
        let all = Filter::default;
        let states = |word| States::parse([word]).unwrap();
        let failed = || states("failed");
        let name = |text| Some(Name::parse(text));
        let (parent, before) = (Some(id(1)), Some(id(2)));
        let labels = vec![("team".to_owned(), "infra".to_owned())];
        let by_id = "SCAN task USING INDEX sqlite_autoindex_task_1";
        check(all(), by_id);
        check(Filter { labels, ..all() }, by_id);
        check(
            Filter {
                name: name("n*"),
                ..all()
            },
            by_id,
        );
        check(
            Filter {
                states: states("done"),
                ..all()
            },
            by_id,
        );
        check(
            Filter {
                since: Some(at(1)),
                ..all()
            },
            by_id,
        );
        check(
            Filter { before, ..all() },
            "SEARCH task USING INDEX sqlite_autoindex_task_1 (id<?)",
        );
        check(
            Filter {
                until: Some(at(1)),
                ..all()
            },
            "SEARCH task USING INDEX sqlite_autoindex_task_1 (id<?)",
        );
        check(
            Filter {
                states: failed(),
                ..all()
            },
            "SEARCH task USING INDEX task_by_status (status=?)",
        );
        // Several statuses are merged while their rows are read.
        check(
            Filter {
                states: states("active"),
                ..all()
            },
            "MERGE (UNION ALL)",
        );
        check(
            Filter {
                states: states("failed,timed_out,lost"),
                since: Some(at(1)),
                name: name("test*"),
                ..all()
            },
            "MERGE (UNION ALL)",
        );
        check(
            Filter {
                graph: Some(id(1)),
                ..all()
            },
            "SEARCH task USING INDEX task_by_graph (graph=?)",
        );
        check(
            Filter {
                group: Some("gpu".to_owned()),
                ..all()
            },
            "SEARCH task USING INDEX task_by_group (in_group=?)",
        );
        check(
            Filter {
                states: failed(),
                before,
                ..all()
            },
            "SEARCH task USING INDEX task_by_status (status=? AND id<?)",
        );
        check(
            Filter {
                name: name("nightly"),
                before,
                ..all()
            },
            "SEARCH task USING INDEX task_by_name (name=? AND id<?)",
        );
        check(
            Filter { parent, ..all() },
            "SEARCH task USING INDEX task_by_parent (parent=?)",
        );
    }

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
