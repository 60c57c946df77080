//! Reads the tasks that belong to a graph from the store.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use claudine_domain::{
    id::TaskId,
    outcome::Outcome,
    step::{Submission, Submit},
    task::{State, Task, WaitingFor},
    time::Timestamp,
};

use super::{Graph, build::build};
use crate::{
    app::{
        error::{AppError, ErrorKind},
        host::Host,
        past::Past,
        reader::Reader,
        request::{GraphQuery, ListFilter},
        select::{Purpose, Selection},
    },
    clock,
    store::{Filter, States, Status},
};

/// Limits of an answer, which is read and sent in one piece.
const MOST_TASKS: usize = 20_000;
const MOST_EDGES: usize = 200_000;
/// Maximum number of tasks from which run times are estimated. They are the newest successful
/// tasks.
const PAST: usize = 2_000;

impl Host {
    /// The tasks of the named graph and their dependencies. If no graph is named, the connected
    /// components of the given tasks. If no tasks are given either, all unfinished tasks and their
    /// dependencies.
    pub(crate) async fn graph(&self, query: GraphQuery) -> Result<Graph, AppError> {
        self.read_many(move |reader| gather(reader, &query)).await
    }
}

fn gather(reader: &Reader, query: &GraphQuery) -> Result<Graph, AppError> {
    let mut found = Found::default();
    if let Some(graph) = &query.graph {
        let filter = ListFilter {
            graph: Some(graph.clone()),
            ..ListFilter::default()
        };
        Selection::of(reader, &filter, Purpose::Show)?.each(reader, |task| found.take(task))?;
        found.spread(reader, false)?;
    } else if query.tasks.is_empty() {
        for task in unfinished(reader)? {
            found.take(task)?;
        }
        found.spread(reader, false)?;
    } else {
        for reference in &query.tasks {
            found.take(reader.task_to_show(reference)?)?;
        }
        found.spread(reader, true)?;
    }
    let past = past_of(reader)?;
    Ok(build(found.into_tasks(reader), &past, clock::wall()))
}

/// The graph of tasks as they would be submitted, with their dependencies.
pub(in crate::app) fn planned(reader: &Reader, submit: Submit) -> Result<Graph, AppError> {
    let now = clock::wall();
    let mut found = Found::default();
    for submission in submit.tasks {
        found.take(not_yet_taken(submission, now))?;
    }
    let waited_for = found
        .tasks
        .values()
        .flat_map(|task| task.dependencies.iter());
    let outside: BTreeSet<TaskId> = waited_for
        .map(|edge| edge.task)
        .filter(|id| !found.tasks.contains_key(id))
        .collect();
    for id in outside {
        if let Some(task) = reader.store.task(id)? {
            found.take(task)?;
        }
    }
    let past = Past::of(&succeeded(reader)?);
    Ok(build(found.into_tasks(reader), &past, now))
}

fn not_yet_taken(submission: Submission, now: Timestamp) -> Task {
    let request = Arc::new(submission.request);
    let later = request.start_at.filter(|at| *at > now);
    let mut task = Task::blocked(submission.id, request, submission.dependencies.into(), now);
    if submission.held {
        task.state = State::Held { since: now };
    } else if task.dependencies.is_empty() {
        task.state = match later {
            Some(until) => State::Waiting {
                until,
                why: WaitingFor::StartTime,
            },
            None => State::Ready {
                since: now,
                clock: None,
            },
        };
    }
    task
}

fn unfinished(reader: &Reader) -> Result<Vec<Task>, AppError> {
    let filter = Filter {
        states: States::unfinished(),
        ..Filter::default()
    };
    // One task more than the limit is enough to detect that there are too many.
    Ok(reader.store.list(&filter, MOST_TASKS + 1)?.tasks)
}

/// Run times of successful tasks.
pub(in crate::app) fn past_of(reader: &Reader) -> Result<Past, AppError> {
    Ok(Past::of(&succeeded(reader)?))
}

fn succeeded(reader: &Reader) -> Result<Vec<Task>, AppError> {
    let filter = Filter::in_state(Status::Done(Outcome::Succeeded));
    Ok(reader.store.list(&filter, PAST)?.tasks)
}

/// The tasks found so far. They are read one by one, so other tasks may end between two reads, and
/// each task has the state at the time of its own read.
#[derive(Default)]
struct Found {
    tasks: BTreeMap<TaskId, Task>,
    edges: usize,
    /// Tasks whose neighbours have not been read yet.
    new: VecDeque<TaskId>,
}

impl Found {
    fn take(&mut self, task: Task) -> Result<(), AppError> {
        if self.tasks.contains_key(&task.id) {
            return Ok(());
        }
        self.edges += task.dependencies.len();
        if self.tasks.len() == MOST_TASKS || self.edges > MOST_EDGES {
            return Err(AppError::new(
                ErrorKind::Limit,
                format!(
                    "the graph has more than {MOST_TASKS} tasks or {MOST_EDGES} edges, more than fit in one answer"
                ),
            )
            .hint("`claudine list` shows tasks page by page; `claudine why ID` says what one of them waits for"));
        }
        self.new.push_back(task.id);
        self.tasks.insert(task.id, task);
        Ok(())
    }

    /// Adds the dependencies of the tasks, and with `downstream` their dependants too.
    fn spread(&mut self, reader: &Reader, downstream: bool) -> Result<(), AppError> {
        while let Some(id) = self.new.pop_front() {
            let upstream = self.tasks.get(&id).map(|task| task.dependencies.clone());
            let mut neighbours: Vec<TaskId> = upstream
                .iter()
                .flat_map(|edges| edges.iter().map(|edge| edge.task))
                .collect();
            if downstream {
                neighbours.extend(reader.store.dependants(id)?);
            }
            for neighbour in neighbours {
                if self.tasks.contains_key(&neighbour) {
                    continue;
                }
                // Edges to tasks that were removed meanwhile are dropped.
                if let Some(task) = reader.store.task(neighbour)? {
                    self.take(task)?;
                }
            }
        }
        Ok(())
    }

    /// The tasks as they are to be shown.
    fn into_tasks(self, reader: &Reader) -> Vec<Task> {
        let tasks = self.tasks.into_values();
        tasks.map(reader.each_as_shown()).collect()
    }
}
