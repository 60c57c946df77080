//! Running processes: their signs, their ends, and how their reports reach the host.

use std::{fmt::Write as _, sync::Arc};

use super::{
    super::{a_merge, ending, never_received, request, started},
    AGENTS, End, Process, Sign, World, pick,
};
use crate::{
    attempt::{Phase, StopWhy, Usage},
    batch::{Action, Effect},
    id::AttemptId,
    outcome::{Outcome, ReasonClass},
    step::{Cause, Ending, Input, Report, spent_by},
    worktree::MergeState,
};

impl World {
    pub(super) fn perform(&mut self, effects: Vec<Effect>) {
        for Effect { after, action } in effects {
            assert!(
                after <= self.durable,
                "{action:?} came before its batch was durable"
            );
            self.note(|transcript| writeln!(transcript, "{after} {action:?}"));
            match action {
                Action::Start(attempt) => self.start(attempt),
                Action::Spawn(attempt) => self.spawn(attempt),
                Action::Settle(attempt) => self.settle(attempt),
                Action::Resume(attempt) => self.resume(attempt),
                Action::Stop { attempt, why } => self.stop(attempt, why),
                Action::Release(attempt) => self.release(attempt),
                Action::CheckpointStored { .. } => {}
            }
        }
    }

    fn start(&mut self, attempt: AttemptId) {
        assert_eq!(self.board.attempt_id(attempt.task), Some(attempt));
        let task = self.board.tasks[&attempt.task].clone();
        let budget = task.request.budget_micro_usd;
        let spent = spent_by(&task.attempts);
        assert!(
            budget.is_none_or(|budget| spent < budget),
            "a task started without a remaining budget: {task:?}"
        );
        let may_cost = task.last_attempt().and_then(|last| last.may_cost_micro_usd);
        assert!(
            budget.is_none_or(|budget| may_cost.is_some_and(|most| most <= budget - spent)),
            "wrong remaining budget: {task:?}"
        );
        // The engine was told of the lack before it receives this report.
        if self.without_code.contains(&task.request.executor) {
            self.orphans.remove(&attempt);
            return self.end_unbegun(
                attempt,
                Ending {
                    no_code: true,
                    ..ending(Cause::Class(ReasonClass::Plugin))
                },
            );
        }
        if task.request.is_prepared_first() {
            assert!(
                !self.received.contains(&attempt),
                "{attempt} is prepared after its start"
            );
            assert!(
                self.preparing.insert(attempt),
                "{attempt} is prepared twice"
            );
            self.orphans.remove(&attempt);
            self.mail.push((attempt, Report::Prepared));
        } else {
            self.begin(attempt);
        }
    }

    /// Starts the first process. A repeated or late order starts nothing.
    fn spawn(&mut self, attempt: AttemptId) {
        if self.preparing.remove(&attempt) {
            let row = &self.disk.tasks[&attempt.task];
            assert_ne!(
                row.phase(),
                Some(&Phase::Preparing),
                "{attempt} is still being prepared"
            );
            self.begin(attempt);
        }
    }

    fn begin(&mut self, attempt: AttemptId) {
        if std::mem::take(&mut self.lose_next) {
            self.lost.insert(attempt);
            self.mail.push((attempt, never_received()));
            return;
        }
        assert!(self.received.insert(attempt), "{attempt} was started twice");
        self.orphans.remove(&attempt);
        let of_the_same = |(other, process): (&AttemptId, &Process)| {
            other.task == attempt.task && process.ended.is_none()
        };
        assert!(
            !self.processes.iter().any(of_the_same),
            "{attempt} runs beside an older attempt"
        );
        let pid = u32::try_from(self.received.len()).unwrap();
        let process = Process {
            pid,
            ..Process::default()
        };
        self.processes.insert(attempt, process);
        self.mail.push((attempt, started(pid)));
    }

    /// Settles the work. The ending is on disk by then.
    fn settle(&mut self, attempt: AttemptId) {
        let row = &self.disk.tasks[&attempt.task];
        let told = row.attempts.iter().find(|one| one.number == attempt.number);
        assert!(
            told.is_some_and(|one| one.answered.is_some() || one.ended.is_some()),
            "{attempt} is settled before its ending is durable: {row:?}"
        );
        let Some(process) = self.processes.get_mut(&attempt) else {
            return;
        };
        if std::mem::take(&mut process.settles) {
            process.find_conflict();
            let ending = process.ended.clone().map(Box::new);
            let reports = ending.map(|ending| (attempt, Report::Ended(ending)));
            self.mail.extend(reports);
        }
    }

    fn resume(&mut self, attempt: AttemptId) {
        if self.preparing.contains(&attempt) {
            return self.mail.push((attempt, Report::Prepared));
        }
        if let Some(ending) = self.cut_short.get(&attempt) {
            let report = Report::Ended(Box::new(ending.clone()));
            return self.mail.push((attempt, report));
        }
        let row = self.board.tasks.get(&attempt.task);
        let is_answered = row
            .and_then(|row| row.last_attempt())
            .is_some_and(|last| last.answered.is_some());
        if is_answered
            && let Some(process) = self.processes.get_mut(&attempt)
            && std::mem::take(&mut process.settles)
        {
            process.find_conflict();
        }
        let Some(process) = self.processes.get(&attempt).cloned() else {
            if self.orphans.contains(&attempt) {
                self.mail.push((attempt, lost()));
                return;
            }
            assert!(
                self.lost.contains(&attempt),
                "{attempt} is to be taken over, but nobody knows it"
            );
            self.mail.push((attempt, never_received()));
            return;
        };
        self.mail.push((attempt, started(process.pid)));
        if process.alive {
            self.mail.push((attempt, Report::Alive));
        }
        let Some(ending) = process.ended.map(Box::new) else {
            return;
        };
        if process.settles {
            return self.mail.push((attempt, Report::Settling(ending)));
        }
        self.mail.push((attempt, Report::Ended(ending)));
    }

    fn stop(&mut self, attempt: AttemptId, why: StopWhy) {
        if self.preparing.remove(&attempt) {
            return self.end_unbegun(
                attempt,
                Ending {
                    stopped: Some(why),
                    ..ending(Cause::Class(ReasonClass::Cancelled))
                },
            );
        }
        if let Some(process) = self.processes.get_mut(&attempt)
            && std::mem::take(&mut process.settles)
        {
            // The work was not merged yet.
            let ending = process.ended.as_mut().map(|ending| {
                ending.stopped = Some(why);
                Box::new(ending.clone())
            });
            let reports = ending.map(|ending| (attempt, Report::Ended(ending)));
            return self.mail.extend(reports);
        }
        if self.processes.contains_key(&attempt) {
            let stopped = Ending {
                stopped: Some(why),
                ..ending(Cause::Class(ReasonClass::Signal))
            };
            self.process_ends(attempt, stopped);
        }
    }

    /// Ends an attempt that has no process yet.
    fn end_unbegun(&mut self, attempt: AttemptId, ending: Ending) {
        let report = Report::Ended(Box::new(ending.clone()));
        self.cut_short.insert(attempt, ending);
        self.mail.push((attempt, report));
    }

    /// The code of an executor cannot be had any more, or again. The engine learns of it.
    pub(super) fn code(&mut self, of_agents: bool, lacks: bool) {
        let executor = if of_agents {
            AGENTS.into()
        } else {
            request().executor
        };
        if lacks {
            self.without_code.insert(executor.clone());
        } else {
            self.without_code.remove(&executor);
        }
        self.tell_code(executor);
    }

    pub(super) fn tell_code(&mut self, executor: Arc<str>) {
        let lacks = self.without_code.contains(&executor);
        let lacks = lacks.then(|| "the disk is full".into());
        self.step(Input::Code { executor, lacks }).unwrap();
    }

    fn release(&mut self, attempt: AttemptId) {
        if let Some(process) = self.processes.remove(&attempt) {
            assert!(
                process.ended.is_some(),
                "{attempt} was forgotten while it ran"
            );
            let failed = process.ended.is_some_and(|ended| ended.failed_by_itself);
            let mut rows = self.disk.tasks[&attempt.task].attempts.iter();
            let row = rows.find(|row| row.number == attempt.number);
            let ended = row.and_then(|row| row.ended.as_ref());
            let timed_out = ended.is_some_and(|ended| ended.outcome == Outcome::TimedOut);
            assert!(
                !(failed && timed_out),
                "{attempt} had failed by itself before it timed out"
            );
        }
        self.lost.remove(&attempt);
        self.orphans.remove(&attempt);
        self.cut_short.remove(&attempt);
        let row = &self.disk.tasks[&attempt.task];
        let known = row
            .attempts
            .iter()
            .any(|kept| kept.number == attempt.number && kept.ended.is_some());
        assert!(
            known || !self.received.contains(&attempt),
            "{attempt} was released before its end was on disk: {row:?}"
        );
    }

    pub(super) fn sign(&mut self, number: usize, sign: Sign) {
        let ids: Vec<AttemptId> = self.processes.keys().copied().collect();
        let Some(attempt) = pick(&ids, number).copied() else {
            return;
        };
        let process = self.processes.get_mut(&attempt).unwrap();
        if process.ended.is_some() {
            return;
        }
        let report = match sign {
            Sign::Alive => {
                process.alive = true;
                Report::Alive
            }
            Sign::Finishing => Report::Finishing,
            Sign::AccountWorks => Report::AccountWorks,
            Sign::Cost => {
                process.cost_micro_usd += 1;
                Report::Cost(process.cost_micro_usd)
            }
            // A process that has ended keeps no other from its start. Repeated reports and those of
            // several processes may arrive in any order.
            Sign::Over => {
                process.alive = true;
                Report::Over
            }
            Sign::GoesOn => Report::GoesOn,
            Sign::Doing => Report::Doing("something".to_owned()),
            Sign::Progress => Report::Progress {
                kind: "k".to_owned(),
                data: String::new(),
            },
        };
        self.mail.push((attempt, report));
    }

    pub(super) fn end(&mut self, number: usize, end: End) {
        let ids: Vec<AttemptId> = self.processes.keys().copied().collect();
        let Some(attempt) = pick(&ids, number).copied() else {
            return;
        };
        let process = self.processes.get_mut(&attempt).unwrap();
        process.conflicts |= matches!(end, End::Conflict) && process.ended.is_none();
        let cost = process.cost_micro_usd;
        let ending = match end {
            End::Success | End::Conflict => Ending {
                usage: Usage {
                    wall_ms: 2_000,
                    cpu_ms: Some(100 * u64::from(attempt.number)),
                    peak_rss_bytes: Some(1 << 20),
                },
                ..ending(Cause::Success)
            },
            End::Exit => ending(Cause::Class(ReasonClass::Exit)),
            End::Budget => ending(Cause::Class(ReasonClass::Budget)),
            End::Limit(retry_after) => Ending {
                retry_after,
                ..ending(Cause::Class(ReasonClass::RateLimit))
            },
        };
        let ending = Ending {
            cost_micro_usd: (cost > 0).then_some(cost),
            failed_by_itself: ending.cause != Cause::Success,
            ..ending
        };
        self.process_ends(attempt, ending);
    }

    fn process_ends(&mut self, attempt: AttemptId, ending: Ending) {
        let process = self.processes.get_mut(&attempt).unwrap();
        if process.ended.is_none() {
            process.ended = Some(ending.clone());
            let has_worktree = self.disk.tasks[&attempt.task].request.worktree.is_some();
            process.settles =
                has_worktree && ending.cause == Cause::Success && ending.stopped.is_none();
            let executor = &self.disk.tasks[&attempt.task].request.executor;
            let is_unheard = ending.stopped.is_none() && self.without_code.contains(executor);
            let over = is_unheard.then_some((attempt, Report::Over));
            let ending = Box::new(ending);
            let report = if process.settles {
                Report::Settling(ending)
            } else {
                Report::Ended(ending)
            };
            self.mail.extend(over);
            self.mail.push((attempt, report));
        }
    }

    pub(super) fn deliver(&mut self, number: usize) {
        let Some(place) = number.checked_rem(self.mail.len()) else {
            return;
        };
        let (attempt, report) = self.mail.remove(place);
        self.told.push((attempt, report.clone()));
        self.step(Input::Report { attempt, report }).unwrap();
    }

    /// Ends all processes together with the supervisor. Its notes still show how attempts had ended
    /// before.
    pub(super) fn kill_processes(&mut self) {
        for process in self.processes.values_mut() {
            if process.ended.is_none() {
                process.ended = Some(ending(Cause::Class(ReasonClass::Lost)));
            }
        }
    }

    /// The host notices the supervisor's death, and receives every end.
    pub(super) fn supervisor_dies(&mut self) {
        let live = |(attempt, process): (&AttemptId, &Process)| {
            process.ended.is_none().then_some(*attempt)
        };
        let lost_now: Vec<AttemptId> = self.processes.iter().filter_map(live).collect();
        self.kill_processes();
        self.mail
            .extend(lost_now.into_iter().map(|attempt| (attempt, lost())));
    }
}

impl Process {
    /// Turns the ending into a failed merge, if the attempt is meant to conflict.
    fn find_conflict(&mut self) {
        if let Some(ending) = self.ended.as_mut().filter(|_| self.conflicts) {
            let merge = a_merge(MergeState::Conflict);
            ending.cause = Cause::Class(ReasonClass::Conflict);
            ending.merge = Some(Box::new(merge));
        }
    }
}

fn lost() -> Report {
    Report::Ended(Box::new(ending(Cause::Class(ReasonClass::Lost))))
}
