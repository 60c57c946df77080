//! Holds and releases tasks, and sets groups.

use std::sync::Arc;

use super::{Answer, Refused, place::unassign};
use crate::{
    attempt::Phase,
    board::Board,
    event::Fact,
    group::{Group, NewLimit},
    id::TaskId,
    principal::Principal,
    task::{State, Task},
    time::Now,
};

impl Board {
    /// Holds all of the tasks or none. A task that is already held gets another holder.
    pub(super) fn hold(&mut self, now: Now, tasks: &[TaskId]) -> Result<Answer, Refused> {
        for &task in tasks {
            let found = self.tasks.get(&task).ok_or(Refused::Unknown { task })?;
            if matches!(&found.state, State::Running { phase, .. } if *phase != Phase::Assigned) {
                let state = found.state.as_str();
                return Err(Refused::NotQueued { task, state });
            }
        }
        let by = self.by.clone().unwrap_or_default();
        let mut held = 0;
        for id in tasks {
            let Some(task) = self.tasks.get(id) else {
                continue;
            };
            let is_held = matches!(task.state, State::Held { .. });
            if is_held && task.holders.iter().any(|holder| holder.is_same_as(&by)) {
                continue;
            }
            // Older versions stored no holders. A hold without holders belongs to the owner, who is
            // therefore added as a holder. A hold that comes from a restored backup belongs to
            // nobody.
            let is_owners = is_held && task.holders.is_empty() && task.restored_from.is_none();
            self.change(*id, |task| {
                if is_owners {
                    task.holders.push(Arc::default());
                }
                if !task.holders.iter().any(|holder| holder.is_same_as(&by)) {
                    task.holders.push(by.clone());
                }
                if !is_held {
                    unassign(task);
                    task.held = Some(now.wall);
                    task.state = State::Held { since: now.wall };
                }
            });
            self.record(*id, now, Fact::Held);
            held += 1;
        }
        Ok(Answer::Changed(held))
    }

    /// Releases all of the tasks or none. Released tasks keep their place in the queue by creation
    /// time. A task is released once nobody holds it any more. A release by the owner removes the
    /// holds of all principals.
    pub(super) fn release(&mut self, now: Now, tasks: &[TaskId]) -> Result<Answer, Refused> {
        let by = self.by.clone().unwrap_or_default();
        for &task in tasks {
            let found = self.tasks.get(&task).ok_or(Refused::Unknown { task })?;
            if !matches!(found.state, State::Held { .. }) {
                let state = found.state.as_str();
                return Err(Refused::NotHeld { task, state });
            }
            if !found.may_be_released_by(&by) {
                let holders = found.holders.clone();
                return Err(Refused::HeldByOthers { task, holders });
            }
        }
        let mut released = 0;
        for id in tasks {
            self.change(*id, |task| {
                let stays = |holder: &Arc<Principal>| !by.is_person() && !holder.is_same_as(&by);
                task.holders.retain(stays);
            });
            // Only a person releases tasks that are on hold because they were restored.
            let is_free = |task: &&Arc<Task>| {
                task.holders.is_empty() && (by.is_person() || task.restored_from.is_none())
            };
            let Some(task) = self.tasks.get(id).filter(is_free) else {
                continue;
            };
            let since = task.created_at;
            self.change(*id, |task| {
                task.held = None;
                task.restored_from = None;
            });
            self.place(now, *id, since);
            self.record(*id, now, Fact::Released);
            released += 1;
        }
        Ok(Answer::Changed(released))
    }

    /// Sets a group. Without `make`, the group must already have settings or unfinished tasks.
    pub(super) fn set_group(
        &mut self,
        name: String,
        limit: NewLimit,
        paused: Option<bool>,
        make: bool,
    ) -> Result<Answer, Refused> {
        let set = self.groups.get(&name).copied();
        if set.is_none() && !make && self.tasks_in_group(&name) == 0 {
            return Err(Refused::NoGroup { name });
        }
        let before = set.unwrap_or_default();
        let group = Group {
            limit: match limit {
                NewLimit::Unchanged => before.limit,
                NewLimit::Unlimited => None,
                NewLimit::Most(most) => Some(most),
            },
            paused: paused.unwrap_or(before.paused),
        };
        if set == Some(group) || (!make && group == before) {
            return Ok(Answer::Noted);
        }
        let limit = self.bounds.groups;
        if set.is_none() && self.groups.len() >= limit {
            return Err(Refused::TooManyGroups { limit });
        }
        self.groups.insert(name.clone(), group);
        self.pending.groups.insert(name);
        Ok(Answer::Noted)
    }

    /// Removes a group. A group with unfinished tasks is kept, since these tasks would start
    /// without its limit.
    pub(super) fn remove_group(&mut self, name: String) -> Result<Answer, Refused> {
        let tasks = self.tasks_in_group(&name);
        if tasks > 0 {
            return Err(Refused::GroupInUse { name, tasks });
        }
        if self.groups.remove(&name).is_none() {
            return Err(Refused::NoGroup { name });
        }
        self.pending.groups.insert(name);
        Ok(Answer::Noted)
    }

    fn tasks_in_group(&self, name: &str) -> usize {
        let groups = self.tasks.values().map(|task| &task.request.group);
        groups
            .filter(|group| group.as_deref() == Some(name))
            .count()
    }
}
