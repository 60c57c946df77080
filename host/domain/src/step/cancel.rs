//! Stops a task, and the tasks that it submitted.

use super::{Answer, Cancelling, Refused, place::unassign};
use crate::{
    attempt::{Phase, StopWhy},
    batch::Action,
    board::Board,
    dependency::End,
    event::Fact,
    id::TaskId,
    outcome::{Outcome, Reason, ReasonClass},
    task::State,
    time::Now,
};

impl Board {
    pub(super) fn cancel(
        &mut self,
        now: Now,
        task: TaskId,
        reason: Option<String>,
    ) -> Result<Answer, Refused> {
        let descendants = self.attached_descendants(task);
        let is_stopping = |id| self.stopping.contains(id);
        let answer = if let Some(found) = self.tasks.get(&task) {
            let how = match found.phase() {
                None | Some(Phase::Assigned) => Cancelling::Ended,
                Some(Phase::Stopping(_)) => Cancelling::Already,
                Some(Phase::Settling) => Cancelling::Settling,
                Some(Phase::Preparing | Phase::Starting | Phase::Live | Phase::Finishing) => {
                    Cancelling::Stopping
                }
            };
            Answer::Cancelling { task, how }
        } else if descendants.is_empty() {
            return Err(Refused::Unknown { task });
        } else {
            Answer::CancellingBelow {
                task,
                descendants: descendants.len(),
                already: descendants.iter().all(is_stopping),
            }
        };
        self.cancel_one(now, task, reason.clone());
        for descendant in descendants {
            let why = with_parent(task, reason.as_deref());
            self.cancel_one(now, descendant, Some(why));
        }
        Ok(answer)
    }

    /// Unfinished descendants, except detached ones and their descendants.
    fn attached_descendants(&self, task: TaskId) -> Vec<TaskId> {
        let attached = |id: &TaskId| {
            let found = self.tasks.get(id);
            found.is_some_and(|found| found.request.attached_to().any(|above| above == task))
        };
        let all = self.descendants.get(&task).into_iter().flatten();
        all.copied().filter(attached).collect()
    }

    /// Cancels a new task if an ancestor is being cancelled, since a task that is being stopped may
    /// still submit tasks.
    pub(super) fn cancel_with_ancestors(&mut self, now: Now, id: TaskId) {
        let Some(task) = self.tasks.get(&id).cloned() else {
            return;
        };
        for ancestor in task.request.attached_to() {
            let phase = self.tasks.get(&ancestor).and_then(|task| task.phase());
            if let Some(Phase::Stopping(StopWhy::Cancelled { reason })) = phase {
                let why = with_parent(ancestor, reason.as_deref());
                return self.cancel_one(now, id, Some(why));
            }
        }
    }

    fn cancel_one(&mut self, now: Now, id: TaskId, reason: Option<String>) {
        let Some(task) = self.tasks.get(&id) else {
            return;
        };
        match &task.state {
            State::Running {
                phase:
                    Phase::Preparing
                    | Phase::Starting
                    | Phase::Live
                    | Phase::Finishing
                    | Phase::Settling,
                ..
            } => {
                self.stop(now, id, StopWhy::Cancelled { reason });
            }
            State::Running {
                phase: Phase::Assigned,
                ..
            }
            | State::Blocked { .. }
            | State::Waiting { .. }
            | State::Held { .. }
            | State::Ready { .. } => {
                self.finish(now, id, Outcome::Cancelled, Some(cancelled(reason)));
            }
            // The attempt is already stopping or ending, so another cancellation changes nothing.
            State::Running {
                phase: Phase::Stopping(_),
                ..
            }
            | State::Done { .. } => {}
        }
    }

    /// Asks a running attempt to stop.
    pub(super) fn stop(&mut self, now: Now, id: TaskId, why: StopWhy) {
        let Some(attempt) = self.attempt_id(id) else {
            return;
        };
        self.change(id, |task| {
            task.state = State::Running {
                phase: Phase::Stopping(why.clone()),
                since: now.wall,
            };
        });
        self.record(
            id,
            now,
            Fact::StopRequested {
                attempt: attempt.number,
                why: why.clone(),
            },
        );
        self.effect(Action::Stop { attempt, why });
    }

    pub(super) fn finish(
        &mut self,
        now: Now,
        id: TaskId,
        outcome: Outcome,
        reason: Option<Reason>,
    ) {
        let end = End {
            outcome,
            culprit: None,
        };
        self.write_end(now, id, end, reason);
        self.tell_dependants(now, id, end);
    }

    pub(super) fn write_end(&mut self, now: Now, id: TaskId, end: End, reason: Option<Reason>) {
        let End { outcome, culprit } = end;
        self.change(id, |task| {
            unassign(task);
            task.state = State::Done {
                at: now.wall,
                outcome,
                reason: reason.clone(),
                culprit,
            };
        });
        self.record(
            id,
            now,
            Fact::Done {
                outcome,
                reason,
                culprit,
            },
        );
    }
}

fn with_parent(parent: TaskId, reason: Option<&str>) -> String {
    let why = reason.unwrap_or("cancelled");
    format!("with its parent {parent:#}: {why}")
}

pub(super) fn cancelled(reason: Option<String>) -> Reason {
    Reason::new(
        ReasonClass::Cancelled,
        reason.unwrap_or_else(|| "cancelled".to_owned()),
    )
}
