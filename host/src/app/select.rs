//! Finds the tasks that a request selects.

use std::{cmp::Reverse, collections::BTreeSet};

use claudine_domain::{
    id::TaskId,
    task::{InGraph, State, Task},
    time::Timestamp,
};

use super::{
    error::{AppError, ErrorKind},
    reader::{Reader, candidate},
    request::{ListFilter, TaskRef},
};
use crate::{
    store::{Filter, Intent, Name, Page, States, Status},
    text::shortened,
};

/// Maximum number of tasks read at a time.
const PAGE: usize = 500;
/// Maximum number of tasks in a graph of connected tasks that were not submitted together.
const MOST_CONNECTED: usize = 20_000;
/// Maximum number of graphs with the same name that are checked.
const MOST_OF_A_NAME: usize = 20;

/// Length limit of a name quoted in a message.
const SHOWN_CHARS: usize = 80;
/// States of unfinished tasks. `running` is first, and states that are nearer to running come
/// before states that are further from it.
const NEAREST_FIRST: [Status; 5] = [
    Status::Running,
    Status::Ready,
    Status::Waiting,
    Status::Held,
    Status::Blocked,
];

/// Purpose of a selection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Purpose {
    /// Showing tasks. If several graphs have the same name, the newest is selected.
    Show,
    /// Changing finished tasks, or their worktrees. If several graphs have the same name, the
    /// newest is selected here too.
    Finished,
    /// Changing unfinished tasks. A name that matches several unfinished graphs is ambiguous.
    Unfinished,
}

/// A selected graph.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct FoundGraph {
    /// Id of the first task, or of the task that the request named.
    pub(super) id: TaskId,
    pub(super) name: Option<String>,
    /// The tasks, if they were not submitted together.
    connected: Option<BTreeSet<TaskId>>,
}

/// Criteria of a selection.
pub(super) struct Selection {
    pub(super) filter: Filter,
    pub(super) graph: Option<FoundGraph>,
}

impl Selection {
    pub(super) fn of(
        reader: &Reader,
        asked: &ListFilter,
        purpose: Purpose,
    ) -> Result<Self, AppError> {
        let invalid = |message: String| AppError::new(ErrorKind::Invalid, message);
        let label = |label: &String| {
            let (key, value) = label
                .split_once('=')
                .ok_or_else(|| invalid(format!("label `{label}` is not of the form key=value")))?;
            Ok((key.to_owned(), value.to_owned()))
        };
        let id = |task: &Option<TaskRef>| {
            let found = task.as_ref().map(|task| reader.id_to_show(task));
            found.transpose()
        };
        let states = States::parse(asked.state.iter().map(String::as_str));
        let graph = match &asked.graph {
            Some(graph) => Some(graph_of(reader, graph, purpose)?),
            None => None,
        };
        let together = graph.as_ref().filter(|graph| graph.connected.is_none());
        Ok(Self {
            filter: Filter {
                states: states.map_err(|error| invalid(error.to_string()))?,
                name: asked.name.as_deref().map(Name::parse),
                executor: asked.executor.clone(),
                labels: asked
                    .label
                    .iter()
                    .map(label)
                    .collect::<Result<_, AppError>>()?,
                group: asked.group.clone(),
                graph: together.map(|graph| graph.id),
                parent: id(&asked.parent)?,
                since: asked.since_ms.map(Timestamp),
                until: asked.until_ms.map(Timestamp),
                before: id(&asked.before)?,
                unrestrained: false,
                session: None,
            },
            graph,
        })
    }

    /// The next tasks that are older than [`Filter::before`], newest first.
    pub(super) fn page(&self, reader: &Reader, limit: usize) -> Result<Page, AppError> {
        let connected = self
            .graph
            .as_ref()
            .and_then(|graph| graph.connected.as_ref());
        let Some(connected) = connected else {
            return Ok(reader.store.list(&self.filter, limit)?);
        };
        let (mut tasks, as_shown) = (Vec::new(), reader.each_as_shown());
        for id in connected.iter().rev() {
            if tasks.len() > limit {
                break;
            }
            let task = reader.store.task(*id)?.map(&as_shown);
            tasks.extend(task.filter(|task| self.filter.allows(task)));
        }
        Ok(Page::cut(tasks, limit))
    }

    /// Unfinished tasks, in the order of [`NEAREST_FIRST`]. Within a state, the newest task comes
    /// first.
    pub(super) fn active(&self, reader: &Reader, limit: usize) -> Result<Vec<Task>, AppError> {
        let mut tasks = Vec::new();
        for status in NEAREST_FIRST {
            if !self.filter.states.may_be(status) {
                continue;
            }
            let of_it = Self {
                filter: Filter {
                    states: self.filter.states.only(status),
                    ..self.filter.clone()
                },
                graph: self.graph.clone(),
            };
            let page = of_it.page(reader, limit.saturating_sub(tasks.len()))?;
            tasks.extend(page.tasks);
        }
        Ok(tasks)
    }

    /// Finished tasks, the last to end first.
    pub(super) fn last_ended(&self, reader: &Reader, limit: usize) -> Result<Vec<Task>, AppError> {
        let graph = self.graph.as_ref();
        let Some(connected) = graph.and_then(|graph| graph.connected.as_ref()) else {
            return Ok(reader.store.last_ended(&self.filter, limit)?);
        };
        let mut ended = Vec::new();
        for id in connected {
            let task = reader.store.task(*id)?;
            if let Some(task) = task.filter(|task| self.filter.allows(task))
                && let State::Done { at, .. } = task.state
            {
                ended.push((at, task));
            }
        }
        ended.sort_by_key(|(at, task)| Reverse((*at, task.id)));
        ended.truncate(limit);
        Ok(ended.into_iter().map(|(_, task)| task).collect())
    }

    /// Calls `next` for each selected task, newest first, until `next` fails.
    pub(super) fn each(
        mut self,
        reader: &Reader,
        mut next: impl FnMut(Task) -> Result<(), AppError>,
    ) -> Result<(), AppError> {
        loop {
            let page = self.page(reader, PAGE)?;
            page.tasks.into_iter().try_for_each(&mut next)?;
            match page.next {
                Some(_) => self.filter.before = page.next,
                None => return Ok(()),
            }
        }
    }
}

/// The graph with this name, or else the graph of the task with this name or id: the tasks
/// submitted together with that task, or all tasks connected to that task. A whole id is never
/// taken for a name.
pub(super) fn graph_of(
    reader: &Reader,
    reference: &str,
    purpose: Purpose,
) -> Result<FoundGraph, AppError> {
    let named = match reference.parse::<TaskId>() {
        Ok(_) => Vec::new(),
        Err(_) => reader.store.graphs_named(reference, MOST_OF_A_NAME)?,
    };
    let task = TaskRef(reference.to_owned());
    if let Some(newest) = named.first() {
        let intent = match purpose {
            Purpose::Show => Intent::Look,
            Purpose::Finished | Purpose::Unfinished => Intent::Change,
        };
        let id = match purpose {
            Purpose::Show | Purpose::Finished => *newest,
            Purpose::Unfinished => only_unfinished(reader, reference, &named)?.unwrap_or(*newest),
        };
        let id = reader.undoubted(&task, id, intent)?;
        return Ok(FoundGraph {
            id,
            name: Some(reference.to_owned()),
            connected: None,
        });
    }
    let task = match purpose {
        Purpose::Show => reader.task_to_show(&task),
        Purpose::Finished | Purpose::Unfinished => reader.task(&task),
    };
    let task = task.map_err(|error| match error.kind {
        ErrorKind::NotFound => no_graph(reference, error),
        _ => error,
    })?;
    let Some(InGraph { first, .. }) = task.request.graph.as_deref() else {
        let through_ended = purpose != Purpose::Unfinished;
        return Ok(FoundGraph {
            id: task.id,
            name: None,
            connected: Some(connected(reader, task.id, through_ended)?),
        });
    };
    Ok(FoundGraph {
        id: *first,
        name: reader.graph_name(*first)?,
        connected: None,
    })
}

/// The only graph among these that has unfinished tasks. An error if there are several such graphs.
fn only_unfinished(
    reader: &Reader,
    name: &str,
    graphs: &[TaskId],
) -> Result<Option<TaskId>, AppError> {
    let mut unfinished = Vec::new();
    for graph in graphs {
        let filter = Filter {
            states: States::unfinished(),
            graph: Some(*graph),
            ..Filter::default()
        };
        if !reader.store.list(&filter, 1)?.tasks.is_empty() {
            unfinished.push(*graph);
        }
    }
    match unfinished.as_slice() {
        [] => Ok(None),
        [one] => Ok(Some(*one)),
        several => {
            let mut candidates = Vec::new();
            for graph in several {
                candidates.extend(reader.store.task(*graph)?.map(|task| candidate(&task)));
            }
            let (count, shown) = (several.len(), shortened(name, SHOWN_CHARS));
            let message = format!("{count} unfinished graphs are named '{shown}'");
            let error = AppError::new(ErrorKind::Ambiguous, message).hint(
                "pass one of these to --graph: each is the first task of a graph with this name",
            );
            Err(AppError {
                candidates,
                ..error
            })
        }
    }
}

fn no_graph(reference: &str, error: AppError) -> AppError {
    let shown = shortened(reference, SHOWN_CHARS);
    AppError {
        message: format!("no graph or task matches '{shown}'"),
        ..error
    }
}

/// A task with all tasks that are connected to it by edges in any direction, directly or through
/// other tasks. Without `through_ended`, edges of finished tasks other than `from` are not
/// followed.
fn connected(
    reader: &Reader,
    from: TaskId,
    through_ended: bool,
) -> Result<BTreeSet<TaskId>, AppError> {
    let mut found = BTreeSet::from([from]);
    let mut next = vec![from];
    while let Some(id) = next.pop() {
        let Some(task) = reader.store.task(id)? else {
            continue;
        };
        if task.is_done() && id != from && !through_ended {
            continue;
        }
        let upstream = task.dependencies.iter().map(|dependency| dependency.task);
        for other in upstream.chain(reader.store.dependants(id)?) {
            if found.insert(other) {
                next.push(other);
            }
        }
        if found.len() > MOST_CONNECTED {
            let message = format!("more than {MOST_CONNECTED} tasks are connected to {from:#}");
            return Err(AppError::new(ErrorKind::Limit, message)
                .hint("select some of them by --label, --name or --state"));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::sync::Arc;

    use claudine_domain::{attempt::Phase, batch::Batch, principal::Principal};

    use super::*;
    use crate::{
        layout::Layout,
        store::{Store, memory::MemoryStore, sample_task},
    };

    fn reader_of(tasks: Vec<Arc<Task>>) -> Reader {
        let store = MemoryStore::new();
        let epoch = store.lead().unwrap();
        let batch = Batch {
            number: 1,
            tasks,
            ..Batch::default()
        };
        store.commit(epoch, &batch).unwrap();
        Reader {
            store: Arc::new(store),
            layout: Layout::new("/nowhere"),
            no_host: false,
        }
    }

    #[test]
    fn tasks_in_other_phases_do_not_count_towards_the_limit_of_a_selection() {
        let in_phase = |number: u64, phase: Phase| {
            let task = sample_task(number);
            let since = task.created_at;
            Arc::new(Task {
                state: State::Running { phase, since },
                ..task
            })
        };
        let (older, newer) = (in_phase(1, Phase::Live), in_phase(2, Phase::Preparing));
        let reader = reader_of(vec![older.clone(), newer.clone()]);
        let check = |word: &str, expected: TaskId| {
            let filter = Filter {
                states: States::parse([word]).unwrap(),
                ..Filter::default()
            };
            let selection = Selection {
                filter,
                graph: None,
            };
            let found = selection.active(&reader, 1).unwrap();
            let found: Vec<TaskId> = found.iter().map(|task| task.id).collect();
            assert_eq!(found, [expected], "{word}");
        };
        check("live", older.id);
        check("preparing", newer.id);
        check("running", newer.id);
        check("ready,live", older.id);
    }

    /// A client may give its tasks names with which the ids of later tasks end.
    #[test]
    fn a_name_that_a_client_chose_is_ambiguous_if_it_is_also_a_part_of_an_id() {
        // The ids of the sample tasks end in their numbers.
        let named_by = |restrained: bool| {
            let mut named = sample_task(2);
            let graph = InGraph {
                first: named.id,
                name: Some("0001".to_owned()),
            };
            let request = Arc::make_mut(&mut named.request);
            request.name = Some("0001".to_owned());
            request.graph = Some(Arc::new(graph));
            request.by = Arc::new(Principal {
                restrained,
                ..Principal::default()
            });
            let named = Arc::new(named);
            let reader = reader_of(vec![Arc::new(sample_task(1)), named.clone()]);
            (reader, named.id)
        };
        let reference = TaskRef("0001".to_owned());
        let (reader, named) = named_by(false);
        assert_eq!(reader.task(&reference).unwrap().id, named);
        let found = graph_of(&reader, "0001", Purpose::Finished).unwrap();
        assert_eq!(found.id, named);
        let (reader, named) = named_by(true);
        let errors = [
            reader.task(&reference).unwrap_err(),
            reader.task_to_show(&reference).unwrap_err(),
            graph_of(&reader, "0001", Purpose::Show).unwrap_err(),
            graph_of(&reader, "0001", Purpose::Unfinished).unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.kind, ErrorKind::Ambiguous, "{error}");
            let ids: Vec<&str> = error.candidates.iter().map(|it| it.id.as_str()).collect();
            assert_eq!(ids, [named.to_string(), sample_task(1).id.to_string()]);
        }
        // The end of the id itself is still found.
        let longer = TaskRef("00001".to_owned());
        assert_eq!(reader.task(&longer).unwrap().id, sample_task(1).id);
        assert_eq!(reader.task(&TaskRef("0002".to_owned())).unwrap().id, named);
    }

    /// A client may name a task like a list of tasks of a person.
    #[test]
    fn a_name_that_a_client_chose_is_ambiguous_if_it_is_also_a_list_of_tasks() {
        let named = |number: u64, name: &str, restrained: bool| {
            let mut task = sample_task(number);
            let request = Arc::make_mut(&mut task.request);
            request.name = Some(name.to_owned());
            request.by = Arc::new(Principal {
                restrained,
                ..Principal::default()
            });
            Arc::new(task)
        };
        let check = |name: &str, restrained: bool, listed: Option<&[u64]>| {
            let reader = reader_of(vec![
                named(1, "build", false),
                named(2, "unit tests", false),
                named(3, name, restrained),
            ]);
            let third = sample_task(3).id;
            let reference = TaskRef(name.to_owned());
            let found = [reader.task(&reference), reader.task_to_show(&reference)];
            for found in found {
                let Some(listed) = listed else {
                    assert_eq!(found.unwrap().id, third, "{name}");
                    continue;
                };
                let error = found.unwrap_err();
                assert_eq!(error.kind, ErrorKind::Ambiguous, "{error}");
                let says = format!("it is the name of task {third:#}, and may be a list: `build`");
                assert!(error.message.contains(&says), "{error}");
                assert!(error.hint.unwrap().contains(&format!("(`{third:#}`)")));
                let ids: Vec<&str> = error.candidates.iter().map(|it| it.id.as_str()).collect();
                let expected = listed
                    .iter()
                    .map(|number| sample_task(*number).id.to_string());
                assert_eq!(ids, expected.collect::<Vec<_>>(), "{name}");
            }
            // The id itself is still found.
            let id = TaskRef(third.to_string());
            assert_eq!(reader.task(&id).unwrap().id, third);
        };
        check("build 0002", true, Some(&[3, 1, 2]));
        check("build,0002", true, Some(&[3, 1, 2]));
        check("build, unit tests", true, Some(&[3, 1, 2]));
        check("build 0002", false, None);
        check("build other", true, None);
        check("build,", true, None);
    }

    /// Before names like ids were refused, a graph could be named like the id of another graph.
    #[test]
    fn a_whole_id_is_not_taken_for_the_name_of_a_graph() {
        let in_graph = |number: u64, name: &str| {
            let mut task = sample_task(number);
            let graph = InGraph {
                first: task.id,
                name: Some(name.to_owned()),
            };
            Arc::make_mut(&mut task.request).graph = Some(Arc::new(graph));
            Arc::new(task)
        };
        let real = in_graph(1, "release");
        let decoy = in_graph(2, &real.id.to_string());
        let reader = reader_of(vec![real.clone(), decoy]);
        for purpose in [Purpose::Show, Purpose::Finished, Purpose::Unfinished] {
            for reference in [real.id.to_string(), "release".to_owned()] {
                let found = graph_of(&reader, &reference, purpose).unwrap();
                assert_eq!(found.id, real.id, "{reference} {purpose:?}");
                assert_eq!(found.name.as_deref(), Some("release"));
            }
        }
    }
}
