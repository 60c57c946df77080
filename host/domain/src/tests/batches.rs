//! Batches, their content, and the effects that wait for them.

use super::{Desk, actions, kinds, starts, success};
use crate::{
    batch::{Action, DocumentKey},
    capacity::Slots,
    group::NewLimit,
    step::Input,
};

#[test]
fn reserved_task_starts_without_another_commit() {
    let mut desk = Desk::new(1);
    let [first, second] = [desk.submit(|_| {}), desk.submit(|_| {})];
    desk.board.admit(desk.now);
    let (batch, effects) = desk.board.seal();
    assert_eq!(batch.number, 1);
    let start: Vec<_> = effects
        .iter()
        .map(|effect| (effect.after, &effect.action))
        .collect();
    let attempt = desk.attempt(first);
    assert_eq!(start, [(1, &Action::Start(attempt))]);
    assert_eq!(desk.words(&[first, second]), ["starting", "assigned"]);

    desk.report(first, success());
    desk.board.admit(desk.now);
    // The assignment of the second task is durable, the end of the first is not.
    let released = actions(desk.board.take_released(1));
    assert_eq!(starts(&released), [second]);
    let (batch, effects) = desk.board.seal();
    assert_eq!((batch.number, batch.tasks.len()), (2, 2));
    assert_eq!(
        effects
            .iter()
            .map(|effect| effect.after)
            .collect::<Vec<_>>(),
        [2]
    );
    assert_eq!(kinds(&actions(effects)), ["release"]);
}

#[test]
fn start_waits_until_its_assignment_is_durable() {
    let mut desk = Desk::new(1);
    let [first, second] = [desk.submit(|_| {}), desk.submit(|_| {})];
    desk.board.admit(desk.now);
    let (_, effects) = desk.board.seal();
    assert_eq!(kinds(&actions(effects)), ["start"]);
    desk.report(first, success());
    desk.board.admit(desk.now);
    assert_eq!(desk.board.take_released(0), []);
    let (_, effects) = desk.board.seal();
    let after: Vec<_> = effects.iter().map(|effect| effect.after).collect();
    assert_eq!(
        (after, kinds(&actions(effects))),
        (vec![2, 1], vec!["release", "start"])
    );
    assert_eq!(desk.word(second), "starting");
}

#[test]
fn each_changed_task_is_written_once_in_its_final_state() {
    let mut desk = Desk::new(1);
    let [first, second] = [desk.submit(|_| {}), desk.submit(|_| {})];
    desk.board.admit(desk.now);
    desk.report(first, success());
    let (batch, _) = desk.board.seal();
    let rows: Vec<_> = batch
        .tasks
        .iter()
        .map(|row| (row.id, row.state.as_str()))
        .collect();
    assert_eq!(rows, [(second, "ready"), (first, "done")]);
    let specs: Vec<_> = batch.documents.iter().map(|(key, _)| *key).collect();
    assert_eq!(specs, [DocumentKey::Spec(first), DocumentKey::Spec(second)]);
    assert!(!desk.board.has_pending(), "nothing is written twice");
}

#[test]
fn rows_handed_to_the_store_are_not_changed_afterwards() {
    let (mut desk, task) = Desk::in_phase("starting");
    desk.report(task, super::started(1));
    let (batch, _) = desk.board.seal();
    let before = batch.tasks[0].clone();
    desk.report(task, success());
    assert_eq!(*before, *batch.tasks[0]);
    assert!(!batch.tasks[0].is_done());
}

#[test]
fn commit_is_urgent_only_if_something_waits_for_it() {
    let mut desk = Desk::new(1);
    let tasks: Vec<_> = (0..30).map(|_| desk.submit(|_| {})).collect();
    desk.board.admit(desk.now);
    assert!(desk.board.is_commit_urgent(0), "a task waits for its start");
    desk.board.seal();
    // As long as enough reserved tasks are on disk, nothing waits for the commit of a task's end.
    let mut urgent = Vec::new();
    for task in &tasks[..6] {
        desk.report(*task, success());
        desk.board.admit(desk.now);
        assert_eq!(starts(&actions(desk.board.take_released(1))).len(), 1);
        urgent.push(desk.board.is_commit_urgent(1));
    }
    assert_eq!(urgent, [false, false, false, false, true, true]);
    assert_eq!(desk.board.finished_in_pending().count(), 6);
    desk.board.seal();
    assert!(!desk.board.is_commit_urgent(2));
    let running = tasks[6];
    desk.cancel(running).unwrap();
    assert!(
        desk.board.is_commit_urgent(2),
        "the stop waits for the batch"
    );
    desk.board.seal();
    assert!(!desk.board.is_commit_urgent(3));
    // Once all reserved tasks are on disk, nothing is urgent, however few reserved tasks there are.
    let mut desk = Desk::new(1);
    for _ in 0..2 {
        desk.submit(|_| {});
    }
    desk.board.admit(desk.now);
    desk.board.seal();
    assert!(!desk.board.is_commit_urgent(1));
}

#[test]
fn batch_has_something_to_write_only_if_an_input_changed_a_setting() {
    let check = |input: Input, expected: bool| {
        let mut desk = Desk::new(1);
        assert!(!desk.board.has_pending());
        let what = format!("{input:?}");
        desk.step(input).unwrap();
        assert_eq!(desk.board.has_pending(), expected, "{what}");
        desk.settle();
        assert!(!desk.board.has_pending(), "{what}");
    };
    let name = "g".to_owned();
    let (limit, paused) = (NewLimit::Most(1), None);
    check(
        Input::SetGroup {
            name,
            limit,
            paused,
            make: true,
        },
        true,
    );
    check(Input::SetSlots(Some(Slots::Auto)), true);
    check(Input::SetSlots(None), false);
    check(Input::Pause(true), true);
    check(Input::Pause(false), false);
    check(Input::Tick, false);
}
