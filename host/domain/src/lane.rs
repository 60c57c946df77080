//! Lanes: the parts of the queue that are admitted separately.

use std::collections::BTreeSet;

use crate::{
    id::AccountKey,
    profile::{ProfileKey, deciding},
    task::{Class, Task},
};

/// Tasks that are admitted by the same rules: if the first task of a lane is refused, all other
/// tasks of the lane would be refused too.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Lane {
    /// Profile that predicts the needs of the lane's attempts.
    pub profile: ProfileKey,
    pub serial_start: Option<String>,
    pub account: Option<AccountKey>,
    pub group: Option<String>,
    /// Whether the tasks have a queue timeout. No attempt is reserved for such a task before a slot
    /// is free, since the exact moment at which the task stops being ready matters.
    pub has_queue_timeout: bool,
    /// If the tasks must be prepared: whether restrained principals have submitted them.
    pub prepared_for_restrained: Option<bool>,
}

impl Lane {
    /// Lane of a task, given the classes whose profiles are trusted.
    pub fn of(task: &Task, trusted: &BTreeSet<ProfileKey>) -> Self {
        let request = &task.request;
        Self {
            profile: deciding(trusted, ProfileKey::of(request)),
            serial_start: request.serial_start.clone(),
            account: request.account.clone(),
            group: request.group.clone(),
            has_queue_timeout: request.queue_timeout.is_some(),
            prepared_for_restrained: request.is_prepared_first().then_some(request.by.restrained),
        }
    }

    /// Whether the lane's tasks wait only for a slot.
    pub(crate) fn is_plain(&self) -> bool {
        self.profile.class == Class::Command
            && self.serial_start.is_none()
            && self.account.is_none()
            && self.group.is_none()
            && !self.has_queue_timeout
    }
}
