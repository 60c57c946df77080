//! Deadlines that the host watches.

use std::time::Duration;

use super::{Desk, Request, agent, ending, failure, kinds, limited, success};
use crate::{
    event::Fact,
    id::TaskId,
    outcome::ReasonClass,
    retry_policy::{Backoff, RetryPolicy},
    step::{Cause, Ending, Found, Input, Report},
    task::State,
    time::{MonotonicMs, Timestamp},
};

const SECOND: Duration = Duration::from_secs(1);

/// A desk with one task, whose attempt has begun.
fn begun(edit: impl FnOnce(&mut Request)) -> (Desk, TaskId) {
    let mut desk = Desk::new(1);
    let task = desk.submit(edit);
    desk.turn();
    (desk, task)
}

/// Checks that a limit stops the attempt after this time, and not a second earlier.
fn check_stop_after(desk: &mut Desk, task: TaskId, time: Duration, stop: &str) {
    let before = desk.word(task);
    desk.pass(time.saturating_sub(SECOND));
    assert_eq!(desk.word(task), before);
    desk.pass(SECOND);
    assert_eq!(desk.word(task), stop);
}

/// Tells the board whether the task's executor lacks its code.
fn tell_of_code(desk: &mut Desk, task: TaskId, is_lacking: bool) {
    let executor = desk.task(task).request.executor.clone();
    let lacks = is_lacking.then(|| "the disk is full".into());
    desk.step(Input::Code { executor, lacks }).unwrap();
}

/// Runs an attempt for `run` seconds, with a first sign of life at `alive_at`.
fn check(start: Option<u64>, hard: Option<u64>, alive_at: Option<u64>, run: u64, expected: &str) {
    let (mut desk, task) = begun(|request| {
        request.start_timeout = start.map(Duration::from_secs);
        request.timeout = hard.map(Duration::from_secs);
        // With a serial start, only a sign of life makes the attempt live.
        request.serial_start = Some("key".to_owned());
    });
    for second in 0..=run {
        if alive_at == Some(second) {
            desk.report(task, Report::Alive);
        }
        if second < run {
            desk.pass(SECOND);
        }
    }
    let what = format!("{start:?} {hard:?} {alive_at:?} {run}");
    assert_eq!(desk.word(task), expected, "{what}");
    let stops = usize::from(expected.starts_with("stopping"));
    assert_eq!(kinds(&desk.settle()), vec!["stop"; stops], "{what}");
}

#[test]
fn start_timeout_and_timeout_stop_an_attempt() {
    check(None, None, None, 99, "starting");
    check(Some(10), None, None, 9, "starting");
    check(Some(10), None, None, 10, "stopping:start_timeout");
    check(Some(10), None, Some(9), 99, "live");
    check(None, Some(20), None, 19, "starting");
    check(None, Some(20), None, 20, "stopping:timeout");
    check(None, Some(20), Some(1), 19, "live");
    check(None, Some(20), Some(1), 20, "stopping:timeout");
    check(Some(10), Some(20), Some(9), 20, "stopping:timeout");
    check(Some(20), Some(10), None, 10, "stopping:timeout");
    check(Some(10), Some(10), None, 10, "stopping:start_timeout");
}

/// An attempt that another host had started, whose executor this host cannot load.
#[test]
fn start_timeout_does_not_count_while_the_executor_lacks_its_code() {
    let (mut desk, task) = begun(|request| {
        request.start_timeout = Some(10 * SECOND);
        request.serial_start = Some("key".to_owned());
    });
    tell_of_code(&mut desk, task, true);
    for _ in 0..25 {
        desk.pass(SECOND);
    }
    assert_eq!(desk.word(task), "starting");
    tell_of_code(&mut desk, task, false);
    check_stop_after(&mut desk, task, 10 * SECOND, "stopping:start_timeout");
}

/// Its executor cannot be asked yet. What its processes have done decides how it ended.
#[test]
fn no_time_limit_stops_an_attempt_whose_processes_have_ended() {
    let check = |alive: bool, is_recovered: bool, end: Report, expected: &str| {
        let (mut desk, task) = begun(|request| {
            request.start_timeout = Some(10 * SECOND);
            request.timeout = Some(20 * SECOND);
            request.serial_start = Some("key".to_owned());
        });
        if alive {
            desk.report(task, Report::Alive);
        }
        if is_recovered {
            // The limit passes without a host.
            desk.settle();
            desk.now.monotonic = desk.now.monotonic.after(30 * SECOND);
            desk.reload();
            desk.recovered(task, Found::Over);
        } else {
            desk.report(task, Report::Over);
        }
        desk.pass(99 * SECOND);
        assert_eq!(desk.word(task), "finishing", "{alive} {is_recovered}");
        assert_eq!(desk.board.next_tick(), (None, None));
        desk.report(task, end);
        assert_eq!(desk.word(task), expected, "{alive} {is_recovered}");
    };
    for alive in [false, true] {
        for is_recovered in [false, true] {
            check(alive, is_recovered, success(), "succeeded");
            let exit = failure(ReasonClass::Exit);
            check(alive, is_recovered, exit, "failed:exit");
        }
    }
}

/// The host learns of the end only after the limit has passed.
#[test]
fn task_that_failed_by_itself_before_its_time_limit_has_failed_and_not_timed_out() {
    for (failed_by_itself, is_cancelled, expected) in [
        (true, false, "failed:exit"),
        (false, false, "timed_out:timeout"),
        (true, true, "cancelled:cancelled"),
    ] {
        let (mut desk, task) = begun(|request| request.timeout = Some(20 * SECOND));
        desk.report(task, Report::Alive);
        if is_cancelled {
            desk.cancel(task).unwrap();
        }
        desk.pass(20 * SECOND);
        let ended = Ending {
            failed_by_itself,
            ..ending(Cause::Class(ReasonClass::Exit))
        };
        desk.report(task, Report::Ended(Box::new(ended)));
        assert_eq!(desk.word(task), expected);
    }
}

#[test]
fn time_limits_count_again_once_another_process_of_the_attempt_starts() {
    let (mut desk, task) = begun(|request| request.timeout = Some(20 * SECOND));
    desk.report(task, Report::Alive);
    desk.report(task, Report::Over);
    desk.pass(10 * SECOND);
    desk.report(task, Report::GoesOn);
    assert_eq!(desk.word(task), "live");
    check_stop_after(&mut desk, task, 10 * SECOND, "stopping:timeout");
    // Without a sign of life, the start goes on.
    let (mut desk, task) = begun(|request| request.start_timeout = Some(10 * SECOND));
    desk.report(task, Report::Over);
    desk.pass(99 * SECOND);
    desk.report(task, Report::GoesOn);
    assert_eq!(desk.word(task), "starting");
    check_stop_after(&mut desk, task, 10 * SECOND, "stopping:start_timeout");
}

/// The host need not wait for an executor that may never have code.
#[test]
fn host_is_at_rest_if_only_executors_without_code_have_to_say_how_attempts_ended() {
    let check = |reports: &[Report], lacks: bool, stops: bool, waited: u64, expected: bool| {
        let (mut desk, task) = Desk::in_phase("live");
        for report in reports {
            desk.report(task, report.clone());
        }
        if lacks {
            tell_of_code(&mut desk, task, true);
        }
        if stops {
            desk.cancel(task).unwrap();
        }
        desk.pass(Duration::from_secs(waited));
        let found = desk.board.is_at_rest(desk.now);
        assert_eq!(found, expected, "{reports:?} {lacks} {stops} {waited}");
    };
    let over = [Report::Over];
    for stops in [false, true] {
        check(&[], true, stops, 0, false);
        check(&[Report::Finishing], true, stops, 99, false);
        check(&over, true, stops, 0, true);
        check(&over, false, stops, 4, false);
        check(&over, false, stops, 5, true);
        check(&[Report::Over, Report::GoesOn], true, stops, 99, false);
    }
    assert!(Desk::new(1).board.is_at_rest(Desk::new(1).now));
}

/// Such a limit would be over again as soon as it begins again.
#[test]
fn start_timeout_without_a_length_counts_although_the_executor_lacks_its_code() {
    for limit in [Duration::ZERO, Duration::from_micros(500)] {
        let (mut desk, task) = begun(|request| request.start_timeout = Some(limit));
        tell_of_code(&mut desk, task, true);
        desk.pass(SECOND);
        assert_eq!(desk.word(task), "stopping:start_timeout");
    }
}

#[test]
fn next_tick_is_the_earliest_deadline_if_there_is_one() {
    let mut desk = Desk::new(1);
    assert_eq!(desk.board.next_tick(), (None, None));
    let task = desk.submit(|request| {
        request.start_timeout = Some(10 * SECOND);
        request.timeout = Some(20 * SECOND);
    });
    assert_eq!(desk.board.next_tick(), (None, None));
    desk.turn();
    let at = |seconds: u32| Some(desk.now.monotonic.after(SECOND * seconds));
    assert_eq!(desk.board.next_tick(), (at(10), None));
    let hard = at(20);
    desk.report(task, Report::Alive);
    assert_eq!(desk.board.next_tick(), (hard, None));
    desk.report(task, Report::Finishing);
    assert_eq!(
        desk.board.next_tick(),
        (None, None),
        "the supervisor watches all other deadlines"
    );
    desk.report(task, success());
    assert_eq!(desk.board.next_tick(), (None, None));
}

#[test]
fn wall_clock_that_jumps_ahead_stops_no_attempt() {
    let (mut desk, task) = Desk::in_phase("starting");
    desk.now.wall = Timestamp(u64::MAX / 2);
    desk.pass(SECOND);
    assert_eq!(desk.word(task), "starting");
}

/// A start time is a time of the wall clock, and is not changed. A delay counted from a moment does
/// not grow if the clock is set back.
#[test]
fn wall_clock_set_back_makes_no_delay_longer() {
    const DAY: Duration = Duration::from_hours(24);
    let until = |desk: &Desk, task: TaskId| match desk.task(task).state {
        State::Waiting { until, .. } => until,
        other => panic!("{other:?}"),
    };
    let mut desk = Desk::new(3);
    let tomorrow = desk.now.wall.after(DAY);
    let later = desk.submit(|request| request.start_at = Some(tomorrow));
    let retried = desk.submit(|request| {
        request.retries = Some(Box::new(RetryPolicy {
            limit: 3,
            backoff: Backoff {
                initial: 2 * SECOND,
                factor: 1,
                max: 2 * SECOND,
            },
            on: Vec::new(),
        }));
    });
    let parked = desk.submit(agent);
    desk.turn();
    desk.report(retried, failure(ReasonClass::Exit));
    desk.report(parked, limited(None));
    desk.settle();
    desk.now.wall = Timestamp(1_000);
    desk.step(Input::ClockSetBack).unwrap();
    desk.settle();
    let end = desk.now.wall.after(2 * SECOND);
    assert_eq!(until(&desk, retried), end);
    let told = Fact::RetryScheduled { until: end };
    assert_eq!(desk.facts_of(retried).last(), Some(&&told));
    let hour = desk.now.wall.after(Duration::from_hours(1));
    assert_eq!(until(&desk, parked), hour);
    assert_eq!(until(&desk, later), tomorrow);
    desk.pass(2 * SECOND);
    assert_eq!(desk.word(retried), "ready");
    // The next host does not know the earlier time. It finds no wait that is too long.
    let before = desk.facts_of(parked).len();
    desk.reload();
    desk.step(Input::ClockSetBack).unwrap();
    desk.settle();
    assert_eq!(desk.facts_of(parked).len(), before);
    assert_eq!(until(&desk, parked), hour);
}

#[test]
fn deadlines_of_another_boot_are_ignored() {
    let (mut desk, task) = Desk::in_phase("live");
    desk.reload_on("boot-2");
    desk.recovered(task, Found::Orphaned);
    desk.now.monotonic = MonotonicMs(u64::MAX / 2);
    desk.pass(SECOND);
    assert_eq!(desk.word(task), "live");
    assert_eq!(desk.board.next_tick(), (None, None));
}

#[test]
fn timeout_stops_an_attempt_that_a_new_host_has_taken_over() {
    let (mut desk, task) = Desk::in_phase("live");
    desk.reload();
    desk.recovered(task, Found::Known);
    desk.pass(Duration::from_hours(1));
    assert_eq!(desk.word(task), "stopping:timeout");
}

#[test]
fn start_timeout_begins_anew_when_a_host_takes_over_the_attempt() {
    // Signs of life that were given without a host are reported after the recovery.
    let (mut desk, task) = Desk::in_phase("starting");
    desk.reload();
    desk.pass(Duration::from_mins(30));
    assert_eq!(desk.word(task), "starting");
    desk.recovered(task, Found::Known);
    check_stop_after(&mut desk, task, 120 * SECOND, "stopping:start_timeout");
}
