//! Accepts or refuses the tasks of a submission together.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use rustc_hash::FxHashSet;

use super::{Accepted, Answer, Ends, Refused, Submission, Submit, cycle};
use crate::{
    batch::DocumentKey,
    board::{Board, IDEMPOTENCY_WINDOW, Remembered},
    dependency::End,
    event::Fact,
    id::TaskId,
    task::{Request, State, Task},
    time::Now,
};

/// A submission that was checked and can be accepted.
struct Looked {
    /// The accepted tasks, in the submission's order.
    accepted: Vec<Accepted>,
    /// The submission's tasks that were not submitted before.
    fresh: Vec<Submission>,
    ended: Ends,
}

impl Board {
    /// Checks the whole submission before anything is changed.
    pub(super) fn submit(&mut self, now: Now, submit: Submit) -> Result<Answer, Refused> {
        let Looked {
            accepted,
            fresh,
            ended,
        } = self.look_at(now, submit)?;
        let ids: Vec<TaskId> = fresh.iter().map(|task| task.id).collect();
        let mut last: Option<Arc<Request>> = None;
        for mut submission in fresh {
            if let Some(last) = &last {
                submission.request.share(last);
            }
            last = Some(self.take(now, submission));
        }
        let taken: Vec<Arc<Task>> = ids.iter().map(|id| self.tasks[id].clone()).collect();
        self.index_dependencies(taken.iter().map(|task| &**task));
        drop(taken);
        // All tasks are inserted before any of them begins to wait, since a task may depend on a
        // later task of the same submission.
        for id in ids {
            self.begin_waiting(now, id, &ended);
            self.cancel_with_ancestors(now, id);
        }
        Ok(Answer::Accepted(accepted))
    }

    /// Returns the answer that the submission would get.
    pub(super) fn check_submit(&mut self, now: Now, submit: Submit) -> Result<Answer, Refused> {
        Ok(Answer::Accepted(self.look_at(now, submit)?.accepted))
    }

    fn look_at(&mut self, now: Now, submit: Submit) -> Result<Looked, Refused> {
        self.forget_old_keys(now);
        let Submit {
            tasks: mut fresh,
            ended,
        } = submit;
        let mut accepted = Vec::with_capacity(fresh.len());
        let mut keys = BTreeSet::new();
        for submission in &mut fresh {
            if let Some(idempotency) = &submission.request.idempotency
                && !keys.insert(idempotency.key.clone())
            {
                let key = idempotency.key.clone();
                return Err(Refused::KeyTwice { key });
            }
            let existing = self.already_submitted(&submission.request)?;
            accepted.push(Accepted {
                task: existing.unwrap_or(submission.id),
                existing: existing.is_some(),
            });
            if existing.is_none() {
                let parent = submission.parent.as_ref();
                submission.request.place_under(parent);
            }
        }
        // The others stay where they are, since a request may have many large tasks.
        let mut each = accepted.iter();
        fresh.retain(|_| each.next().is_some_and(|it| !it.existing));
        // If a repeated request has more tasks than the first one, the additional tasks join the
        // same graph.
        if let Some(Accepted { task: first, .. }) = accepted.first().filter(|it| it.existing) {
            for submission in &mut fresh {
                submission.request.place_in(*first);
            }
        }
        self.room_for(fresh.len())?;
        self.within_bounds(fresh.iter().map(|submission| &submission.request))?;
        for submission in &fresh {
            self.can_pay(submission.id, &submission.request, &[])?;
        }
        self.depends_well(&mut fresh, &ended)?;
        Ok(Looked {
            accepted,
            fresh,
            ended,
        })
    }

    fn take(&mut self, now: Now, submission: Submission) -> Arc<Request> {
        let Submission {
            id,
            request,
            dependencies,
            held,
            parent: _,
            spec,
        } = submission;
        if let Some(idempotency) = &request.idempotency {
            let remembered = Remembered {
                task: id,
                payload_digest: idempotency.payload_digest.clone(),
                at: now.wall,
            };
            self.remember(idempotency.key.clone(), remembered);
        }
        let dependencies: Arc<[_]> = dependencies.into();
        if !dependencies.is_empty() {
            self.pending.dependencies.push((id, dependencies.clone()));
        }
        let since = now.wall;
        let request = Arc::new(request);
        let mut task = Task::blocked(id, request.clone(), dependencies, since);
        task.held = held.then_some(since);
        if held {
            task.holders.push(self.by.clone().unwrap_or_default());
            task.state = State::Held { since };
        } else if task.dependencies.is_empty() {
            task.state = self.state_of(&task, since, now);
        }
        self.insert(task);
        self.pending.documents.push((DocumentKey::Spec(id), spec));
        self.record(id, now, Fact::Submitted);
        request
    }

    /// Places a new or revived task in the queue. The task ends at once if the ends of its
    /// dependencies keep it from running.
    pub(super) fn begin_waiting(&mut self, now: Now, id: TaskId, ended: &Ends) {
        let Some(task) = self.tasks.get(&id) else {
            // The task has already ended because of another task of the submission.
            return;
        };
        let spoilt = task.dependencies.iter().find_map(|dependency| {
            let end = self.end_of(dependency.task, ended)?;
            let is_met = dependency.condition.is_met_by(end.outcome);
            (!is_met).then(|| end.culprit.unwrap_or(dependency.task))
        });
        if let Some(culprit) = spoilt {
            let end = self.end_for(now, id, culprit);
            self.tell_dependants(now, id, end);
        } else if matches!(task.state, State::Blocked { .. }) {
            self.place(now, id, now.wall);
        }
    }

    /// How a task that is not on the board ended. Ends known to the board are newer than the ends
    /// that were read.
    pub(super) fn end_of(&self, id: TaskId, ended: &Ends) -> Option<End> {
        if self.is_open(id) {
            return None;
        }
        let pending = self.pending.finished.get(&id);
        let newest = || self.ended_again.newest(id);
        let known = pending.or_else(newest).and_then(|task| task.end());
        let read = || {
            let is_stale = self.ended_again.may_be_stale(ended.as_of);
            ended.ends.get(&id).filter(|_| !is_stale).copied()
        };
        known.or_else(read)
    }

    pub(super) fn room_for(&self, more: usize) -> Result<(), Refused> {
        let limit = self.bounds.unfinished;
        if self.tasks.len() + more > limit {
            return Err(Refused::QueueFull { limit });
        }
        Ok(())
    }

    fn already_submitted(&self, request: &Request) -> Result<Option<TaskId>, Refused> {
        let Some(idempotency) = &request.idempotency else {
            return Ok(None);
        };
        match self.remembered.get(&idempotency.key) {
            None => Ok(None),
            Some(first) if first.payload_digest == idempotency.payload_digest => {
                Ok(Some(first.task))
            }
            Some(first) => Err(Refused::IdempotencyConflict {
                key: idempotency.key.clone(),
                task: first.task,
            }),
        }
    }

    fn forget_old_keys(&mut self, now: Now) {
        while let Some((at, key)) = self.remembered_by_age.first().cloned() {
            if at.after(IDEMPOTENCY_WINDOW) > now.wall {
                return;
            }
            self.remembered_by_age.pop_first();
            // Each key has one entry by age, so both maps forget the same entry.
            self.remembered.remove(&key);
        }
    }

    /// Checks the depth of each task, and the number of unfinished descendants of its topmost
    /// ancestor. Ended ancestors count towards the depth. Otherwise a chain in which each task ends
    /// after submitting the next one would have no limit.
    pub(super) fn within_bounds<'a>(
        &self,
        requests: impl IntoIterator<Item = &'a Request>,
    ) -> Result<(), Refused> {
        let mut more: BTreeMap<TaskId, usize> = BTreeMap::new();
        for request in requests {
            let (depth, limit) = (request.depth(), self.bounds.depth);
            if depth > limit {
                return Err(Refused::TooDeep { depth, limit });
            }
            let Some(ancestor) = request.ancestors().last() else {
                continue;
            };
            let more = more.entry(ancestor).or_default();
            *more += 1;
            let limit = self.bounds.open_descendants;
            if self.open_descendants(ancestor) + *more > limit {
                return Err(Refused::TooManyDescendants { ancestor, limit });
            }
        }
        Ok(())
    }

    fn open_descendants(&self, ancestor: TaskId) -> usize {
        self.descendants.get(&ancestor).map_or(0, BTreeSet::len)
    }

    /// Sorts the dependencies and checks that they are allowed.
    fn depends_well(&self, tasks: &mut [Submission], ended: &Ends) -> Result<(), Refused> {
        if tasks.iter().all(|task| task.dependencies.is_empty()) {
            return Ok(());
        }
        let members: FxHashSet<TaskId> = tasks.iter().map(|task| task.id).collect();
        for Submission {
            id, dependencies, ..
        } in &mut *tasks
        {
            dependencies.sort_unstable();
            dependencies.dedup();
            let (count, limit) = (dependencies.len(), self.bounds.dependencies);
            if count > limit {
                return Err(Refused::TooManyDependencies {
                    task: *id,
                    count,
                    limit,
                });
            }
            if let Some(pair) = dependencies.windows(2).find(|it| it[0].task == it[1].task) {
                return Err(Refused::TwoConditions {
                    task: *id,
                    upstream: pair[0].task,
                });
            }
            let known = |task| {
                members.contains(&task) || self.is_open(task) || self.end_of(task, ended).is_some()
            };
            let unknown = dependencies.iter().find(|it| !known(it.task));
            if let Some(unknown) = unknown {
                return Err(Refused::Moved { task: unknown.task });
            }
        }
        match cycle::find(tasks) {
            Some(path) => Err(Refused::Cycle { path }),
            None => Ok(()),
        }
    }
}
