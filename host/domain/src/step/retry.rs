//! A finished task runs again, and what depends on it after it: the only way out of a terminal state.

use std::{collections::BTreeSet, sync::Arc};

use super::{Answer, Ends, Refused, Retry};
use crate::{
    attempt::Attempt,
    batch::DocumentKey,
    board::Board,
    event::Fact,
    id::TaskId,
    task::{State, Task},
    time::Now,
};

/// How many retried tasks are remembered with their newest end. It has to outlast only the way of a copy from the store to the board.
const REMEMBERED: usize = 1024;

impl Board {
    pub(super) fn retry(&mut self, now: Now, retry: Retry) -> Result<Answer, Refused> {
        let Retry {
            task: copy,
            downstream,
            ended,
            resume,
        } = retry;
        let mut task = self.newest(copy)?;
        let id = task.id;
        self.room_for(1 + downstream.len())?;
        if !task.has_begun
            && let Some(culprit) = self.in_the_way(&task, &ended)?
        {
            return Err(Refused::UpstreamStands { task: id, culprit });
        }
        self.all_known(id, &downstream, &ended)?;
        self.can_pay(id, &task.request, &task.attempts)?;
        task.retry_at = None;
        task.resumes = self.resumed(&task, resume)?;
        task.state = self.state_of(&task, now.wall, now);
        let attempt = task.last_attempt().map_or(1, |last| last.number + 1);
        self.take_again(now, task);
        let downstream = self.revive(now, downstream, &ended);
        Ok(Answer::Retrying {
            task: id,
            attempt,
            downstream,
        })
    }

    /// The attempt that the next one is to go on from, where that was asked for; what was said about it is kept.
    fn resumed(&mut self, task: &Task, context: Option<Arc<[u8]>>) -> Result<Option<u32>, Refused> {
        let Some(context) = context else {
            return Ok(None);
        };
        let began = |attempt: &&Attempt| {
            let ended = attempt.ended.as_ref();
            ended.is_some_and(|ended| !ended.never_began)
        };
        let last = task.attempts.iter().rev().find(began);
        let last = last.ok_or(Refused::NothingToResume { task: task.id })?;
        self.pending
            .documents
            .push((DocumentKey::Context(task.id), context));
        Ok(Some(last.number))
    }

    /// The newest end of a task that was read from the store a moment ago. It may have been retried, and have ended again, since: to start from
    /// an older end would write over an attempt and give out its number twice.
    fn newest(&self, copy: Task) -> Result<Task, Refused> {
        if let Some(unfinished) = self.tasks.get(&copy.id) {
            return Err(not_done(unfinished));
        }
        let ended_again = self.retried.get(&copy.id).cloned().flatten();
        let task = ended_again.map_or(copy, |ended| Task::clone(&ended));
        if task.is_done() {
            Ok(task)
        } else {
            Err(not_done(&task))
        }
    }

    /// Whose end keeps a task from running.
    fn in_the_way(&self, task: &Task, ended: &Ends) -> Result<Option<TaskId>, Refused> {
        for dependency in task.dependencies.iter() {
            let upstream = dependency.task;
            if self.tasks.contains_key(&upstream) {
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

    /// Of all that is waited for it has to be known how it ended, if it has.
    fn all_known(&self, id: TaskId, downstream: &[Task], ended: &Ends) -> Result<(), Refused> {
        let again: BTreeSet<TaskId> = downstream.iter().map(|task| task.id).chain([id]).collect();
        let known = |task: &TaskId| {
            again.contains(task)
                || self.tasks.contains_key(task)
                || self.end_of(*task, ended).is_some()
        };
        let edges = downstream.iter().flat_map(|task| task.dependencies.iter());
        match edges.map(|edge| edge.task).find(|task| !known(task)) {
            Some(task) => Err(Refused::Moved { task }),
            None => Ok(()),
        }
    }

    fn take_again(&mut self, now: Now, task: Task) {
        let id = task.id;
        let fact = task
            .resumes
            .map_or(Fact::Retried, |from| Fact::Resumed { from });
        self.index_dependencies([&task]);
        self.insert(task);
        self.look_for_blocker(id, 0);
        self.record(id, now, fact);
        self.retried.insert(id, None);
        if self.retried.len() > REMEMBERED {
            self.retried.pop_first();
        }
        self.block_dependants(now, id);
    }

    /// Puts back what is to run after a task that runs again. What cannot, since something else is in its way, ends again at once.
    fn revive(&mut self, now: Now, downstream: Vec<Task>, ended: &Ends) -> usize {
        let mut revived = Vec::new();
        for copy in downstream {
            let Ok(mut task) = self.newest(copy) else {
                // It runs again already.
                continue;
            };
            let id = task.id;
            task.has_begun = false;
            task.retry_at = None;
            task.resumes = None;
            task.state = State::Blocked { since: now.wall };
            self.take_again(now, task);
            revived.push(id);
        }
        for id in &revived {
            self.begin_waiting(now, *id, ended);
        }
        revived.retain(|id| self.tasks.contains_key(id));
        revived.len()
    }
}

fn not_done(task: &Task) -> Refused {
    Refused::NotDone {
        task: task.id,
        state: task.state.as_str(),
    }
}
