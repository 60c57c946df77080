//! Reads the unfinished tasks, on which each start of a host waits.
//!
//! Decoding takes longer than reading, so a second thread decodes the rows that this one has read.
//! With 10,000 tasks, a host answers a third earlier if it has two processors.

use std::{
    sync::{Arc, mpsc},
    thread,
};

use claudine_domain::{board::Unreadable, dependency::Dependency, id::TaskId, task::Task};
use rusqlite::{Connection, Rows, Statement};

use super::{edges, fault::Fault, row, share::Shared};
use crate::panics;

/// The number of rows that are passed to the other thread at once.
const ROWS_PER_PART: usize = 128;
/// The number of parts that are read before the other thread has decoded them.
const PARTS_AHEAD: usize = 8;

/// Rows that were read, but not decoded yet.
#[derive(Default)]
struct Part {
    rows: Vec<Row>,
    /// The texts of the bodies, one after another.
    bodies: String,
}

struct Row {
    id: [u8; 16],
    columns: Result<Columns, Fault>,
}

struct Columns {
    status: i64,
    body_length: usize,
    dependencies: Arc<[Dependency]>,
}

/// Reads the tasks, sorted by id. A task that cannot be read is put aside.
pub(super) fn tasks(reader: &Connection, aside: &mut Vec<Unreadable>) -> Result<Vec<Task>, Fault> {
    let mut query = reader.prepare("SELECT body, id, status FROM task WHERE status < ?1")?;
    let mut edges = reader.prepare(edges::OF_TASK)?;
    let mut rows = query.query([row::FIRST_OUTCOME])?;
    let mut next = || next_part(&mut rows, &mut edges);
    let mut decoded = Decoded {
        tasks: Vec::new(),
        aside,
        shared: Shared::default(),
    };
    let first = next()?;
    let may_have_more = first.rows.len() == ROWS_PER_PART;
    decoded.add(first)?;
    if may_have_more && !decoded.add_on_another_thread(&mut next)? {
        loop {
            let part = next()?;
            if part.rows.is_empty() {
                break;
            }
            decoded.add(part)?;
        }
    }
    let mut tasks = decoded.tasks;
    tasks.sort_unstable_by_key(|task| task.id);
    Ok(tasks)
}

/// Reads the next rows, or none after the last one.
fn next_part(rows: &mut Rows<'_>, edges: &mut Statement<'_>) -> Result<Part, Fault> {
    let mut part = Part::default();
    while part.rows.len() < ROWS_PER_PART
        && let Some(found) = rows.next()?
    {
        let id = found.get(1)?;
        let columns = columns(found, id, edges, &mut part.bodies);
        part.rows.push(Row { id, columns });
    }
    Ok(part)
}

/// Reads the columns of a row, and appends its body to the bodies.
fn columns(
    row: &rusqlite::Row<'_>,
    id: [u8; 16],
    edges: &mut Statement<'_>,
    bodies: &mut String,
) -> Result<Columns, Fault> {
    let (status, dependencies) = (row.get(2)?, edges::select(edges, id)?);
    let body = row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?;
    bodies.push_str(body);
    Ok(Columns {
        status,
        body_length: body.len(),
        dependencies,
    })
}

struct Decoded<'aside> {
    tasks: Vec<Task>,
    aside: &'aside mut Vec<Unreadable>,
    shared: Shared,
}

impl Decoded<'_> {
    /// Decodes all further parts on another thread. Returns `false`, and reads nothing, if no
    /// thread can be started.
    fn add_on_another_thread(
        &mut self,
        next: &mut impl FnMut() -> Result<Part, Fault>,
    ) -> Result<bool, Fault> {
        let (ahead, parts) = mpsc::sync_channel::<Part>(PARTS_AHEAD);
        thread::scope(move |scope| {
            let decoder = thread::Builder::new()
                .name("decode".to_owned())
                .spawn_scoped(scope, move || {
                    parts.iter().try_for_each(|part| self.add(part))
                });
            let Ok(decoder) = decoder else {
                return Ok(false);
            };
            let read = loop {
                let part = match next() {
                    Ok(part) => part,
                    Err(fault) => break Err(fault),
                };
                // If the part cannot be sent, the decoder has ended with a fault, which is
                // returned below.
                if part.rows.is_empty() || ahead.send(part).is_err() {
                    break Ok(());
                }
            };
            drop(ahead);
            let decoded = decoder.join();
            decoded.unwrap_or_else(|panic| panics::go_on(panic.as_ref()))?;
            read.map(|()| true)
        })
    }

    fn add(&mut self, part: Part) -> Result<(), Fault> {
        let mut bodies = part.bodies.as_str();
        for found in part.rows {
            let id = TaskId::from_bytes(found.id);
            let whole = found.columns.and_then(|columns| {
                let (body, later) = bodies.split_at(columns.body_length);
                bodies = later;
                let task = row::checked_task(body, found.id, columns.status)?;
                Ok(Task {
                    dependencies: columns.dependencies,
                    ..task
                })
            });
            match whole {
                Ok(mut task) => {
                    self.shared.replace_equal(&mut task);
                    self.tasks.push(task);
                }
                Err(fault) => {
                    let unreadable = fault.unreadable("task", id.to_string(), Some(id))?;
                    self.aside.push(unreadable);
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use claudine_domain::{batch::Batch, dependency::Condition, time::Timestamp};
    use rusqlite::Connection;

    use super::*;
    use crate::store::{
        Store,
        samples::{id, ready},
        sqlite::SqliteStore,
    };

    #[test]
    fn many_tasks_are_read_sorted_with_their_dependencies_and_only_unreadable_ones_are_missing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("claudine.db");
        let store = SqliteStore::open(&path).unwrap();
        let epoch = store.lead().unwrap();
        let depends_on = |number: u64| {
            let upstream = number.checked_sub(1).map(|before| Dependency {
                task: id(before),
                condition: Condition::Completed,
            });
            upstream.into_iter().collect::<Arc<[Dependency]>>()
        };
        let last = 3 * ROWS_PER_PART as u64 + 7;
        let tasks: Vec<Task> = (0..=last)
            .map(|number| Task {
                dependencies: depends_on(number),
                ..ready(number)
            })
            .collect();
        let batch = Batch {
            number: 1,
            tasks: tasks.iter().cloned().map(Into::into).collect(),
            dependencies: tasks
                .iter()
                .map(|it| (it.id, it.dependencies.clone()))
                .collect(),
            ..Batch::default()
        };
        store.commit(epoch, &batch).unwrap();
        let unreadable = [3, last - 10, last].map(id);
        let sql = Connection::open(&path).unwrap();
        for (task, set) in
            unreadable
                .iter()
                .zip(["body = '{'", "body = CAST(x'ff' AS TEXT)", "status = 3"])
        {
            let update = format!("UPDATE task SET {set} WHERE id = ?1");
            assert_eq!(sql.execute(&update, [task.to_bytes()]).unwrap(), 1);
        }
        let stored = store.load(Timestamp(0)).unwrap();
        let mut aside: Vec<_> = stored
            .unreadable
            .iter()
            .filter_map(|row| row.task)
            .collect();
        aside.sort_unstable();
        let expected: Vec<Task> = tasks
            .into_iter()
            .filter(|task| !unreadable.contains(&task.id))
            .collect();
        assert_eq!(aside, unreadable);
        assert!(stored.unfinished == expected);
    }
}
