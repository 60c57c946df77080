//! Queries for lists of tasks.

use claudine_domain::{id::TaskId, session::normal_form, task::Task};
use rusqlite::{Connection, params, types::Value};

use super::{
    super::{Filter, InGroup, Name, OUTCOMES, Page, Status},
    fault::Fault,
    query::if_readable,
    row,
};

/// The newest tasks that pass the filter. Each task is passed to `correct` before its state is
/// compared.
pub(super) fn list(
    reader: &Connection,
    filter: &Filter,
    limit: usize,
    correct: &dyn Fn(&mut Task),
) -> Result<Page, Fault> {
    let (sql, values) = list_query(filter);
    let mut query = reader.prepare_cached(&sql)?;
    let mut rows = query.query(rusqlite::params_from_iter(values))?;
    let mut tasks = Vec::new();
    // One task more than fits on the page is read, so that the caller knows whether there is a next
    // page.
    while tasks.len() <= limit
        && let Some(found) = rows.next()?
    {
        let mut task = if_readable(reader, found)?;
        task.iter_mut().for_each(correct);
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

/// The unfinished tasks of groups. A list of each group would look at all tasks of a status for
/// each group. The `+` prevents the use of the index on groups, which also has the finished tasks.
const OF_GROUPS: &str = "SELECT in_group, id, name FROM task
     WHERE status < ?1 AND +in_group IS NOT NULL
     ORDER BY in_group, status = ?2 DESC, id DESC";

pub(super) fn group_tasks(reader: &Connection, most: usize) -> Result<Vec<InGroup>, Fault> {
    let mut query = reader.prepare_cached(OF_GROUPS)?;
    let mut rows = query.query(params![row::FIRST_OUTCOME, row::code(Status::Running)])?;
    let mut tasks: Vec<InGroup> = Vec::new();
    let mut of_this_group = 0;
    while let Some(found) = rows.next()? {
        let group: String = found.get(0)?;
        if tasks.last().is_none_or(|last| last.group != group) {
            of_this_group = 0;
        }
        if of_this_group < most {
            of_this_group += 1;
            tasks.push(InGroup {
                group,
                id: found.get(1).map(TaskId::from_bytes)?,
                name: found.get(2)?,
            });
        }
    }
    Ok(tasks)
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
    if filter.unrestrained {
        condition(&format!("({}) = ?", row::IS_RESTRAINED), Value::Integer(0));
    }
    if let Some(session) = &filter.session {
        condition(
            // As `normal_form` makes it.
            "? IN (
                 SELECT replace(lower(json_extract(
                     CASE WHEN json_valid(body) THEN body ELSE '{}' END,
                     '$.request.resumes_session')), '-', '')
                 UNION ALL SELECT replace(lower(json_extract(attempt.value, '$.session.id')), '-', '')
                 FROM json_each(CASE WHEN json_valid(body) THEN body ELSE '{}' END, '$.attempts')
                 AS attempt)",
            normal_form(session).into(),
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

    /// The steps in which the database runs a query.
    fn steps(store: &SqliteStore, (sql, values): (String, Vec<Value>)) -> Vec<String> {
        let writer = store.writer();
        let mut plan = writer
            .prepare(&format!("EXPLAIN QUERY PLAN {sql}"))
            .unwrap();
        let steps = plan
            .query_map(rusqlite::params_from_iter(values), |row| {
                row.get::<_, String>(3)
            })
            .unwrap();
        steps.map(Result::unwrap).collect()
    }

    #[test]
    fn tasks_that_ended_last_are_found_by_an_index() {
        let directory = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&directory.path().join("claudine.db")).unwrap();
        for states in ["done", "failed,lost"] {
            let filter = Filter {
                states: States::parse([states]).unwrap(),
                ..Filter::default()
            };
            let steps = steps(&store, last_ended_query(&filter));
            let expected = "SEARCH task USING INDEX task_by_end (finished_at>?)";
            assert_eq!(steps, [expected], "{states}");
        }
    }

    /// Groups may have very many finished tasks.
    #[test]
    fn unfinished_tasks_of_all_groups_are_read_in_one_pass_without_finished_ones() {
        let directory = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&directory.path().join("claudine.db")).unwrap();
        let values = [row::FIRST_OUTCOME, row::code(Status::Running)].map(Value::Integer);
        let steps = steps(&store, (OF_GROUPS.to_owned(), values.to_vec()));
        let expected = "SEARCH task USING INDEX task_by_status (status<?)";
        assert_eq!(steps.first().map(String::as_str), Some(expected));
        assert!(!steps[1..].iter().any(|step| step.contains("task")));
    }

    /// If a list sorted all matches or read all rows, it would become slower with every task that
    /// was ever created.
    #[test]
    fn lists_are_read_from_an_index_in_order() {
        let directory = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&directory.path().join("claudine.db")).unwrap();
        let check = |filter: Filter, expected: &str| {
            let steps = steps(&store, list_query(&filter));
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
}
