//! Groups: their limits, their pauses and their tasks.

use std::{collections::BTreeMap, sync::Arc};

use claudine_domain::{
    group::NewLimit,
    principal::Principal,
    step::{Input, Refused},
};

use super::{
    check::group_name,
    error::{AppError, ErrorKind},
    host::Host,
    may::{Verb, may},
    reader::Reader,
    request::GroupChange,
    view::{GroupTask, GroupView},
};
use crate::{
    engine::EngineError,
    store::{Filter, States, Status},
    text::{shell_word, similar},
};

/// Maximum number of unfinished tasks that are listed for each group.
const TASKS_NAMED: usize = 10;
/// States of unfinished tasks that are not running.
const QUEUED: [Status; 4] = [
    Status::Ready,
    Status::Waiting,
    Status::Blocked,
    Status::Held,
];

impl Host {
    /// Changes a group. If no settings are stored for the name and no unfinished task uses it, the
    /// group is created only if the request asks for this; otherwise a group with a misspelled name
    /// would stay for ever.
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
                return invalid(
                    "a group's limit is at least 1; to start none of its tasks, pause it",
                );
            }
            (Some(_), true) => return invalid("`limit` and `unlimited` exclude each other"),
            (Some(limit), false) => NewLimit::Most(limit),
            (None, true) => NewLimit::Unlimited,
            (None, false) => NewLimit::Unchanged,
        };
        let input = Input::SetGroup {
            name: name.to_owned(),
            limit,
            paused: change.paused,
            make: change.make,
        };
        self.change_group(by, input).await?;
        self.group(name).await
    }

    /// Removes a group without unfinished tasks, and returns its last state.
    pub(crate) async fn remove_group(
        &self,
        by: &Arc<Principal>,
        name: &str,
    ) -> Result<GroupView, AppError> {
        may(by, Verb::SetGroup, None, &self.settings.mcp)?;
        let before = self.group(name).await?;
        let name = name.to_owned();
        self.change_group(by, Input::RemoveGroup { name }).await?;
        Ok(before)
    }

    async fn change_group(&self, by: &Arc<Principal>, input: Input) -> Result<(), AppError> {
        match self.engine.asked(by, input).await {
            Ok(_) => Ok(()),
            Err(EngineError::Refused(Refused::NoGroup { name })) => {
                Err(no_group(&name, &self.groups().await?))
            }
            Err(EngineError::Refused(Refused::GroupInUse { name, tasks })) => {
                let word = if tasks == 1 { "task" } else { "tasks" };
                let message = format!(
                    "group '{}' has {tasks} unfinished {word}",
                    name.escape_debug()
                );
                let name = shell_word(&name);
                let hint = format!(
                    "`claudine list --group {name}` shows them; `claudine group set {name} --limit none` lifts its limit"
                );
                Err(AppError::new(ErrorKind::Conflict, message).hint(hint))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The current state of a group. A group whose limit was never set has no limit.
    async fn group(&self, name: &str) -> Result<GroupView, AppError> {
        let groups = self.groups().await?;
        let found = groups.into_iter().find(|group| group.name == name);
        Ok(found.unwrap_or_else(|| empty(name.to_owned())))
    }

    /// Every group that was set or has unfinished tasks.
    pub(crate) async fn groups(&self) -> Result<Vec<GroupView>, AppError> {
        let set = self
            .engine
            .groups()
            .await?
            .into_iter()
            .map(|(name, group)| {
                let view = GroupView {
                    limit: group.limit,
                    paused: group.paused,
                    ..empty(name.clone())
                };
                (name, view)
            });
        let groups: BTreeMap<String, GroupView> = set.collect();
        self.read(|reader| with_tasks(reader, groups)).await
    }
}

fn empty(name: String) -> GroupView {
    GroupView {
        name,
        limit: None,
        paused: false,
        running: 0,
        queued: 0,
        tasks: Vec::new(),
    }
}

/// Adds the numbers of unfinished tasks to the groups. Also adds groups that have no settings, but
/// have tasks.
fn with_tasks(
    reader: &Reader,
    mut groups: BTreeMap<String, GroupView>,
) -> Result<Vec<GroupView>, AppError> {
    for (name, status, count) in reader.store.group_counts()? {
        let view = groups.entry(name.clone()).or_insert_with(|| empty(name));
        if status == Status::Running {
            view.running += count;
        } else {
            view.queued += count;
        }
    }
    for task in reader.unrecorded()? {
        let group = task.request.group.as_deref();
        if let Some(view) = group.and_then(|group| groups.get_mut(group)) {
            view.running = view.running.saturating_sub(1);
        }
    }
    for group in groups.values_mut() {
        for statuses in [&[Status::Running][..], &QUEUED] {
            let filter = Filter {
                states: States::of(statuses.iter().copied()),
                group: Some(group.name.clone()),
                ..Filter::default()
            };
            let room = TASKS_NAMED - group.tasks.len();
            if group.running + group.queued > 0 && room > 0 {
                let page = reader.store.list(&filter, room)?;
                group.tasks.extend(page.tasks.iter().map(|task| GroupTask {
                    id: task.id.to_string(),
                    name: task.request.name.clone(),
                }));
            }
        }
    }
    Ok(groups.into_values().collect())
}

/// The error for an unknown group, with a similar name if there is one.
fn no_group(name: &str, groups: &[GroupView]) -> AppError {
    let known = groups.iter().map(|group| group.name.as_str());
    let meant = match similar(name, known) {
        Some(meant) => format!("; did you mean '{}'?", meant.escape_debug()),
        None => String::new(),
    };
    let message = format!("no group '{}'{meant}", name.escape_debug());
    let hint = format!(
        "`claudine group list` shows the groups; `claudine group add {}` creates this one",
        shell_word(name)
    );
    AppError::new(ErrorKind::NotFound, message).hint(hint)
}
