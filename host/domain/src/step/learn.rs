//! What an attempt had in use is held for what the next one of its class will need.

use super::Answer;
use crate::{
    attempt::Usage,
    board::{Board, Lane, Line},
    id::TaskId,
    outcome::{Outcome, Reason, ReasonClass},
    profile::{ProfileKey, Sample},
    time::Now,
};

impl Board {
    pub(super) fn learn(
        &mut self,
        now: Now,
        id: TaskId,
        outcome: Outcome,
        reason: Option<&Reason>,
        usage: &Usage,
    ) {
        let total = self
            .capacity
            .reading()
            .map(|reading| reading.memory_total_bytes);
        let (Some(task), Some(sample)) = (self.tasks.get(&id), Sample::of(usage, total)) else {
            return;
        };
        let class = ProfileKey::of(&task.request);
        let is_whole = ran_to_its_end(outcome, reason);
        let profiles = &mut self.capacity.profiles;
        let taught = profiles.learn(&class, sample, is_whole, now.wall);
        self.pending.profiles.extend(taught.changed);
        for class in taught.trust_of {
            self.change_lanes(&class);
        }
    }

    /// All classes of the executor are forgotten, and their tasks admitted by a guess again.
    pub(super) fn forget_profiles(&mut self, executor: &str) -> Answer {
        let taught = self.capacity.profiles.forget(executor);
        let forgotten = taught.changed.len();
        self.pending.profiles.extend(taught.changed);
        for class in taught.trust_of {
            self.change_lanes(&class);
        }
        Answer::Forgotten(forgotten)
    }

    /// Tasks of a class that is trusted from here on stand in lanes of their own, and those of one that is not any more in their
    /// executor's.
    fn change_lanes(&mut self, class: &ProfileKey) {
        let executor = class.of_executor();
        let concerned = |lane: &Lane| lane.profile == *class || lane.profile == executor;
        let lanes: Vec<Lane> = self
            .lanes
            .keys()
            .filter(|lane| concerned(lane))
            .cloned()
            .collect();
        for lane in lanes {
            let line = self.lanes.remove(&lane).unwrap_or_default();
            for rank in line.ready {
                self.line_of(rank.1, &lane).ready.insert(rank);
            }
            for (rank, batch) in line.assigned {
                self.line_of(rank.1, &lane).assigned.insert(rank, batch);
            }
        }
    }

    fn line_of(&mut self, id: TaskId, before: &Lane) -> &mut Line {
        let lane = self
            .tasks
            .get(&id)
            .map_or_else(|| before.clone(), |task| self.lane(task));
        self.lanes.entry(lane).or_default()
    }
}

/// Whether an attempt that ended so has shown all that it needs.
fn ran_to_its_end(outcome: Outcome, reason: Option<&Reason>) -> bool {
    let class = reason.map(|reason| reason.class);
    outcome == Outcome::Succeeded
        || matches!(class, Some(ReasonClass::Exit | ReasonClass::MaxTurns))
}
