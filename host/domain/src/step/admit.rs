//! Starts tasks, and reserves the next ones.

use std::time::Duration;

use crate::{
    attempt::{Attempt, Phase},
    batch::{Action, BatchNumber, Effect},
    board::{Board, Line, PRIORITY_AGING, Rank, Standing, rank},
    budget::Day,
    capacity::{PATIENCE, Refusal, Slots},
    id::{AttemptId, TaskId},
    id_set::IdSet,
    lane::Lane,
    profile::ProfileKey,
    queue::Pause,
    task::{Class, State, Task},
    time::{MonotonicMs, Now, Timestamp},
};

/// Maximum number of attempts reserved ahead in each lane if the number of slots is not fixed.
const AHEAD_AUTO: usize = 8;
/// Number of attempts reserved ahead in each lane per slot: enough that a new reservation can wait
/// until the next commit makes it durable.
const AHEAD_PER_SLOT: usize = 8;
/// Maximum number of attempts reserved ahead in each lane: enough that after a burst of exits the
/// next attempts are already on disk.
const AHEAD_MAX: usize = 128;
/// Maximum number of dependencies that may follow the unfinished one in a blocked task's list if an
/// attempt is to be reserved for this task. To check more dependencies again and again would cost
/// more than the reservation saves.
const LOOKED_AT: usize = 64;

impl Board {
    /// Starts the tasks that may start, and reserves the next ones. Called after all inputs of a
    /// round.
    pub fn admit(&mut self, now: Now) {
        self.standing = Standing::default();
        self.capacity.settle(now);
        self.begin_prepared(now);
        if self.drain || self.queue.paused.is_some() {
            return;
        }
        let mut is_first = true;
        let mut heads = self.lanes.first_of_classes();
        while self.standing.held_back.is_none()
            && let Some((rank, lane)) = heads.pop_first()
        {
            let own = self.own_refusal(now, &lane);
            let is_own = own.is_err();
            let admitted = own.and_then(|()| self.room_for_class(&lane.profile));
            match admitted {
                Ok(()) => self.start(now, rank.1),
                Err(Refusal::Cpu { .. })
                    if std::mem::take(&mut is_first) && self.has_waited(now, rank.1) =>
                {
                    self.start(now, rank.1);
                    self.capacity.note_let_pass(rank.1);
                }
                Err(refusal) => {
                    self.past_refusals.note(&lane, &refusal, now.wall);
                    if self.must_be_let_pass(rank, &lane, &refusal, now) {
                        self.standing.held_back = Some(refusal);
                        break;
                    }
                    if !is_own {
                        // A start leaves less room, never more, so no other task of the class has
                        // room either.
                        self.standing.classes.insert(lane.profile.clone(), refusal);
                        continue;
                    }
                    self.standing.any_lane = true;
                    if let Refusal::DailyBudget { until, .. } = refusal {
                        self.standing.next_day = Some(until);
                    }
                    if let Refusal::EndsFirst { executor } = refusal {
                        let until = self.ends_first.get(executor.as_str()).copied();
                        let known = self.standing.ends_first.into_iter();
                        self.standing.ends_first = known.chain(until).min();
                    }
                }
            }
            heads.extend(self.lanes.next_of_class(&lane.profile, rank));
        }
        self.assign_ahead(now);
        self.choose_behind(now);
    }

    /// Reason why a lane is not admitted, if known: the lane's own reason, or the reason from the
    /// last round.
    pub(crate) fn refusal_of_lane(&self, lane: &Lane, now: Now) -> Option<Refusal> {
        if self.drain {
            return None;
        }
        if let Some(Pause { since, .. }) = self.queue.paused {
            return Some(Refusal::Paused { since });
        }
        let of_class = || self.standing.classes.get(&lane.profile).cloned();
        let own = self.own_refusal(now, lane).err();
        own.or_else(of_class)
            .or_else(|| self.standing.held_back.clone())
    }

    /// Whether a task that only the CPU load keeps from starting has waited long enough to start
    /// despite the load.
    fn has_waited(&self, now: Now, id: TaskId) -> bool {
        let state = self.tasks.get(&id).map(|task| &task.state);
        let Some(State::Ready { since, .. } | State::Running { since, .. }) = state else {
            return false;
        };
        // If the clock was set back, the length of the wait is unknown, and counts as long enough.
        let waited = now.wall.0.checked_sub(since.0);
        let waited = waited.map_or(PATIENCE, Duration::from_millis);
        self.capacity.lets_pass(waited)
    }

    /// Lets each prepared attempt start if no other attempt with the same `serial_start` is
    /// starting, and if the machine has room for it.
    fn begin_prepared(&mut self, now: Now) {
        let prepared = self.prepared.iter();
        let prepared: Vec<_> = prepared.map(|(id, since)| (*id, *since)).collect();
        for (id, since) in prepared {
            let key = self
                .tasks
                .get(&id)
                .and_then(|task| task.request.serial_start.as_ref());
            let has_turn = key.is_none_or(|key| !self.starting.contains_key(key));
            if has_turn
                && self.has_room_to_begin(now, id, since)
                && let Some(attempt) = self.attempt_id(id)
            {
                self.mark_starting(now, id);
                self.effect(Action::Spawn(attempt));
            }
        }
    }

    /// Whether the machine has room for an attempt that has been prepared since this time. The room
    /// was checked before the preparation, and kept free only for some time. The attempt keeps its
    /// slot, and comes before all tasks that wait for one.
    fn has_room_to_begin(&mut self, now: Now, id: TaskId, since: MonotonicMs) -> bool {
        let Some(task) = self.tasks.get(&id) else {
            return false;
        };
        if !self.capacity.started.is_slow(id) {
            return true;
        }
        let class = self.lane(task).profile;
        let is_of_client = task.request.by.restrained;
        let running = self.slots_in_use();
        let Err(refusal) = self.capacity.admit_prepared(&class, running) else {
            return true;
        };
        let waited = Duration::from_millis(now.monotonic.0.saturating_sub(since.0));
        if matches!(refusal, Refusal::Cpu { .. }) && self.capacity.lets_pass(waited) {
            self.capacity.note_let_pass(id);
            return true;
        }
        self.standing.any_prepared = true;
        let is_late = waited >= PRIORITY_AGING && !self.has_started(&class);
        // Attempts of clients never hold back what persons have submitted.
        if is_late && !is_of_client && refusal.ends_as_others_end() {
            self.standing.held_back = Some(refusal);
        }
        false
    }

    /// Whether an attempt of this class runs, and is not only being prepared.
    fn has_started(&self, class: &ProfileKey) -> bool {
        self.running.iter().any(|id| {
            let task = self.tasks.get(id);
            task.is_some_and(|task| {
                task.phase() != Some(&Phase::Preparing) && self.lane(task).profile == *class
            })
        })
    }

    /// Whether the tasks behind a refused task must wait until the refused task has started.
    /// Otherwise a stream of small tasks could keep a large task waiting for ever.
    ///
    /// The tasks behind must wait only if the refused task waits for the CPU or memory, and has
    /// waited for at least [`PRIORITY_AGING`]. They need not wait if another task of the refused
    /// task's class runs, because the refused task then waits for the end of that task, which may
    /// be hours away.
    fn must_be_let_pass(&self, rank: Rank, lane: &Lane, refusal: &Refusal, now: Now) -> bool {
        let (effective_since, _) = rank;
        refusal.ends_as_others_end()
            && Timestamp(effective_since).after(PRIORITY_AGING) <= now.wall
            && !self.has_started(&lane.profile)
    }

    fn room_for_class(&self, class: &ProfileKey) -> Result<(), Refusal> {
        self.capacity.admit(class, self.slots_in_use())
    }

    /// Checks all conditions of the lane except the slots and the machine.
    fn own_refusal(&self, now: Now, lane: &Lane) -> Result<(), Refusal> {
        if lane.profile.class == Class::Agent
            && let Some(level) = self.day_is_over(now)
        {
            let until = Day::of(now.wall).end();
            return Err(Refusal::DailyBudget { level, until });
        }
        let executor = &lane.profile.executor;
        if let Some(why) = self.without_code.get(executor) {
            return Err(Refusal::NoCode {
                executor: executor.to_string(),
                why: why.to_string(),
            });
        }
        if lane.profile.class == Class::Agent && self.must_tell_ends(now, executor) {
            return Err(Refusal::EndsFirst {
                executor: executor.to_string(),
            });
        }
        if let Some(key) = &lane.serial_start
            && self.starting.contains_key(key)
        {
            return Err(Refusal::SerialStart { key: key.clone() });
        }
        if let Some(account) = &lane.account
            && let Some(parked) = self.accounts.get(account)
        {
            // The account's limit should be over, since the state of a task of a parked account is
            // `waiting`, not `ready`. Only a probe can show whether the limit really is over.
            if parked.probe.is_some_and(|probe| self.runs(probe)) {
                return Err(Refusal::Probing {
                    account: account.0.clone(),
                });
            }
        }
        if let Some(by_restrained) = lane.prepared_for_restrained {
            self.may_be_prepared(by_restrained)?;
        }
        match &lane.group {
            Some(group) => self.group_has_room(group),
            None => Ok(()),
        }
    }

    /// Refuses a task that must be prepared while too many others are being prepared and some of
    /// them take long.
    fn may_be_prepared(&self, by_restrained: bool) -> Result<(), Refusal> {
        let started = &self.capacity.started;
        let is_alike = |id: &&TaskId| {
            let task = self.tasks.get(*id);
            task.is_some_and(|task| task.request.by.restrained == by_restrained)
        };
        if !started.slow().iter().any(|id| is_alike(&id)) {
            return Ok(());
        }
        let preparing = started.preparing().filter(is_alike).count();
        self.capacity.admit_preparation(preparing, by_restrained)
    }

    fn group_has_room(&self, name: &str) -> Result<(), Refusal> {
        let group = self.groups.get(name).copied().unwrap_or_default();
        if group.paused {
            return Err(Refusal::GroupPaused {
                group: name.to_owned(),
            });
        }
        let Some(limit) = group.limit else {
            return Ok(());
        };
        let running = self.running_in_group(name);
        if running >= limit as usize {
            return Err(Refusal::Group {
                group: name.to_owned(),
                running,
                most: limit,
            });
        }
        Ok(())
    }

    fn start(&mut self, now: Now, id: TaskId) {
        let Some(task) = self.tasks.get(&id) else {
            return;
        };
        let after = self.assigned_in(task).unwrap_or_else(|| {
            self.assign(now, id);
            self.pending.number
        });
        self.mark_started(now, id);
        let Some(attempt) = self.attempt_id(id) else {
            return;
        };
        self.mark_probe(id);
        self.pending.effects.push(Effect {
            after,
            action: Action::Start(attempt),
        });
    }

    /// Batch in which the task's attempt was reserved, if it was. The attempt may be started as
    /// soon as that batch is durable. If the host dies before it has stored that the attempt is
    /// starting, the next host finds a reserved attempt and asks the supervisor whether it received
    /// the start.
    fn assigned_in(&self, task: &Task) -> Option<BatchNumber> {
        let State::Running {
            phase: Phase::Assigned,
            since,
        } = &task.state
        else {
            return None;
        };
        let line = self.lanes.get(&self.lane(task))?;
        line.assigned.get(&rank(task, *since)).copied()
    }

    fn assign(&mut self, now: Now, id: TaskId) {
        self.change(id, |task| {
            let number = task.last_attempt().map_or(1, |last| last.number + 1);
            task.attempts.push(Attempt::new(number, now.wall));
            if let State::Ready { since, .. } = task.state {
                task.state = State::Running {
                    phase: Phase::Assigned,
                    since,
                };
            }
        });
    }

    /// Notes that the attempt is the probe that tests its account's limit, if the account was at a
    /// limit. The first attempt after the limit is the probe.
    fn mark_probe(&mut self, id: TaskId) {
        let Some(account) = self
            .tasks
            .get(&id)
            .and_then(|task| task.request.account.clone())
        else {
            return;
        };
        let attempt = self.attempt_id(id);
        if let Some(mut parked) = self.accounts.get(&account).cloned() {
            parked.probe = attempt;
            self.set_account(account, Some(parked));
        }
    }

    /// Reserves attempts of commands only. An agent starts so slowly that the time of a commit
    /// before its start does not matter.
    fn assign_ahead(&mut self, now: Now) {
        let ahead = self.ahead();
        let chosen: Vec<TaskId> = self
            .lanes
            .plain()
            .flat_map(|line| {
                let more = ahead.saturating_sub(line.assigned.len());
                line.ready.iter().take(more).map(|(_, id)| *id)
            })
            .collect();
        for id in chosen {
            self.assign(now, id);
        }
    }

    /// Reserves attempts of tasks that wait only for one running or reserved task. If that task
    /// ends as required, the waiting tasks start without a commit in between. The number of these
    /// reservations has the same limit as in a lane, however deep or wide the graph is.
    fn choose_behind(&mut self, now: Now) {
        let most = self.ahead();
        while let Some(upstream) = self.frontier.pop_first() {
            let dependants = self.dependants.get(&upstream);
            let dependants: Vec<TaskId> = dependants
                .into_iter()
                .flat_map(IdSet::iter)
                .take(most)
                .collect();
            for id in dependants {
                if self.chosen.len() >= most {
                    self.frontier.insert(upstream);
                    return;
                }
                if self.waits_only_for(id, upstream) {
                    self.assign(now, id);
                }
            }
        }
    }

    fn waits_only_for(&self, id: TaskId, upstream: TaskId) -> bool {
        let (Some(task), Some(blocked)) = (self.tasks.get(&id), self.blocked_at.get(&id)) else {
            return false;
        };
        let request = &task.request;
        let rest = &task.dependencies[blocked.place + 1..];
        let mut rest = rest.iter().map(|dependency| dependency.task);
        blocked.by == upstream
            && !task.has_open_attempt()
            && task.retry_at.is_none()
            && request.start_at.is_none()
            && !task.reads_others()
            && self.lane(task).is_plain()
            && rest.len() <= LOOKED_AT
            && !rest.any(|other| self.is_open(other))
    }

    /// Reserved attempts that are on disk and start next: as many as may be started at the same
    /// moment.
    pub fn next_to_start(&self, durable: BatchNumber) -> Vec<AttemptId> {
        if self.queue.paused.is_some() {
            return Vec::new();
        }
        let most = self.ahead() / AHEAD_PER_SLOT;
        let assigned = self.lanes.plain();
        let mut next: Vec<Rank> = assigned
            .flat_map(|line| line.assigned.iter().take(most))
            .filter(|(_, batch)| **batch <= durable)
            .map(|(rank, _)| *rank)
            .collect();
        next.sort_unstable();
        let behind = self.chosen.iter().filter(|(id, batch)| {
            let blocker = self.blocked_at.get(id);
            let is_next = blocker.is_some_and(|blocker| self.running.contains(&blocker.by));
            is_next && **batch <= durable
        });
        let behind = behind.map(|(id, _)| *id);
        let next = next.into_iter().map(|(_, id)| id).chain(behind);
        next.take(most)
            .filter_map(|id| self.attempt_id(id))
            .collect()
    }

    fn ahead(&self) -> usize {
        match self.capacity.limits.slots {
            Slots::Auto => AHEAD_AUTO,
            Slots::Fixed(slots) => (slots as usize)
                .saturating_mul(AHEAD_PER_SLOT)
                .clamp(AHEAD_PER_SLOT, AHEAD_MAX),
        }
    }

    /// Whether a lane has reservations that are not on disk yet, while fewer than half of the
    /// maximum number are on disk. The blocked tasks with a reservation count as one more lane.
    pub(crate) fn runs_out_of_chosen(&self, durable: BatchNumber) -> bool {
        let ahead = self.ahead();
        let few_on_disk = |all: usize, on_disk: usize| on_disk < all && on_disk * 2 < ahead;
        let is_on_disk = |batch: &&BatchNumber| **batch <= durable;
        let runs_out = |line: &Line| {
            let on_disk = line.assigned.values().filter(is_on_disk).count();
            few_on_disk(line.assigned.len(), on_disk)
        };
        let chosen_on_disk = self.chosen.values().filter(is_on_disk).count();
        self.lanes.plain().any(runs_out) || few_on_disk(self.chosen.len(), chosen_on_disk)
    }
}
