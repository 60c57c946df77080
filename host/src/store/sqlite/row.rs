//! Converts values of the domain to columns of the database, and back.

use claudine_domain::{
    batch::DocumentKey,
    budget::{Day, Scope},
    dependency::Condition,
    id::{AttemptId, TaskId},
    outcome::Outcome,
    task::{State, Task},
    time::Timestamp,
};
use rusqlite::Row;
use serde::{Serialize, de::DeserializeOwned};

use super::{super::Status, fault::Fault};

/// The numbers of the `scope` column.
pub(super) const SCOPE_DAY: i64 = 0;
pub(super) const SCOPE_GRAPH: i64 = 1;

/// The smallest number of an outcome. Statuses with smaller numbers are those of unfinished tasks.
/// An index of the schema uses this number too.
pub(super) const FIRST_OUTCOME: i64 = 10;

/// The SQL expression for whether a restrained principal submitted the task of a row: 0 or 1.
pub(super) const IS_RESTRAINED: &str = "coalesce(json_extract(
    CASE WHEN json_valid(body) THEN body ELSE '{}' END, '$.request.by.restrained'), 0)";

/// The number of a status in the `status` column. Numbers are never reused.
pub(super) fn code(status: Status) -> i64 {
    match status {
        Status::Waiting => 0,
        Status::Ready => 1,
        Status::Running => 2,
        Status::Blocked => 3,
        Status::Held => 4,
        Status::Done(Outcome::Succeeded) => FIRST_OUTCOME,
        Status::Done(Outcome::Failed) => 11,
        Status::Done(Outcome::TimedOut) => 12,
        Status::Done(Outcome::Cancelled) => 13,
        Status::Done(Outcome::Skipped) => 14,
        Status::Done(Outcome::UpstreamFailed) => 15,
        Status::Done(Outcome::Lost) => 16,
    }
}

/// The number of a condition, which follows the id in a stored dependency. Numbers are never
/// reused.
pub(super) fn condition_code(condition: Condition) -> u8 {
    match condition {
        Condition::Succeeded => 0,
        Condition::Completed => 1,
        Condition::Any => 2,
    }
}

/// Decodes a condition's number.
pub(super) fn condition(code: i64) -> Result<Condition, Fault> {
    [Condition::Succeeded, Condition::Completed, Condition::Any]
        .into_iter()
        .find(|condition| i64::from(condition_code(*condition)) == code)
        .ok_or_else(|| rusqlite::Error::IntegralValueOutOfRange(0, code).into())
}

pub(super) fn culprit(task: &Task) -> Option<[u8; 16]> {
    let end = task.end()?;
    end.culprit.map(TaskId::to_bytes)
}

pub(super) fn finished_at(task: &Task) -> Option<i64> {
    match task.state {
        State::Done { at, .. } => Some(time(at)),
        _ => None,
    }
}

/// The columns of a document's key: task, kind, attempt.
pub(super) fn document_key(key: DocumentKey) -> (TaskId, i64, u32) {
    match key {
        DocumentKey::Spec(task) => (task, 0, 0),
        DocumentKey::Outputs(attempt) => (attempt.task, 1, attempt.number),
        DocumentKey::Checkpoint(attempt) => (attempt.task, 2, attempt.number),
        DocumentKey::Context(task) => (task, 3, 0),
    }
}

/// Decodes the columns of a document's key.
pub(super) fn document_key_of(task: TaskId, kind: i64, number: u32) -> Result<DocumentKey, Fault> {
    let attempt = AttemptId { task, number };
    [
        DocumentKey::Spec(task),
        DocumentKey::Outputs(attempt),
        DocumentKey::Checkpoint(attempt),
        DocumentKey::Context(task),
    ]
    .into_iter()
    .find(|key| document_key(*key) == (task, kind, number))
    .ok_or_else(|| rusqlite::Error::IntegralValueOutOfRange(1, kind).into())
}

/// The columns of a scope of the ledger.
pub(super) fn scope(scope: Scope) -> (i64, Vec<u8>) {
    match scope {
        Scope::Day(Day(day)) => (SCOPE_DAY, day.to_be_bytes().to_vec()),
        Scope::Graph(task) => (SCOPE_GRAPH, task.to_bytes().to_vec()),
    }
}

/// Decodes the columns of a scope.
pub(super) fn scope_of(scope: i64, id: &[u8]) -> Result<Scope, Fault> {
    let day = || Some(Scope::Day(Day(u64::from_be_bytes(id.try_into().ok()?))));
    let graph = || Some(Scope::Graph(TaskId::from_bytes(id.try_into().ok()?)));
    let found = match scope {
        SCOPE_DAY => day(),
        SCOPE_GRAPH => graph(),
        _ => None,
    };
    found.ok_or_else(|| rusqlite::Error::IntegralValueOutOfRange(0, scope).into())
}

/// Converts to SQLite's signed integers. Values that are too large (a time in 292 million years, a
/// missing limit) become the largest integer.
pub(super) fn integer(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

pub(super) fn time(at: Timestamp) -> i64 {
    integer(at.0)
}

/// The length that a body is expected to have. Few bodies are longer, and growing a text takes
/// longer than reserving this much.
const USUAL_BYTES: usize = 1 << 10;

pub(super) fn encode(what: &'static str, value: &impl Serialize) -> Result<String, Fault> {
    Ok(Encoder::default().encode(what, value)?.to_owned())
}

/// Encodes the bodies of many rows in the same memory.
#[derive(Default)]
pub(super) struct Encoder(Vec<u8>);

impl Encoder {
    /// The body of a row, until the next one is encoded.
    pub(super) fn encode(
        &mut self,
        what: &'static str,
        value: &impl Serialize,
    ) -> Result<&str, Fault> {
        let body = &mut self.0;
        body.clear();
        body.reserve(USUAL_BYTES);
        let written = serde_json::to_writer(&mut *body, value);
        let text = written.and_then(|()| str::from_utf8(body).map_err(serde::ser::Error::custom));
        text.map_err(|source| Fault::Encode { what, source })
    }
}

/// Reads a task from a row with its body, its id and its status. The task's dependencies are in
/// another table.
pub(super) fn task(row: &Row<'_>) -> Result<Task, Fault> {
    let body = row.get_ref(0)?.as_str();
    let body = body.map_err(rusqlite::Error::from)?;
    checked_task(body, row.get(1)?, row.get(2)?)
}

/// Decodes a task, and compares it with the other columns of its row.
pub(super) fn checked_task(body: &str, id: [u8; 16], status: i64) -> Result<Task, Fault> {
    let task: Task = decode_text("task", body)?;
    if task.id.to_bytes() == id && code(Status::of(&task)) == status {
        Ok(task)
    } else {
        Err(Fault::Disagrees { what: "task" })
    }
}

/// The status that has this number.
pub(super) fn status(code_of: i64) -> Result<Status, Fault> {
    Status::all()
        .find(|status| code(*status) == code_of)
        .ok_or_else(|| rusqlite::Error::IntegralValueOutOfRange(0, code_of).into())
}

/// Reads a column that `encode` wrote.
pub(super) fn decode<T: DeserializeOwned>(
    what: &'static str,
    row: &Row<'_>,
    column: usize,
) -> Result<T, Fault> {
    let body = row.get_ref(column)?.as_str();
    decode_text(what, body.map_err(rusqlite::Error::from)?)
}

fn decode_text<T: DeserializeOwned>(what: &'static str, body: &str) -> Result<T, Fault> {
    serde_json::from_str(body).map_err(|source| Fault::Body { what, source })
}
