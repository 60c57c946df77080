//! Computes the state of an unfinished task that is not running. The state follows from the task's
//! holds, dependencies, times and account.

use crate::{
    attempt::Phase,
    board::{BlockedAt, Board},
    dependency::End,
    event::Fact,
    id::TaskId,
    outcome::Outcome,
    task::{Request, State, Task, WaitingFor},
    time::{Now, Timestamp},
};

impl Board {
    /// State of a task that does not run. Its place in the queue counts from `since`.
    pub(super) fn state_of(&self, task: &Task, since: Timestamp, now: Now) -> State {
        if let Some(since) = task.held {
            return State::Held { since };
        }
        if !task.has_begun && self.blocker(task, 0).is_some() {
            return State::Blocked { since: now.wall };
        }
        let request = &task.request;
        let times = [
            request.start_at.map(|at| (at, WaitingFor::StartTime)),
            task.retry_at.map(|at| (at, WaitingFor::Retry)),
            self.parked_until(request),
        ];
        let latest = times.into_iter().flatten().max_by_key(|(until, _)| *until);
        match latest {
            Some((until, why)) if until > now.wall => State::Waiting { until, why },
            _ => self.ready(request, since, now),
        }
    }

    pub(super) fn ready(&self, request: &Request, since: Timestamp, now: Now) -> State {
        let clock = request
            .queue_timeout
            .map(|_| (now.monotonic, self.clock_id.clone()));
        State::Ready { since, clock }
    }

    fn parked_until(&self, request: &Request) -> Option<(Timestamp, WaitingFor)> {
        let account = request.account.as_ref()?;
        let parked = self.accounts.get(account)?;
        let until = parked.until_for(&request.by);
        Some((until, WaitingFor::Account(account.clone())))
    }

    /// First unfinished dependency, at or after position `from`.
    fn blocker(&self, task: &Task, from: usize) -> Option<BlockedAt> {
        let mut rest = task.dependencies.iter().enumerate().skip(from);
        let (place, dependency) = rest.find(|(_, dependency)| self.is_open(dependency.task))?;
        Some(BlockedAt {
            place,
            by: dependency.task,
        })
    }

    /// Notes the first unfinished dependency of a blocked task, searching from position `from`.
    /// Returns whether there is one.
    pub(crate) fn look_for_blocker(&mut self, id: TaskId, from: usize) -> bool {
        let Some(task) = self.tasks.get(&id) else {
            return false;
        };
        if !matches!(task.state, State::Blocked { .. }) {
            return false;
        }
        match self.blocker(task, from) {
            Some(blocker) => {
                self.blocked_at.insert(id, blocker);
                if self.running.contains(&blocker.by) {
                    self.frontier.insert(blocker.by);
                }
                true
            }
            None => false,
        }
    }

    /// Updates the state of a task that does not run.
    pub(super) fn place(&mut self, now: Now, id: TaskId, since: Timestamp) {
        let Some(task) = self.tasks.get(&id) else {
            return;
        };
        let state = self.state_of(task, since, now);
        self.change(id, |task| match state {
            State::Ready { since, .. } if task.is_chosen() => {
                task.state = State::Running {
                    phase: Phase::Assigned,
                    since,
                };
            }
            _ => {
                unassign(task);
                task.state = state;
            }
        });
    }

    /// Updates the dependants of a task that has ended and, for each of them that ends because of
    /// this, its dependants in turn. Only edges below the ended task are followed, so the cost does
    /// not depend on the whole graph.
    pub(super) fn tell_dependants(&mut self, now: Now, ended: TaskId, end: End) {
        if !self.dependants.contains_key(&ended) {
            return;
        }
        let mut ends = vec![(ended, end)];
        while let Some((upstream, end)) = ends.pop() {
            let Some(dependants) = self.dependants.get(&upstream) else {
                continue;
            };
            let dependants: Vec<TaskId> = dependants.iter().collect();
            for id in dependants {
                ends.extend(self.upstream_ended(now, id, upstream, end));
            }
        }
    }

    /// Updates one task after the end of a dependency. Returns the task's own end if it cannot run
    /// any more.
    fn upstream_ended(
        &mut self,
        now: Now,
        id: TaskId,
        upstream: TaskId,
        end: End,
    ) -> Option<(TaskId, End)> {
        // A success meets every condition. Most dependants still wait for another task and need no
        // further check.
        if end.outcome != Outcome::Succeeded {
            let task = self.tasks.get(&id)?;
            if task.has_begun {
                return None;
            }
            if !task.condition_on(upstream)?.is_met_by(end.outcome) {
                let culprit = end.culprit.unwrap_or(upstream);
                return Some((id, self.end_for(now, id, culprit)));
            }
        }
        let BlockedAt { place, by } = *self.blocked_at.get(&id)?;
        if by == upstream && !self.look_for_blocker(id, place) {
            self.place(now, id, now.wall);
            self.record(id, now, Fact::Unblocked);
        }
        None
    }

    /// Ends a task that cannot run any more because of another task's end.
    pub(super) fn end_for(&mut self, now: Now, id: TaskId, culprit: TaskId) -> End {
        let end = End {
            outcome: Outcome::UpstreamFailed,
            culprit: Some(culprit),
        };
        self.write_end(now, id, end, None);
        end
    }

    /// Makes the dependants of a task that runs again wait for that task again, unless they have
    /// begun.
    pub(super) fn block_dependants(&mut self, now: Now, upstream: TaskId) {
        let dependants = self.dependants.get(&upstream).cloned().unwrap_or_default();
        for id in dependants.iter() {
            let Some(task) = self.tasks.get(&id) else {
                continue;
            };
            match task.state {
                _ if task.has_begun => {}
                // The state of a held task is computed when the task is released.
                State::Held { .. } => {}
                State::Blocked { .. } => {
                    self.look_for_blocker(id, 0);
                }
                _ => {
                    self.place(now, id, now.wall);
                    self.record(id, now, Fact::Blocked);
                }
            }
        }
    }
}

/// Withdraws a reserved attempt. If the task has no reserved attempt, it is left unchanged: no
/// attempt that has ended is ever removed.
pub(super) fn unassign(task: &mut Task) {
    if let State::Running {
        phase: Phase::Assigned,
        since,
    } = task.state
    {
        task.attempts.pop();
        // Only tasks without a queue timeout have reserved attempts, so there is no clock.
        task.state = State::Ready { since, clock: None };
    } else if task.is_chosen() {
        task.attempts.pop();
    }
}
