//! Tasks as a screen shows them: first those that have not ended, then those that ended last; and
//! what has changed of them since somebody looked.
//!
//! Whoever keeps a screen up to date asks for changes: the answer comes when there are some, and
//! has only the rows that are not as they were.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use claudine_domain::{
    budget::{Day, Scope},
    outcome::Outcome,
    task::{State, Task},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    error::{AppError, ErrorKind},
    graph::past_of,
    host::Host,
    past::Past,
    present::task_row,
    queue_view::QueueView,
    reader::Reader,
    request::ListFilter,
    select::{Purpose, Selection},
    view::TaskRow,
};
use crate::{
    clock,
    engine::EngineError,
    store::{Sequence, Status},
    units::dollars,
};

/// Unfinished tasks that one answer has.
const MOST_ACTIVE: usize = 1_000;
/// Finished tasks that one answer has, if nobody says how many.
const ENDED: u32 = 20;
const MOST_ENDED: u32 = 1_000;
/// With more that has happened, or more tasks to which it has, all is told anew.
const MOST_EVENTS: usize = 2_000;
const MOST_CHANGED: usize = 500;
/// A single call waits no longer.
const LONGEST_WAIT: Duration = Duration::from_secs(50);

/// Tasks, and how many there are of each kind.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Overview {
    /// All that a screen shows, or what has changed of it.
    pub(crate) tasks: Vec<TaskRow>,
    /// The number of the last event that it takes into account: where to ask for changes from.
    pub(crate) sequence: u64,
    /// The event after which it tells of changes; absent if it tells everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) changes_since: Option<u64>,
    /// Of all tasks; absent if only some were asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) counts: Option<Counts>,
    /// There are more unfinished tasks, or more finished ones.
    pub(crate) has_more: bool,
    /// What agents have cost today (UTC), and may.
    pub(crate) spent_today_usd: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) daily_usd: Option<f64>,
    /// What keeps all of the queue.
    #[serde(default, skip_serializing_if = "QueueView::is_open")]
    pub(crate) queue: QueueView,
}

/// How many tasks there are.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Counts {
    pub(crate) running: u64,
    /// Ready, or waiting for something else than to be released.
    pub(crate) queued: u64,
    pub(crate) held: u64,
    /// Failed, timed out or lost.
    pub(crate) failed: u64,
    pub(crate) total: u64,
}

/// From where changes are asked for.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChangesQuery {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) after: Option<u64>,
    /// How long to wait for a change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) timeout_ms: Option<u64>,
}

impl Host {
    /// Those of the filter that have not ended, and as many as it says of those that ended last.
    pub(crate) async fn overview(&self, filter: ListFilter) -> Result<Overview, AppError> {
        let limit = filter.limit.unwrap_or(ENDED);
        if limit > MOST_ENDED {
            return Err(AppError::new(
                ErrorKind::Invalid,
                format!("an overview has at most {MOST_ENDED} finished tasks, not {limit}"),
            ));
        }
        // Who lists tasks once is not made to wait until it is known how long each may take.
        let past = Past::default();
        let overview = self
            .read(move |reader| overview(reader, &filter, limit as usize, &past))
            .await?;
        self.completed(overview).await
    }

    /// What has changed after an event: as soon as something has, or nothing at the limit. Without
    /// an event all that a screen shows, at once.
    pub(crate) async fn changes(&self, query: ChangesQuery) -> Result<Overview, AppError> {
        let limit = query.timeout_ms.map_or(LONGEST_WAIT, Duration::from_millis);
        let ends_at = clock::monotonic() + limit.min(LONGEST_WAIT);
        let past = self.past().await?;
        let Some(after) = query.after else {
            let all = ListFilter::default();
            let whole = self
                .read(move |reader| overview(reader, &all, ENDED as usize, &past))
                .await?;
            return self.completed(whole).await;
        };
        let mut commits = self.engine.commits();
        loop {
            // What is committed from here on ends the wait.
            commits.borrow_and_update();
            let left = ends_at.saturating_sub(clock::monotonic());
            let past = Arc::clone(&past);
            let found = self
                .read(move |reader| changes(reader, after, left.is_zero(), &past))
                .await?;
            if let Some(found) = found {
                return self.completed(found).await;
            }
            if let Some(Err(_)) = clock::within(left, commits.changed()).await {
                return Err(EngineError::Down.into());
            }
        }
    }

    /// Adds what is not read from the store.
    async fn completed(&self, mut overview: Overview) -> Result<Overview, AppError> {
        overview.daily_usd = self.settings.limits.daily_micro_usd.map(dollars);
        overview.queue = self.queue().await?;
        Ok(overview)
    }

    async fn past(&self) -> Result<Arc<Past>, AppError> {
        if let Some(past) = self.past.get() {
            return Ok(past);
        }
        let past = Arc::new(self.read(past_of).await?);
        self.past.keep(&past);
        Ok(past)
    }
}

fn overview(
    reader: &Reader,
    filter: &ListFilter,
    limit: usize,
    past: &Past,
) -> Result<Overview, AppError> {
    // Read first: what happens meanwhile is told again.
    let sequence = reader.store.last_event()?;
    let selection = Selection::of(reader, filter, Purpose::Show)?;
    let mut tasks = selection.active(reader, MOST_ACTIVE + 1)?;
    let more_active = tasks.len() > MOST_ACTIVE;
    tasks.truncate(MOST_ACTIVE);
    let mut ended = selection.last_ended(reader, limit + 1)?;
    let more_ended = ended.len() > limit;
    ended.truncate(limit);
    tasks.extend(ended);
    let asked = ListFilter {
        limit: None,
        ..filter.clone()
    };
    let are_all = asked == ListFilter::default();
    Ok(Overview {
        tasks: tasks.iter().map(|task| row(task, past)).collect(),
        sequence,
        changes_since: None,
        counts: are_all.then(|| counts(reader)).transpose()?,
        has_more: more_active || more_ended,
        spent_today_usd: spent_today(reader)?,
        daily_usd: None,
        queue: QueueView::default(),
    })
}

/// Nothing if nothing has changed, unless an answer is wanted all the same.
fn changes(
    reader: &Reader,
    after: Sequence,
    at_any_rate: bool,
    past: &Past,
) -> Result<Option<Overview>, AppError> {
    let last = reader.store.last_event()?;
    if last == after && !at_any_rate {
        return Ok(None);
    }
    let events = reader.store.events_after(after, MOST_EVENTS)?;
    let follows = events.first().is_some_and(|(first, _)| *first == after + 1);
    let ids: BTreeSet<_> = events.iter().map(|(_, event)| event.task).collect();
    // Another database, or one from which the events after it were pruned.
    let is_other = last != after && !follows;
    if is_other || events.len() == MOST_EVENTS || ids.len() > MOST_CHANGED {
        let whole = overview(reader, &ListFilter::default(), ENDED as usize, past)?;
        return Ok(Some(whole));
    }
    let mut tasks = Vec::new();
    for id in ids {
        tasks.extend(reader.store.task(id)?);
    }
    Ok(Some(Overview {
        tasks: tasks.iter().map(|task| row(task, past)).collect(),
        sequence: events.last().map_or(after, |(sequence, _)| *sequence),
        changes_since: Some(after),
        counts: Some(counts(reader)?),
        has_more: false,
        spent_today_usd: spent_today(reader)?,
        daily_usd: None,
        queue: QueueView::default(),
    }))
}

fn row(task: &Task, past: &Past) -> TaskRow {
    let expected = match task.state {
        State::Done { .. } => None,
        _ => past.expected(task),
    };
    TaskRow {
        expected_ms: expected,
        ..task_row(task)
    }
}

fn counts(reader: &Reader) -> Result<Counts, AppError> {
    let mut counts = Counts::default();
    for (status, count) in reader.store.counts()? {
        counts.total += count;
        match status {
            Status::Running => counts.running += count,
            Status::Held => counts.held += count,
            Status::Blocked | Status::Waiting | Status::Ready => counts.queued += count,
            Status::Done(Outcome::Failed | Outcome::TimedOut | Outcome::Lost) => {
                counts.failed += count;
            }
            Status::Done(_) => {}
        }
    }
    Ok(counts)
}

fn spent_today(reader: &Reader) -> Result<f64, AppError> {
    let today = Scope::Day(Day::of(clock::wall()));
    Ok(dollars(reader.store.spent_on(today)?))
}
