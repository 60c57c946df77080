//! What a running attempt tells.

use super::{
    Answer, Ending, Report,
    conclude::{Conclusion, conclude},
};
use crate::{
    account::Parked,
    attempt::{Ended, Leader, Phase},
    batch::{Action, DocumentKey},
    board::Board,
    event::Fact,
    id::{AccountKey, AttemptId, TaskId},
    task::{State, WaitingFor},
    time::Now,
};

impl Board {
    pub(super) fn report(&mut self, now: Now, attempt: AttemptId, report: Report) -> Answer {
        if !self.running.contains(&attempt.task) || self.attempt_id(attempt.task) != Some(attempt) {
            return self.report_of_ended(attempt, &report);
        }
        let AttemptId { task: id, number } = attempt;
        match report {
            Report::Started { leader } => self.started(now, attempt, leader),
            Report::Alive => self.alive(now, id),
            Report::Session(session) => self.change(id, |task| {
                if let Some(attempt) = task.attempts.last_mut() {
                    attempt.session = Some(session);
                }
            }),
            Report::AccountWorks => self.account_works(now, id),
            Report::Progress { kind, data } => {
                self.record(
                    id,
                    now,
                    Fact::Progress {
                        attempt: number,
                        progress: kind,
                        data,
                    },
                );
            }
            Report::Checkpoint(state) => {
                self.pending
                    .documents
                    .push((DocumentKey::Checkpoint(attempt), state));
                self.effect(Action::CheckpointStored(attempt));
            }
            Report::Finishing => self.finishing(now, id),
            Report::Ended(ending) => self.ended(now, attempt, *ending),
        }
        Answer::Noted
    }

    /// An end that is told again is one whose release was lost: it is released again, and otherwise dropped.
    fn report_of_ended(&mut self, attempt: AttemptId, report: &Report) -> Answer {
        if matches!(report, Report::Ended(_)) {
            self.effect(Action::Release(attempt));
        }
        Answer::Stale
    }

    fn started(&mut self, now: Now, attempt: AttemptId, leader: Option<Leader>) {
        let AttemptId { task: id, number } = attempt;
        let known = self
            .tasks
            .get(&id)
            .and_then(|task| task.last_attempt())
            .is_some_and(|last| last.leader.is_some());
        if known {
            return;
        }
        self.change(id, |task| {
            if let Some(attempt) = task.attempts.last_mut() {
                attempt.leader = leader;
            }
        });
        self.record(
            id,
            now,
            Fact::AttemptStarted {
                attempt: number,
                leader,
            },
        );
    }

    fn alive(&mut self, now: Now, id: TaskId) {
        if self.tasks.get(&id).and_then(|task| task.phase()) == Some(&Phase::Starting) {
            self.change(id, |task| {
                task.state = State::Running {
                    phase: Phase::Live,
                    since: now.wall,
                }
            });
        }
    }

    fn finishing(&mut self, now: Now, id: TaskId) {
        let phase = self.tasks.get(&id).and_then(|task| task.phase());
        if matches!(phase, Some(Phase::Starting | Phase::Live)) {
            self.change(id, |task| {
                task.state = State::Running {
                    phase: Phase::Finishing,
                    since: now.wall,
                }
            });
        }
    }

    fn ended(&mut self, now: Now, attempt: AttemptId, ending: Ending) {
        let AttemptId { task: id, number } = attempt;
        let Some(task) = self.tasks.get(&id) else {
            return;
        };
        let Some(phase) = task.phase() else { return };
        let account = task.request.account.clone();
        let conclusion = conclude(phase, &ending);
        self.effect(Action::Release(attempt));
        match conclusion {
            Conclusion::BackToReady => self.back_to_ready(now, id),
            Conclusion::End { outcome, reason } => {
                let limited = matches!(&reason, Some(reason) if reason.class == crate::outcome::ReasonClass::RateLimit);
                let ended = Ended {
                    at: now.wall,
                    outcome,
                    reason: reason.clone(),
                    ..ended_facts(&ending, now)
                };
                self.close_attempt(attempt, ended, &ending);
                match account {
                    Some(account) if limited => self.park(now, id, account, &ending),
                    account => {
                        if let Some(account) = account {
                            self.probe_is_over(now, &account, attempt);
                        }
                        self.record(
                            id,
                            now,
                            Fact::AttemptEnded {
                                attempt: number,
                                outcome,
                                reason: reason.clone(),
                            },
                        );
                        self.finish(now, id, outcome, reason);
                    }
                }
            }
        }
    }

    fn close_attempt(&mut self, attempt: AttemptId, ended: Ended, ending: &Ending) {
        self.change(attempt.task, |task| {
            if let Some(last) = task.attempts.last_mut() {
                last.ended = Some(ended);
            }
        });
        if let Some(outputs) = &ending.outputs {
            self.pending
                .documents
                .push((DocumentKey::Outputs(attempt), outputs.clone()));
        }
    }

    /// The attempt did not happen: its number is free again.
    pub(super) fn back_to_ready(&mut self, now: Now, id: TaskId) {
        self.change(id, |task| {
            task.attempts.pop();
            task.state = State::Ready {
                since: task.created_at,
            };
        });
        self.record(id, now, Fact::BackToReady);
    }

    /// A usage limit is the account's, not the task's: every task of the account waits, and no attempt is used up.
    fn park(&mut self, now: Now, id: TaskId, account: AccountKey, ending: &Ending) {
        let parked = Parked::from_limit(now.wall, ending.retry_after, self.accounts.get(&account));
        let until = parked.until;
        self.set_account(account.clone(), Some(parked));
        let queued = self.tasks.values().filter(|task| {
            task.request.account.as_ref() == Some(&account)
                && matches!(
                    task.state,
                    State::Ready { .. }
                        | State::Waiting { .. }
                        | State::Running {
                            phase: Phase::Assigned,
                            ..
                        }
                )
        });
        let ids: Vec<TaskId> = queued.map(|task| task.id).chain([id]).collect();
        for id in ids {
            self.change(id, |task| {
                if task.phase() == Some(&Phase::Assigned) {
                    task.attempts.pop();
                }
                task.state = State::Waiting {
                    until,
                    why: WaitingFor::Account(account.clone()),
                };
            });
            self.record(
                id,
                now,
                Fact::Parked {
                    account: account.clone(),
                    until,
                },
            );
        }
    }

    fn account_works(&mut self, now: Now, id: TaskId) {
        let account = self
            .tasks
            .get(&id)
            .and_then(|task| task.request.account.clone());
        if let (Some(account), Some(attempt)) = (account, self.attempt_id(id)) {
            self.probe_is_over(now, &account, attempt);
        }
    }

    /// The attempt that went first after a limit met none, so the others may go. An answer to an attempt that was under way before
    /// the limit says nothing.
    fn probe_is_over(&mut self, now: Now, account: &AccountKey, attempt: AttemptId) {
        let over = self
            .accounts
            .get(account)
            .is_some_and(|parked| parked.probe == Some(attempt) && parked.until <= now.wall);
        if over {
            self.set_account(account.clone(), None);
        }
    }
}

fn ended_facts(ending: &Ending, now: Now) -> Ended {
    Ended {
        at: now.wall,
        outcome: crate::outcome::Outcome::Lost,
        reason: None,
        exit_code: ending.exit_code,
        signal: ending.signal,
        usage: ending.usage,
        cost_micro_usd: ending.cost_micro_usd,
    }
}
