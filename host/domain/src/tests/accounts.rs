//! Usage limits: parking an account, testing its limit, going on.

use std::time::Duration;

use super::{Desk, agent, failure, limited, never_received, starts, success};
use crate::{
    capacity::Slots,
    event::Fact,
    id::{AccountKey, TaskId},
    outcome::ReasonClass,
    step::{Found, Input, Refused, Report},
    task::{Request, State},
    time::Timestamp,
};

const MINUTE: Duration = Duration::from_mins(1);

fn until(desk: &Desk) -> Option<Timestamp> {
    let parked = desk.board.parked().get(&AccountKey("a".to_owned()));
    parked.map(|parked| parked.until)
}

/// An account at a limit that ends in a minute, met by the first of `count` tasks.
fn parked(count: usize) -> (Desk, Vec<TaskId>) {
    let mut desk = Desk::new(1);
    let tasks: Vec<TaskId> = (0..count).map(|_| desk.submit(agent)).collect();
    desk.turn();
    desk.report(tasks[0], limited(Some(MINUTE)));
    desk.settle();
    desk.board.capacity.limits = super::fixed(9);
    (desk, tasks)
}

#[test]
fn limit_parks_only_the_queued_tasks_of_its_account() {
    let mut desk = Desk::new(2);
    let [first, running] = [desk.submit(agent), desk.submit(agent)];
    let queued = desk.submit(agent);
    let other = desk.submit(|request| request.account = Some(AccountKey("b".to_owned())));
    let plain = desk.submit(|_| {});
    desk.turn();
    desk.report(first, limited(Some(MINUTE)));
    let all = [first, running, queued, other, plain];
    assert_eq!(
        desk.words(&all),
        ["waiting", "starting", "waiting", "ready", "assigned"]
    );
    let end = desk.now.wall.after(MINUTE);
    for task in [first, queued] {
        let State::Waiting { until, .. } = desk.task(task).state else {
            panic!("the task does not wait")
        };
        assert_eq!(until, end);
    }
    assert_eq!(starts(&desk.turn()), [other]);
    assert_eq!(desk.board.next_tick().1, Some(end));
}

#[test]
fn parked_task_keeps_its_place_in_the_queue() {
    let (mut desk, tasks) = parked(1);
    desk.step(Input::SetSlots(Some(Slots::Fixed(0)))).unwrap();
    desk.pass(MINUTE / 2);
    let later = desk.submit(|_| {});
    desk.pass(MINUTE);
    desk.step(Input::SetSlots(Some(Slots::Fixed(1)))).unwrap();
    assert_eq!(starts(&desk.turn()), tasks);
    assert_eq!(desk.word(later), "assigned");
}

#[test]
fn one_attempt_tests_the_limit_and_the_others_wait_for_its_result() {
    let check = |found: Report, expected: &[&str], next: usize| {
        let (mut desk, tasks) = parked(3);
        desk.pass(MINUTE);
        assert_eq!(desk.words(&tasks), ["ready", "ready", "ready"]);
        assert_eq!(starts(&desk.turn()), [tasks[0]], "one probe");
        assert_eq!(
            starts(&desk.turn()),
            [],
            "no other attempt starts while the probe is under way"
        );
        let what = format!("{found:?}");
        desk.report(tasks[0], found);
        assert_eq!(desk.words(&tasks), expected, "{what}");
        assert_eq!(starts(&desk.turn()).len(), next, "{what}");
    };
    check(Report::AccountWorks, &["starting", "ready", "ready"], 2);
    check(success(), &["succeeded", "ready", "ready"], 2);
    check(limited(None), &["waiting", "waiting", "waiting"], 0);
    // Perhaps the probe did not ask the service, so one more attempt starts as the next probe.
    check(
        failure(ReasonClass::Spawn),
        &["failed:spawn", "ready", "ready"],
        1,
    );
    check(never_received(), &["ready", "ready", "ready"], 1);
    check(Report::Alive, &["live", "ready", "ready"], 0);
}

#[test]
fn next_attempt_probes_after_the_first_is_cancelled() {
    let (mut desk, tasks) = parked(3);
    desk.pass(MINUTE);
    desk.turn();
    desk.cancel(tasks[0]).unwrap();
    assert_eq!(starts(&desk.turn()), []);
    desk.report(tasks[0], failure(ReasonClass::Signal));
    assert_eq!(starts(&desk.turn()), [tasks[1]]);
    // A retry of the first task in the meantime does not make this task the probe.
    let copy = desk.task(tasks[0]);
    desk.retry(&copy).unwrap();
    assert_eq!(starts(&desk.turn()), []);
    desk.report(tasks[1], success());
    assert_eq!(starts(&desk.turn()).len(), 2);
}

#[test]
fn retried_probe_does_not_wait_for_itself() {
    let (mut desk, tasks) = parked(1);
    desk.pass(MINUTE);
    desk.turn();
    desk.report(tasks[0], failure(ReasonClass::Exit));
    desk.settle();
    let copy = desk.task(tasks[0]);
    desk.retry(&copy).unwrap();
    assert_eq!(starts(&desk.turn()), [tasks[0]]);
}

#[test]
fn limit_met_by_concurrent_attempts_counts_once() {
    let mut desk = Desk::new(4);
    let tasks: Vec<TaskId> = (0..4).map(|_| desk.submit(agent)).collect();
    desk.turn();
    let start = desk.now.wall;
    for task in &tasks {
        desk.report(*task, limited(None));
        assert_eq!(until(&desk), Some(start.after(5 * MINUTE)));
        desk.pass(Duration::from_secs(1));
    }
    // Only a probe that meets the limit again makes the wait longer.
    desk.pass(5 * MINUTE);
    assert_eq!(starts(&desk.turn()).len(), 1);
    let probe = tasks
        .iter()
        .find(|task| desk.board.running.contains(*task))
        .unwrap();
    desk.report(*probe, limited(None));
    assert_eq!(until(&desk), Some(desk.now.wall.after(10 * MINUTE)));
}

/// Each waiting task has one event for the limit, however many attempts meet the limit together.
#[test]
fn each_task_that_waits_for_a_limit_has_one_event_for_the_limit() {
    let mut desk = Desk::new(3);
    let running: Vec<TaskId> = (0..3).map(|_| desk.submit(agent)).collect();
    desk.turn();
    let queued: Vec<TaskId> = (0..4).map(|_| desk.submit(agent)).collect();
    for (minutes, task) in (1..).zip(&running) {
        desk.report(*task, limited(Some(minutes * MINUTE)));
    }
    desk.settle();
    for task in running.iter().chain(&queued) {
        let parked = |fact: &&&Fact| matches!(fact, Fact::Parked { .. });
        assert_eq!(desk.facts_of(*task).iter().filter(parked).count(), 1);
        let State::Waiting { until: end, .. } = desk.task(*task).state else {
            panic!("the task does not wait")
        };
        assert_eq!(Some(end), until(&desk));
    }
}

/// Without the bound of eight days, a wrong time for the end of the limit could park the account's
/// tasks for ever.
#[test]
fn limit_is_tested_after_eight_days_at_the_latest() {
    let check = |told_days: u64, days: u64| {
        let days_of = |days: u64| Duration::from_hours(days * 24);
        let mut desk = Desk::new(1);
        let task = desk.submit(agent);
        desk.turn();
        desk.report(task, limited(Some(days_of(told_days))));
        let expected = desk.now.wall.after(days_of(days));
        assert_eq!(until(&desk), Some(expected), "{told_days}");
    };
    check(7, 7);
    check(8, 8);
    check(9, 8);
    check(36_500, 8);
}

#[test]
fn later_report_does_not_shorten_the_wait_that_the_service_asked_for() {
    let check = |limits: &[Option<u64>], expected_minutes: u32| {
        let mut desk = Desk::new(4);
        let tasks: Vec<TaskId> = limits.iter().map(|_| desk.submit(agent)).collect();
        desk.turn();
        for (task, minutes) in tasks.iter().zip(limits) {
            desk.report(*task, limited(minutes.map(Duration::from_mins)));
        }
        let expected = desk.now.wall.after(MINUTE * expected_minutes);
        assert_eq!(until(&desk), Some(expected), "{limits:?}");
    };
    check(&[Some(300), None], 300);
    check(&[Some(300), Some(2)], 300);
    check(&[Some(2), Some(300)], 300);
    check(&[None, Some(2)], 2);
    check(&[None, None], 5);
}

#[test]
fn success_of_an_attempt_from_before_the_limit_does_not_end_the_limit() {
    for answer in [Report::AccountWorks, success()] {
        let mut desk = Desk::new(2);
        let [first, second] = [desk.submit(agent), desk.submit(agent)];
        desk.turn();
        desk.report(first, limited(Some(MINUTE)));
        desk.report(second, answer.clone());
        assert!(until(&desk).is_some(), "{answer:?}");
    }
}

#[test]
fn task_whose_start_was_not_received_waits_if_its_account_was_parked_meanwhile() {
    for by_recovery in [false, true] {
        let mut desk = Desk::new(2);
        let [first, second] = [desk.submit(agent), desk.submit(agent)];
        desk.turn();
        desk.report(first, limited(Some(MINUTE)));
        desk.settle();
        if by_recovery {
            desk.reload();
            desk.recovered(second, Found::NeverReceived);
        } else {
            desk.report(second, never_received());
        }
        assert_eq!(desk.words(&[first, second]), ["waiting", "waiting"]);
        desk.pass(MINUTE);
        assert_eq!(starts(&desk.turn()).len(), 1);
    }
}

#[test]
fn no_task_waits_for_ever_after_the_clock_was_set_back() {
    let (mut desk, tasks) = parked(2);
    desk.pass(MINUTE);
    desk.now.wall = Timestamp(5);
    assert_eq!(starts(&desk.turn()), [tasks[0]]);
    desk.report(tasks[0], success());
    assert_eq!(until(&desk), None);
    assert_eq!(starts(&desk.turn()), [tasks[1]]);
}

/// The clock is set back after the limit has ended. A task that is submitted later waits for the
/// same end again, but only until an attempt shows that the limit is over.
#[test]
fn after_the_clock_was_set_back_a_task_waits_only_until_an_attempt_shows_the_limit_is_over() {
    for works in [Report::AccountWorks, success()] {
        let (mut desk, tasks) = parked(2);
        let back = desk.now.wall;
        desk.pass(MINUTE);
        desk.now.wall = back;
        let late = desk.submit(agent);
        assert_eq!(desk.word(late), "waiting");
        assert_eq!(starts(&desk.turn()), [tasks[0]]);
        desk.report(tasks[0], works.clone());
        assert_eq!(desk.word(late), "ready", "{works:?}");
    }
}

#[test]
fn parked_task_keeps_its_place_and_its_attempt_numbers() {
    let (mut desk, tasks) = parked(1);
    let late = |request: &mut Request| agent(request);
    desk.pass(MINUTE);
    let later = desk.submit(late);
    desk.board.capacity.limits = super::fixed(1);
    assert_eq!(starts(&desk.turn()), [tasks[0]]);
    assert_eq!(desk.attempt(tasks[0]).number, 2);
    assert_eq!(desk.word(later), "ready");
}

/// Somebody starts a task at once, for example after buying a higher limit.
#[test]
fn task_started_at_once_tests_the_limit_for_the_others() {
    let hour = Duration::from_hours(1);
    let check = |end: Report, expected: [&str; 3]| {
        let mut desk = Desk::new(3);
        let tasks = [(); 3].map(|()| desk.submit(agent));
        let [first, second, third] = tasks;
        desk.turn();
        for task in tasks {
            desk.report(task, limited(Some(hour)));
        }
        desk.settle();
        assert_eq!(desk.words(&tasks), ["waiting"; 3]);
        desk.step(Input::TryNow { task: second }).unwrap();
        assert_eq!(starts(&desk.turn()), [second]);
        assert!(desk.facts_of(second).contains(&&Fact::TriedNow));
        assert_eq!(desk.words(&[first, third]), ["waiting"; 2]);
        desk.report(second, end);
        desk.settle();
        assert_eq!(desk.words(&tasks), expected);
    };
    check(success(), ["ready", "succeeded", "ready"]);
    check(limited(Some(hour)), ["waiting"; 3]);
    check(
        failure(ReasonClass::Exit),
        ["waiting", "failed:exit", "waiting"],
    );
}

#[test]
fn task_started_at_once_waits_neither_for_a_limit_nor_for_its_start_time() {
    let hour = Duration::from_hours(1);
    let mut desk = Desk::new(2);
    let first = desk.submit(agent);
    desk.turn();
    desk.report(first, limited(Some(hour)));
    desk.settle();
    let before_the_limit_ends = desk.now.wall.after(hour / 2);
    let task = desk.submit(|request| {
        agent(request);
        request.start_at = Some(before_the_limit_ends);
    });
    assert_eq!(desk.word(task), "waiting");
    desk.step(Input::TryNow { task }).unwrap();
    assert_eq!(starts(&desk.turn()), [task]);
}

#[test]
fn task_that_waits_for_its_start_time_can_be_started_at_once() {
    let mut desk = Desk::new(1);
    let later = desk.now.wall.after(Duration::from_hours(9));
    let task = desk.submit(|request| request.start_at = Some(later));
    assert_eq!(desk.word(task), "waiting");
    desk.step(Input::TryNow { task }).unwrap();
    assert_eq!(starts(&desk.turn()), [task]);
    let (mut desk, task) = Desk::in_phase("live");
    let state = "running";
    let refused = desk.step(Input::TryNow { task });
    assert_eq!(refused, Err(Refused::NotDone { task, state }));
    let task = TaskId::new(9, 9);
    let refused = desk.step(Input::TryNow { task });
    assert_eq!(refused, Err(Refused::Unknown { task }));
}
