//! Reservations for tasks that wait for only one more dependency.

use std::time::Duration;

use super::{Desk, actions, failure, kinds, request, starts, submission, success};
use crate::{
    attempt::Phase,
    capacity::Slots,
    dependency::{Condition, Dependency},
    id::TaskId,
    outcome::ReasonClass,
    retry_policy::{Backoff, RetryPolicy},
    step::{Answer, Found, Input, Report, Submission},
    task::{Class, Request, State},
};

impl Desk {
    /// Adds a task that runs once all tasks in `upstream` have succeeded.
    fn then(&mut self, upstream: &[TaskId]) -> TaskId {
        self.then_with(upstream, |_| {})
    }

    fn then_with(&mut self, upstream: &[TaskId], edit: impl FnOnce(&mut Request)) -> TaskId {
        self.under(upstream, Condition::Succeeded, edit)
    }

    fn after_any(&mut self, upstream: &[TaskId]) -> TaskId {
        self.under(upstream, Condition::Any, |_| {})
    }

    fn under(
        &mut self,
        upstream: &[TaskId],
        condition: Condition,
        edit: impl FnOnce(&mut Request),
    ) -> TaskId {
        self.made += 1;
        let id = TaskId::new(self.now.wall.0, self.made.into());
        let edge = |task: &TaskId| Dependency {
            task: *task,
            condition,
        };
        let mut request = request();
        edit(&mut request);
        let member = Submission {
            dependencies: upstream.iter().map(edge).collect(),
            ..submission(id, request)
        };
        self.submit_all(vec![member]).unwrap();
        id
    }

    fn chain(&mut self, length: usize) -> Vec<TaskId> {
        let mut chain = vec![self.submit(|_| {})];
        while chain.len() < length {
            let last = chain[chain.len() - 1];
            chain.push(self.then(&[last]));
        }
        chain
    }

    fn is_chosen(&self, id: TaskId) -> bool {
        let task = self.task(id);
        matches!(task.state, State::Blocked { .. }) && task.has_open_attempt()
    }

    fn chosen(&self) -> Vec<TaskId> {
        let unfinished = self.board.unfinished().map(|task| task.id);
        let mut chosen: Vec<TaskId> = unfinished.filter(|id| self.is_chosen(*id)).collect();
        chosen.sort_unstable();
        chosen
    }
}

#[test]
fn no_commit_lies_between_an_end_and_the_dependants_start() {
    let mut desk = Desk::new(1);
    let chain = desk.chain(3);
    assert_eq!(starts(&desk.turn()), chain[..1]);
    assert_eq!(desk.words(&chain), ["starting", "blocked", "blocked"]);
    for (ended, next) in chain.iter().zip(&chain[1..]) {
        desk.report(*ended, success());
        desk.board.admit(desk.now);
        // Only the batch that was sealed before the first start is durable.
        let released = actions(desk.board.take_released(1));
        assert_eq!(starts(&released), [*next]);
    }
}

#[test]
fn start_waits_until_its_reservation_is_durable() {
    let mut desk = Desk::new(1);
    let chain = desk.chain(2);
    desk.board.admit(desk.now);
    desk.board.seal();
    desk.report(chain[0], success());
    desk.board.admit(desk.now);
    assert_eq!(desk.board.take_released(0), []);
    assert_eq!(starts(&actions(desk.board.take_released(1))), chain[1..]);
}

#[test]
fn number_of_reserved_dependants_is_bounded_in_any_graph() {
    let check = |slots: Slots, most: usize| {
        let mut desk = Desk::new(1);
        desk.step(Input::SetSlots(Some(slots))).unwrap();
        let chain = desk.chain(200);
        desk.turn();
        assert_eq!(desk.chosen(), chain[1..=most], "{slots:?}");
        desk.report(chain[0], success());
        desk.turn();
        assert_eq!(desk.chosen(), chain[2..=most + 1], "{slots:?}");

        let mut desk = Desk::new(1);
        desk.step(Input::SetSlots(Some(slots))).unwrap();
        let first = desk.submit(|_| {});
        let fan: Vec<TaskId> = (0..200).map(|_| desk.then(&[first])).collect();
        desk.turn();
        assert_eq!(desk.chosen(), fan[..most], "{slots:?}");
    };
    check(Slots::Fixed(1), 8);
    check(Slots::Fixed(2), 16);
    check(Slots::Fixed(100), 128);
}

#[test]
fn no_more_tasks_are_reserved_after_slots_are_reduced() {
    let mut desk = Desk::new(2);
    let chain = desk.chain(40);
    desk.turn();
    desk.step(Input::SetSlots(Some(Slots::Fixed(1)))).unwrap();
    let ended: Vec<TaskId> = chain[..9].to_vec();
    for id in &ended {
        assert!(desk.chosen().len() <= 16);
        desk.report(*id, success());
        desk.turn();
    }
    assert_eq!(desk.chosen().len(), 8);
}

#[test]
fn task_is_reserved_when_one_dependency_is_left() {
    let mut desk = Desk::new(2);
    let [a, b, c] = [(); 3].map(|()| desk.submit(|_| {}));
    let last = desk.then(&[a, b, c]);
    desk.turn();
    assert_eq!(desk.chosen(), []);
    desk.report(b, success());
    desk.turn();
    assert_eq!(desk.chosen(), []);
    desk.report(a, success());
    desk.turn();
    assert_eq!(desk.chosen(), [last]);
    desk.report(c, success());
    assert_eq!(starts(&desk.turn()), [last]);
}

/// Checking a hundred thousand edges again and again would cost more than it saves.
#[test]
fn task_is_reserved_only_if_at_most_64_dependencies_follow_the_unfinished_one() {
    let check = |behind: usize, expected: bool| {
        let mut desk = Desk::new(0);
        let first = desk.submit(|_| {});
        let others: Vec<TaskId> = (0..behind).map(|_| desk.submit(|_| {})).collect();
        for id in &others {
            desk.cancel(*id).unwrap();
        }
        desk.settle();
        desk.step(Input::SetSlots(Some(Slots::Fixed(1)))).unwrap();
        let all: Vec<TaskId> = [first].into_iter().chain(others).collect();
        let last = desk.after_any(&all);
        desk.turn();
        assert_eq!(desk.is_chosen(last), expected, "{behind}");
    };
    check(64, true);
    check(65, false);
}

#[test]
fn only_tasks_that_wait_just_for_a_dependency_and_a_slot_are_reserved() {
    let check = |what: &str, edit: fn(&mut Request), expected: bool| {
        let mut desk = Desk::new(1);
        let first = desk.submit(|_| {});
        let then = desk.then_with(&[first], edit);
        desk.turn();
        assert_eq!(desk.is_chosen(then), expected, "{what}");
    };
    check("nothing else", |_| {}, true);
    check(
        "a time",
        |it| it.start_at = Some(crate::time::Timestamp(u64::MAX)),
        false,
    );
    let output = |it: &mut Request| it.with_output_of = vec![TaskId::new(1, 1)];
    check("outputs of another task", output, false);
    check("a group", |it| it.group = Some("g".to_owned()), false);
    check("an account", super::agent, false);
    check("an agent", |it| it.class = Class::Agent, false);
    check(
        "a queue timeout",
        |it| it.queue_timeout = Some(Duration::from_secs(9)),
        false,
    );
    check(
        "a serial start",
        |it| it.serial_start = Some("k".to_owned()),
        false,
    );
}

#[test]
fn no_attempt_is_reserved_behind_a_task_that_does_not_run() {
    let mut desk = Desk::new(0);
    let held = desk.submit(|_| {});
    desk.step(Input::Hold { tasks: vec![held] }).unwrap();
    desk.then(&[held]);
    desk.turn();
    assert_eq!(desk.chosen(), []);
}

#[test]
fn withdrawn_reservation_leaves_no_attempt() {
    let check = |what: &str, happens: fn(&mut Desk, TaskId, TaskId), word: &str| {
        let mut desk = Desk::new(1);
        let chain = desk.chain(2);
        desk.turn();
        assert!(desk.is_chosen(chain[1]), "{what}");
        happens(&mut desk, chain[0], chain[1]);
        let task = desk.task(chain[1]);
        assert_eq!(
            (desk.word(chain[1]), task.attempts),
            (word.to_owned(), vec![]),
            "{what}"
        );
        desk.settle();
        assert_eq!(desk.board.chosen.len(), 0, "{what}");
    };
    let fails = |desk: &mut Desk, first, _| _ = desk.report(first, failure(ReasonClass::Exit));
    check("the dependency fails", fails, "upstream_failed");
    let cancelled = |desk: &mut Desk, _, second| _ = desk.cancel(second).unwrap();
    check("the task is cancelled", cancelled, "cancelled:cancelled");
    let held = |desk: &mut Desk, _, second| {
        desk.step(Input::Hold {
            tasks: vec![second],
        })
        .unwrap();
    };
    check("the task is held", held, "held");
}

#[test]
fn reserved_task_waits_while_its_dependency_is_retried() {
    let mut desk = Desk::new(1);
    let first = desk.submit(|request| {
        request.retries = Some(Box::new(RetryPolicy {
            limit: 1,
            backoff: Backoff::default(),
            on: Vec::new(),
        }));
    });
    let then = desk.then(&[first]);
    desk.turn();
    desk.report(first, failure(ReasonClass::Exit));
    desk.turn();
    assert!(desk.is_chosen(then));
    desk.pass(Duration::from_hours(1));
    desk.turn();
    desk.report(first, success());
    assert_eq!(starts(&desk.turn()), [then]);
    assert_eq!(desk.task(then).attempts.len(), 1);
}

/// Perhaps the start of the reserved attempt was sent before the end of the dependency was on disk.
#[test]
fn new_host_takes_over_a_reserved_attempt_only_if_it_began() {
    let check = |found: Found, word: &str, effects: &[&str]| {
        let mut desk = Desk::new(1);
        let chain = desk.chain(2);
        desk.turn();
        desk.reload();
        assert_eq!(desk.chosen(), chain[1..], "{found:?}");
        assert_eq!(desk.recovered(chain[1], found), Answer::Noted, "{found:?}");
        assert_eq!(desk.word(chain[1]), word, "{found:?}");
        assert_eq!(kinds(&desk.settle()), effects, "{found:?}");
    };
    check(Found::Known, "starting", &["resume"]);
    check(Found::NeverReceived, "blocked", &[]);
    check(Found::Orphaned, "blocked", &[]);
}

#[test]
fn reserved_task_that_reports_has_begun() {
    let mut desk = Desk::new(1);
    let chain = desk.chain(2);
    desk.turn();
    desk.report(chain[1], Report::Alive);
    assert_eq!(desk.task(chain[1]).phase(), Some(&Phase::Live));
}

#[test]
fn commit_is_urgent_while_few_reservations_are_on_disk() {
    let mut desk = Desk::new(1);
    let chain = desk.chain(40);
    desk.turn();
    let mut urgent = Vec::new();
    for id in &chain[..8] {
        assert_eq!(desk.attempt(*id).number, 1);
        desk.report(*id, success());
        desk.board.admit(desk.now);
        desk.board.take_released(1);
        urgent.push(desk.board.is_commit_urgent(1));
    }
    assert_eq!(urgent, [false, false, false, false, true, true, true, true]);
}

#[test]
fn attempts_that_start_next_are_known_before_a_slot_is_free() {
    let mut desk = Desk::new(2);
    let running = [desk.submit(|_| {}), desk.submit(|_| {})];
    let behind = desk.then(&running[..1]);
    let deeper = desk.then(&[behind]);
    desk.turn();
    let next = |desk: &Desk, durable| {
        let next = desk.board.next_to_start(durable).into_iter();
        next.map(|attempt| attempt.task).collect::<Vec<_>>()
    };
    assert!(desk.is_chosen(deeper));
    assert_eq!(next(&desk, 0), [], "no reservation is on disk");
    assert_eq!(
        next(&desk, 1),
        [behind],
        "the dependant of this task comes later"
    );
    let waiting = [(); 3].map(|()| desk.submit(|_| {}));
    desk.turn();
    assert_eq!(next(&desk, 1), [behind]);
    assert_eq!(next(&desk, 2), waiting[..2], "one attempt per slot");
}
