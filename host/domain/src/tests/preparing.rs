//! Attempts whose preparation takes long: what waits for them, and for what they wait.

use std::time::Duration;

use super::{Desk, agent, asking::chat, capacity::large, kinds, starts, success, worktree};
use crate::{
    board::{Bounds, PRIORITY_AGING},
    capacity::{Limits, RAMP, Reading, Refusal, SETTLING},
    id::TaskId,
    step::{Input, Report},
    task::Request,
};

/// A desk with automatic slots, on which attempts are prepared only if the test says so.
fn desk(reading: Reading) -> Desk {
    let mut desk = Desk::with(Limits::default(), Bounds::default());
    desk.prepares = false;
    desk.step(Input::Reading(reading)).unwrap();
    desk
}

fn of_client(request: &mut Request) {
    worktree(request);
    request.by = chat();
}

#[test]
fn task_of_a_person_does_not_wait_for_preparations_of_clients_that_hang() {
    let mut desk = desk(large(4.0));
    let clients: Vec<TaskId> = (0..20).map(|_| desk.submit(of_client)).collect();
    assert_eq!(starts(&desk.turn()), clients[..RAMP]);
    let own = desk.submit(|_| {});
    // At first, nobody knows that they hang.
    assert_eq!(starts(&desk.turn()), []);
    let soon = desk.now.monotonic.after(SETTLING);
    assert_eq!(desk.board.next_tick().0, Some(soon));
    desk.pass(SETTLING);
    assert_eq!(starts(&desk.turn()), [own]);
    // Clients begin no further preparations, and a person does.
    let refusals: Vec<Refusal> = desk.refusals().into_values().collect();
    let refused = Refusal::Preparing {
        preparing: RAMP,
        by_restrained: true,
    };
    assert_eq!(refusals, [refused]);
    let prepared = desk.submit(worktree);
    assert_eq!(starts(&desk.turn()), [prepared]);
    // One preparation follows another.
    desk.report(clients[0], success());
    assert_eq!(starts(&desk.turn()), [clients[RAMP]]);
    desk.pass(SETTLING);
    assert_eq!(starts(&desk.turn()), []);
}

/// Otherwise the machine would have no room for all the processes that start at the same moment.
#[test]
fn attempt_whose_preparation_took_long_waits_until_there_is_room_again() {
    let mut desk = desk(large(4.0));
    let slow = [(); RAMP].map(|()| desk.submit(worktree));
    assert_eq!(starts(&desk.turn()), slow);
    desk.pass(SETTLING);
    let quick = [(); RAMP].map(|()| desk.submit(|_| {}));
    assert_eq!(starts(&desk.turn()), quick);
    for task in slow {
        desk.report(task, Report::Prepared);
    }
    assert_eq!(kinds(&desk.turn()), [""; 0]);
    assert_eq!(desk.words(&slow), ["preparing"; RAMP]);
    let soon = desk.now.monotonic.after(SETTLING);
    assert_eq!(desk.board.next_tick().0, Some(soon));
    desk.pass(SETTLING);
    assert_eq!(kinds(&desk.turn()), ["spawn"; RAMP]);
}

/// Its room was kept free meanwhile.
#[test]
fn attempt_whose_preparation_was_quick_starts_at_once() {
    let mut desk = desk(large(4.0));
    let quick = [(); RAMP].map(|()| desk.submit(worktree));
    desk.turn();
    desk.pass(SETTLING.saturating_sub(Duration::from_millis(1)));
    for task in quick {
        desk.report(task, Report::Prepared);
    }
    assert_eq!(kinds(&desk.turn()), ["spawn"; RAMP]);
}

/// Those of a client may wait for ever, because otherwise they would keep those of persons waiting.
#[test]
fn small_tasks_do_not_keep_a_prepared_attempt_of_a_person_waiting_for_ever() {
    const GIB: u64 = 1 << 30;
    for of_client in [false, true] {
        // There is room for commands, but not for an agent.
        let mut desk = desk(Reading {
            memory_total_bytes: 16 * GIB,
            memory_free_bytes: GIB + 400 * (1 << 20),
            ..large(4.0)
        });
        let prepared = desk.submit(|request| {
            worktree(request);
            agent(request);
            if of_client {
                request.by = chat();
            }
        });
        assert_eq!(starts(&desk.turn()), [prepared]);
        desk.pass(SETTLING);
        let first = desk.submit(|_| {});
        assert_eq!(starts(&desk.turn()), [first]);
        desk.report(prepared, Report::Prepared);
        assert_eq!(kinds(&desk.turn()), [""; 0]);
        let second = desk.submit(|_| {});
        assert_eq!(starts(&desk.turn()), [second], "at first, they overtake it");
        desk.pass(PRIORITY_AGING);
        let third = desk.submit(|_| {});
        let expected = if of_client { &[third][..] } else { &[] };
        assert_eq!(starts(&desk.turn()), expected, "of a client: {of_client}");
        assert_eq!(desk.word(prepared), "preparing");
        desk.report(first, success());
        desk.report(second, success());
        if of_client {
            desk.report(third, success());
        }
        desk.turn();
        assert_eq!(desk.word(prepared), "starting");
    }
}

#[test]
fn time_in_which_an_attempt_waits_for_its_turn_to_start_does_not_count_as_preparation() {
    let mut desk = Desk::new(2);
    desk.prepares = false;
    let serial = |request: &mut Request| request.serial_start = Some("k".to_owned());
    let [first, second] = [(); 2].map(|()| desk.submit(serial));
    desk.turn();
    for task in [first, second] {
        desk.report(task, Report::Prepared);
    }
    assert_eq!(kinds(&desk.turn()), ["spawn"]);
    desk.pass(Bounds::default().prepare * 2);
    assert_eq!(desk.words(&[first, second]), ["starting", "preparing"]);
    desk.report(first, Report::Alive);
    assert_eq!(kinds(&desk.turn()), ["spawn"]);
}
