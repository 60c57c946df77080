//! Learns from an attempt's use of resources what the next attempt of its class will need.

use super::Answer;
use crate::{
    attempt::Usage,
    board::Board,
    id::TaskId,
    lane::Lane,
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

    /// Forgets all classes of the executor. Their tasks are admitted by guessed needs again.
    pub(super) fn forget_profiles(&mut self, executor: &str) -> Answer {
        let taught = self.capacity.profiles.forget(executor);
        let forgotten = taught.changed.len();
        self.pending.profiles.extend(taught.changed);
        for class in taught.trust_of {
            self.change_lanes(&class);
        }
        Answer::Forgotten(forgotten)
    }

    /// Moves the tasks of a class that has become trusted into lanes of their own, and the tasks of
    /// a class that is no longer trusted into the lane of their executor.
    fn change_lanes(&mut self, class: &ProfileKey) {
        let executor = class.of_executor();
        let concerned = |lane: &Lane| lane.profile == *class || lane.profile == executor;
        let lanes = self.lanes.iter().map(|(lane, _)| lane);
        let lanes: Vec<Lane> = lanes.filter(|lane| concerned(lane)).cloned().collect();
        for lane in lanes {
            let line = self.lanes.take(lane.clone());
            for rank in line.ready {
                let lane = self.lane_of(rank.1, &lane);
                self.lanes.insert_ready(lane, rank);
            }
            for (rank, batch) in line.assigned {
                let lane = self.lane_of(rank.1, &lane);
                self.lanes.insert_assigned(lane, rank, batch);
            }
        }
    }

    fn lane_of(&self, id: TaskId, before: &Lane) -> Lane {
        let task = self.tasks.get(&id);
        task.map_or_else(|| before.clone(), |task| self.lane(task))
    }
}

/// Whether an attempt that ended like this ran long enough to show all its needs.
fn ran_to_its_end(outcome: Outcome, reason: Option<&Reason>) -> bool {
    let class = reason.map(|reason| reason.class);
    outcome == Outcome::Succeeded
        || matches!(class, Some(ReasonClass::Exit | ReasonClass::MaxTurns))
}
