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
    store::{InGroup, Status},
    text::{shell_word, similar},
};

/// Maximum number of unfinished tasks that are listed for each group.
const TASKS_NAMED: usize = 10;

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

/// Adds the unfinished tasks to the groups. Also adds groups that have no settings, but have tasks.
/// Asks the store a fixed number of times, because there may be thousands of groups.
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
    for InGroup { group, id, name } in reader.store.group_tasks(TASKS_NAMED)? {
        let view = groups.get_mut(&group);
        if let Some(view) = view.filter(|view| view.running + view.queued > 0) {
            view.tasks.push(GroupTask {
                id: id.to_string(),
                name,
            });
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::ops::Range;

    use claudine_domain::{batch::Batch, id::TaskId};

    use super::*;
    use crate::{
        layout::Layout,
        store::{Store, memory::MemoryStore, sample_task},
    };

    /// The groups of a store with a ready task for each of these numbers, and how often the store
    /// was asked for them. `group_of` names the group of a task.
    fn listed(numbers: Range<u64>, group_of: impl Fn(u64) -> String) -> (Vec<GroupView>, u64) {
        let task = |number| {
            let mut task = sample_task(number);
            Arc::make_mut(&mut task.request).group = Some(group_of(number));
            Arc::new(task)
        };
        let store = Arc::new(MemoryStore::new());
        let batch = Batch {
            number: 1,
            tasks: numbers.map(task).collect(),
            ..Batch::default()
        };
        store.commit(store.lead().unwrap(), &batch).unwrap();
        let reader = Reader {
            store: store.clone(),
            layout: Layout::new("/nowhere"),
            no_host: false,
        };
        let before = store.calls();
        let groups = with_tasks(&reader, BTreeMap::new()).unwrap();
        (groups, store.calls() - before)
    }

    #[test]
    fn groups_are_listed_with_the_same_number_of_questions_however_many_there_are() {
        let (few, asked) = listed(0..2, |number| format!("g{number}"));
        let (many, asked_for_many) = listed(0..200, |number| format!("g{number}"));
        assert_eq!((few.len(), many.len()), (2, 200));
        assert!(many.iter().all(|group| group.tasks.len() == 1));
        assert_eq!(asked_for_many, asked);
    }

    #[test]
    fn the_newest_tasks_of_a_group_are_named_up_to_a_limit() {
        let (groups, _) = listed(0..15, |number| format!("g{}", number % 2));
        let newest = |numbers: &[u64]| {
            let ids = numbers.iter().map(|number| sample_task(*number).id);
            ids.map(|id: TaskId| id.to_string()).collect::<Vec<_>>()
        };
        let named = |group: &GroupView| {
            let ids = group.tasks.iter().map(|task| task.id.clone());
            ids.collect::<Vec<_>>()
        };
        assert_eq!(named(&groups[0]), newest(&[14, 12, 10, 8, 6, 4, 2, 0]));
        assert_eq!(groups[1].queued, 7);
        let (groups, _) = listed(0..12, |_| "g".to_owned());
        assert_eq!(groups[0].queued, 12);
        assert_eq!(named(&groups[0]), newest(&[11, 10, 9, 8, 7, 6, 5, 4, 3, 2]));
    }
}
