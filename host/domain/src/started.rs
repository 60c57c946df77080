//! Running tasks by class, and the tasks that started too recently for readings to show their
//! needs.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use crate::{
    id::TaskId,
    profile::ProfileKey,
    time::{MonotonicMs, Now},
};

/// Time after a start for which the attempt's predicted needs are added to the readings.
pub(crate) const SETTLING: Duration = Duration::from_secs(10);

#[derive(Clone, Debug, Default)]
pub(crate) struct Started {
    /// Every attempt that holds a process or is about to start one.
    running: BTreeMap<TaskId, ProfileKey>,
    running_of: BTreeMap<ProfileKey, BTreeSet<TaskId>>,
    /// Attempts that started recently and still run. Attempts that have ended no longer use
    /// anything.
    settling: BTreeMap<TaskId, MonotonicMs>,
    settling_of: BTreeMap<ProfileKey, BTreeSet<(MonotonicMs, TaskId)>>,
    /// Attempts being prepared. Their process, which needs resources, has not started yet.
    preparing_of: BTreeMap<ProfileKey, BTreeSet<TaskId>>,
    /// Latest time that was passed in. Starts that had settled by this time no longer count.
    settled_at: MonotonicMs,
}

impl Started {
    /// Notes a running attempt of this task. `start` is set if its process was started on this
    /// boot.
    pub(crate) fn note_start(
        &mut self,
        task: TaskId,
        class: ProfileKey,
        start: Option<MonotonicMs>,
    ) {
        self.note_end(task);
        if let Some(start) = start.filter(|start| start.after(SETTLING) > self.settled_at) {
            self.settling.insert(task, start);
            let of_class = self.settling_of.entry(class.clone()).or_default();
            of_class.insert((start, task));
        }
        let of_class = self.running_of.entry(class.clone()).or_default();
        of_class.insert(task);
        self.running.insert(task, class);
    }

    /// Notes that an attempt of this task is being prepared. No reading shows its needs until it
    /// has started.
    pub(crate) fn note_preparing(&mut self, task: TaskId, class: ProfileKey) {
        self.note_start(task, class.clone(), None);
        self.preparing_of.entry(class).or_default().insert(task);
    }

    /// Notes that the task's attempt has ended and needs nothing any more.
    pub(crate) fn note_end(&mut self, task: TaskId) {
        self.note_settled(task);
        if let Some(class) = self.running.remove(&task) {
            take(&mut self.running_of, &class, &task);
            take(&mut self.preparing_of, &class, &task);
        }
    }

    /// Whether the task's attempt is being prepared, or started too recently to be visible in a
    /// reading.
    pub(crate) fn settles(&self, task: TaskId) -> bool {
        let prepares = |class| {
            let of_class = self.preparing_of.get(class);
            of_class.is_some_and(|tasks| tasks.contains(&task))
        };
        self.settling.contains_key(&task) || self.running.get(&task).is_some_and(prepares)
    }

    fn note_settled(&mut self, task: TaskId) {
        if let (Some(start), Some(class)) = (self.settling.remove(&task), self.running.get(&task)) {
            take(&mut self.settling_of, class, &(start, task));
        }
    }

    /// Forgets the starts that have settled by now.
    pub(crate) fn settle(&mut self, now: Now) {
        self.settled_at = self.settled_at.max(now.monotonic);
        while let Some((start, task)) = self.oldest_settling() {
            if start.after(SETTLING) > now.monotonic {
                return;
            }
            self.note_settled(task);
        }
    }

    fn oldest_settling(&self) -> Option<(MonotonicMs, TaskId)> {
        let classes = self.settling_of.values();
        classes.filter_map(|starts| starts.first()).min().copied()
    }

    /// Latest time that was passed in.
    pub(crate) fn settled_at(&self) -> MonotonicMs {
        self.settled_at
    }

    /// Time at which the next attempt has settled, so that admission should be tried again.
    pub(crate) fn next_settled(&self) -> Option<MonotonicMs> {
        self.oldest_settling()
            .map(|(start, _)| start.after(SETTLING))
    }

    #[cfg(test)]
    pub(crate) fn settling(&self) -> &BTreeMap<TaskId, MonotonicMs> {
        &self.settling
    }

    #[cfg(test)]
    pub(crate) fn settling_by_class(
        &self,
    ) -> &BTreeMap<ProfileKey, BTreeSet<(MonotonicMs, TaskId)>> {
        &self.settling_of
    }

    /// Number of settling attempts of each class, including attempts that are being prepared. A
    /// class may occur twice.
    pub(crate) fn settling_of(&self) -> impl Iterator<Item = (&ProfileKey, u32)> {
        let settling = self.settling_of.iter();
        let settling = settling.map(|(class, starts)| (class, count(starts.len())));
        let preparing = self.preparing_of.iter();
        settling.chain(preparing.map(|(class, tasks)| (class, count(tasks.len()))))
    }

    /// Number of running attempts of each class.
    pub(crate) fn running_of(&self) -> impl Iterator<Item = (&ProfileKey, u32)> {
        let classes = self.running_of.iter();
        classes.map(|(class, tasks)| (class, count(tasks.len())))
    }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn take<V: Ord>(map: &mut BTreeMap<ProfileKey, BTreeSet<V>>, class: &ProfileKey, value: &V) {
    if let Some(of_class) = map.get_mut(class) {
        of_class.remove(value);
        if of_class.is_empty() {
            map.remove(class);
        }
    }
}
