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

/// Time after a start, and after the beginning of a preparation, for which the attempt's predicted
/// needs are added to the readings.
pub const SETTLING: Duration = Duration::from_secs(10);

#[derive(Clone, Debug, Default)]
pub(crate) struct Started {
    /// Every attempt that holds a process or is about to start one.
    running: BTreeMap<TaskId, ProfileKey>,
    running_of: BTreeMap<ProfileKey, BTreeSet<TaskId>>,
    /// Attempts that started recently and still run. Attempts that have ended no longer use
    /// anything.
    settling: Recent,
    /// Attempts whose preparation has begun recently. Their process, which needs resources, has not
    /// started yet.
    preparing: Recent,
    /// Attempts that have been prepared for longer than that. Nothing is kept free for them,
    /// because nobody knows when their process starts: a server may never answer. There must be
    /// room for them again before it starts.
    slow: BTreeSet<TaskId>,
    slow_of: BTreeMap<ProfileKey, BTreeSet<TaskId>>,
    /// Latest time that was passed in. Starts that had settled by this time no longer count.
    settled_at: MonotonicMs,
}

/// Attempts with the time of a recent event, in two orders.
#[derive(Clone, Debug, Default)]
struct Recent {
    since: BTreeMap<TaskId, MonotonicMs>,
    of_class: BTreeMap<ProfileKey, BTreeSet<(MonotonicMs, TaskId)>>,
}

impl Recent {
    fn note(&mut self, task: TaskId, class: &ProfileKey, since: MonotonicMs) {
        self.since.insert(task, since);
        let of_class = self.of_class.entry(class.clone()).or_default();
        of_class.insert((since, task));
    }

    fn forget(&mut self, task: TaskId, class: &ProfileKey) {
        if let Some(since) = self.since.remove(&task) {
            take(&mut self.of_class, class, &(since, task));
        }
    }

    fn oldest(&self) -> Option<(MonotonicMs, TaskId)> {
        let classes = self.of_class.values();
        classes.filter_map(|since| since.first()).min().copied()
    }

    /// The oldest one, if it is no longer recent.
    fn past(&self, now: MonotonicMs) -> Option<TaskId> {
        let (since, task) = self.oldest()?;
        (since.after(SETTLING) <= now).then_some(task)
    }

    /// Number of attempts of each class.
    fn counts(&self) -> impl Iterator<Item = (&ProfileKey, u32)> {
        let classes = self.of_class.iter();
        classes.map(|(class, since)| (class, count(since.len())))
    }
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
        if let Some(start) = start.filter(|start| self.is_recent(*start)) {
            self.settling.note(task, &class, start);
        }
        self.note_running(task, class);
    }

    /// Notes that an attempt of this task is being prepared. No reading shows its needs until it
    /// has started. `begun` is the time at which the preparation has begun, if it is known.
    pub(crate) fn note_preparing(
        &mut self,
        task: TaskId,
        class: ProfileKey,
        begun: Option<MonotonicMs>,
    ) {
        self.note_end(task);
        match begun.filter(|begun| self.is_recent(*begun)) {
            Some(begun) => self.preparing.note(task, &class, begun),
            None => self.note_slow(task, class.clone()),
        }
        self.note_running(task, class);
    }

    /// Notes that the task's attempt has ended and needs nothing any more.
    pub(crate) fn note_end(&mut self, task: TaskId) {
        let Some(class) = self.running.remove(&task) else {
            return;
        };
        self.settling.forget(task, &class);
        self.preparing.forget(task, &class);
        take(&mut self.running_of, &class, &task);
        if self.slow.remove(&task) {
            take(&mut self.slow_of, &class, &task);
        }
    }

    fn note_running(&mut self, task: TaskId, class: ProfileKey) {
        let of_class = self.running_of.entry(class.clone()).or_default();
        of_class.insert(task);
        self.running.insert(task, class);
    }

    fn note_slow(&mut self, task: TaskId, class: ProfileKey) {
        self.slow.insert(task);
        self.slow_of.entry(class).or_default().insert(task);
    }

    fn is_recent(&self, time: MonotonicMs) -> bool {
        time.after(SETTLING) > self.settled_at
    }

    /// Whether the task's attempt started too recently to be visible in a reading, or is being
    /// prepared and has begun recently.
    pub(crate) fn settles(&self, task: TaskId) -> bool {
        self.settling.since.contains_key(&task) || self.preparing.since.contains_key(&task)
    }

    /// Whether the attempt of a task has been prepared for so long that no room is kept for it.
    pub(crate) fn is_slow(&self, task: TaskId) -> bool {
        self.slow.contains(&task)
    }

    /// The tasks with attempts for which nothing is kept free, because their preparation takes
    /// long.
    pub(crate) fn slow(&self) -> &BTreeSet<TaskId> {
        &self.slow
    }

    /// The tasks with attempts that are being prepared, or that wait for their turn to start.
    pub(crate) fn preparing(&self) -> impl Iterator<Item = &TaskId> {
        self.slow.iter().chain(self.preparing.since.keys())
    }

    /// Forgets the starts that have settled by now, and notes which preparations take long.
    pub(crate) fn settle(&mut self, now: Now) {
        self.settled_at = self.settled_at.max(now.monotonic);
        while let Some(task) = self.settling.past(now.monotonic) {
            let Some(class) = self.running.get(&task) else {
                return;
            };
            self.settling.forget(task, class);
        }
        while let Some(task) = self.preparing.past(now.monotonic) {
            let Some(class) = self.running.get(&task).cloned() else {
                return;
            };
            self.preparing.forget(task, &class);
            self.note_slow(task, class);
        }
    }

    /// Latest time that was passed in.
    pub(crate) fn settled_at(&self) -> MonotonicMs {
        self.settled_at
    }

    /// Time at which the next attempt has settled, or its preparation no longer counts, so that
    /// admission should be tried again.
    pub(crate) fn next_settled(&self) -> Option<MonotonicMs> {
        let oldest = [self.settling.oldest(), self.preparing.oldest()];
        let oldest = oldest.into_iter().flatten().min();
        oldest.map(|(since, _)| since.after(SETTLING))
    }

    #[cfg(test)]
    pub(crate) fn settling(&self) -> &BTreeMap<TaskId, MonotonicMs> {
        &self.settling.since
    }

    #[cfg(test)]
    pub(crate) fn settling_by_class(
        &self,
    ) -> &BTreeMap<ProfileKey, BTreeSet<(MonotonicMs, TaskId)>> {
        &self.settling.of_class
    }

    /// Number of settling attempts of each class, including attempts whose preparation has begun
    /// recently. A class may occur twice.
    pub(crate) fn settling_of(&self) -> impl Iterator<Item = (&ProfileKey, u32)> {
        self.settling.counts().chain(self.preparing.counts())
    }

    /// Number of running attempts of each class.
    pub(crate) fn running_of(&self) -> impl Iterator<Item = (&ProfileKey, u32)> {
        let classes = self.running_of.iter();
        classes.map(|(class, tasks)| (class, count(tasks.len())))
    }

    /// Number of running attempts of each class, without those whose preparation takes long.
    pub(crate) fn counted_of(&self) -> impl Iterator<Item = (&ProfileKey, u32)> {
        self.running_of().map(|(class, running)| {
            let slow = self.slow_of.get(class).map_or(0, |slow| count(slow.len()));
            (class, running.saturating_sub(slow))
        })
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
