//! The event log, in the order in which events became durable.
//!
//! Events are read from the store and never from the engine's memory, so that only durable events
//! are reported. Followers are woken by commits and read on from their position. A reader that was
//! cut off continues after the last event number that it received.

mod words;

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use claudine_domain::{event::Event, id::TaskId, time::Timestamp};
use tokio::sync::mpsc;

use super::{
    error::{AppError, ErrorKind},
    host::Host,
    reader::Reader,
    request::{EventQuery, ListFilter, TaskRef},
    select::{Purpose, Selection},
    view::{EventPiece, EventView},
};
use crate::{clock::rfc3339, engine::EngineError, store::Sequence};

/// Maximum number of events read from the store at a time.
const PAGE: usize = 256;
/// Maximum number of events read ahead of a slow client.
const AHEAD: usize = 64;
/// Maximum number of task names kept in memory.
const NAMES: usize = 4_096;

/// A stream of events; an error ends it.
pub(crate) type EventStream = mpsc::Receiver<Result<EventPiece, AppError>>;

/// Reason why a reading stops.
enum Stop {
    Error(AppError),
    /// The client has disconnected.
    Unwanted,
}

impl From<AppError> for Stop {
    fn from(error: AppError) -> Self {
        Self::Error(error)
    }
}

/// The tasks whose events are wanted; `None` for all tasks.
type Whose = Option<Arc<BTreeSet<TaskId>>>;

/// State of a reader.
struct Reading {
    whose: Whose,
    /// The last event before the wanted events.
    after: Sequence,
    /// The last event to read; `None` when following.
    last: Option<Sequence>,
    names: HashMap<TaskId, Option<String>>,
    sender: mpsc::Sender<Result<EventPiece, AppError>>,
}

/// A page of events.
struct Part {
    pieces: Vec<EventPiece>,
    /// The last event that was read, wanted or not.
    seen: Sequence,
    is_last: bool,
    names: HashMap<TaskId, Option<String>>,
}

impl Host {
    /// Streams events from the given position. With `follow`, also streams new events, until the
    /// task or graph has ended. Reading stops when the receiver is dropped.
    pub(crate) async fn events(
        self: Arc<Self>,
        query: EventQuery,
    ) -> Result<EventStream, AppError> {
        let (sender, receiver) = mpsc::channel(AHEAD);
        let asked = query.clone();
        let (whose, after, last) = self.read_many(move |reader| place(reader, &asked)).await?;
        let reading = Reading {
            whose,
            after,
            last: (!query.follow).then_some(last),
            names: HashMap::new(),
            sender,
        };
        let host = self.clone();
        self.reading.spawn(async move {
            let sender = reading.sender.clone();
            if let Err(Stop::Error(error)) = host.read_events(reading).await
                && sender.send(Err(error)).await.is_err()
            {
                tracing::debug!("a reader of events disconnected before it received an error");
            }
        });
        Ok(receiver)
    }

    async fn read_events(&self, mut reading: Reading) -> Result<(), Stop> {
        let mut commits = self.engine.commits();
        // Sent first, so that a reader that is cut off before the first event knows its position.
        send(&reading, EventPiece::Place(reading.after)).await?;
        loop {
            // Marks the commits so far as seen, so that only later commits wake this reader again.
            commits.borrow_and_update();
            let over =
                reading.last.is_some() || self.have_ended_by_now(reading.whose.clone()).await?;
            while !self.read_part(&mut reading).await? {}
            if over {
                return Ok(());
            }
            tokio::select! {
                told = commits.changed() => {
                    if told.is_err() {
                        return Err(AppError::from(EngineError::Down).into());
                    }
                }
                () = reading.sender.closed() => return Err(Stop::Unwanted),
            }
        }
    }

    /// Whether all wanted tasks have ended. To be called before reading, so that all events before
    /// the end are read.
    async fn have_ended_by_now(&self, whose: Whose) -> Result<bool, AppError> {
        let Some(tasks) = whose else { return Ok(false) };
        let ends = self.read_many(move |reader| Ok(reader.store.ends(&tasks)?));
        Ok(ends.await?.values().all(Option::is_some))
    }

    /// Reads and sends a page. Returns whether it was the last page for now.
    async fn read_part(&self, reading: &mut Reading) -> Result<bool, Stop> {
        let (whose, after, last) = (reading.whose.clone(), reading.after, reading.last);
        let names = std::mem::take(&mut reading.names);
        let part = self
            .read_many(move |reader| part(reader, whose.as_deref(), after, last, names))
            .await?;
        reading.names = part.names;
        let mut told = after;
        for piece in part.pieces {
            if let EventPiece::Event(event) = &piece {
                told = event.sequence;
            }
            send(reading, piece).await?;
        }
        reading.after = part.seen;
        if told < part.seen {
            send(reading, EventPiece::Place(part.seen)).await?;
        }
        Ok(part.is_last)
    }
}

async fn send(reading: &Reading, piece: EventPiece) -> Result<(), Stop> {
    let sent = reading.sender.send(Ok(piece)).await;
    sent.map_err(|_| Stop::Unwanted)
}

/// The wanted tasks, the position before the first event, and the last event so far.
fn place(reader: &Reader, query: &EventQuery) -> Result<(Whose, Sequence, Sequence), AppError> {
    let of = match (&query.task, &query.graph) {
        (Some(_), Some(_)) => {
            let message = "select the events of a task or of a graph, not both";
            return Err(AppError::new(ErrorKind::Invalid, message));
        }
        (Some(task), None) => {
            let task = reader.task_to_show(&TaskRef(task.clone()))?;
            Some((BTreeSet::from([task.id]), task.created_at))
        }
        (None, Some(graph)) => Some(of_graph(reader, graph)?),
        (None, None) => None,
    };
    let last = reader.store.last_event()?;
    // The position before the first event at that time or later.
    let before = |at: Timestamp| -> Result<Sequence, AppError> {
        let first = reader.store.first_event_since(at)?;
        Ok(first.map_or(last, |first| first.saturating_sub(1)))
    };
    let after = match (query.after, query.since_ms, &of) {
        (Some(after), ..) => after,
        (None, Some(ms), _) => before(Timestamp(ms))?,
        // Tasks have no events before their creation.
        (None, None, Some((_, created_at))) => before(*created_at)?,
        (None, None, None) if query.follow => last,
        (None, None, None) => 0,
    };
    Ok((of.map(|(tasks, _)| Arc::new(tasks)), after, last))
}

/// The tasks of a graph, and the creation time of the first.
fn of_graph(reader: &Reader, graph: &str) -> Result<(BTreeSet<TaskId>, Timestamp), AppError> {
    let filter = ListFilter {
        graph: Some(graph.to_owned()),
        ..ListFilter::default()
    };
    let mut tasks = BTreeSet::new();
    let mut created_at = Timestamp(u64::MAX);
    Selection::of(reader, &filter, Purpose::Show)?.each(reader, |task| {
        created_at = created_at.min(task.created_at);
        tasks.insert(task.id);
        Ok(())
    })?;
    Ok((tasks, created_at))
}

fn part(
    reader: &Reader,
    whose: Option<&BTreeSet<TaskId>>,
    after: Sequence,
    last: Option<Sequence>,
    mut names: HashMap<TaskId, Option<String>>,
) -> Result<Part, AppError> {
    let events = reader.store.events_after(after, PAGE)?;
    let mut is_last = events.len() < PAGE;
    let mut seen = after;
    let mut pieces = Vec::new();
    for (sequence, event) in events {
        if last.is_some_and(|last| sequence > last) {
            is_last = true;
            break;
        }
        seen = sequence;
        if whose.is_none_or(|tasks| tasks.contains(&event.task)) {
            let name = name_of(reader, event.task, &mut names)?;
            pieces.push(EventPiece::Event(view(sequence, &event, name)));
        }
    }
    Ok(Part {
        pieces,
        seen,
        is_last,
        names,
    })
}

/// The name of a task. `None` if the task has no name or is no longer stored.
fn name_of(
    reader: &Reader,
    id: TaskId,
    names: &mut HashMap<TaskId, Option<String>>,
) -> Result<Option<String>, AppError> {
    if let Some(name) = names.get(&id) {
        return Ok(name.clone());
    }
    let task = reader.store.task(id)?;
    let name = task.and_then(|task| task.request.name.clone());
    if names.len() >= NAMES {
        names.clear();
    }
    names.insert(id, name.clone());
    Ok(name)
}

fn view(sequence: Sequence, event: &Event, name: Option<String>) -> EventView {
    let mut fact = match serde_json::to_value(&event.fact) {
        Ok(serde_json::Value::Object(fact)) => fact,
        // Not reached, because a fact serialises to an object.
        _ => serde_json::Map::new(),
    };
    // These times are stored as milliseconds, but shown in RFC 3339 like all times.
    for name in ["until", "taken_at"] {
        if let Some(time) = fact.get_mut(name)
            && let Some(ms) = time.as_u64()
        {
            *time = rfc3339(Timestamp(ms)).into();
        }
    }
    fact.retain(|_, value| !value.is_null());
    EventView {
        sequence,
        at: rfc3339(event.at),
        task: event.task.to_string(),
        name,
        by: event.by.as_deref().cloned(),
        words: words::of(&event.fact),
        fact,
    }
}

#[cfg(test)]
mod tests {
    use claudine_domain::{event::Fact, outcome::Outcome};

    use super::*;

    #[test]
    fn times_of_events_are_rfc3339_and_unset_fields_are_left_out() {
        let check = |fact: Fact, expected: serde_json::Value| {
            let event = Event {
                task: TaskId::new(0, 7),
                at: Timestamp(1_795_359_093_042),
                by: None,
                fact,
            };
            let told = view(1, &event, None).fact;
            assert_eq!(serde_json::Value::Object(told), expected);
        };
        let time = "2026-11-22T14:51:33.042Z";
        let at = Timestamp(1_795_359_093_042);
        check(
            Fact::RetryScheduled { until: at },
            serde_json::json!({"kind": "retry_scheduled", "until": time}),
        );
        check(
            Fact::Restored { taken_at: at },
            serde_json::json!({"kind": "restored", "taken_at": time}),
        );
        check(
            Fact::AttemptEnded {
                attempt: 1,
                outcome: Outcome::Succeeded,
                reason: None,
            },
            serde_json::json!({"kind": "attempt_ended", "attempt": 1, "outcome": "succeeded"}),
        );
    }
}
