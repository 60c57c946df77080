//! Handles reports of running attempts.

use std::time::Duration;

use super::{
    Answer, Cause, Ending, Report,
    conclude::{Conclusion, conclude},
    spend::may_be_unknown,
};
use crate::{
    account::{Parked, least_wait},
    attempt::{Attempt, Ended, Leader, Phase, Unreported},
    batch::{Action, DocumentKey},
    board::Board,
    capacity::LONGEST_ROOM_PAUSE,
    event::Fact,
    id::{AccountKey, AttemptId, TaskId},
    outcome::{Outcome, Reason, ReasonClass},
    task::{Class, State, Task, WaitingFor},
    time::Now,
};

impl Board {
    pub(super) fn report(&mut self, now: Now, attempt: AttemptId, report: Report) -> Answer {
        let AttemptId { task: id, number } = attempt;
        let task = self.tasks.get(&id).filter(|task| task.has_open_attempt());
        match task {
            Some(task) if task.last_attempt_id() == Some(attempt) => {
                // The start was sent, but the commit that records the start failed. The report
                // proves that the start was received.
                if matches!(task.phase(), None | Some(Phase::Assigned)) {
                    self.mark_started(now, id);
                }
            }
            _ => return self.report_of_ended(attempt, &report),
        }
        match report {
            Report::Prepared => self.is_prepared(now, id, attempt),
            Report::Started { leader } => self.started(now, attempt, leader),
            Report::Alive => self.alive(now, id),
            Report::Cost(micro_usd) => self.costs(now, id, micro_usd),
            Report::Session(session) if session.has_id() => self.change(id, |task| {
                if let Some(attempt) = task.attempts.last_mut() {
                    attempt.session = Some(session);
                }
            }),
            Report::Session(_) => {}
            Report::Branch(branch) => self.change(id, |task| {
                if let Some(attempt) = task.attempts.last_mut() {
                    attempt.branch = Some(branch);
                }
            }),
            Report::Doing(text) => self.change(id, |task| {
                if let Some(attempt) = task.attempts.last_mut() {
                    attempt.doing = Some(text);
                }
            }),
            Report::AccountWorks => self.account_works(now, attempt),
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
            Report::Checkpoint { number, state } => {
                self.pending
                    .documents
                    .push((DocumentKey::Checkpoint(attempt), state));
                self.effect(Action::CheckpointStored { attempt, number });
            }
            Report::Finishing => self.finishing(now, id),
            Report::Over => self.comes_to_rest(now, id),
            Report::GoesOn => self.goes_on(now, id),
            Report::Settling(ending) => self.settles(now, attempt, *ending),
            Report::Ended(ending) => self.ended(now, attempt, *ending),
        }
        Answer::Noted
    }

    /// Marks the attempt as prepared. It gets its turn to start at the next admission.
    fn is_prepared(&mut self, now: Now, id: TaskId, attempt: AttemptId) {
        match self.tasks.get(&id).and_then(|task| task.phase()) {
            Some(Phase::Preparing) => self.note_prepared(id, now),
            // The attempt already had its turn, but `Action::Spawn` did not reach it.
            Some(Phase::Starting | Phase::Live | Phase::Finishing) => {
                self.effect(Action::Spawn(attempt));
            }
            _ => {}
        }
    }

    /// Marks a preparing attempt as starting, because it has started a process or given a sign of
    /// life, and so had its turn.
    pub(super) fn has_turn(&mut self, now: Now, id: TaskId) {
        if self.tasks.get(&id).and_then(|task| task.phase()) == Some(&Phase::Preparing) {
            self.mark_starting(now, id);
        }
    }

    /// Stores the attempt's ending before anything is done with its work. If the attempt is being
    /// stopped, its work is not settled.
    fn settles(&mut self, now: Now, attempt: AttemptId, ending: Ending) {
        let AttemptId { task: id, number } = attempt;
        let phase = self.tasks.get(&id).and_then(|task| task.phase());
        if matches!(phase, None | Some(Phase::Stopping(_) | Phase::Assigned)) {
            return;
        }
        if phase != Some(&Phase::Settling) {
            if let Some(outputs) = &ending.outputs {
                let document = (DocumentKey::Outputs(attempt), outputs.clone());
                self.pending.documents.push(document);
            }
            let answered = Box::new(Ending {
                outputs: None,
                ..ending
            });
            self.enter(now, id, Phase::Settling, |task| {
                if let Some(last) = task.attempts.last_mut() {
                    last.answered = Some(answered);
                    last.doing = None;
                    last.is_over = false;
                }
            });
            self.record(id, now, Fact::AttemptSettling { attempt: number });
        }
        self.effect(Action::Settle(attempt));
    }

    /// Releases an attempt again if its end is reported again, because the earlier release was
    /// lost. Drops all other late reports.
    fn report_of_ended(&mut self, attempt: AttemptId, report: &Report) -> Answer {
        if matches!(report, Report::Ended(_)) {
            self.effect(Action::Release(attempt));
        }
        Answer::Stale
    }

    fn started(&mut self, now: Now, attempt: AttemptId, leader: Option<Leader>) {
        let AttemptId { task: id, number } = attempt;
        self.has_turn(now, id);
        let Some(task) = self.tasks.get(&id) else {
            return;
        };
        let leader_is_known = task
            .last_attempt()
            .is_some_and(|last| last.leader.is_some());
        let is_starting = task.phase() == Some(&Phase::Starting);
        // The report may be repeated, for example after a recovery. A new leader is noted even
        // while the attempt is being stopped, since the leader must be found if the supervisor
        // dies.
        if leader_is_known || (leader.is_none() && !is_starting) {
            return;
        }
        // If neither a start timeout nor a `serial_start` key depends on the first sign of life,
        // the start of the process counts as this sign.
        let request = &task.request;
        let is_live =
            is_starting && request.start_timeout.is_none() && request.serial_start.is_none();
        self.change(id, |task| {
            if let Some(attempt) = task.attempts.last_mut() {
                attempt.leader = leader;
            }
            if is_live {
                comes_alive(task, now);
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
        self.has_turn(now, id);
        if self.tasks.get(&id).and_then(|task| task.phase()) == Some(&Phase::Starting) {
            self.change(id, |task| comes_alive(task, now));
        }
        // The sign may be read only after the end.
        let task = self.tasks.get(&id);
        let last = task.and_then(|task| task.last_attempt());
        if last.is_some_and(|last| last.is_over && last.live_at.is_none()) {
            self.change(id, |task| {
                if let Some(last) = task.attempts.last_mut() {
                    last.live_at = Some(now.wall);
                }
            });
        }
    }

    pub(super) fn finishing(&mut self, now: Now, id: TaskId) {
        let phase = self.tasks.get(&id).and_then(|task| task.phase());
        if matches!(
            phase,
            Some(Phase::Preparing | Phase::Starting | Phase::Live)
        ) {
            self.change(id, |task| {
                task.state = State::Running {
                    phase: Phase::Finishing,
                    since: now.wall,
                }
            });
        }
    }

    fn ended(&mut self, now: Now, attempt: AttemptId, ending: Ending) {
        self.conclude(now, attempt, ending);
        self.effect(Action::Release(attempt));
    }

    /// Ends the attempt. If no other attempt follows, ends the task too.
    pub(super) fn conclude(&mut self, now: Now, attempt: AttemptId, ending: Ending) {
        let id = attempt.task;
        let Some(task) = self.tasks.get(&id) else {
            return;
        };
        let (Some(phase), Some(last)) = (task.phase(), task.last_attempt()) else {
            return;
        };
        let account = task.request.account.clone();
        let is_stopping = matches!(phase, Phase::Stopping(_));
        let conclusion = conclude(phase, last, &ending);
        // Nothing is assumed of an attempt that did nothing, nor of a command, which costs nothing
        // unless it says so.
        let is_agents_end =
            task.request.class == Class::Agent && matches!(conclusion, Conclusion::End { .. });
        let unreported = match ending.cost_micro_usd {
            None if is_agents_end => {
                // An agent that has met its limit has spent what it was allowed to spend.
                let is_over = ending.cause == Cause::Class(ReasonClass::Budget);
                let may_be_unknown = !is_over && may_be_unknown(task);
                last.unreported(ending.cost_at_most_micro_usd, may_be_unknown)
            }
            _ => Unreported::Nothing,
        };
        let charged = match unreported {
            Unreported::Assumed(micro_usd) => Some(micro_usd),
            Unreported::Nothing | Unreported::Unknown => ending.cost_micro_usd,
        };
        let request = task.request.clone();
        // If a probe did not succeed, perhaps it never asked the service. So the limit is not
        // ended, and the next attempt becomes the probe.
        if let Conclusion::End {
            outcome: Outcome::Succeeded,
            ..
        } = conclusion
        {
            self.account_works(now, attempt);
        }
        if let Some(micro_usd) = charged {
            self.book(now, id, micro_usd);
        }
        match conclusion {
            // This report may be repeated later. If the attempt's number were used again, the
            // repetition would withdraw the new start.
            Conclusion::BackToReady => {
                let reason = Reason::new(
                    ReasonClass::Lost,
                    format!("no supervisor received its start: {}", ending.message),
                );
                let ended = Ended {
                    never_began: true,
                    ..ended(&ending, now, Outcome::Lost, Some(reason))
                };
                self.close_attempt(now, attempt, ended, &ending);
                self.start_again(now, id, Outcome::Lost);
            }
            Conclusion::NoRoom => {
                let reason = Reason::new(ReasonClass::Resource, ending.message.clone());
                let ended = Ended {
                    never_began: true,
                    ..ended(&ending, now, Outcome::Failed, Some(reason))
                };
                self.close_attempt(now, attempt, ended, &ending);
                self.wait_for_room(now, id);
            }
            Conclusion::NoCode => {
                let reason = Reason::new(ReasonClass::Plugin, ending.message.clone());
                let ended = Ended {
                    never_began: true,
                    ..ended(&ending, now, Outcome::Failed, Some(reason))
                };
                self.close_attempt(now, attempt, ended, &ending);
                self.start_again(now, id, Outcome::Failed);
            }
            Conclusion::End {
                outcome,
                mut reason,
            } => {
                let of_budget = |reason: &Reason| reason.class == ReasonClass::Budget;
                let is_over = reason.as_ref().is_some_and(of_budget);
                // The executor knows the amount that its attempt was given, but not which budget
                // had only this amount left.
                if is_over
                    && !is_stopping
                    && let (Some(reason), Some(met)) = (&mut reason, self.budget_met(now, id))
                {
                    reason.message = met;
                }
                let next_day = self.next_day_for(now, id);
                let next_day = next_day.filter(|_| is_over && self.may_go_on(id));
                let ended = Ended {
                    cost_is_assumed: matches!(unreported, Unreported::Assumed(_)),
                    cost_is_unknown: unreported == Unreported::Unknown,
                    ..ended(&ending, now, outcome, reason.clone())
                };
                self.close_attempt(now, attempt, ended, &ending);
                self.learn(now, id, outcome, reason.as_ref(), &ending.usage);
                let is_limit = |reason: &Reason| reason.class == ReasonClass::RateLimit;
                let limited = account.filter(|_| reason.as_ref().is_some_and(is_limit));
                let waits = limited.is_some() && self.may_go_on(id);
                if let Some(account) = limited {
                    let rest = self.rest_after(now, id).filter(|_| waits);
                    if rest.is_some() {
                        self.change(id, |task| task.retry_at = rest);
                    }
                    self.park(now, account, &ending, waits.then_some(id));
                }
                if let Some(until) = next_day {
                    let wait_ms = until.0.saturating_sub(now.wall.0);
                    self.try_again(now, id, Duration::from_millis(wait_ms));
                } else if !waits {
                    match self.delay_before_retry(now, attempt, outcome, reason.as_ref()) {
                        Some(delay) => self.try_again(now, id, delay),
                        None => self.finish(now, id, outcome, reason),
                    }
                }
            }
        }
        if charged.is_some() {
            self.end_graph_over_budget(now, &request);
        }
    }

    fn delay_before_retry(
        &self,
        now: Now,
        attempt: AttemptId,
        outcome: Outcome,
        reason: Option<&Reason>,
    ) -> Option<Duration> {
        let task = self.tasks.get(&attempt.task)?;
        let policy = task.request.retries.as_ref()?;
        if !self.may_go_on(attempt.task) {
            return None;
        }
        let delay = policy.delay_after(
            attempt,
            &task.attempts,
            task.request.account.is_some(),
            outcome,
            reason.map(|reason| reason.class),
        )?;
        let rest = self.rest_after(now, attempt.task).unwrap_or(now.wall);
        let rest_ms = rest.0.saturating_sub(now.wall.0);
        Some(delay.max(Duration::from_millis(rest_ms)))
    }

    /// Delays the next attempt of the task, and for a moment all other starts, since running
    /// attempts must end first.
    fn wait_for_room(&mut self, now: Now, id: TaskId) {
        let Some(task) = self.tasks.get(&id) else {
            return;
        };
        let times = never_began_in_a_row(task);
        if !self.may_have_another(id) {
            let last = task.last_attempt().and_then(|last| last.ended.as_ref());
            let reason = last.and_then(|ended| ended.reason.clone());
            return self.finish(now, id, Outcome::Failed, reason);
        }
        self.capacity.note_no_room(now);
        self.try_again(now, id, least_wait(times).min(LONGEST_ROOM_PAUSE));
    }

    /// Schedules the task's next attempt after a delay.
    fn try_again(&mut self, now: Now, id: TaskId, delay: Duration) {
        let until = now.wall.after(delay);
        self.change(id, |task| task.retry_at = Some(until));
        self.place(now, id, until);
        self.record(id, now, Fact::RetryScheduled { until });
    }

    /// Stores an attempt's end with its event, whatever happens to its task. The task's state does
    /// not change yet, so its indexes are updated only once, with the state that follows.
    fn close_attempt(&mut self, now: Now, attempt: AttemptId, ended: Ended, ending: &Ending) {
        let AttemptId { task: id, number } = attempt;
        let (outcome, reason) = (ended.outcome, ended.reason.clone());
        self.change_unindexed(id, |task| {
            if let Some(last) = task.attempts.last_mut() {
                let so_far = last.cost_so_far_micro_usd.take();
                last.ended = Some(Ended {
                    cost_micro_usd: ended.cost_micro_usd.or(so_far),
                    ..ended
                });
                last.doing = None;
                last.answered = None;
                last.is_over = false;
            }
        });
        if let Some(outputs) = &ending.outputs {
            self.pending
                .documents
                .push((DocumentKey::Outputs(attempt), outputs.clone()));
        }
        self.record(
            id,
            now,
            Fact::AttemptEnded {
                attempt: number,
                outcome,
                reason,
            },
        );
    }

    /// Whether another attempt may follow automatically.
    fn may_go_on(&self, id: TaskId) -> bool {
        let task = self.tasks.get(&id);
        self.may_have_another(id) && task.is_some_and(|task| self.has_budget_left(task))
    }

    /// Whether the limit on attempts allows one more.
    fn may_have_another(&self, id: TaskId) -> bool {
        let task = self.tasks.get(&id);
        task.is_some_and(|task| task.attempts.len() < self.bounds.attempts)
    }

    /// Starts the task again after an attempt that never began. If several attempts in a row never
    /// began, each wait is longer than the last. If the limit on attempts allows no more, the task
    /// ends with this outcome.
    fn start_again(&mut self, now: Now, id: TaskId, otherwise: Outcome) {
        let Some(task) = self.tasks.get(&id) else {
            return;
        };
        let last = task.last_attempt().and_then(|last| last.ended.as_ref());
        let reason = last.and_then(|ended| ended.reason.clone());
        if !self.may_have_another(id) {
            return self.finish(now, id, otherwise, reason);
        }
        // A single failure may be an accident, so the task is retried at once.
        if let times @ 2.. = never_began_in_a_row(task) {
            let until = now.wall.after(least_wait(times - 1));
            self.change(id, |task| task.retry_at = Some(until));
        }
        self.back_to_ready(now, id);
    }

    /// Makes the task ready again as if the attempt had not happened. An attempt whose end is not
    /// stored is removed, and its number is used again, since no report of this attempt can come
    /// any more.
    pub(super) fn back_to_ready(&mut self, now: Now, id: TaskId) {
        let Some(task) = self.tasks.get(&id) else {
            return;
        };
        // The task's account may have been parked while the attempt was starting.
        let state = self.state_of(task, task.created_at, now);
        self.change(id, |task| {
            if task.last_attempt().is_some_and(|last| last.ended.is_none()) {
                task.attempts.pop();
            }
            task.state = state;
        });
        self.record(id, now, Fact::BackToReady);
    }

    /// Parks an account at a usage limit: all its queued tasks wait, and no retry is used up.
    /// `met_by` is the task that met the limit, if this task is to go on afterwards.
    fn park(&mut self, now: Now, account: AccountKey, ending: &Ending, met_by: Option<TaskId>) {
        let before = self.accounts.get(&account);
        let known = before.and_then(|parked| parked.limit.clone());
        let parked = Parked {
            limit: ending.limit.clone().or(known),
            ..Parked::from_limit(now.wall, ending.retry_after, before)
        };
        self.set_account(account.clone(), Some(parked.clone()));
        let why = WaitingFor::Account(account.clone());
        let queued = self.ids_where(|task| {
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
        for id in queued.into_iter().chain(met_by) {
            // Attempts that run at the same time meet the same limit. A task that already waits for
            // the end of the limit gets only one event.
            let Some(task) = self.tasks.get(&id) else {
                continue;
            };
            let waits = matches!(&task.state, State::Waiting { why: of, .. } if *of == why);
            if waits && task.state == self.state_of(task, now.wall, now) {
                continue;
            }
            let until = parked.until_for(&task.request.by);
            self.place(now, id, now.wall);
            if !waits {
                let account = account.clone();
                self.record(id, now, Fact::Parked { account, until });
            }
        }
    }

    /// Ends the account's limit if this attempt is the probe that tests the limit. The answer of
    /// the service to an attempt that began before the limit proves nothing.
    fn account_works(&mut self, now: Now, attempt: AttemptId) {
        let Some(task) = self.tasks.get(&attempt.task) else {
            return;
        };
        if let Some(account) = task.request.account.clone()
            && self.probes(&account, attempt)
        {
            self.lift(now, account);
        }
    }

    /// Ends the account's limit, and wakes the tasks that still wait for its announced end. There
    /// may be such tasks if the wall clock was set back, or if somebody started the probe at once.
    fn lift(&mut self, now: Now, account: AccountKey) {
        self.set_account(account.clone(), None);
        let why = WaitingFor::Account(account);
        let waits = |id: &TaskId| {
            let task = self.tasks.get(id);
            task.is_some_and(
                |task| matches!(&task.state, State::Waiting { why: of, .. } if *of == why),
            )
        };
        let waiting = self.waiting.iter().map(|(_, id)| *id);
        let waiting: Vec<TaskId> = waiting.filter(waits).collect();
        for id in waiting {
            self.wake(now, id);
        }
    }

    fn probes(&self, account: &AccountKey, attempt: AttemptId) -> bool {
        let parked = self.accounts.get(account);
        parked.is_some_and(|parked| parked.probe == Some(attempt))
    }
}

fn comes_alive(task: &mut Task, now: Now) {
    task.state = State::Running {
        phase: Phase::Live,
        since: now.wall,
    };
    if let Some(attempt) = task.attempts.last_mut() {
        attempt.live_at = Some(now.wall);
    }
}

/// Number of latest attempts in a row that never began.
fn never_began_in_a_row(task: &Task) -> u32 {
    let never_began = |attempt: &&Attempt| {
        let ended = attempt.ended.as_ref();
        ended.is_some_and(|ended| ended.never_began)
    };
    let latest = task.attempts.iter().rev().take_while(never_began);
    u32::try_from(latest.count()).unwrap_or(u32::MAX)
}

fn ended(ending: &Ending, now: Now, outcome: Outcome, reason: Option<Reason>) -> Ended {
    Ended {
        at: now.wall,
        outcome,
        reason,
        exit_code: ending.exit_code,
        signal: ending.signal,
        usage: ending.usage,
        cost_micro_usd: ending.cost_micro_usd,
        cost_is_assumed: false,
        cost_is_unknown: false,
        git: ending.git.clone(),
        merge: ending.merge.clone(),
        denied: ending.denied,
        output_bytes: ending.output_bytes,
        is_all_output: ending.is_all_output,
        files: ending.files,
        never_began: false,
    }
}
