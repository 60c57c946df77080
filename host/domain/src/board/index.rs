//! Every index, derived from the tasks in one place, so that no index can disagree with the tasks.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use super::{Board, Clock, Lane, rank};
use crate::{
    attempt::Phase,
    id::TaskId,
    profile::ProfileKey,
    task::{State, Task},
    time::{MonotonicMs, Now},
};

impl Board {
    pub(super) fn index(&mut self, task: &Arc<Task>) {
        let id = task.id;
        for ancestor in task.request.ancestors() {
            self.descendants.entry(ancestor).or_default().insert(id);
        }
        match &task.state {
            State::Blocked { .. } if task.is_chosen() => {
                let batch = self.pending.number;
                self.chosen.entry(id).or_insert(batch);
                self.frontier.insert(id);
            }
            State::Blocked { .. } | State::Held { .. } | State::Done { .. } => {}
            State::Waiting { until, .. } => {
                self.waiting.insert((*until, id));
            }
            State::Ready { since, .. } => {
                self.lanes.insert_ready(self.lane(task), rank(task, *since));
                self.clocks.extend(self.queue_deadline(task));
            }
            State::Running {
                phase: Phase::Assigned,
                since,
            } => {
                // An assignment that is loaded from the store is durable already. `pending.number`
                // is right for it too, since this number is still the last batch on disk while the
                // board is loaded.
                let batch = self.chosen.remove(&id).unwrap_or(self.pending.number);
                self.frontier.insert(id);
                let lane = self.lane(task);
                self.lanes.insert_assigned(lane, rank(task, *since), batch);
            }
            State::Running { phase, .. } => {
                self.running.insert(id);
                self.frontier.insert(id);
                if matches!(phase, Phase::Stopping(_)) {
                    self.stopping.insert(id);
                }
                // An attempt that is only being prepared has started no process, and one that is
                // over, or whose work is settled, has none left.
                let starts = task.last_attempt().is_some_and(|last| {
                    let has_ended = last.is_over || last.answered.is_some();
                    last.started_at.is_some() && last.live_at.is_none() && !has_ended
                });
                let starts = starts && *phase != Phase::Live;
                if let (true, Some(key)) = (starts, &task.request.serial_start) {
                    self.starting.entry(key.clone()).or_default().insert(id);
                }
                if let Some(group) = &task.request.group {
                    self.in_group.entry(group.clone()).or_default().insert(id);
                }
                self.clocks
                    .extend(self.deadlines(task, phase).into_iter().flatten());
                let class = ProfileKey::of(&task.request);
                if *phase == Phase::Preparing {
                    let begun = self.phase_clocks.get(&id).copied();
                    self.capacity.started.note_preparing(id, class, begun);
                } else {
                    let start = self.started_by_this_clock(task);
                    self.capacity.started.note_start(id, class, start);
                }
            }
        }
    }

    pub(super) fn unindex(&mut self, task: &Arc<Task>) {
        let id = task.id;
        self.frontier.remove(&id);
        for ancestor in task.request.ancestors() {
            remove_from(&mut self.descendants, &ancestor, &id);
        }
        match &task.state {
            State::Blocked { .. } => {
                self.blocked_at.remove(&id);
            }
            State::Held { .. } | State::Done { .. } => {}
            State::Waiting { until, .. } => {
                self.waiting.remove(&(*until, id));
            }
            State::Ready { since, .. }
            | State::Running {
                phase: Phase::Assigned,
                since,
            } => {
                if let Some(deadline) = self.queue_deadline(task) {
                    self.clocks.remove(&deadline);
                }
                self.lanes.remove(self.lane(task), rank(task, *since));
            }
            State::Running { phase, .. } => {
                self.running.remove(&id);
                self.stopping.remove(&id);
                if let Some(key) = &task.request.serial_start {
                    remove_from(&mut self.starting, key, &id);
                }
                if let Some(group) = &task.request.group {
                    remove_from(&mut self.in_group, group, &id);
                }
                for deadline in self.deadlines(task, phase).into_iter().flatten() {
                    self.clocks.remove(&deadline);
                }
                self.capacity.started.note_end(id);
            }
        }
    }

    /// Adds the edges of new tasks. This is separate from [`Board::index`] since edges do not
    /// depend on the task's state. So the entries, of which a task may have a hundred thousand, are
    /// not rebuilt each time the state changes. All tasks that are added together are passed in one
    /// call, so that their edges can be sorted by dependency and each list of dependants is built
    /// once.
    pub(crate) fn index_dependencies<'a>(&mut self, tasks: impl IntoIterator<Item = &'a Task>) {
        let edges = tasks.into_iter().flat_map(|task| {
            let upstream = task.dependencies.iter().map(|it| it.task);
            upstream.map(|upstream| (upstream, task.id))
        });
        let mut edges: Vec<(TaskId, TaskId)> = edges.collect();
        edges.sort_unstable();
        for of_one in edges.chunk_by(|one, next| one.0 == next.0) {
            let dependants = self.dependants.entry(of_one[0].0).or_default();
            dependants.extend(of_one.iter().map(|(_, task)| *task));
        }
    }

    pub(super) fn unindex_dependencies(&mut self, task: &Task) {
        self.blocked_at.remove(&task.id);
        for dependency in task.dependencies.iter() {
            if let Some(dependants) = self.dependants.get_mut(&dependency.task) {
                dependants.remove(task.id);
                if dependants.is_empty() {
                    self.dependants.remove(&dependency.task);
                }
            }
        }
    }

    /// Time at which a ready task's queue timeout ends. None if the timeout began on another clock:
    /// see [`Board::restart_queue_clocks`].
    fn queue_deadline(&self, task: &Task) -> Option<(MonotonicMs, TaskId, Clock)> {
        let State::Ready {
            clock: Some((from, clock_id)),
            ..
        } = &task.state
        else {
            return None;
        };
        let limit = task.request.queue_timeout?;
        (*clock_id == self.clock_id).then(|| (from.after(limit), task.id, Clock::Queue))
    }

    /// Restarts queue timeouts that began on another clock, before the machine was restarted.
    pub fn restart_queue_clocks(&mut self, now: Now) {
        let by_another_clock = |task: &Task| matches!(&task.state, State::Ready { clock: Some((_, clock_id)), .. } if *clock_id != self.clock_id);
        for id in self.ids_where(by_another_clock) {
            let fresh = Some((now.monotonic, self.clock_id.clone()));
            self.change(id, |task| {
                if let State::Ready { clock, .. } = &mut task.state {
                    *clock = fresh;
                }
            });
        }
    }

    /// Deadlines of an attempt in this phase. The task's `timeout` does not apply to an attempt
    /// that was started before the machine was restarted, since the attempt's processes no longer
    /// exist.
    fn deadlines(&self, task: &Task, phase: &Phase) -> [Option<(MonotonicMs, TaskId, Clock)>; 2] {
        let deadline = |from: Option<MonotonicMs>, limit: Option<Duration>, clock| {
            Some((from?.after(limit?), task.id, clock))
        };
        let hard = deadline(
            self.started_by_this_clock(task),
            task.request.timeout,
            Clock::Hard,
        );
        let from = self.phase_clocks.get(&task.id).copied();
        match phase {
            // A prepared attempt only waits for its turn to start.
            Phase::Preparing if self.prepared.contains_key(&task.id) => [None, None],
            Phase::Preparing => [
                deadline(from, Some(self.bounds.prepare), Clock::Prepare),
                None,
            ],
            Phase::Starting => [
                deadline(from, task.request.start_timeout, Clock::Start),
                hard,
            ],
            Phase::Live => [None, hard],
            Phase::Settling => [
                deadline(from, Some(self.bounds.settle), Clock::Settle),
                None,
            ],
            Phase::Assigned | Phase::Stopping(_) | Phase::Finishing => [None, None],
        }
    }

    /// Lane of the task while it waits for a slot.
    pub(crate) fn lane(&self, task: &Task) -> Lane {
        Lane::of(task, self.capacity.profiles.trusted())
    }

    fn started_by_this_clock(&self, task: &Task) -> Option<MonotonicMs> {
        let (start, clock_id) = task.last_attempt()?.started_monotonic.as_ref()?;
        (*clock_id == self.clock_id).then_some(*start)
    }
}

fn remove_from<K: Ord, V: Ord>(map: &mut BTreeMap<K, BTreeSet<V>>, key: &K, value: &V) {
    if let Some(set) = map.get_mut(key) {
        set.remove(value);
        if set.is_empty() {
            map.remove(key);
        }
    }
}
