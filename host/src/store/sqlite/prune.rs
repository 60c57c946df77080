//! What is old and finished goes.

use claudine_domain::{
    budget::{Day, Scope},
    id::TaskId,
    task::Task,
    time::{Timestamp, millis},
};
use rusqlite::{Connection, Transaction, params};

use super::{
    super::{EVENTS_A_TASK, Epoch, Pruned, SPENT_KEPT},
    commit, edges,
    fault::Fault,
    row,
};

pub(super) fn finished(
    writer: &mut Connection,
    epoch: Epoch,
    older_than: Timestamp,
    limit: usize,
) -> Result<Vec<Pruned>, Fault> {
    let transaction = commit::begin(writer)?;
    commit::led_by(&transaction, epoch)?;
    let gone = find(&transaction, older_than, limit)?;
    for pruned in &gone {
        let id = pruned.task.to_bytes();
        for sql in [
            "DELETE FROM task WHERE id = ?1",
            "DELETE FROM document WHERE task = ?1",
        ] {
            transaction.prepare_cached(sql)?.execute([id])?;
        }
        edges::forget(&transaction, pruned.task)?;
    }
    forget_spent(&transaction, older_than)?;
    let most_events = limit.saturating_mul(EVENTS_A_TASK);
    if let Some(last) = last_old_event(&transaction, older_than, most_events)? {
        transaction.execute("DELETE FROM event WHERE sequence <= ?1", [last])?;
    }
    transaction.commit()?;
    Ok(gone)
}

/// No index on the time of the end is kept for this: what ended before a time began before it, and ids sort by their beginning.
fn find(
    transaction: &Transaction<'_>,
    older_than: Timestamp,
    limit: usize,
) -> Result<Vec<Pruned>, Fault> {
    let mut query = transaction.prepare_cached(
        "SELECT body FROM task
         WHERE id < ?1 AND finished_at < ?2
           AND NOT EXISTS (SELECT 1 FROM task AS child WHERE child.parent = task.id AND child.status < ?3)
         ORDER BY id",
    )?;
    let began_before = TaskId::new(older_than.0, 0).to_bytes();
    let mut rows = query.query(params![
        began_before,
        row::time(older_than),
        row::FIRST_OUTCOME,
    ])?;
    let mut found = Vec::new();
    while found.len() < limit
        && let Some(old) = rows.next()?
    {
        let task: Task = row::decode("task", old, 0)?;
        if edges::is_needed(transaction, task.id)? {
            continue;
        }
        found.push(Pruned {
            task: task.id,
            attempts: task.attempts.iter().map(|attempt| attempt.number).collect(),
        });
    }
    Ok(found)
}

fn forget_spent(transaction: &Transaction<'_>, older_than: Timestamp) -> Result<(), Fault> {
    let before = Timestamp(older_than.0.saturating_sub(millis(SPENT_KEPT)));
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

/// The last of the events at the front that are old, looking at no more than so many.
fn last_old_event(
    transaction: &Transaction<'_>,
    older_than: Timestamp,
    most: usize,
) -> Result<Option<i64>, Fault> {
    let mut query =
        transaction.prepare_cached("SELECT sequence, at FROM event ORDER BY sequence LIMIT ?1")?;
    let mut rows = query.query([row::integer(most as u64)])?;
    let mut last = None;
    while let Some(event) = rows.next()? {
        if event.get::<_, i64>(1)? >= row::time(older_than) {
            break;
        }
        last = Some(event.get(0)?);
    }
    Ok(last)
}
