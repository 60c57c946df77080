//! Who starts next, and who is chosen ahead.

use std::collections::BTreeSet;

use crate::{
    attempt::{Attempt, Phase},
    batch::{Action, BatchNumber, Effect},
    board::{Board, Lane, Rank, rank},
    capacity::{Refusal, Slots},
    id::TaskId,
    task::{Class, State},
    time::Now,
};

/// How many are chosen ahead while the number of slots is not fixed.
const AHEAD_AUTO: usize = 4;
/// The most that are chosen ahead: enough that a burst of exits finds its successors on disk.
const AHEAD_MAX: usize = 128;

impl Board {
    /// Starts what may start, then chooses ahead. To be called after the inputs of a round were stepped.
    pub fn admit(&mut self, now: Now) {
        self.refusals.clear();
        if self.drain {
            return;
        }
        self.capacity.settle(now);
        let mut refused = BTreeSet::new();
        while let Some((rank, lane)) = self.next_candidate(&refused) {
            match self.may_start(&lane, now) {
                Ok(()) => self.start(now, rank.1),
                Err(refusal) => {
                    self.refusals.insert(lane.clone(), refusal);
                    refused.insert(lane);
                }
            }
        }
        self.assign_ahead(now);
    }

    /// The first in rank among the assigned and the heads of the lanes that were not refused in this round.
    fn next_candidate(&self, refused: &BTreeSet<Lane>) -> Option<(Rank, Lane)> {
        let assigned = self.assigned.keys().find_map(|rank| {
            let lane = Lane::of(self.tasks.get(&rank.1)?);
            (!refused.contains(&lane)).then_some((*rank, lane))
        });
        let heads = self
            .lanes
            .iter()
            .filter(|(lane, _)| !refused.contains(*lane));
        let ready = heads
            .filter_map(|(lane, ranks)| Some((*ranks.first()?, lane)))
            .min_by_key(|(rank, _)| *rank);
        match (assigned, ready) {
            (Some(assigned), Some(ready)) if ready.0 < assigned.0 => {
                Some((ready.0, ready.1.clone()))
            }
            (Some(assigned), _) => Some(assigned),
            (None, ready) => ready.map(|(rank, lane)| (rank, lane.clone())),
        }
    }

    fn may_start(&self, lane: &Lane, now: Now) -> Result<(), Refusal> {
        if let Some(key) = &lane.serial_start
            && self.starting.contains_key(key)
        {
            return Err(Refusal::SerialStart { key: key.clone() });
        }
        if let Some(account) = &lane.account
            && let Some(parked) = self.accounts.get(account)
        {
            let probing = parked
                .probe
                .is_some_and(|probe| self.attempt_id(probe.task) == Some(probe));
            if probing || parked.until > now.wall {
                return Err(Refusal::Probing {
                    account: account.0.clone(),
                });
            }
        }
        self.capacity.admit(lane.class, self.slots_in_use())
    }

    fn start(&mut self, now: Now, id: TaskId) {
        let Some(task) = self.tasks.get(&id) else {
            return;
        };
        let class = task.request.class;
        let after = self.durable_assignment(id).unwrap_or_else(|| {
            self.assign(now, id);
            self.pending.number
        });
        self.mark_started(now, id);
        let Some(attempt) = self.attempt_id(id) else {
            return;
        };
        self.mark_probe(id);
        self.capacity.note_start(class, now);
        self.pending.effects.push(Effect {
            after,
            action: Action::Start(attempt),
        });
    }

    /// The batch in which the task was assigned, if it was.
    fn durable_assignment(&self, id: TaskId) -> Option<BatchNumber> {
        let task = self.tasks.get(&id)?;
        let State::Running {
            phase: Phase::Assigned,
            since,
        } = &task.state
        else {
            return None;
        };
        self.assigned.get(&rank(task, *since)).copied()
    }

    fn assign(&mut self, now: Now, id: TaskId) {
        self.change(id, |task| {
            let State::Ready { since } = task.state else {
                return;
            };
            let number = task.last_attempt().map_or(1, |last| last.number + 1);
            task.attempts.push(Attempt::new(number, now.wall));
            task.state = State::Running {
                phase: Phase::Assigned,
                since,
            };
        });
    }

    /// After a usage limit the first attempt of the account is the one that tries.
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

    /// Commands only: an agent's start takes so long that a commit before it does not show.
    fn assign_ahead(&mut self, now: Now) {
        let ahead = match self.capacity.limits.slots {
            Slots::Auto => AHEAD_AUTO,
            Slots::Fixed(slots) => (slots as usize).saturating_mul(2).clamp(2, AHEAD_MAX),
        };
        let plain = Lane {
            class: Class::Command,
            serial_start: None,
            account: None,
        };
        while self.assigned.len() < ahead {
            let Some((_, id)) = self
                .lanes
                .get(&plain)
                .and_then(|ranks| ranks.first())
                .copied()
            else {
                return;
            };
            self.assign(now, id);
        }
    }
}
