//! What an earlier host left running is taken up again.

use super::{Answer, Cause, Ending, Found};
use crate::{
    attempt::Phase, batch::Action, board::Board, id::TaskId, outcome::ReasonClass, task::State,
    time::Now,
};

impl Board {
    pub(super) fn recover(&mut self, now: Now, id: TaskId, found: Found) -> Answer {
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
        // Whose leader is known was received, whatever is found now.
        let never_received = found == Found::NeverReceived && last.leader.is_none();
        match phase {
            Phase::Assigned if found == Found::Known => {
                self.mark_started(now, id);
                self.effect(Action::Resume(attempt));
            }
            // An assignment that nobody received stays assigned: it starts when a slot is free, and what it waits for has ended.
            Phase::Assigned => {}
            Phase::Starting if never_received => self.back_to_ready(now, id),
            Phase::Starting => {
                self.restart_start_clock(id, now);
                self.effect(Action::Resume(attempt));
            }
            // There is nothing to stop, and nobody who could tell of its end.
            Phase::Stopping(_) if never_received => {
                let lost = Cause::Class(ReasonClass::Lost);
                self.conclude(now, attempt, Ending::new(lost, "it was never started"));
            }
            Phase::Stopping(why) => {
                self.effect(Action::Resume(attempt));
                self.effect(Action::Stop { attempt, why });
            }
            Phase::Live | Phase::Finishing => self.effect(Action::Resume(attempt)),
        }
        Answer::Noted
    }

    /// The attempt begins here and now, as far as the board can know.
    pub(super) fn mark_started(&mut self, now: Now, id: TaskId) {
        let boot = self.boot_id.clone();
        self.start_clocks.insert(id, now.monotonic);
        self.change(id, |task| {
            task.has_begun = true;
            task.retry_at = None;
            task.state = State::Running {
                phase: Phase::Starting,
                since: now.wall,
            };
            if let Some(attempt) = task.attempts.last_mut() {
                attempt.started_at = Some(now.wall);
                attempt.started_monotonic = Some((now.monotonic, boot));
            }
        });
    }
}
