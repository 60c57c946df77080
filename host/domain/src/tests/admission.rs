//! The order in which tasks start, and the reasons for which tasks are not started.

use std::time::Duration;

use super::{Desk, agent, capacity::class, fixed, starts, success};
use crate::{
    board::Bounds,
    capacity::{Limits, PATIENCE, Reading, Refusal, Slots},
    id::TaskId,
    lane::Lane,
    profile::{ENOUGH_OF_A_CLASS, Sample},
    step::{Answer, Cause, Found, Input, Report},
    task::{Class, Priority, Request},
    time::MonotonicMs,
};

const GIB: u64 = 1 << 30;
const MINUTE: Duration = Duration::from_mins(1);

fn priority(priority: Priority) -> impl FnOnce(&mut Request) {
    move |request| request.priority = priority
}

fn serial(key: &str) -> impl FnOnce(&mut Request) {
    let key = key.to_owned();
    move |request| request.serial_start = Some(key)
}

/// Runs the tasks one after the other, and returns the order of their starts.
fn order(desk: &mut Desk) -> Vec<TaskId> {
    let mut order = Vec::new();
    loop {
        let started = starts(&desk.turn());
        if started.is_empty() {
            return order;
        }
        for task in started {
            order.push(task);
            desk.report(task, success());
        }
    }
}

#[test]
fn tasks_start_by_priority_then_by_submission() {
    let mut desk = Desk::new(1);
    let p2 = desk.submit(priority(Priority::P2));
    desk.pass(MINUTE);
    let p1 = desk.submit(priority(Priority::P1));
    desk.pass(MINUTE);
    let [p0, later_p0] = [(); 2].map(|()| desk.submit(priority(Priority::P0)));
    let later_p1 = desk.submit(priority(Priority::P1));
    assert_eq!(order(&mut desk), [p0, later_p0, p1, later_p1, p2]);
}

#[test]
fn waiting_task_rises_by_one_priority_every_15_minutes() {
    let check = |older: Priority, waited: u64, newer: Priority, older_first: bool| {
        let mut desk = Desk::new(1);
        let first = desk.submit(priority(older));
        desk.pass(Duration::from_mins(waited));
        let second = desk.submit(priority(newer));
        let expected = if older_first {
            [first, second]
        } else {
            [second, first]
        };
        assert_eq!(order(&mut desk), expected, "{older:?} {waited} {newer:?}");
    };
    check(Priority::P1, 14, Priority::P0, false);
    check(Priority::P1, 16, Priority::P0, true);
    check(Priority::P2, 29, Priority::P0, false);
    check(Priority::P2, 31, Priority::P0, true);
    check(Priority::P2, 14, Priority::P1, false);
    check(Priority::P2, 16, Priority::P1, true);
}

#[test]
fn urgent_task_starts_before_reserved_tasks() {
    let mut desk = Desk::new(1);
    let running = desk.submit(|_| {});
    let p2: Vec<TaskId> = (0..10)
        .map(|_| desk.submit(priority(Priority::P2)))
        .collect();
    desk.turn();
    let chosen = [["assigned"; 8].as_slice(), &["ready"; 2]].concat();
    assert_eq!(desk.words(&p2), chosen);
    let urgent = desk.submit(priority(Priority::P0));
    let urgent_agent = desk.submit(|request| {
        agent(request);
        request.priority = Priority::P0;
    });
    desk.turn();
    desk.report(running, success());
    assert_eq!(order(&mut desk), [vec![urgent, urgent_agent], p2].concat());
}

#[test]
fn slots_are_filled_but_not_exceeded() {
    let mut desk = Desk::new(2);
    let tasks = [(); 4].map(|()| desk.submit(|_| {}));
    assert_eq!(starts(&desk.turn()), [tasks[0], tasks[1]]);
    let full = Refusal::Slots {
        running: 2,
        slots: 2,
    };
    assert_eq!(desk.refusals().into_values().collect::<Vec<_>>(), [full]);
    desk.step(Input::SetSlots(Some(Slots::Fixed(3)))).unwrap();
    assert_eq!(starts(&desk.turn()), [tasks[2]]);
    desk.step(Input::SetSlots(Some(Slots::Fixed(1)))).unwrap();
    desk.report(tasks[0], success());
    desk.report(tasks[1], success());
    assert_eq!(starts(&desk.turn()), []);
    desk.report(tasks[2], success());
    assert_eq!(starts(&desk.turn()), [tasks[3]]);
    assert!(desk.refusals().is_empty());
}

#[test]
fn number_of_reserved_tasks_depends_on_the_slots() {
    let check = |slots: u32, queued: usize, expected: usize| {
        let mut desk = Desk::new(slots);
        let tasks: Vec<TaskId> = (0..queued).map(|_| desk.submit(|_| {})).collect();
        desk.turn();
        desk.turn();
        let words = desk.words(&tasks);
        assert_eq!(
            words.iter().filter(|word| *word == "assigned").count(),
            expected,
            "{slots} {queued}"
        );
    };
    check(0, 20, 8);
    check(1, 20, 8);
    check(3, 40, 24);
    check(3, 4, 1);
    check(100, 400, 128);
}

#[test]
fn only_plain_commands_are_reserved() {
    let mut desk = Desk::new(0);
    let agent = desk.submit(agent);
    let serial = desk.submit(serial("key"));
    let plain = desk.submit(|_| {});
    desk.turn();
    assert_eq!(
        desk.words(&[agent, serial, plain]),
        ["ready", "ready", "assigned"]
    );
}

#[test]
fn attempts_with_one_serial_start_key_wait_for_each_others_first_sign_of_life() {
    let mut desk = Desk::new(9);
    let [first, second, third] = [(); 3].map(|()| desk.submit(serial("a")));
    let other = desk.submit(serial("b"));
    let same_key_in_another_lane = desk.submit(|request| {
        serial("a")(request);
        request.class = Class::Agent;
    });
    let all = [first, second, third, other, same_key_in_another_lane];
    let starting = |desk: &mut Desk| -> Vec<TaskId> {
        desk.turn();
        let ids = all.into_iter();
        ids.filter(|id| desk.word(*id) == "starting").collect()
    };
    assert_eq!(starting(&mut desk), [first, other]);
    desk.report(other, Report::Alive);
    desk.report(first, super::started(1));
    let silent = "a process alone is no sign of life";
    assert_eq!(starting(&mut desk), [first], "{silent}");
    desk.report(first, Report::Alive);
    assert_eq!(starting(&mut desk), [second]);
    desk.report(second, super::failure(crate::outcome::ReasonClass::Spawn));
    assert_eq!(starting(&mut desk), [third]);
    // A cancelled attempt keeps the key until its process has ended, because the process may still
    // be starting.
    desk.cancel(third).unwrap();
    desk.report(third, Report::Alive);
    assert_eq!(starting(&mut desk), []);
    desk.report(third, success());
    assert_eq!(starting(&mut desk), [same_key_in_another_lane]);
}

/// Each case brings an attempt to a phase, and checks whether another attempt with the same
/// `serial_start` may start.
#[test]
fn serial_start_key_is_held_until_a_sign_of_life_or_the_end() {
    let check = |reports: &[Report], cancelled: bool, held: bool| {
        let mut desk = Desk::new(9);
        let [first, second] = [(); 2].map(|()| desk.submit(serial("a")));
        desk.turn();
        for report in reports {
            desk.report(first, report.clone());
        }
        if cancelled {
            desk.cancel(first).unwrap();
        }
        desk.settle();
        // The next host makes the same decision.
        desk.reload();
        desk.recovered(first, Found::Known);
        desk.recovered(second, Found::Known);
        desk.turn();
        let expected = if held { "preparing" } else { "starting" };
        assert_eq!(desk.word(second), expected, "{reports:?} {cancelled}");
        desk.report(first, success());
        desk.turn();
        assert_eq!(desk.word(second), "starting");
    };
    check(&[], false, true);
    check(&[], true, true);
    check(&[super::started(1)], true, true);
    check(&[Report::Finishing], false, true);
    check(&[Report::Alive], false, false);
    check(&[Report::Alive], true, false);
    check(&[Report::Alive, Report::Finishing], false, false);
    check(&[Report::Over], false, false);
    // Nothing of it is alive, and another may have started after the end of its process.
    let settling = Report::Settling(Box::new(super::ending(Cause::Success)));
    check(std::slice::from_ref(&settling), false, false);
    check(&[Report::Over, settling], false, false);
}

/// Its first process has ended, and the next one comes only after the start of another attempt.
#[test]
fn attempt_that_goes_on_after_another_got_its_turn_to_start_does_not_start_beside_it() {
    for is_stopped in [false, true] {
        let mut desk = Desk::new(9);
        let [first, second, third] = [(); 3].map(|()| desk.submit(serial("a")));
        desk.turn();
        desk.report(first, Report::Over);
        desk.turn();
        assert_eq!(desk.word(second), "starting");
        if is_stopped {
            desk.cancel(first).unwrap();
        }
        desk.report(first, Report::GoesOn);
        let expected = if is_stopped {
            "stopping:cancelled"
        } else {
            "live"
        };
        assert_eq!(desk.word(first), expected);
        desk.turn();
        assert_eq!(desk.word(third), "preparing");
        desk.report(second, Report::Alive);
        desk.turn();
        assert_eq!(desk.word(third), "starting");
    }
}

#[test]
fn refused_lane_does_not_hold_up_others() {
    let mut desk = Desk::new(9);
    let first = desk.submit(serial("a"));
    desk.turn();
    let held = desk.submit(serial("a"));
    let plain = desk.submit(|_| {});
    assert_eq!(starts(&desk.turn()), [plain]);
    let lanes: Vec<Lane> = desk.refusals().into_keys().collect();
    assert_eq!(lanes, [desk.board.lane(&desk.task(held))]);
    desk.report(first, Report::Alive);
    assert_eq!(starts(&desk.turn()), [held]);
}

#[test]
fn waiting_parent_gives_its_slot_to_its_children() {
    let mut desk = Desk::new(1);
    let parent = desk.submit(|_| {});
    desk.turn();
    let children = [(); 2].map(|()| desk.submit(|request| request.parent = Some(parent)));
    assert_eq!(starts(&desk.turn()), []);
    let attempt = desk.attempt(parent);
    for _ in 0..2 {
        assert_eq!(desk.step(Input::WaitBegins { attempt }), Ok(Answer::Noted));
    }
    assert_eq!(starts(&desk.turn()), [children[0]]);
    assert_eq!(desk.step(Input::WaitEnds { attempt }), Ok(Answer::Noted));
    assert_eq!(desk.step(Input::WaitEnds { attempt }), Ok(Answer::Stale));
    // The parent goes on at once, so for a while more attempts run than there are slots.
    assert_eq!(desk.board.slots_in_use(), 2);
    desk.report(children[0], success());
    assert_eq!(starts(&desk.turn()), []);
    desk.report(parent, success());
    assert_eq!(starts(&desk.turn()), [children[1]]);
}

#[test]
fn wait_for_descendants_ends_when_the_waiting_attempt_ends() {
    let (mut desk, parent) = Desk::in_phase("live");
    let attempt = desk.attempt(parent);
    let [begins, ends] = [Input::WaitBegins { attempt }, Input::WaitEnds { attempt }];
    desk.step(begins.clone()).unwrap();
    // Other reports do not end the attempt's wait.
    desk.report(parent, Report::Doing("waits".to_owned()));
    assert_eq!(
        (desk.board.running_count(), desk.board.slots_in_use()),
        (1, 0)
    );
    desk.report(parent, super::failure(crate::outcome::ReasonClass::Exit));
    assert_eq!(
        (desk.board.running_count(), desk.board.slots_in_use()),
        (0, 0)
    );
    for stale in [begins.clone(), ends.clone()] {
        assert_eq!(desk.step(stale), Ok(Answer::Stale));
    }
    desk.settle();
    let copy = desk.task(parent);
    desk.retry(&copy).unwrap();
    assert_eq!(
        desk.step(begins.clone()),
        Ok(Answer::Stale),
        "an attempt that does not run has no slot to free"
    );
    desk.turn();
    // The wait belonged to the earlier attempt of the same task.
    assert_eq!(desk.step(begins), Ok(Answer::Stale));
    assert_eq!(desk.board.slots_in_use(), 1);
    let attempt = desk.attempt(parent);
    desk.step(Input::WaitBegins { attempt }).unwrap();
    assert_eq!(desk.step(ends), Ok(Answer::Stale));
    assert_eq!(desk.board.slots_in_use(), 0);
}

#[test]
fn draining_board_starts_nothing_and_lets_attempts_end() {
    let mut desk = Desk::new(2);
    let [running, ready] = [desk.submit(|_| {}), desk.submit(agent)];
    desk.turn();
    let later = desk.submit(|_| {});
    assert!(!desk.board.is_draining());
    desk.step(Input::Drain).unwrap();
    desk.report(running, success());
    desk.report(ready, success());
    assert_eq!(starts(&desk.turn()), []);
    assert_eq!(desk.word(later), "ready");
    assert!(desk.board.is_draining());
    desk.step(Input::Undrain).unwrap();
    assert!(!desk.board.is_draining());
    assert_eq!(starts(&desk.turn()), [later]);
}

fn machine(free: u64) -> Reading {
    Reading {
        at: MonotonicMs(0),
        cores: 4.0,
        cores_in_use: 0.0,
        memory_total_bytes: 16 * GIB,
        memory_free_bytes: free,
        disk_free_bytes: 99 * GIB,
        too_few_inodes: None,
        memory_stall_percent: None,
    }
}

fn auto(free: u64) -> Desk {
    let mut desk = Desk::with(Limits::default(), Bounds::default());
    desk.step(Input::Reading(machine(free))).unwrap();
    desk
}

#[test]
fn ended_commands_no_longer_count_against_the_machine() {
    // Each command is predicted to need 8 MiB for ten seconds, and ends at once.
    let mut desk = auto(2 * GIB);
    desk.submit(agent);
    desk.turn();
    for _ in 0..1000 {
        let task = desk.submit(|_| {});
        assert_eq!(starts(&desk.turn()), [task]);
        desk.report(task, success());
        desk.pass(Duration::from_millis(1));
    }
}

#[test]
fn small_tasks_do_not_keep_a_large_task_waiting_for_ever() {
    // There is room for commands, but not for an agent.
    let mut desk = auto(GIB + 400 * (1 << 20));
    let mut running = desk.submit(|_| {});
    desk.turn();
    let agent = desk.submit(agent);
    let mut next = |desk: &mut Desk| {
        let next = desk.submit(|_| {});
        let started = starts(&desk.turn());
        desk.report(running, success());
        running = next;
        (next, started)
    };
    let (small, started) = next(&mut desk);
    assert_eq!(started, [small], "at first small tasks overtake the agent");
    desk.pass(Duration::from_mins(31));
    let (small, started) = next(&mut desk);
    assert_eq!(started, [], "later small tasks wait behind the agent");
    assert_eq!(desk.refusals().len(), 2);
    // While nothing runs, one task is always admitted.
    assert_eq!(starts(&desk.turn()), [agent]);
    assert!(["ready", "assigned"].contains(&desk.word(small).as_str()));
}

#[test]
fn small_tasks_overtake_a_large_task_while_another_task_of_its_class_runs() {
    let mut desk = auto(GIB + 400 * (1 << 20));
    let first = desk.submit(agent);
    desk.turn();
    let second = desk.submit(agent);
    desk.pass(Duration::from_mins(31));
    let small = desk.submit(|_| {});
    assert_eq!(starts(&desk.turn()), [small]);
    desk.report(small, success());
    desk.report(first, success());
    assert_eq!(starts(&desk.turn()), [second]);
}

#[test]
fn refusal_for_lack_of_room_is_checked_again_after_a_start_has_settled() {
    let mut desk = auto(GIB + 500 * (1 << 20));
    let [first, second] = [desk.submit(agent), desk.submit(agent)];
    assert_eq!(starts(&desk.turn()), [first]);
    let (settled, _) = desk.board.next_tick();
    assert_eq!(
        settled,
        Some(desk.now.monotonic.after(Duration::from_secs(10)))
    );
    desk.pass(Duration::from_secs(10));
    assert_eq!(starts(&desk.turn()), [second]);
    assert_eq!(desk.board.next_tick(), (None, None));
}

/// A desk on a machine that other programs keep busy. A small task runs, and one class is known to
/// need a whole core.
fn busy() -> Desk {
    let mut desk = auto(9 * GIB);
    let whole = Sample {
        millicores: 1_000,
        memory_bytes: 1 << 20,
    };
    let class = class(Class::Command, "build");
    for _ in 0..ENOUGH_OF_A_CLASS {
        let (profiles, now) = (&mut desk.board.capacity.profiles, desk.now.wall);
        profiles.learn(&class, whole, true, now);
    }
    desk.submit(|_| {});
    desk.turn();
    read_busy(&mut desk, 9 * GIB);
    desk
}

fn read_busy(desk: &mut Desk, free: u64) {
    desk.step(Input::Reading(Reading {
        cores_in_use: 4.0,
        ..machine(free)
    }))
    .unwrap();
}

fn build(request: &mut Request) {
    request.labels = class(Class::Command, "build").labels;
}

#[test]
fn first_task_in_line_starts_after_a_while_despite_the_load_of_other_programs() {
    let mut desk = busy();
    let [first, second, third] = [(); 3].map(|()| desk.submit(build));
    let almost = Duration::from_millis(9_999);
    assert_eq!(starts(&desk.turn()), []);
    let refusals: Vec<Refusal> = desk.refusals().into_values().collect();
    assert!(
        matches!(refusals[..], [Refusal::Cpu { .. }]),
        "{refusals:?}"
    );
    desk.pass(almost);
    assert_eq!(starts(&desk.turn()), []);
    desk.pass(Duration::from_millis(1));
    assert_eq!(starts(&desk.turn()), [first]);
    // Only one task starts, since its effect on the machine is not known yet.
    desk.pass(almost);
    assert_eq!(starts(&desk.turn()), []);
    desk.pass(Duration::from_millis(1));
    assert_eq!(starts(&desk.turn()), [second]);
    // Once the second task has ended, the next may start.
    desk.report(second, success());
    assert_eq!(starts(&desk.turn()), [third]);
}

#[test]
fn own_tasks_do_not_count_as_load_of_other_programs() {
    let mut desk = busy();
    let builds = [(); 9].map(|()| desk.submit(build));
    let mut started = Vec::new();
    for _ in 0..20 {
        desk.pass(PATIENCE);
        started.extend(starts(&desk.turn()));
    }
    // Together with the first task, these builds use 3.2 cores.
    assert_eq!(started, builds[..3]);
}

#[test]
fn only_the_first_task_in_line_starts_despite_the_load() {
    let mut desk = busy();
    let patient = desk.submit(build);
    desk.pass(PATIENCE * 2);
    let urgent = desk.submit(|request| {
        build(request);
        request.priority = Priority::P0;
    });
    assert_eq!(starts(&desk.turn()), [], "the first in line has not waited");
    desk.pass(PATIENCE);
    assert_eq!(starts(&desk.turn()), [urgent]);
    desk.pass(PATIENCE);
    assert_eq!(starts(&desk.turn()), [patient]);
}

#[test]
fn no_task_starts_without_memory_however_long_it_waits() {
    let mut desk = busy();
    let waits = desk.submit(build);
    read_busy(&mut desk, GIB);
    desk.pass(PATIENCE * 100);
    assert_eq!(starts(&desk.turn()), []);
    read_busy(&mut desk, 9 * GIB);
    assert_eq!(starts(&desk.turn()), [waits]);
}

#[test]
fn clock_set_back_makes_no_task_wait_longer() {
    let mut desk = busy();
    let waits = desk.submit(build);
    desk.now.wall = crate::time::Timestamp(desk.now.wall.0 / 2);
    desk.step(Input::ClockSetBack).unwrap();
    assert_eq!(starts(&desk.turn()), [waits]);
}

#[test]
fn automatic_slots_start_nothing_without_a_reading() {
    let mut desk = Desk::with(Limits::default(), Bounds::default());
    let task = desk.submit(|_| {});
    assert_eq!(starts(&desk.turn()), []);
    let refusals: Vec<Refusal> = desk.refusals().into_values().collect();
    assert_eq!(refusals, [Refusal::NoReading]);
    desk.step(Input::Reading(machine(9 * GIB))).unwrap();
    assert_eq!(starts(&desk.turn()), [task]);
    assert_eq!(fixed(1).slots, Slots::Fixed(1));
}
