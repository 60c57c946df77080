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
use crate::{
    clock::{self, rfc3339},
    engine::EngineError,
    store::Sequence,
};

/// Maximum number of events read from the store at a time.
const PAGE: usize = 256;
/// Maximum number of events read ahead of a slow client.
const AHEAD: usize = 64;
/// How long events are kept.
const KEPT: &str = "they are kept as long as finished tasks, `keep` in the settings";
/// Maximum number of task names kept in memory.
const NAMES: usize = 4_096;

/// A stream of events; an error ends it.
pub(crate) struct EventStream {
    pub(crate) pieces: mpsc::Receiver<Result<EventPiece, AppError>>,
    /// Why wanted events may be missing, for a person.
    pub(crate) note: Option<String>,
}

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

/// The events that a request asks for.
struct Wanted {
    whose: Whose,
    /// The last event before the wanted events.
    after: Sequence,
    /// The last event so far.
    last: Sequence,
    note: Option<String>,
}

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
        let wanted = self.read_many(move |reader| wanted(reader, &asked)).await?;
        let reading = Reading {
            whose: wanted.whose,
            after: wanted.after,
            last: (!query.follow).then_some(wanted.last),
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
        Ok(EventStream {
            pieces: receiver,
            note: wanted.note,
        })
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

fn wanted(reader: &Reader, query: &EventQuery) -> Result<Wanted, AppError> {
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
    let begin = match (query.after, query.since_ms, &of) {
        (Some(after), ..) => Begin::After(after),
        (None, Some(ms), _) => Begin::At(Timestamp(ms)),
        (None, None, Some((_, created_at))) => Begin::Creation(*created_at),
        (None, None, None) => Begin::After(0),
    };
    Ok(Wanted {
        whose: of.map(|(tasks, _)| Arc::new(tasks)),
        after,
        last,
        note: note(reader, begin, last)?,
    })
}

/// The beginning of the wanted events.
#[derive(Clone, Copy)]
enum Begin {
    /// After the event with this number; 0 for all that are stored.
    After(Sequence),
    /// At a time that was asked for.
    At(Timestamp),
    /// With the creation of a task or graph.
    Creation(Timestamp),
}

/// Why wanted events may be missing: they were removed, or do not exist yet. Events of tasks that
/// have not ended are removed too, because to keep them, each search for old events would have to
/// read all of them again.
fn note(reader: &Reader, begin: Begin, last: Sequence) -> Result<Option<String>, AppError> {
    match begin {
        Begin::After(0) => return Ok(None),
        Begin::After(after) if after > last => {
            let note = format!("no event after {after} exists yet: the last one so far is {last}");
            return Ok(Some(note));
        }
        Begin::At(at) if at > clock::wall() => {
            let at = rfc3339(at);
            return Ok(Some(format!("no event since {at} exists yet")));
        }
        Begin::After(_) | Begin::At(_) | Begin::Creation(_) => {}
    }
    let first = reader.store.events_after(0, 1)?.pop();
    let Some((first, event)) = first else {
        return Ok((last > 0).then(|| format!("all events so far were removed ({KEPT})")));
    };
    let is_missed = match begin {
        Begin::After(after) => after + 1 < first,
        Begin::At(at) | Begin::Creation(at) => first > 1 && at < event.at,
    };
    Ok(is_missed.then(|| {
        let at = rfc3339(event.at);
        format!("events before {first} ({at}) were removed ({KEPT})")
    }))
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
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use claudine_domain::{
        batch::{Batch, Pruned},
        event::Fact,
        outcome::Outcome,
    };

    use super::*;
    use crate::{
        layout::Layout,
        store::{Store, memory::MemoryStore, sample_task},
    };

    #[test]
    fn a_reader_learns_that_wanted_events_were_removed_or_do_not_exist_yet() {
        let store = Arc::new(MemoryStore::new());
        let reader = Reader {
            store: store.clone(),
            layout: Layout::new("/nowhere"),
            no_host: false,
        };
        let task = sample_task(1);
        let (id, created_at) = (task.id.to_string(), task.created_at);
        let event = |after_ms: u64, fact: Fact| Event {
            task: task.id,
            at: Timestamp(created_at.0 + after_ms),
            by: None,
            fact,
        };
        let epoch = store.lead().unwrap();
        let added = Batch {
            number: 1,
            events: vec![event(0, Fact::Submitted), event(5, Fact::Held)],
            tasks: vec![Arc::new(task.clone())],
            ..Batch::default()
        };
        store.commit(epoch, &added).unwrap();
        let forget = |number: u64, events_to: Sequence| {
            let pruned = Pruned {
                events_to,
                ..Pruned::default()
            };
            let batch = Batch {
                number,
                pruned,
                ..Batch::default()
            };
            store.commit(epoch, &batch).unwrap();
        };
        let all = EventQuery::default();
        let of_task = EventQuery {
            task: Some(id),
            ..all.clone()
        };
        let after = |number: Sequence| EventQuery {
            after: Some(number),
            ..of_task.clone()
        };
        let since = |at: Timestamp| EventQuery {
            since_ms: Some(at.0),
            ..all.clone()
        };
        let check = |query: &EventQuery, expected: Option<&str>| {
            let note = wanted(&reader, query).unwrap().note;
            match expected {
                Some(piece) => assert!(note.as_ref().is_some_and(|note| note.contains(piece))),
                None => assert_eq!(note, None),
            }
        };
        let to_come = Timestamp(clock::wall().0 + 60_000);
        for query in [&all, &of_task, &after(0), &after(1), &after(2)] {
            check(query, None);
        }
        check(&since(Timestamp(0)), None);
        check(
            &after(3),
            Some("no event after 3 exists yet: the last one so far is 2"),
        );
        check(&since(to_come), Some("exists yet"));
        forget(2, 1);
        let removed = Some("events before 2 (");
        check(&of_task, removed);
        check(&since(Timestamp(0)), removed);
        for query in [
            &all,
            &after(0),
            &after(1),
            &since(Timestamp(created_at.0 + 5)),
        ] {
            check(query, None);
        }
        forget(3, 2);
        check(&of_task, Some("all events so far were removed"));
        check(&after(1), Some("all events so far were removed"));
        check(&all, None);
    }

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
