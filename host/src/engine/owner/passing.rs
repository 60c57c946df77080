//! The passage of time: when the loop wakes, and when it applies time limits.

use std::time::Duration;

use claudine_domain::{
    step::Input,
    time::{MonotonicMs, Now},
};

use super::Owner;
use crate::clock;

/// The longest sleep while a task waits for a time of the wall clock, so that a jump of the wall
/// clock is noticed soon.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);
/// The longest sleep otherwise.
const LONG: Duration = Duration::from_hours(1);
/// If the wall clock goes back by at most this time, it does not count as set back, because it may
/// be slewed.
const SET_BACK: Duration = Duration::from_secs(1);
/// The delay of a round from which this process counts as having been suspended or frozen.
const FROZEN_FROM: Duration = Duration::from_secs(1);
/// For how long no time limit is applied after that. Until then, attempts tell what has happened
/// meanwhile: they may have given their signs of life, or ended, before their limits.
const LOOK_AROUND: Duration = Duration::from_secs(2);
/// The maximum number of late rounds in a row that postpone time limits: a process may be suspended
/// again as soon as it goes on, but a loop that is always late must apply them too.
const IN_A_ROW: u32 = 3;

/// How long the loop sleeps at most if a time limit passes after this time. It also wakes a moment
/// before the limit, because a sleep up to the limit would not show that this process was frozen
/// until just after it.
fn up_to_limit(left: Duration) -> Duration {
    match left.checked_sub(FROZEN_FROM) {
        Some(earlier) if !earlier.is_zero() => earlier,
        _ => left,
    }
}

/// Notices that the loop has woken too late.
#[derive(Default)]
pub(super) struct Waking {
    /// When the loop wakes at the latest.
    due: Option<MonotonicMs>,
    /// Until when no time limit is applied.
    postponed: Option<MonotonicMs>,
    /// The number of late rounds that have postponed time limits since they were applied last.
    in_a_row: u32,
}

impl Waking {
    /// Notes when the loop wakes at the latest.
    pub(super) fn sleeps_until(&mut self, due: MonotonicMs) {
        self.due = Some(due);
    }

    /// Whether time limits must not be applied in this round. A loop that is late again and again
    /// applies them after some postponements.
    fn postpones(&mut self, now: MonotonicMs) -> bool {
        let due = self.due.take();
        let is_late = due.is_some_and(|due| due.after(FROZEN_FROM) <= now);
        if is_late && self.in_a_row < IN_A_ROW {
            self.postponed = Some(now.after(LOOK_AROUND));
            self.in_a_row += 1;
        } else if self.postponed.is_none_or(|until| until <= now) {
            (self.postponed, self.in_a_row) = (None, 0);
        }
        self.postponed.is_some()
    }

    /// For how long no time limit is applied from now on.
    fn left(&self, now: MonotonicMs) -> Duration {
        let left = self
            .postponed
            .map_or(0, |until| until.0.saturating_sub(now.0));
        Duration::from_millis(left)
    }
}

impl Owner {
    pub(super) fn board_tick(&mut self, now: Now) {
        let (monotonic, wall) = self.board.next_tick();
        let is_passed = monotonic.is_some_and(|at| at <= now.monotonic)
            || wall.is_some_and(|at| at <= now.wall);
        let is_due = !self.waking.postpones(now.monotonic) && is_passed;
        let is_back = self
            .last_wall
            .is_none_or(|last| now.wall.after(SET_BACK) < last);
        self.last_wall = Some(now.wall);
        let back = is_back.then_some(Input::ClockSetBack);
        for input in back.into_iter().chain(is_due.then_some(Input::Tick)) {
            if let Err(refused) = self.board.step(now, input) {
                tracing::error!(%refused, "a tick was refused");
            }
        }
    }

    /// How long the loop sleeps at most.
    pub(super) fn until_next(&self, now: Now) -> Duration {
        let (monotonic, wall) = self.board.next_tick();
        let postponed = self.waking.left(now.monotonic);
        let until = |at: MonotonicMs| Duration::from_millis(at.0.saturating_sub(now.monotonic.0));
        let by_monotonic = monotonic.map(|at| up_to_limit(until(at)).max(postponed));
        let by_wall = wall.map(|at| {
            let left = Duration::from_millis(at.0.saturating_sub(now.wall.0));
            left.max(postponed)
        });
        let by_sample = self.next_sample.map(until);
        let by_batch = match (&self.in_flight, self.due) {
            (None, Some(due)) => Some(due.saturating_sub(clock::monotonic())),
            _ => None,
        };
        let longest = if wall.is_some() { LONGEST_SLEEP } else { LONG };
        let all = [by_monotonic, by_wall, by_sample, by_batch];
        all.into_iter().flatten().fold(longest, Duration::min)
    }
}

#[cfg(test)]
mod tests {
    use claudine_domain::time::millis;

    use super::*;

    #[test]
    fn no_time_limit_is_applied_for_a_moment_after_the_host_was_frozen() {
        let mut waking = Waking::default();
        let mut round = |now: u64, sleeps_until: u64| {
            let now = MonotonicMs(now);
            let postpones = waking.postpones(now);
            waking.sleeps_until(MonotonicMs(sleeps_until));
            (postpones, millis(waking.left(now)))
        };
        // The first round, one in time, one woken by a message, and one that is a little late.
        assert_eq!(round(0, 1_000), (false, 0));
        assert_eq!(round(1_000, 2_000), (false, 0));
        assert_eq!(round(1_500, 2_500), (false, 0));
        assert_eq!(round(3_499, 4_500), (false, 0));
        // Frozen for half a minute. Messages wake the loop meanwhile.
        assert_eq!(round(34_500, 36_500), (true, 2_000));
        assert_eq!(round(35_000, 36_500), (true, 1_500));
        assert_eq!(round(36_500, 37_500), (false, 0));
        assert_eq!(round(68_000, 69_000), (true, 2_000));
        assert_eq!(round(68_500, 70_000), (true, 1_500));
        // Frozen again within that moment: what has happened meanwhile is told once more.
        assert_eq!(round(99_000, 101_000), (true, 2_000));
        assert_eq!(round(101_000, 102_000), (false, 0));
    }

    #[test]
    fn a_time_limit_is_postponed_although_the_host_goes_on_just_after_it() {
        let limit = Duration::from_secs(10);
        let first = up_to_limit(limit);
        for (woken_after_ms, expected) in [(9_000, false), (9_999, false), (10_001, true)] {
            let mut waking = Waking::default();
            waking.sleeps_until(MonotonicMs(0).after(first));
            let postpones = waking.postpones(MonotonicMs(woken_after_ms));
            assert_eq!(postpones, expected, "{woken_after_ms}");
        }
        // The rest of the time is slept in one piece.
        let left = limit.saturating_sub(first);
        assert_eq!(up_to_limit(left), left);
        assert_eq!(up_to_limit(Duration::ZERO), Duration::ZERO);
    }

    #[test]
    fn a_loop_that_is_always_late_applies_time_limits_nevertheless() {
        for every in [1_500, 3_000, 60_000] {
            let mut waking = Waking::default();
            let rounds = (1..=100).map(|round| {
                let now = MonotonicMs(round * every);
                let postpones = waking.postpones(now);
                // Each round is late by a second or more.
                waking.sleeps_until(MonotonicMs(now.0 + every - 1_000));
                postpones
            });
            let postpones: Vec<bool> = rounds.collect();
            let applied = |rounds: &[bool]| rounds.iter().any(|postpones| !postpones);
            assert!(postpones.windows(6).all(applied), "{every}: {postpones:?}");
        }
    }
}
