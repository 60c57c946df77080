//! Turns the tasks of a request into the engine's input: with ids, and with references to other
//! tasks resolved.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use claudine_domain::{
    budget::GraphBudget,
    dependency::{Condition, Dependency},
    id::TaskId,
    idempotency::given_key,
    step::{Ends, Refused, Submission, Submit as Together},
    task::{Class, InGraph, Request, Task},
};

use crate::{
    app::{
        error::{AppError, ErrorKind, Mistake},
        reader::{Reader, unknown},
        request::{DependencyRef, NewTask, TaskRef},
    },
    engine::EngineError,
    environment::Kept,
};

/// Maximum number of mistakes reported for a request.
pub(super) const MISTAKES_MAX: usize = 100;

/// A task that was validated by its executor.
pub(super) struct Prepared {
    pub(super) request: Request,
    pub(super) spec: Arc<[u8]>,
    /// The request, kept whole until the end. If its parts were freed early, the data on the board
    /// would be allocated in the gaps, and the memory around this data could not be returned to the
    /// system.
    pub(super) asked: NewTask,
    /// A possible problem of the task.
    pub(super) warning: Option<String>,
    /// Keeps the environment from being removed until the task that refers to it is durable.
    pub(super) _kept: Arc<Kept>,
}

/// Dependencies of a task, and the tasks whose output it uses.
#[derive(Default)]
pub(super) struct Edges {
    dependencies: Vec<Dependency>,
    used: Vec<TaskId>,
}

impl Edges {
    /// Adds a task whose output is used; the task must succeed unless another condition is given.
    fn uses(&mut self, task: TaskId) {
        if self.used.contains(&task) {
            return;
        }
        self.used.push(task);
        if !self.dependencies.iter().any(|edge| edge.task == task) {
            self.dependencies.push(Dependency {
                task,
                condition: Condition::Succeeded,
            });
        }
    }
}

/// The error for a task that depends on itself.
fn itself(name: &str) -> AppError {
    let message = format!("dependency cycle: {name} → {name}");
    AppError::new(ErrorKind::Invalid, message)
}

/// All tasks of a request with their future ids.
pub(super) struct Graph {
    pub(super) ids: Vec<TaskId>,
    pub(super) members: Vec<Prepared>,
    pub(super) parent: Option<Task>,
    pub(super) name: Option<String>,
    pub(super) budget_micro_usd: Option<u64>,
}

impl Graph {
    /// Class and warning of each member, for the answer.
    pub(super) fn told_of_members(&mut self) -> Vec<(Class, Option<String>)> {
        let members = self.members.iter_mut();
        members
            .map(|member| (member.request.class, member.warning.take()))
            .collect()
    }

    pub(super) fn has_edges(&self) -> bool {
        self.members.iter().any(|member| {
            !(member.asked.dependencies.is_empty() && member.asked.with_output_of.is_empty())
        })
    }

    /// The input for the engine, with all references resolved.
    pub(super) fn looked_up<'a>(&'a self, reader: &Reader) -> Result<Together, AppError> {
        let names = self.names()?;
        // A name outside the request is looked up only once.
        let mut outside: HashMap<&str, TaskId> = HashMap::new();
        let mut edges = Vec::with_capacity(self.members.len());
        let mut wrong = Vec::new();
        for (index, member) in self.members.iter().enumerate() {
            // Returns `None` if there is no such task, and notes the mistake.
            let mut find = |task: &'a TaskRef, field: &str, at: usize| {
                let known = names
                    .get(task.0.as_str())
                    .or_else(|| outside.get(task.0.as_str()));
                if let Some(id) = known {
                    return Ok(Some(*id));
                }
                let found = match reader.meant(&member.request.by, &task.0)? {
                    Some(id) => Ok(id),
                    None => reader.resolve(task),
                };
                match found {
                    Ok(id) => {
                        outside.insert(&task.0, id);
                        Ok(Some(id))
                    }
                    Err(error) if is_no_such_task(&error) && wrong.len() < MISTAKES_MAX => {
                        let pointer = format!("/{index}/{field}/{at}");
                        let own = member.request.name.as_deref();
                        let own = own.filter(|own| {
                            error.kind == ErrorKind::NotFound && *own == task.0.as_str()
                        });
                        let error = own.map_or(error, itself);
                        wrong.push(self.of_reference(index, pointer, error));
                        Ok(None)
                    }
                    Err(error) => Err(self.of_member(index, error)),
                }
            };
            let mut own = Edges {
                dependencies: Vec::with_capacity(member.asked.dependencies.len()),
                used: Vec::new(),
            };
            for (at, edge) in member.asked.dependencies.iter().enumerate() {
                let DependencyRef { task, condition } = edge;
                own.dependencies
                    .extend(find(task, "dependencies", at)?.map(|task| Dependency {
                        task,
                        condition: *condition,
                    }));
            }
            for (at, task) in member.asked.with_output_of.iter().enumerate() {
                if let Some(task) = find(task, "with_output_of", at)? {
                    own.uses(task);
                }
            }
            edges.push(own);
        }
        if let Some(error) = all_of(wrong) {
            return Err(error);
        }
        let outside: BTreeSet<TaskId> = outside.into_values().collect();
        let as_of = reader.store.last_batch()?;
        let found = reader.store.ends(&outside)?;
        if let Some(missing) = outside.iter().find(|id| !found.contains_key(id)) {
            return Err(unknown(&missing.to_string()));
        }
        let ended = found.into_iter().filter_map(|(id, end)| Some((id, end?)));
        let ends = ended.collect();
        Ok(self.with(edges, Ends { as_of, ends }))
    }

    pub(super) fn with(&self, edges: Vec<Edges>, ended: Ends) -> Together {
        let members = self.ids.iter().zip(&self.members).zip(edges);
        let budget = self.ids.first().zip(self.budget_micro_usd);
        let graph_budget = budget.map(|(graph, micro_usd)| GraphBudget {
            graph: *graph,
            micro_usd,
        });
        let of_graph = self.of_graph();
        Together {
            tasks: members
                .map(|((id, member), Edges { dependencies, used })| Submission {
                    id: *id,
                    request: Request {
                        with_output_of: used,
                        graph_budget,
                        graph: of_graph(*id),
                        ..member.request.clone()
                    },
                    dependencies,
                    held: member.asked.hold,
                    parent: self.parent.clone(),
                    spec: member.spec.clone(),
                })
                .collect(),
            ended,
        }
    }

    /// The graph of a member. `None` for a single task without a graph name.
    fn of_graph(&self) -> impl Fn(TaskId) -> Option<Arc<InGraph>> + use<> {
        let first = self.ids.first().copied().filter(|_| self.is_graph());
        let in_graph = |name| first.map(|first| Arc::new(InGraph { first, name }));
        let (named, unnamed) = (in_graph(self.name.clone()), in_graph(None));
        move |id| {
            let of = if Some(id) == first { &named } else { &unnamed };
            of.clone()
        }
    }

    /// Whether there are several tasks, or the graph has a name.
    pub(super) fn is_graph(&self) -> bool {
        self.ids.len() > 1 || self.name.is_some()
    }

    /// Members by name; empty for a single task, whose name cannot be a reference to another
    /// member.
    pub(super) fn names(&self) -> Result<HashMap<&str, TaskId>, AppError> {
        let mut names = HashMap::new();
        if self.members.len() == 1 {
            return Ok(names);
        }
        for (id, member) in self.ids.iter().zip(&self.members) {
            if let Some(name) = &member.request.name
                && names.insert(name.as_str(), *id).is_some()
            {
                return Err(AppError::new(
                    ErrorKind::Invalid,
                    format!("two tasks of the request have the name `{name}`"),
                )
                .hint("give each of them a name of its own"));
            }
        }
        Ok(names)
    }

    /// The error for a reference to a task that does not exist.
    fn of_reference(&self, index: usize, pointer: String, error: AppError) -> AppError {
        let mut error = self.of_member(index, error);
        for mistake in &mut error.errors {
            mistake.pointer = Some(pointer.clone());
        }
        error
    }

    fn of_member(&self, index: usize, error: AppError) -> AppError {
        match self.members.get(index) {
            Some(member) if self.members.len() > 1 => {
                of_member(error, index, member.request.name.as_deref())
            }
            _ => error,
        }
    }

    /// A refusal with the names of members in place of their ids, because the caller does not know
    /// the ids yet.
    pub(super) fn told(&self, refused: &Refused) -> AppError {
        let mut message = refused.to_string();
        // The caller does not know how its keys are stored.
        if let Refused::IdempotencyConflict { key, .. } | Refused::KeyTwice { key } = refused {
            message = message.replacen(key, given_key(key), 1);
        }
        for (id, member) in self.ids.iter().zip(&self.members) {
            if let Some(name) = &member.request.name {
                message = message.replace(&id.to_string(), name);
                message = message.replace(&format!("{id:#}"), name);
            }
        }
        let mut error = AppError::from(EngineError::Refused(refused.clone()));
        error.message = message;
        error
    }
}

fn is_no_such_task(error: &AppError) -> bool {
    matches!(error.kind, ErrorKind::NotFound | ErrorKind::Ambiguous)
}

/// The error for one of several tasks.
pub(super) fn of_member(mut error: AppError, index: usize, name: Option<&str>) -> AppError {
    if error.errors.is_empty() {
        error.errors.push(Mistake {
            message: error.message.clone(),
            hint: error.hint.clone(),
            pointer: Some(format!("/{index}")),
            ..Mistake::default()
        });
    }
    let named = name.map_or(String::new(), |name| format!(" (`{name}`)"));
    error.message = format!("task {}{named}: {}", index + 1, error.message);
    error
}

/// The first of several errors, with the mistakes of all of them.
pub(super) fn all_of(errors: Vec<AppError>) -> Option<AppError> {
    let mut errors = errors.into_iter();
    let mut first = errors.next()?;
    first.errors.extend(errors.flat_map(|error| error.errors));
    Some(first)
}
