//! What a person stops and lets go: tasks, and groups.

use super::{Answer, Refused, place::unassign};
use crate::{
    attempt::Phase,
    board::Board,
    event::Fact,
    group::{Group, NewLimit},
    id::TaskId,
    task::State,
    time::Now,
};

impl Board {
    /// All or none of them. One that is held already stays so.
    pub(super) fn hold(&mut self, now: Now, tasks: &[TaskId]) -> Result<Answer, Refused> {
        for &task in tasks {
            let found = self.tasks.get(&task).ok_or(Refused::Unknown { task })?;
            if matches!(&found.state, State::Running { phase, .. } if *phase != Phase::Assigned) {
                let state = found.state.as_str();
                return Err(Refused::NotQueued { task, state });
            }
        }
        let mut held = 0;
        for id in tasks {
            let is_held = |state: &State| matches!(state, State::Held { .. });
            if self.tasks.get(id).is_none_or(|task| is_held(&task.state)) {
                continue;
            }
            self.change(*id, |task| {
                unassign(task);
                task.state = State::Held { since: now.wall };
            });
            self.record(*id, now, Fact::Held);
            held += 1;
        }
        Ok(Answer::Changed(held))
    }

    /// All or none of them. They keep the place in the line that they have by their creation.
    pub(super) fn release(&mut self, now: Now, tasks: &[TaskId]) -> Result<Answer, Refused> {
        for &task in tasks {
            let found = self.tasks.get(&task).ok_or(Refused::Unknown { task })?;
            if !matches!(found.state, State::Held { .. }) {
                let state = found.state.as_str();
                return Err(Refused::NotHeld { task, state });
            }
        }
        for id in tasks {
            let Some(created_at) = self.tasks.get(id).map(|task| task.created_at) else {
                continue;
            };
            self.place(now, *id, created_at);
            self.record(*id, now, Fact::Released);
        }
        Ok(Answer::Changed(tasks.len()))
    }

    pub(super) fn set_group(&mut self, name: String, limit: NewLimit, paused: Option<bool>) {
        let before = self.groups.get(&name).copied().unwrap_or_default();
        let group = Group {
            limit: match limit {
                NewLimit::Unchanged => before.limit,
                NewLimit::Unlimited => None,
                NewLimit::Most(most) => Some(most),
            },
            paused: paused.unwrap_or(before.paused),
        };
        self.groups.insert(name.clone(), group);
        self.pending.groups.insert(name);
    }
}
