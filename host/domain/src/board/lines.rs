//! The tasks that wait for a slot, by lane, and the first task of each class.
//!
//! The first task of each lane is also kept under the class whose profile decides whether the lane
//! is admitted. So if a class is refused, none of its lanes is looked at, however many there are.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::Arc,
};

use super::{Lane, Rank};
use crate::{
    batch::BatchNumber,
    capacity::Refusal,
    profile::ProfileKey,
    time::{MonotonicMs, Timestamp},
};

/// The tasks that wait for a slot in one lane.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Line {
    pub(crate) ready: BTreeSet<Rank>,
    /// Tasks with an attempt that was reserved before a slot was free, each with the batch of the
    /// reservation.
    pub(crate) assigned: BTreeMap<Rank, BatchNumber>,
}

impl Line {
    pub(crate) fn first(&self) -> Option<Rank> {
        let assigned = self.assigned.first_key_value().map(|(rank, _)| rank);
        self.ready
            .first()
            .into_iter()
            .chain(assigned)
            .min()
            .copied()
    }
}

#[derive(Debug, Default, PartialEq)]
pub(crate) struct Lines {
    by_lane: BTreeMap<Arc<Lane>, Line>,
    /// First task of each lane, by class.
    heads: BTreeMap<ProfileKey, BTreeMap<Rank, Arc<Lane>>>,
    /// Lanes whose tasks wait only for a slot.
    plain: BTreeSet<Arc<Lane>>,
}

impl Lines {
    pub(crate) fn get(&self, lane: &Lane) -> Option<&Line> {
        self.by_lane.get(lane)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Lane, &Line)> {
        self.by_lane.iter().map(|(lane, line)| (&**lane, line))
    }

    pub(crate) fn plain(&self) -> impl Iterator<Item = &Line> {
        self.plain.iter().filter_map(|lane| self.by_lane.get(lane))
    }

    pub(crate) fn insert_ready(&mut self, lane: Lane, rank: Rank) {
        self.edit(lane, |line| {
            line.ready.insert(rank);
        });
    }

    pub(crate) fn insert_assigned(&mut self, lane: Lane, rank: Rank, batch: BatchNumber) {
        self.edit(lane, |line| {
            line.assigned.insert(rank, batch);
        });
    }

    pub(crate) fn remove(&mut self, lane: Lane, rank: Rank) {
        self.edit(lane, |line| {
            line.ready.remove(&rank);
            line.assigned.remove(&rank);
        });
    }

    /// Removes a whole lane and returns it.
    pub(crate) fn take(&mut self, lane: Lane) -> Line {
        let mut taken = Line::default();
        self.edit(lane, |line| std::mem::swap(line, &mut taken));
        taken
    }

    /// First task of each class.
    pub(crate) fn first_of_classes(&self) -> BTreeMap<Rank, Arc<Lane>> {
        let firsts = self.heads.values().filter_map(BTreeMap::first_key_value);
        firsts.map(|(rank, lane)| (*rank, lane.clone())).collect()
    }

    /// Looks only at the first task of each lane of this class. Returns the rank and the lane of
    /// the next of these tasks after `after`.
    pub(crate) fn next_of_class(
        &self,
        class: &ProfileKey,
        after: Rank,
    ) -> Option<(Rank, Arc<Lane>)> {
        let heads = self.heads.get(class)?;
        let mut later = heads.range((Bound::Excluded(after), Bound::Unbounded));
        later.next().map(|(rank, lane)| (*rank, lane.clone()))
    }

    #[cfg(test)]
    pub(crate) fn heads_are_those_of(&self, other: &Self) -> bool {
        self.heads == other.heads
    }

    #[cfg(test)]
    pub(crate) fn all_plain(&self) -> impl Iterator<Item = &Line> {
        let lines = self.by_lane.iter().filter(|(lane, _)| lane.is_plain());
        lines.map(|(_, line)| line)
    }

    fn edit(&mut self, lane: Lane, edit: impl FnOnce(&mut Line)) {
        let (lane, mut line) = self
            .by_lane
            .remove_entry(&lane)
            .unwrap_or_else(|| (Arc::new(lane), Line::default()));
        let before = line.first();
        edit(&mut line);
        let after = line.first();
        if before != after {
            let heads = self.heads.entry(lane.profile.clone()).or_default();
            if let Some(before) = before {
                heads.remove(&before);
            }
            if let Some(after) = after {
                heads.insert(after, lane.clone());
            }
            if heads.is_empty() {
                self.heads.remove(&lane.profile);
            }
        }
        if after.is_none() {
            self.plain.remove(&lane);
            return;
        }
        if lane.is_plain() {
            self.plain.insert(lane.clone());
        }
        self.by_lane.insert(lane, line);
    }
}

/// Reasons why the last round started nothing more.
#[derive(Debug, Default)]
pub(crate) struct Standing {
    /// Classes for which the machine had no room or no slot was free.
    pub(crate) classes: BTreeMap<ProfileKey, Refusal>,
    /// Reason why a task was refused, if all tasks behind the refused one must wait too.
    pub(crate) held_back: Option<Refusal>,
    /// Whether a lane was refused for a reason that concerns only this lane.
    pub(crate) any_lane: bool,
    /// Whether a prepared attempt waits for room on the machine.
    pub(crate) any_prepared: bool,
    /// End of the day whose budget is spent, if a task waits for it.
    pub(crate) next_day: Option<Timestamp>,
    /// Time until which an agent waits at most for the ends of others.
    pub(crate) ends_first: Option<MonotonicMs>,
}

impl Standing {
    pub(crate) fn is_empty(&self) -> bool {
        let no_class = self.classes.is_empty() && self.held_back.is_none();
        no_class && !self.any_lane && !self.any_prepared
    }
}
