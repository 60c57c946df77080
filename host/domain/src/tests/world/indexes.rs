//! The board against another one that is made of its tasks: no index has gone its own way.

use std::collections::{BTreeMap, BTreeSet};

use rustc_hash::FxHashMap;

use super::{World, boot_id};
use crate::{
    board::{Board, Clock, Stored},
    id::TaskId,
    id_set::IdSet,
    profile::{Profile, ProfileKey},
    task::Task,
    time::{MonotonicMs, Now, Timestamp},
};

impl World {
    /// No index has gone its own way: each is what a new board makes of the same tasks. Where nothing is on its way to the disk, the tasks are
    /// those on disk. Nothing waits for itself.
    pub(super) fn check_indexes(&self) {
        self.check_disk();
        self.check_acyclic();
        assert_eq!(
            Indexes::of(&self.board, self.now),
            Indexes::of(&self.loaded(), self.now)
        );
    }

    fn check_disk(&self) {
        let board = &self.board;
        if board.has_pending() || self.in_flight.is_some() {
            return;
        }
        let stored = self.disk.tasks.values().filter(|task| !task.is_done());
        assert!(
            stored.eq(board.unfinished().map(|task| &**task)),
            "the board is what is on disk"
        );
        assert_eq!(self.disk.accounts, board.accounts);
        assert!(self.disk.profiles.iter().eq(board.capacity.profiles.iter()));
    }

    /// Takes away what depends on nothing that is left, again and again, until nothing is left.
    fn check_acyclic(&self) {
        let mut left: BTreeSet<TaskId> = self.board.tasks.keys().copied().collect();
        while !left.is_empty() {
            let waits = |id: &TaskId| {
                let mut edges = self.board.tasks[id].dependencies.iter();
                edges.any(|edge| left.contains(&edge.task))
            };
            let waiting: BTreeSet<TaskId> = left.iter().copied().filter(waits).collect();
            assert!(waiting.len() < left.len(), "wait for each other: {left:?}");
            left = waiting;
        }
    }

    fn loaded(&self) -> Board {
        let board = &self.board;
        let stored = Stored {
            unfinished: board.unfinished().map(|task| Task::clone(task)).collect(),
            accounts: board.accounts.clone().into_iter().collect(),
            groups: board.groups.clone().into_iter().collect(),
            profiles: owned(board.capacity.profiles.iter()),
            spent: board.spent.clone().into_iter().collect(),
            ..Stored::default()
        };
        Board::new(
            stored,
            board.capacity.limits,
            board.bounds,
            boot_id(self.boot),
        )
    }
}

fn owned<'a>(
    profiles: impl Iterator<Item = (&'a ProfileKey, &'a Profile)>,
) -> Vec<(ProfileKey, Profile)> {
    profiles
        .map(|(key, profile)| (key.clone(), profile.clone()))
        .collect()
}

/// What is derived from the tasks.
#[derive(Debug, PartialEq)]
struct Indexes {
    lanes: String,
    running: BTreeSet<TaskId>,
    stopping: BTreeSet<TaskId>,
    starting: BTreeMap<String, BTreeSet<TaskId>>,
    descendants: BTreeMap<TaskId, BTreeSet<TaskId>>,
    dependants: FxHashMap<TaskId, IdSet>,
    blocked_at: FxHashMap<TaskId, usize>,
    in_group: BTreeMap<String, BTreeSet<TaskId>>,
    hard_clocks: Vec<(MonotonicMs, TaskId)>,
    waiting: BTreeSet<(Timestamp, TaskId)>,
    settling: BTreeMap<TaskId, MonotonicMs>,
    started: String,
}

impl Indexes {
    fn of(board: &Board, now: Now) -> Self {
        // In which batch an assignment was made is known only to the board that made it.
        let lanes: Vec<_> = board
            .lanes
            .iter()
            .map(|(lane, line)| (lane, &line.ready, line.assigned.keys().collect::<Vec<_>>()))
            .collect();
        let hard = |(at, task, clock): &(MonotonicMs, TaskId, Clock)| {
            (*clock != Clock::Start).then_some((*at, *task))
        };
        let mut capacity = board.capacity.clone();
        capacity.settle(now);
        Self {
            lanes: format!("{lanes:?}"),
            running: board.running.clone(),
            stopping: board.stopping.clone(),
            starting: board.starting.clone(),
            descendants: board.descendants.clone(),
            dependants: board.dependants.clone(),
            blocked_at: board.blocked_at.clone(),
            in_group: board.in_group.clone(),
            hard_clocks: board.clocks.iter().filter_map(hard).collect(),
            waiting: board.waiting.clone(),
            settling: capacity.started.settling().clone(),
            started: format!(
                "{:?} {:?}",
                capacity.started.running_of().collect::<Vec<_>>(),
                capacity.started.settling_of().collect::<Vec<_>>()
            ),
        }
    }
}
