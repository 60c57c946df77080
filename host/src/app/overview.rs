//! Tasks in the form in which a screen shows them: unfinished tasks first, then the tasks that
//! ended last. Later answers have only the changes since an earlier answer.
//!
//! A screen asks for changes, and gets an answer with the changed rows as soon as there are any.

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
    store::{Sequence, Status, unrecorded},
    units::dollars,
};

/// Limit of unfinished tasks in an answer.
const MOST_ACTIVE: usize = 1_000;
/// Default number of finished tasks in an answer.
const ENDED: u32 = 20;
const MOST_ENDED: u32 = 1_000;
/// If there are this many events, or more than this many changed tasks, everything is sent again.
const MOST_EVENTS: usize = 2_000;
const MOST_CHANGED: usize = 500;
/// Time limit of one request.
const LONGEST_WAIT: Duration = Duration::from_secs(50);

/// Tasks, and the number of tasks in each state.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Overview {
    /// All tasks of a screen, or only the changed tasks.
    pub(crate) tasks: Vec<TaskRow>,
    /// Number of the last event included; pass it to ask for later changes.
    pub(crate) sequence: u64,
    /// The event after which changes are included; absent if everything is included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) changes_since: Option<u64>,
    /// Counts of all tasks; absent if only some were requested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) counts: Option<Counts>,
    /// Whether there are more tasks than included, finished or not.
    pub(crate) has_more: bool,
    /// Cost of agents today (UTC), and their daily budget.
    pub(crate) spent_today_usd: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) daily_usd: Option<f64>,
    /// Reasons why nothing in the queue starts.
    #[serde(default, skip_serializing_if = "QueueView::is_open")]
    pub(crate) queue: QueueView,
}

/// Number of tasks by state.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Counts {
    pub(crate) running: u64,
    /// Number of tasks that are ready or waiting, but not held.
    pub(crate) queued: u64,
    pub(crate) held: u64,
    /// Number of tasks that failed, timed out or were lost.
    pub(crate) failed: u64,
    pub(crate) total: u64,
}

/// Position after which changes are requested.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChangesQuery {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) after: Option<u64>,
    /// Time limit of the wait for a change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) timeout_ms: Option<u64>,
}

impl Host {
    /// The unfinished tasks that match the filter, and the requested number of finished ones.
    pub(crate) async fn overview(&self, filter: ListFilter) -> Result<Overview, AppError> {
        let limit = filter.limit.unwrap_or(ENDED);
        if limit > MOST_ENDED {
            return Err(AppError::new(
                ErrorKind::Invalid,
                format!("an overview has at most {MOST_ENDED} finished tasks, not {limit}"),
            ));
        }
        // A list that is requested once does not show expected run times, so it does not wait for
        // them either.
        let past = Past::default();
        let overview = self
            .read_many(move |reader| overview(reader, &filter, limit as usize, &past))
            .await?;
        self.completed(overview).await
    }

    /// Returns as soon as there are changes after the given event, or at the time limit. If no
    /// event is given, returns immediately.
    pub(crate) async fn changed(&self, query: ChangesQuery) -> Result<(), AppError> {
        let Some(after) = query.after else {
            return Ok(());
        };
        let limit = query.timeout_ms.map_or(LONGEST_WAIT, Duration::from_millis);
        let ends_at = clock::monotonic() + limit.min(LONGEST_WAIT);
        let mut commits = self.engine.commits();
        loop {
            // Marks the commits so far as seen, so that only later commits end the wait below.
            commits.borrow_and_update();
            let turn = self.looks.acquire().await;
            let last = self.read(|reader| Ok(reader.store.last_event()?)).await?;
            drop(turn);
            let left = ends_at.saturating_sub(clock::monotonic());
            if last != after || left.is_zero() {
                return Ok(());
            }
            if let Some(Err(_)) = clock::within(left, commits.changed()).await {
                return Err(EngineError::Down.into());
            }
        }
    }

    /// The changes after the given event, which may be none. If no event is given, the whole
    /// overview.
    pub(crate) async fn changes(&self, after: Option<Sequence>) -> Result<Overview, AppError> {
        let past = self.past().await?;
        let found = self.read_many(move |reader| match after {
            Some(after) => changes(reader, after, &past),
            None => overview(reader, &ListFilter::default(), ENDED as usize, &past),
        });
        self.completed(found.await?).await
    }

    /// Adds the values that are not read from tasks.
    async fn completed(&self, mut overview: Overview) -> Result<Overview, AppError> {
        overview.daily_usd = self.settings.limits.daily_micro_usd.map(dollars);
        overview.queue = self.queue().await?;
        Ok(overview)
    }

    async fn past(&self) -> Result<Arc<Past>, AppError> {
        if let Some(past) = self.past.get() {
            return Ok(past);
        }
        let past = Arc::new(self.read_many(past_of).await?);
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
    // The number is read first, so that changes during the reads below are reported again by the
    // next answer instead of being missed.
    let sequence = reader.store.last_event()?;
    let selection = Selection::of(reader, filter, Purpose::Show)?;
    let mut tasks = selection.active(reader, MOST_ACTIVE + 1)?;
    let more_active = tasks.len() > MOST_ACTIVE;
    tasks.truncate(MOST_ACTIVE);
    let asked = ListFilter {
        limit: None,
        ..filter.clone()
    };
    let counts = if asked == ListFilter::default() {
        Some(counts(
            reader,
            ended_unrecorded(reader, &tasks, more_active)?,
        )?)
    } else {
        None
    };
    let mut ended = selection.last_ended(reader, limit + 1)?;
    let more_ended = ended.len() > limit;
    ended.truncate(limit);
    tasks.extend(ended);
    Ok(Overview {
        tasks: tasks.iter().map(|task| row(task, past)).collect(),
        sequence,
        changes_since: None,
        counts,
        has_more: more_active || more_ended,
        spent_today_usd: spent_today(reader)?,
        daily_usd: None,
        queue: QueueView::default(),
    })
}

/// The changes after an event, which may be none.
fn changes(reader: &Reader, after: Sequence, past: &Past) -> Result<Overview, AppError> {
    let last = reader.store.last_event()?;
    let events = reader.store.events_after(after, MOST_EVENTS)?;
    let follows = events.first().is_some_and(|(first, _)| *first == after + 1);
    let ids: BTreeSet<_> = events.iter().map(|(_, event)| event.task).collect();
    // The events after `after` were removed, or `after` belongs to another database.
    let is_other = last != after && !follows;
    if is_other || events.len() == MOST_EVENTS || ids.len() > MOST_CHANGED {
        return overview(reader, &ListFilter::default(), ENDED as usize, past);
    }
    let (mut tasks, as_shown) = (Vec::new(), reader.each_as_shown());
    for id in ids {
        tasks.extend(reader.store.task(id)?.map(&as_shown));
    }
    let ended_unrecorded = reader.unrecorded()?.len();
    Ok(Overview {
        tasks: tasks.iter().map(|task| row(task, past)).collect(),
        sequence: events.last().map_or(after, |(sequence, _)| *sequence),
        changes_since: Some(after),
        counts: Some(counts(reader, ended_unrecorded)?),
        has_more: false,
        spent_today_usd: spent_today(reader)?,
        daily_usd: None,
        queue: QueueView::default(),
    })
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

/// The number of running tasks whose processes have ended, if nobody has recorded these ends.
/// `active` begins with the running tasks. They are read again only if some may be missing.
fn ended_unrecorded(reader: &Reader, active: &[Task], has_more: bool) -> Result<usize, AppError> {
    let is_running = |task: &Task| matches!(task.state, State::Running { .. });
    if has_more && active.iter().all(is_running) {
        return Ok(reader.unrecorded()?.len());
    }
    let marked = active.iter().filter(|task| unrecorded::is_marked(task));
    Ok(marked.count())
}

/// `ended_unrecorded` of the running tasks are not counted as running.
fn counts(reader: &Reader, ended_unrecorded: usize) -> Result<Counts, AppError> {
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
    counts.running = counts.running.saturating_sub(ended_unrecorded as u64);
    Ok(counts)
}

fn spent_today(reader: &Reader) -> Result<f64, AppError> {
    let today = Scope::Day(Day::of(clock::wall()));
    Ok(dollars(reader.store.spent_on(today)?))
}
