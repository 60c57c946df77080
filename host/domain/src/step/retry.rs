//! Runs a finished task again, and then its dependants. Only this and a merge by hand change a task
//! that is done.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    Answer, Ends, Refused, Retry, Revision,
    clock::{UNTIL_NEXT_DAY, longest_delay},
};
use crate::{
    attempt::Attempt,
    batch::DocumentKey,
    board::Board,
    budget::GraphBudget,
    dependency::End,
    event::Fact,
    id::TaskId,
    principal::Principal,
    task::{State, Task},
    time::{Now, Timestamp},
};

impl Board {
    pub(super) fn retry(&mut self, now: Now, retry: Retry) -> Result<Answer, Refused> {
        let Retry {
            task: copy,
            downstream,
            ended,
            resume,
            revision,
        } = retry;
        let read = copy.request.clone();
        let revisions = copy.revised.len();
        let ends = self.ends_seen(std::iter::once(&copy).chain(&downstream));
        let mut task = self.newest(copy, &ended)?;
        let id = task.id;
        // The revision was made from the request and the document that were read, so it must not
        // replace newer ones.
        if revision.is_some() && (task.request != read || task.revised.len() != revisions) {
            return Err(Refused::Moved { task: id });
        }
        let budget_before = task.request.graph_budget;
        let revised = revision.map(|revision| {
            let Revision {
                request,
                spec,
                differences,
            } = *revision;
            task.revise(request, differences.clone(), self.by.clone());
            (spec, differences)
        });
        let mut downstream = self.still_done(downstream, &ended)?;
        as_seen(ends.as_ref(), std::iter::once(&task).chain(&downstream))?;
        self.room_for(1 + downstream.len())?;
        let again = std::iter::once(&task).chain(&downstream);
        self.within_bounds(again.map(|task| &*task.request))?;
        if !task.has_begun
            && let Some(culprit) = self.in_the_way(&task, &ended)?
        {
            return Err(Refused::UpstreamStands { task: id, culprit });
        }
        self.all_known(id, &downstream, &ended)?;
        self.room_for_another(&task)?;
        self.can_pay(id, &task.request, &task.attempts)?;
        let ended = self.ends_above(&downstream, &ended);
        task.retry_at = self.wait_kept(now, &task);
        task.resumes = self.resumed(&task, resume)?;
        task.state = self.state_of(&task, now.wall, now);
        let attempt = task.next_attempt();
        let (held, waits_until) = (task.held.is_some(), task.retry_at);
        let budget = task.request.graph_budget;
        if let Some((spec, differences)) = revised {
            let spec = spec.map(|spec| (DocumentKey::Spec(id), spec));
            self.pending.documents.extend(spec);
            self.record(
                id,
                now,
                Fact::Revised {
                    attempt,
                    differences,
                },
            );
        }
        self.take_again(now, task);
        if let Some(until) = waits_until {
            self.record(id, now, Fact::RetryScheduled { until });
        }
        if let Some(changed) = budget.filter(|_| budget != budget_before) {
            self.share_budget(changed, &mut downstream);
        }
        let downstream = self.revive(now, downstream, &ended);
        Ok(Answer::Retrying {
            task: id,
            attempt,
            downstream,
            held,
        })
    }

    fn wait_kept(&self, now: Now, task: &Task) -> Option<Timestamp> {
        let by = self.by.as_ref()?;
        task.wait_kept_for(by, now.wall)
    }

    /// Sets a graph's new budget for all tasks of the graph that are unfinished or run again.
    fn share_budget(&mut self, changed: GraphBudget, downstream: &mut [Task]) {
        for task in downstream {
            task.share_budget(changed);
        }
        for id in self.ids_where(|task| task.is_held_to(changed)) {
            self.change(id, |task| task.share_budget(changed));
        }
    }

    pub(super) fn room_for_another(&self, task: &Task) -> Result<(), Refused> {
        let limit = self.bounds.attempts;
        if task.attempts.len() < limit {
            return Ok(());
        }
        Err(Refused::TooManyAttempts {
            task: task.id,
            limit,
        })
    }

    /// Number of the attempt that the next attempt continues, if there is a `context`. Stores the
    /// context.
    fn resumed(&mut self, task: &Task, context: Option<Arc<[u8]>>) -> Result<Option<u32>, Refused> {
        let Some(context) = context else {
            return Ok(None);
        };
        let began = |attempt: &&Attempt| {
            let ended = attempt.ended.as_ref();
            ended.is_some_and(|ended| !ended.never_began) && !attempt.by_hand
        };
        let last = task.attempts.iter().rev().find(began);
        let last = last.ok_or(Refused::NothingToResume { task: task.id })?;
        self.pending
            .documents
            .push((DocumentKey::Context(task.id), context));
        Ok(Some(last.number))
    }

    /// Newest end of a task that was read from the store a moment ago. The task may have run again
    /// and ended since then. A retry that starts from an older end would overwrite an attempt and
    /// reuse its number.
    pub(super) fn newest(&self, copy: Task, ended: &Ends) -> Result<Task, Refused> {
        if let Some(unfinished) = self.tasks.get(&copy.id) {
            return Err(not_done(unfinished));
        }
        match self.ended_again.newest(copy.id) {
            Some(newest) => Ok(Task::clone(newest)),
            None if self.ended_again.may_be_stale(ended.as_of) => {
                Err(Refused::Moved { task: copy.id })
            }
            None if !copy.is_done() => Err(not_done(&copy)),
            None => Ok(copy),
        }
    }

    /// Newest ends of these downstream tasks, without the tasks that already run again.
    pub(super) fn still_done(&self, copies: Vec<Task>, ended: &Ends) -> Result<Vec<Task>, Refused> {
        let copies = copies.into_iter().map(|copy| self.newest(copy, ended));
        copies
            .filter(|newest| !matches!(newest, Err(Refused::NotDone { .. })))
            .collect()
    }

    /// Ends of these tasks, if a restrained principal asks. The permission of such a principal
    /// depends on these ends.
    fn ends_seen<'a>(
        &self,
        copies: impl Iterator<Item = &'a Task>,
    ) -> Option<BTreeMap<TaskId, Seen>> {
        let is_restrained = self.by.as_ref().is_some_and(|by| by.restrained);
        is_restrained.then(|| copies.map(|copy| (copy.id, seen(copy))).collect())
    }

    /// Task whose end keeps this task from running.
    fn in_the_way(&self, task: &Task, ended: &Ends) -> Result<Option<TaskId>, Refused> {
        for dependency in task.dependencies.iter() {
            let upstream = dependency.task;
            if self.is_open(upstream) {
                continue;
            }
            let end = self
                .end_of(upstream, ended)
                .ok_or(Refused::Moved { task: upstream })?;
            if !dependency.condition.is_met_by(end.outcome) {
                return Ok(Some(end.culprit.unwrap_or(upstream)));
            }
        }
        Ok(None)
    }

    /// Checks that the ends of all finished dependencies are known.
    pub(super) fn all_known(
        &self,
        id: TaskId,
        downstream: &[Task],
        ended: &Ends,
    ) -> Result<(), Refused> {
        let again: BTreeSet<TaskId> = downstream.iter().map(|task| task.id).chain([id]).collect();
        let known = |task: &TaskId| {
            again.contains(task) || self.is_open(*task) || self.end_of(*task, ended).is_some()
        };
        let edges = downstream.iter().flat_map(|task| task.dependencies.iter());
        match edges.map(|edge| edge.task).find(|task| !known(task)) {
            Some(task) => Err(Refused::Moved { task }),
            None => Ok(()),
        }
    }

    /// Ends of all dependencies of these tasks. They are collected before any of the tasks is put
    /// back on the board, because a task that is put back may end again at once, and an older end
    /// may then be forgotten to make room for the new one.
    pub(super) fn ends_above(&self, downstream: &[Task], ended: &Ends) -> Ends {
        let edges = downstream.iter().flat_map(|task| task.dependencies.iter());
        let ends = edges.filter_map(|edge| Some((edge.task, self.end_of(edge.task, ended)?)));
        Ends {
            as_of: self.pending.number,
            ends: ends.collect(),
        }
    }

    fn take_again(&mut self, now: Now, mut task: Task) {
        task.restrained = self.by.as_ref().is_some_and(|by| by.restrained);
        if let Some(by) = &self.by {
            task.note_requester(by);
        }
        self.put_back(now, task);
    }

    fn put_back(&mut self, now: Now, task: Task) {
        let id = task.id;
        let fact = task
            .resumes
            .map_or(Fact::Retried, |from| Fact::Resumed { from });
        self.index_dependencies([&task]);
        self.insert(task);
        self.look_for_blocker(id, 0);
        self.record(id, now, fact);
        self.ended_again.note_revival(id);
        self.block_dependants(now, id);
    }

    /// Whether a principal without restraint runs a task of a restrained one again without having
    /// named it. Such a task keeps its limits and its requester.
    fn lifts_restraint(&self, task: &Task) -> bool {
        let is_restrained = self.by.as_ref().is_some_and(|by| by.restrained);
        task.request.by.restrained && !is_restrained
    }

    /// Puts ended tasks back on the board because a task upstream of them runs again or was merged
    /// by hand. A task that is put back ends again at once if another dependency keeps it from
    /// running, or if its budget is spent.
    pub(super) fn revive(&mut self, now: Now, downstream: Vec<Task>, ended: &Ends) -> usize {
        let mut revived = Vec::new();
        for mut task in downstream {
            let id = task.id;
            task.has_begun = false;
            task.retry_at = self.wait_kept(now, &task);
            task.resumes = None;
            task.state = State::Blocked { since: now.wall };
            if self.lifts_restraint(&task) {
                self.put_back(now, task);
            } else {
                self.take_again(now, task);
            }
            revived.push(id);
        }
        for id in &revived {
            if !self.end_over_budget(now, *id) {
                self.begin_waiting(now, *id, ended);
            }
        }
        revived.retain(|id| self.tasks.contains_key(id));
        revived.len()
    }
}

impl Task {
    /// Earliest time of the next attempt of a finished task, if this principal runs the task again.
    ///
    /// A task that was cancelled while it waited for its next automatic retry still has the time of
    /// that retry. Usually a task that runs again starts at once. But a restrained principal may
    /// not end the wait of a task that somebody less restrained submitted, and so must not get
    /// around it by a cancellation either.
    ///
    /// No wait is longer than the longest wait that could begin now, because the clock may have
    /// been set back since the cancellation, and only unfinished tasks are corrected then.
    pub fn wait_kept_for(&self, by: &Principal, now: Timestamp) -> Option<Timestamp> {
        let is_kept = by.restrained && !self.request.by.restrained;
        let kept = self.retry_at.filter(|until| is_kept && *until > now);
        kept.map(|until| until.min(now.after(longest_delay(self).max(UNTIL_NEXT_DAY))))
    }
}

/// The end of a task, and the number of its attempts: a task that has run again may have the same
/// end, but not the same attempts.
type Seen = (Option<End>, usize);

fn seen(task: &Task) -> Seen {
    (task.end(), task.attempts.len())
}

/// Checks that these tasks still have the ends and attempts that were seen.
fn as_seen<'a>(
    ends: Option<&BTreeMap<TaskId, Seen>>,
    mut tasks: impl Iterator<Item = &'a Task>,
) -> Result<(), Refused> {
    let Some(ends) = ends else { return Ok(()) };
    match tasks.find(|task| ends.get(&task.id) != Some(&seen(task))) {
        Some(task) => Err(Refused::Moved { task: task.id }),
        None => Ok(()),
    }
}

pub(super) fn not_done(task: &Task) -> Refused {
    Refused::NotDone {
        task: task.id,
        state: task.state.as_str(),
    }
}
