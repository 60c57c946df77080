//! Compares the board with a second board made from the same tasks, so that no index can diverge
//! unnoticed.
//!
//! The second board is made after every step from the same rows. Both boards share the rows, so
//! this takes little time. Facts that a new board cannot know are ignored: the batch of a
//! reservation, and the beginning of an attempt's phase.

use super::World;
use crate::{
    board::{Board, Clock, Line, Rank, Stored},
    id::TaskId,
    lane::Lane,
    profile::ProfileKey,
    started::SETTLING,
    time::{MonotonicMs, Now, Timestamp},
};

impl World {
    /// Checks that each index equals the index of a new board with the same tasks.
    pub(super) fn check_indexes(&self) {
        let (board, other) = (&self.board, &self.made_of_the_same());
        assert!(
            lanes(board).eq(lanes(other))
                && board.lanes.heads_are_those_of(&other.lanes)
                && board.lanes.plain().eq(board.lanes.all_plain()),
            "{:?} {:?}",
            board.lanes,
            other.lanes
        );
        assert_eq!(board.running, other.running);
        assert_eq!(board.stopping, other.stopping);
        assert_eq!(board.starting, other.starting);
        assert_eq!(board.descendants, other.descendants);
        assert_eq!(board.dependants, other.dependants);
        assert_eq!(board.blocked_at, other.blocked_at);
        assert!(board.chosen.keys().eq(other.chosen.keys()));
        assert_eq!(board.in_group, other.in_group);
        assert_eq!(board.waiting, other.waiting);
        assert!(
            clocks(board).eq(clocks(other)),
            "{:?} {:?}",
            board.clocks,
            other.clocks
        );
        let (started, all) = (&board.capacity.started, &other.capacity.started);
        assert!(
            started.running_of().eq(all.running_of())
                && settling(board, self.now).eq(settling(other, self.now))
                && settling_by_class(board, self.now).eq(settling_by_class(other, self.now)),
            "{started:?} {all:?}"
        );
        let by_age = &board.remembered_by_age;
        let is_remembered = |(at, key): &(Timestamp, String)| {
            let remembered = board.remembered.get(key);
            remembered.is_some_and(|remembered| remembered.at == *at)
        };
        assert!(by_age.iter().all(is_remembered));
        assert_eq!(by_age.len(), board.remembered.len());
    }

    fn made_of_the_same(&self) -> Board {
        let board = &self.board;
        let profiles = board.capacity.profiles.iter();
        let stored = Stored {
            profiles: profiles
                .map(|(key, profile)| (key.clone(), profile.clone()))
                .collect(),
            ..Stored::default()
        };
        let (limits, bounds) = (board.capacity.limits, board.bounds);
        let mut other = Board::new(stored, limits, bounds, board.clock_id.clone());
        other.take_up(board.tasks.values().cloned());
        other
    }
}

fn lanes(board: &Board) -> impl Iterator<Item = (&Lane, Vec<&Rank>, Vec<&Rank>)> {
    board.lanes.iter().map(|(lane, line)| {
        let Line { ready, assigned } = line;
        (lane, ready.iter().collect(), assigned.keys().collect())
    })
}

fn clocks(board: &Board) -> impl Iterator<Item = &(MonotonicMs, TaskId, Clock)> {
    let clocks = board.clocks.iter();
    clocks.filter(|(_, _, clock)| matches!(clock, Clock::Queue | Clock::Hard))
}

/// Settling attempts, without those that the board would forget the next time it checks the clock.
fn settling(board: &Board, now: Now) -> impl Iterator<Item = (TaskId, MonotonicMs)> {
    let settling = board.capacity.started.settling().iter();
    let settling = settling.map(|(task, start)| (*task, *start));
    settling.filter(move |(_, start)| start.after(SETTLING) > now.monotonic)
}

fn settling_by_class(
    board: &Board,
    now: Now,
) -> impl Iterator<Item = (&ProfileKey, MonotonicMs, TaskId)> {
    let classes = board.capacity.started.settling_by_class().iter();
    let settling = classes.flat_map(|(class, starts)| {
        let starts = starts.iter();
        starts.map(move |(start, task)| (class, *start, *task))
    });
    settling.filter(move |(_, start, _)| start.after(SETTLING) > now.monotonic)
}
