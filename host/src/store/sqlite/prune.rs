//! Finds old finished tasks, and removes them as a part of a batch.

use claudine_domain::{
    batch::Pruned,
    budget::{Day, Scope},
    id::TaskId,
    task::Task,
    time::Timestamp,
};
use rusqlite::{Connection, Transaction, params};

use super::{
    super::{Old, Prunable, Sequence},
    edges,
    fault::Fault,
    row,
};

/// Finds the tasks that may be removed. No index on the time of the end is needed, because ids sort
/// by the time of creation, and a task that ended before a time was also created before this time.
pub(super) fn prunable(
    reader: &Connection,
    old: Old,
    after: Option<TaskId>,
    limit: usize,
) -> Result<Vec<Prunable>, Fault> {
    let mut query = reader.prepare_cached(
        "SELECT body, id FROM task
         WHERE id > ?1 AND id < ?2 AND finished_at < ?3
           AND (idempotency_key IS NULL OR created_at < ?4)
           AND NOT EXISTS (SELECT 1 FROM task AS child WHERE child.parent = task.id AND child.status < ?5)
           AND NOT EXISTS (SELECT 1 FROM task AS other WHERE other.graph = task.id AND other.id <> task.id)
         ORDER BY id",
    )?;
    let before = old.finished_before;
    let mut rows = query.query(params![
        after.map_or_else(Vec::new, |id| id.to_bytes().to_vec()),
        TaskId::new(before.0, 0).to_bytes(),
        row::time(before),
        row::time(old.keyed_before),
        row::FIRST_OUTCOME,
    ])?;
    let mut found = Vec::new();
    while found.len() < limit
        && let Some(old) = rows.next()?
    {
        let task = TaskId::from_bytes(old.get(1)?);
        if edges::is_needed(reader, task)? {
            continue;
        }
        // A task that cannot be read is kept, since another version may be able to read it.
        let Ok(task) = row::decode::<Task>("task", old, 0) else {
            continue;
        };
        found.push(Prunable::of(&task));
    }
    Ok(found)
}

pub(super) fn last_old_event(
    reader: &Connection,
    older_than: Timestamp,
    limit: usize,
) -> Result<Option<Sequence>, Fault> {
    let mut query =
        reader.prepare_cached("SELECT sequence, at FROM event ORDER BY sequence LIMIT ?1")?;
    let mut rows = query.query([row::integer(limit as u64)])?;
    let mut last = None;
    while let Some(event) = rows.next()? {
        if event.get::<_, i64>(1)? >= row::time(older_than) {
            break;
        }
        last = Some(event.get::<_, i64>(0)?.unsigned_abs());
    }
    Ok(last)
}

/// Removes the pruned tasks and events of a batch.
pub(super) fn remove(transaction: &Transaction<'_>, pruned: &Pruned) -> Result<(), Fault> {
    for task in &pruned.tasks {
        for sql in [
            "DELETE FROM task WHERE id = ?1",
            "DELETE FROM document WHERE task = ?1",
        ] {
            let id = task.to_bytes();
            transaction.prepare_cached(sql)?.execute([id])?;
        }
        edges::forget(transaction, *task)?;
    }
    if let Some(before) = pruned.spent_before {
        forget_spent(transaction, before)?;
    }
    if pruned.events_to > 0 {
        transaction
            .prepare_cached("DELETE FROM event WHERE sequence <= ?1")?
            .execute([row::integer(pruned.events_to)])?;
    }
    Ok(())
}

fn forget_spent(transaction: &Transaction<'_>, before: Timestamp) -> Result<(), Fault> {
    for scope in [
        Scope::Day(Day::of(before)),
        Scope::Graph(TaskId::new(before.0, 0)),
    ] {
        let (scope, id) = row::scope(scope);
        transaction
            .prepare_cached("DELETE FROM spent WHERE scope = ?1 AND id < ?2")?
            .execute(params![scope, id])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::{sync::mpsc, thread, time::Duration};

    use crate::store::{
        Old, Store,
        samples::{at, batch},
        sqlite::SqliteStore,
    };

    /// The search may have to read all tasks and events.
    #[test]
    fn the_search_for_old_rows_does_not_wait_for_the_writer() {
        let directory = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&directory.path().join("claudine.db")).unwrap();
        let epoch = store.lead().unwrap();
        store.commit(epoch, &batch()).unwrap();
        let before = at(1_000);
        let old = Old {
            finished_before: before,
            keyed_before: before,
        };
        let (sender, answers) = mpsc::channel();
        let answer = thread::scope(|scope| {
            let writer = store.writer();
            scope.spawn(|| {
                let tasks = store.prunable(old, None, 10).unwrap();
                let event = store.last_old_event(before, 10).unwrap();
                sender.send((tasks, event)).unwrap();
            });
            let answer = answers.recv_timeout(Duration::from_secs(30));
            drop(writer);
            answer
        });
        let (tasks, event) = answer.unwrap();
        assert!(!tasks.is_empty() && event.is_some());
    }
}
