//! What a person stops and lets go: tasks, what hangs together with them, and groups.

use std::{collections::BTreeSet, sync::Arc};

use claudine_domain::{
    group::NewLimit,
    id::TaskId,
    principal::Principal,
    step::{Answer, Input, Refused},
    task::{State, Task},
};

use super::{
    check::group_name,
    error::{AppError, ErrorKind},
    host::Host,
    may::{Verb, may},
    reader::Reader,
    request::{GroupChange, TaskRef},
    view::{Changed, GroupView},
};
use crate::{
    engine::EngineError,
    store::{Filter, Status},
};

/// Tasks that are looked at together.
const PAGE: usize = 500;

impl Host {
    /// Keeps a task from being started; with `graph` also every queued one that hangs together with it.
    pub(crate) async fn hold(
        &self,
        by: &Arc<Principal>,
        reference: &TaskRef,
        graph: bool,
    ) -> Result<Changed, AppError> {
        may(by, Verb::Hold, None, &self.settings.mcp)?;
        // What others hold already is held by this one too.
        let holder = by.clone();
        let queued = move |task: &Task| match task.state {
            State::Running { .. } | State::Done { .. } => false,
            State::Held { .. } => !task.holders.iter().any(|it| it.is_same_as(&holder)),
            _ => true,
        };
        let tasks = self.meant(reference, graph, queued).await?;
        let tasks = tasks.into_iter().map(|task| task.id).collect();
        let answer = self.change(by, Input::Hold { tasks }).await;
        self.unless_done(answer, "held").await
    }

    pub(crate) async fn release(
        &self,
        by: &Arc<Principal>,
        reference: &TaskRef,
        graph: bool,
    ) -> Result<Changed, AppError> {
        let held = |task: &Task| matches!(task.state, State::Held { .. });
        let mut tasks = self.meant(reference, graph, held).await?;
        if graph && tasks.iter().any(|task| task.may_be_released_by(by)) {
            // Of a graph only what this principal may release.
            tasks.retain(|task| task.may_be_released_by(by));
        }
        for task in tasks.iter().filter(|task| held(task)) {
            may(by, Verb::Release, Some(task), &self.settings.mcp)?;
        }
        let tasks = tasks.into_iter().map(|task| task.id).collect();
        let answer = self.change(by, Input::Release { tasks }).await;
        self.unless_done(answer, "released").await
    }

    /// The board knows unfinished tasks alone: one that it does not know and that is in the store
    /// is done.
    async fn unless_done(
        &self,
        answer: Result<Changed, EngineError>,
        what: &str,
    ) -> Result<Changed, AppError> {
        let Err(EngineError::Refused(Refused::Unknown { task })) = answer else {
            return Ok(answer?);
        };
        let found = self
            .read(move |reader| Ok(reader.store.task(task)?))
            .await?;
        let Some(end) = found.and_then(|found| found.end()) else {
            return Ok(answer?);
        };
        let message = format!(
            "task {task} is done ({}) and cannot be {what}",
            end.outcome.as_str()
        );
        let hint = format!("`claudine retry {task}` runs it again");
        Err(AppError::new(ErrorKind::Conflict, message).hint(hint))
    }

    /// Lets all go that is held for no other reason than that it was restored from a backup.
    pub(crate) async fn release_restored(&self, by: &Arc<Principal>) -> Result<Changed, AppError> {
        let (tasks, any) = self.read(restored).await?;
        // Nobody holds any of them, so that the same is true of each.
        if let Some(task) = any {
            may(by, Verb::Release, Some(&task), &self.settings.mcp)?;
        }
        Ok(self.change(by, Input::Release { tasks }).await?)
    }

    /// The task itself, or those that hang together with it and that it can be done to.
    async fn meant(
        &self,
        reference: &TaskRef,
        graph: bool,
        can: impl Fn(&Task) -> bool + Send + 'static,
    ) -> Result<Vec<Task>, AppError> {
        let reference = reference.clone();
        self.read(move |reader| {
            let task = reader.task(&reference)?;
            if !graph {
                return Ok(vec![task]);
            }
            let mut tasks = Vec::new();
            for id in connected(reader, task.id)? {
                tasks.extend(reader.store.task(id)?.filter(&can));
            }
            Ok(tasks)
        })
        .await
    }

    async fn change(&self, by: &Arc<Principal>, input: Input) -> Result<Changed, EngineError> {
        match self.engine.asked(by, input).await? {
            Answer::Changed(tasks) => Ok(Changed { tasks }),
            // Neither is answered in any other way.
            other => {
                tracing::error!(?other, "a hold or a release was answered");
                Ok(Changed { tasks: 0 })
            }
        }
    }

    pub(crate) async fn set_group(
        &self,
        by: &Arc<Principal>,
        name: &str,
        change: GroupChange,
    ) -> Result<GroupView, AppError> {
        may(by, Verb::SetGroup, None, &self.settings.mcp)?;
        let invalid = |message: &str| Err(AppError::new(ErrorKind::Invalid, message));
        group_name(name)?;
        let limit = match (change.limit, change.unlimited) {
            (Some(0), _) => {
                return invalid("a group's limit is at least 1; to start nothing of it, pause it");
            }
            (Some(_), true) => return invalid("a limit and no limit exclude each other"),
            (Some(limit), false) => NewLimit::Most(limit),
            (None, true) => NewLimit::Unlimited,
            (None, false) => NewLimit::Unchanged,
        };
        let input = Input::SetGroup {
            name: name.to_owned(),
            limit,
            paused: change.paused,
        };
        self.engine.asked(by, input).await?;
        let groups = self.groups().await?;
        let found = groups.into_iter().find(|group| group.name == name);
        // A group in which nothing is set, and of which nothing waits, is not kept.
        Ok(found.unwrap_or_else(|| GroupView {
            name: name.to_owned(),
            limit: None,
            paused: false,
            running: 0,
            queued: 0,
        }))
    }

    /// Every group that was set, or has unfinished tasks.
    pub(crate) async fn groups(&self) -> Result<Vec<GroupView>, AppError> {
        let set = self.engine.groups().await?;
        let mut groups: std::collections::BTreeMap<String, GroupView> = set
            .into_iter()
            .map(|(name, group)| {
                let view = GroupView {
                    name: name.clone(),
                    limit: group.limit,
                    paused: group.paused,
                    running: 0,
                    queued: 0,
                };
                (name, view)
            })
            .collect();
        let counts = self.read(|reader| Ok(reader.store.group_counts()?)).await?;
        for (name, status, count) in counts {
            let view = groups.entry(name.clone()).or_insert_with(|| GroupView {
                name,
                limit: None,
                paused: false,
                running: 0,
                queued: 0,
            });
            if status == Status::Running {
                view.running += count;
            } else {
                view.queued += count;
            }
        }
        Ok(groups.into_values().collect())
    }
}

/// All that is held because it was restored and that nobody holds, read a page at a time; one of
/// them.
fn restored(reader: &Reader) -> Result<(Vec<TaskId>, Option<Task>), AppError> {
    let mut filter = Filter::in_state(Status::Held);
    let mut ids = Vec::new();
    let mut any = None;
    loop {
        let page = reader.store.list(&filter, PAGE)?;
        let restored = |task: &Task| task.restored_from.is_some() && task.holders.is_empty();
        for task in page.tasks.into_iter().filter(restored) {
            ids.push(task.id);
            any = Some(task);
        }
        match page.next {
            Some(_) => filter.before = page.next,
            None => return Ok((ids, any)),
        }
    }
}

/// A task, what it depends on, who depends on it, and so on, as far as tasks are unfinished.
fn connected(reader: &Reader, from: TaskId) -> Result<BTreeSet<TaskId>, AppError> {
    let mut found = BTreeSet::from([from]);
    let mut next = vec![from];
    while let Some(id) = next.pop() {
        let Some(task) = reader.store.task(id)? else {
            continue;
        };
        if task.is_done() && id != from {
            continue;
        }
        let upstream = task.dependencies.iter().map(|dependency| dependency.task);
        for other in upstream.chain(reader.store.dependants(id)?) {
            if found.insert(other) {
                next.push(other);
            }
        }
    }
    Ok(found)
}
