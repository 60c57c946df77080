//! Taking over attempts that an earlier host had begun.

use super::{Desk, kinds, starts, success};
use crate::{
    attempt::Leader,
    board::{Board, Bounds, Stored, Unreadable},
    capacity::Limits,
    dependency::{Condition, Dependency},
    id::TaskId,
    started::SETTLING,
    step::{Answer, Found, Input},
};

fn check(phase: &str, found: Found, expected: &str, effects: &[&str]) {
    let (mut desk, task) = Desk::in_phase(phase);
    desk.reload();
    assert_eq!(
        desk.recovered(task, found),
        Answer::Noted,
        "{phase} {found:?}"
    );
    assert_eq!(desk.word(task), expected, "{phase} {found:?}");
    assert_eq!(kinds(&desk.settle()), effects, "{phase} {found:?}");
}

/// Nobody knows whether the unreadable task has ended. So its dependants wait, and all other tasks
/// run.
#[test]
fn dependants_of_an_unreadable_task_remain_blocked() {
    let mut desk = Desk::new(2);
    let [lost, other] = [desk.submit(|_| {}), desk.submit(|_| {})];
    let below = |desk: &mut Desk, upstream: &[TaskId]| {
        desk.made += 1;
        let id = TaskId::new(desk.now.wall.0, desk.made.into());
        let mut member = super::submission(id, super::request());
        let edges = upstream.iter().map(|task| Dependency {
            task: *task,
            condition: Condition::Any,
        });
        member.dependencies = edges.collect();
        desk.submit_all(vec![member]).unwrap();
        id
    };
    let waits = below(&mut desk, &[other, lost]);
    desk.settle();
    let row = desk.stored.remove(&lost).unwrap();
    let stored = Stored {
        unfinished: desk.stored.values().cloned().collect(),
        unreadable: vec![Unreadable {
            what: "task",
            key: lost.to_string(),
            task: Some(row.id),
            reason: "no JSON".to_owned(),
        }],
        last_batch: desk.board.pending_batch() - 1,
        ..Stored::default()
    };
    desk.board = Board::new(
        stored,
        super::fixed(2),
        Bounds::default(),
        super::BOOT.into(),
    );
    assert_eq!(starts(&desk.turn()), [other]);
    desk.report(other, success());
    assert_eq!(starts(&desk.turn()), []);
    assert_eq!(desk.word(waits), "blocked");
    // A dependant that is submitted later waits for the unreadable task too.
    let late = below(&mut desk, &[lost]);
    assert_eq!(starts(&desk.turn()), []);
    assert_eq!(desk.word(late), "blocked");
    desk.cancel(late).unwrap();
    assert_eq!(desk.word(late), "cancelled:cancelled");
}

#[test]
fn recovered_attempt_continues_or_starts_again_depending_on_phase_and_found_state() {
    use Found::{Known, NeverReceived, Orphaned, Over};
    check("assigned", Over, "finishing", &["resume"]);
    check("starting", Over, "finishing", &["resume"]);
    check("live", Over, "finishing", &["resume"]);
    check("finishing", Over, "finishing", &["resume"]);
    check("settling", Over, "settling", &["resume"]);
    let stopping = "stopping:cancelled";
    check(stopping, Over, stopping, &["resume", "stop"]);
    check("assigned", Known, "starting", &["resume"]);
    check("assigned", NeverReceived, "assigned", &[]);
    check("assigned", Orphaned, "assigned", &[]);
    check("starting", Known, "starting", &["resume"]);
    check("starting", NeverReceived, "ready", &[]);
    check("starting", Orphaned, "starting", &["resume"]);
    check("live", Known, "live", &["resume"]);
    check("live", NeverReceived, "live", &["resume"]);
    check("live", Orphaned, "live", &["resume"]);
    check("finishing", Known, "finishing", &["resume"]);
    check("finishing", Orphaned, "finishing", &["resume"]);
    check(
        "stopping:cancelled",
        Known,
        "stopping:cancelled",
        &["resume", "stop"],
    );
    check(
        "stopping:cancelled",
        NeverReceived,
        "cancelled:cancelled",
        &[],
    );
    check(
        "stopping:cancelled",
        Orphaned,
        "stopping:cancelled",
        &["resume", "stop"],
    );
    check(
        "stopping:start_timeout",
        NeverReceived,
        "timed_out:timeout",
        &[],
    );
}

#[test]
fn task_that_does_not_run_is_not_recovered() {
    for phase in ["ready", "waiting", "succeeded"] {
        let (mut desk, task) = Desk::in_phase(phase);
        desk.reload();
        assert_eq!(desk.recovered(task, Found::Known), Answer::Stale, "{phase}");
    }
    let unknown = TaskId::new(2, 2);
    assert_eq!(Desk::new(1).recovered(unknown, Found::Known), Answer::Stale);
}

#[test]
fn attempt_with_a_known_leader_is_resumed_even_if_found_as_never_received() {
    for phase in ["starting", "stopping:cancelled"] {
        let (mut desk, task) = Desk::in_phase(phase);
        desk.report(task, super::started(4));
        desk.settle();
        desk.reload();
        desk.recovered(task, Found::NeverReceived);
        assert_eq!(desk.word(task), phase);
        assert_eq!(kinds(&desk.settle())[0], "resume");
        assert_eq!(
            desk.task(task).attempts[0].leader,
            Some(Leader {
                pid: 4,
                start_time: 7
            })
        );
    }
}

#[test]
fn taking_over_an_attempt_needs_no_commit() {
    let (mut desk, task) = Desk::in_phase("live");
    desk.reload();
    desk.recovered(task, Found::Known);
    assert!(!desk.board.has_pending());
    let durable = desk.board.pending_batch() - 1;
    assert_eq!(
        kinds(&super::actions(desk.board.take_released(durable))),
        ["resume"]
    );
}

#[test]
fn reserved_attempt_that_was_not_received_starts_without_a_new_commit() {
    let (mut desk, task) = Desk::in_phase("assigned");
    desk.board.configured_slots = crate::capacity::Slots::Fixed(1);
    desk.reload();
    desk.recovered(task, Found::NeverReceived);
    let durable = desk.board.pending_batch() - 1;
    desk.board.admit(desk.now);
    let released = super::actions(desk.board.take_released(durable));
    assert_eq!(starts(&released), [task]);
}

#[test]
fn start_that_was_not_received_is_repeated_and_running_tasks_keep_their_slots() {
    let mut desk = Desk::new(2);
    let tasks = [(); 3].map(|()| desk.submit(|_| {}));
    desk.turn();
    desk.reload();
    assert_eq!(desk.board.slots_in_use(), 2);
    desk.recovered(tasks[0], Found::NeverReceived);
    desk.recovered(tasks[1], Found::Known);
    desk.recovered(tasks[2], Found::NeverReceived);
    assert_eq!(starts(&desk.turn()), [tasks[0]]);
    assert_eq!(desk.words(&tasks), ["starting", "starting", "assigned"]);
}

/// Many tasks may have waited for the host. They do not all start at once. Later ones start only
/// when readings can show the needs of the earlier ones.
#[test]
fn new_host_starts_waiting_tasks_gradually() {
    let mut desk = Desk::with(Limits::default(), Bounds::default());
    for _ in 0..40 {
        desk.submit(super::agent);
    }
    desk.settle();
    desk.reload();
    let roomy = super::capacity::large(8.0);
    desk.step(Input::Reading(roomy)).unwrap();
    let begun: Vec<usize> = (0..3)
        .map(|_| {
            let begun = starts(&desk.turn()).len();
            desk.pass(SETTLING);
            begun
        })
        .collect();
    assert_eq!(begun, [8, 8, 16]);
}
