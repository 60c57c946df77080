//! Takes over attempts that an earlier host left running.

use super::{Answer, Cause, Ending, Found};
use crate::{
    attempt::Phase,
    batch::Action,
    board::Board,
    event::Fact,
    id::TaskId,
    outcome::ReasonClass,
    task::{State, Task},
    time::Now,
};

impl Board {
    pub(super) fn recover(&mut self, now: Now, id: TaskId, found: Found) -> Answer {
        if found != Found::Over {
            return self.take_over(now, id, found);
        }
        let answer = self.take_over(now, id, Found::Known);
        // Before the time that has passed without a host can stop it.
        self.comes_to_rest(now, id);
        answer
    }

    fn take_over(&mut self, now: Now, id: TaskId, found: Found) -> Answer {
        let Some(task) = self.tasks.get(&id) else {
            return Answer::Stale;
        };
        let chosen = task.is_chosen().then_some(Phase::Assigned);
        let (Some(phase), Some(last), Some(attempt)) = (
            task.phase().cloned().or(chosen),
            task.last_attempt(),
            task.last_attempt_id(),
        ) else {
            return Answer::Stale;
        };
        // An attempt whose leader or answer is known has reached a supervisor, whatever is found
        // now.
        let is_unheard = last.leader.is_none() && last.answered.is_none();
        let never_received = found == Found::NeverReceived && is_unheard;
        match phase {
            Phase::Assigned if found == Found::Known => {
                self.mark_started(now, id);
                self.effect(Action::Resume(attempt));
            }
            // An assigned attempt whose start was not received stays assigned. It starts when a
            // slot is free and the task's dependencies have ended.
            Phase::Assigned => {}
            Phase::Starting if never_received => self.back_to_ready(now, id),
            // The worktree and code that exist are reused. Nothing else had begun.
            Phase::Preparing if found != Found::Known => {
                self.restart_phase_clock(id, now);
                self.effect(Action::Start(attempt));
            }
            Phase::Preparing | Phase::Starting | Phase::Settling => {
                self.restart_phase_clock(id, now);
                self.effect(Action::Resume(attempt));
            }
            // There is no process to stop, and no supervisor to report the attempt's end.
            Phase::Stopping(_) if never_received => {
                let lost = Cause::Class(ReasonClass::Lost);
                self.conclude(
                    now,
                    attempt,
                    Ending::new(lost, "the attempt was never started"),
                );
            }
            Phase::Stopping(why) => {
                self.effect(Action::Resume(attempt));
                self.effect(Action::Stop { attempt, why });
            }
            Phase::Live | Phase::Finishing => self.effect(Action::Resume(attempt)),
        }
        Answer::Noted
    }

    /// Begins the attempt: with its preparation if it has one, otherwise with its first process.
    pub(super) fn mark_started(&mut self, now: Now, id: TaskId) {
        let Some(task) = self.tasks.get(&id) else {
            return;
        };
        let is_prepared_first = task.request.is_prepared_first();
        let number = task.last_attempt().map_or(1, |last| last.number);
        if let Some(left) = self.left_for(now, task) {
            self.change(id, |task| {
                if let Some(last) = task.attempts.last_mut() {
                    last.may_cost_micro_usd = Some(left);
                }
            });
        }
        if !is_prepared_first {
            return self.mark_starting(now, id);
        }
        self.enter(now, id, Phase::Preparing, |task| {
            task.has_begun = true;
            task.retry_at = None;
        });
        self.record(id, now, Fact::AttemptPreparing { attempt: number });
    }

    /// Marks the attempt as starting its first process. Its time limits count from now.
    pub(super) fn mark_starting(&mut self, now: Now, id: TaskId) {
        let clock_id = self.clock_id.clone();
        self.enter(now, id, Phase::Starting, |task| {
            task.has_begun = true;
            task.retry_at = None;
            if let Some(attempt) = task.attempts.last_mut() {
                attempt.started_at = Some(now.wall);
                attempt.started_monotonic = Some((now.monotonic, clock_id));
            }
        });
    }

    /// Moves the attempt into a phase whose limit counts from now.
    pub(super) fn enter(
        &mut self,
        now: Now,
        id: TaskId,
        phase: Phase,
        edit: impl FnOnce(&mut Task),
    ) {
        self.change(id, |task| {
            task.state = State::Running {
                phase,
                since: now.wall,
            };
            edit(task);
        });
        self.restart_phase_clock(id, now);
    }
}
