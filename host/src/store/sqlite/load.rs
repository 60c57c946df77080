//! Reads the state from which a host starts.

use std::collections::BTreeMap;

use claudine_domain::{
    board::{Remembered, Stored, Unreadable},
    budget::Scope,
    group::Group,
    id::{AccountKey, TaskId},
    idempotency::{OF_CHATS, in_present_form},
    principal::Principal,
    profile::{Profile, ProfileKey},
    queue::{Pause, Queue},
    time::Timestamp,
};
use rusqlite::{Connection, Row, params};

use super::{fault::Fault, row, unfinished};

/// Reads within one transaction, so that all parts are from one moment. An unreadable row is set
/// aside, and does not prevent other rows from being read.
pub(super) fn stored(reader: &Connection, remember_since: Timestamp) -> Result<Stored, Fault> {
    let moment = reader.unchecked_transaction()?;
    let query = "SELECT last_batch FROM leader";
    let last_batch: i64 = moment.query_row(query, [], |row| row.get(0))?;
    let mut aside = Vec::new();
    let stored = Stored {
        unfinished: unfinished::tasks(&moment, &mut aside)?,
        accounts: accounts(&moment, &mut aside)?,
        groups: groups(&moment, &mut aside)?,
        queue: queue(&moment, &mut aside)?,
        remembered: remembered(&moment, remember_since, &mut aside)?,
        profiles: profiles(&moment, &mut aside)?,
        spent: spent(&moment, &mut aside)?,
        last_batch: last_batch.unsigned_abs(),
        unreadable: aside,
    };
    moment.finish()?;
    Ok(stored)
}

fn put_aside(
    what: &'static str,
    key: String,
    fault: Fault,
    aside: &mut Vec<Unreadable>,
) -> Result<(), Fault> {
    aside.push(fault.unreadable(what, key, None)?);
    Ok(())
}

/// Reads the groups. A group whose row cannot be read counts as paused, since its limit is unknown.
/// If the group is set again, a new row is written.
fn groups(reader: &Connection, aside: &mut Vec<Unreadable>) -> Result<Vec<(String, Group)>, Fault> {
    let mut query = reader.prepare("SELECT name, body FROM task_group ORDER BY name")?;
    let mut rows = query.query([])?;
    let mut groups = Vec::new();
    while let Some(found) = rows.next()? {
        let name: String = found.get(0)?;
        let group = match row::decode("group", found, 1) {
            Ok(group) => group,
            Err(fault) => {
                put_aside("group", name.clone(), fault, aside)?;
                Group {
                    limit: None,
                    paused: true,
                }
            }
        };
        groups.push((name, group));
    }
    Ok(groups)
}

/// Reads the settings of the queue. If the row cannot be read, the queue counts as paused. If a
/// setting is changed, a new row is written.
pub(super) fn queue(reader: &Connection, aside: &mut Vec<Unreadable>) -> Result<Queue, Fault> {
    let mut query = reader.prepare("SELECT body FROM queue")?;
    let mut rows = query.query([])?;
    let Some(found) = rows.next()? else {
        return Ok(Queue::default());
    };
    match row::decode("queue", found, 0) {
        Ok(queue) => Ok(queue),
        Err(fault) => {
            put_aside("queue", "1".to_owned(), fault, aside)?;
            Ok(Queue {
                paused: Some(Pause::default()),
                ..Queue::default()
            })
        }
    }
}

/// Reads the accounts. An account whose row cannot be read counts as an account that has not
/// reached its limit. If it has reached the limit, the next attempt that uses the account finds
/// this out.
pub(super) fn accounts(
    reader: &Connection,
    aside: &mut Vec<Unreadable>,
) -> Result<Vec<(AccountKey, claudine_domain::account::Parked)>, Fault> {
    let mut query = reader.prepare("SELECT key, body FROM account ORDER BY key")?;
    let mut rows = query.query([])?;
    let mut accounts = Vec::new();
    while let Some(found) = rows.next()? {
        let key: String = found.get(0)?;
        match row::decode("account", found, 1) {
            Ok(parked) => accounts.push((AccountKey(key), parked)),
            Err(fault) => put_aside("account", key, fault, aside)?,
        }
    }
    Ok(accounts)
}

pub(super) fn profiles(
    reader: &Connection,
    aside: &mut Vec<Unreadable>,
) -> Result<Vec<(ProfileKey, Profile)>, Fault> {
    let mut query = reader.prepare("SELECT key, body FROM profile")?;
    let mut rows = query.query([])?;
    let mut profiles = Vec::new();
    while let Some(found) = rows.next()? {
        let key = row::decode("profile key", found, 0);
        let both = key.and_then(|key| Ok((key, row::decode("profile", found, 1)?)));
        match both {
            Ok(profile) => profiles.push(profile),
            Err(fault) => put_aside("profile", found.get(0)?, fault, aside)?,
        }
    }
    profiles.sort_unstable_by(|(one, _): &(ProfileKey, Profile), (other, _)| one.cmp(other));
    Ok(profiles)
}

fn spent(reader: &Connection, aside: &mut Vec<Unreadable>) -> Result<Vec<(Scope, u64)>, Fault> {
    let mut query = reader.prepare("SELECT scope, id, micro_usd FROM spent ORDER BY scope, id")?;
    let mut rows = query.query([])?;
    let mut spent = Vec::new();
    while let Some(found) = rows.next()? {
        let (kind, id): (i64, Vec<u8>) = (found.get(0)?, found.get(1)?);
        match row::scope_of(kind, &id) {
            Ok(scope) => spent.push((scope, found.get::<_, i64>(2)?.unsigned_abs())),
            Err(fault) => put_aside("sum", format!("{kind} {id:02x?}"), fault, aside)?,
        }
    }
    Ok(spent)
}

/// Reads the idempotency keys, in the form of this version. If a key was used again after it was
/// forgotten, it belongs to the later task. If this task cannot be read, every request with the key
/// is refused, because it is unknown whether the request repeats the request of the task.
fn remembered(
    reader: &Connection,
    since: Timestamp,
    aside: &mut Vec<Unreadable>,
) -> Result<Vec<(String, Remembered)>, Fault> {
    let mut query = reader.prepare(
        "SELECT idempotency_key, id, created_at, CASE WHEN json_valid(body)
             THEN json_extract(body, '$.request.idempotency.payload_digest') END,
             CASE WHEN substr(idempotency_key, 1, length(?2)) = ?2 AND json_valid(body)
             THEN CAST(json_extract(body, '$.request.by') AS TEXT) END
         FROM task WHERE idempotency_key IS NOT NULL AND created_at >= ?1 ORDER BY created_at, id",
    )?;
    let mut rows = query.query(params![row::time(since), OF_CHATS])?;
    let mut newest = BTreeMap::new();
    while let Some(found) = rows.next()? {
        let (key, at): (String, i64) = (found.get(0)?, found.get(2)?);
        let digest: Option<String> = found.get(3)?;
        if digest.is_none() {
            let fault = Fault::Aside { what: "task" };
            put_aside("idempotency key", key.clone(), fault, aside)?;
        }
        let remembered = Remembered {
            task: TaskId::from_bytes(found.get(1)?),
            at: Timestamp(at.unsigned_abs()),
            payload_digest: digest.unwrap_or_default(),
        };
        newest.insert(in_present_form(key, &submitter(found)?), remembered);
    }
    Ok(newest.into_iter().collect())
}

/// The principal that submitted the task of this row, which is read only if the form of the key
/// depends on it. Otherwise, and if it cannot be read, the owner: the key stays as it is stored.
fn submitter(found: &Row<'_>) -> Result<Principal, Fault> {
    let by: Option<String> = found.get(4)?;
    let by = by.map(|by| serde_json::from_str(&by));
    Ok(by.transpose().ok().flatten().unwrap_or_default())
}
