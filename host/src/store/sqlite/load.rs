//! What a host that takes over starts from.

use std::collections::BTreeMap;

use claudine_domain::{
    board::{Remembered, Stored},
    budget::Scope,
    group::Group,
    id::{AccountKey, TaskId},
    profile::{Profile, ProfileKey},
    task::Task,
    time::Timestamp,
};
use rusqlite::Connection;

use super::{edges, fault::Fault, row};

/// Reads within one transaction, so that the parts are of one moment.
pub(super) fn stored(reader: &Connection, remember_since: Timestamp) -> Result<Stored, Fault> {
    let moment = reader.unchecked_transaction()?;
    let query = "SELECT last_batch FROM leader";
    let last_batch: i64 = moment.query_row(query, [], |row| row.get(0))?;
    let stored = Stored {
        unfinished: unfinished(&moment)?,
        accounts: accounts(&moment)?,
        groups: groups(&moment)?,
        remembered: remembered(&moment, remember_since)?,
        profiles: profiles(&moment)?,
        spent: spent(&moment)?,
        last_batch: last_batch.unsigned_abs(),
    };
    moment.finish()?;
    Ok(stored)
}

fn unfinished(reader: &Connection) -> Result<Vec<Task>, Fault> {
    let mut query = reader.prepare("SELECT body FROM task WHERE status < ?1")?;
    let mut rows = query.query([row::FIRST_OUTCOME])?;
    let mut tasks = Vec::new();
    while let Some(found) = rows.next()? {
        tasks.push(row::decode("task", found, 0)?);
    }
    tasks.sort_unstable_by_key(|task: &Task| task.id);
    for task in &mut tasks {
        task.dependencies = edges::of_task(reader, task.id)?;
    }
    Ok(tasks)
}

fn groups(reader: &Connection) -> Result<Vec<(String, Group)>, Fault> {
    let mut query = reader.prepare("SELECT name, body FROM task_group ORDER BY name")?;
    let mut rows = query.query([])?;
    let mut groups = Vec::new();
    while let Some(found) = rows.next()? {
        groups.push((found.get(0)?, row::decode("group", found, 1)?));
    }
    Ok(groups)
}

pub(super) fn accounts(
    reader: &Connection,
) -> Result<Vec<(AccountKey, claudine_domain::account::Parked)>, Fault> {
    let mut query = reader.prepare("SELECT key, body FROM account ORDER BY key")?;
    let mut rows = query.query([])?;
    let mut accounts = Vec::new();
    while let Some(found) = rows.next()? {
        let parked = row::decode("account", found, 1)?;
        accounts.push((AccountKey(found.get(0)?), parked));
    }
    Ok(accounts)
}

pub(super) fn profiles(reader: &Connection) -> Result<Vec<(ProfileKey, Profile)>, Fault> {
    let mut query = reader.prepare("SELECT key, body FROM profile")?;
    let mut rows = query.query([])?;
    let mut profiles = Vec::new();
    while let Some(found) = rows.next()? {
        let key = row::decode("profile key", found, 0)?;
        profiles.push((key, row::decode("profile", found, 1)?));
    }
    profiles.sort_unstable_by(|(one, _): &(ProfileKey, Profile), (other, _)| one.cmp(other));
    Ok(profiles)
}

fn spent(reader: &Connection) -> Result<Vec<(Scope, u64)>, Fault> {
    let mut query = reader.prepare("SELECT scope, id, micro_usd FROM spent ORDER BY scope, id")?;
    let mut rows = query.query([])?;
    let mut spent = Vec::new();
    while let Some(found) = rows.next()? {
        let scope = row::scope_of(
            found.get(0)?,
            found.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?,
        )?;
        spent.push((scope, found.get::<_, i64>(2)?.unsigned_abs()));
    }
    Ok(spent)
}

/// A key may have been used again once it was forgotten: it stands for the later task.
fn remembered(reader: &Connection, since: Timestamp) -> Result<Vec<(String, Remembered)>, Fault> {
    let mut query = reader.prepare(
        "SELECT idempotency_key, id, created_at, json_extract(body, '$.request.idempotency.payload_digest')
         FROM task WHERE idempotency_key IS NOT NULL AND created_at >= ?1 ORDER BY created_at, id",
    )?;
    let mut rows = query.query([row::time(since)])?;
    let mut newest = BTreeMap::new();
    while let Some(found) = rows.next()? {
        let at: i64 = found.get(2)?;
        let remembered = Remembered {
            task: TaskId::from_bytes(found.get(1)?),
            at: Timestamp(at.unsigned_abs()),
            payload_digest: found.get(3)?,
        };
        newest.insert(found.get(0)?, remembered);
    }
    Ok(newest.into_iter().collect())
}
