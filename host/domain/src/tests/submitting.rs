//! Submissions: accepted, refused, and repeated.

use std::time::Duration;

use super::{Desk, agent, fixed, limited, success};
use crate::{
    board::{Board, Bounds, Remembered, Stored},
    id::TaskId,
    step::{Answer, Found, Refused},
    task::{Idempotency, Request},
    time::Timestamp,
};

fn keyed(key: &str, payload: &str) -> impl FnOnce(&mut Request) {
    let idempotency = Idempotency {
        key: key.to_owned(),
        payload_digest: payload.to_owned(),
    };
    move |request| request.idempotency = Some(idempotency.into())
}

fn answer(desk: &mut Desk, key: &str, payload: &str) -> &'static str {
    match desk.try_submit(keyed(key, payload)) {
        Ok(Answer::Accepted(accepted)) if accepted[0].existing => "existing",
        Ok(Answer::Accepted(_)) => "new",
        Err(Refused::IdempotencyConflict { .. }) => "conflict",
        other => panic!("{other:?}"),
    }
}

#[test]
fn idempotency_key_returns_the_first_task_for_a_day() {
    let check = |later_ms: u64, key: &str, payload: &str, expected: &str| {
        let mut desk = Desk::new(1);
        desk.submit(keyed("k", "p"));
        desk.now.wall = desk.now.wall.after(Duration::from_millis(later_ms));
        assert_eq!(
            answer(&mut desk, key, payload),
            expected,
            "{later_ms} {key} {payload}"
        );
    };
    let day = 24 * 60 * 60 * 1000;
    check(0, "k", "p", "existing");
    check(day - 1, "k", "p", "existing");
    check(day, "k", "p", "new");
    check(0, "k", "other", "conflict");
    check(day - 1, "k", "other", "conflict");
    check(day, "k", "other", "new");
    check(0, "l", "p", "new");
}

#[test]
fn two_tasks_of_a_request_cannot_share_an_idempotency_key() {
    let mut desk = Desk::new(1);
    let members = [1, 2].map(|number| {
        let mut request = super::request();
        keyed("k", "p")(&mut request);
        super::submission(TaskId::new(1, number), request)
    });
    let key = "k".to_owned();
    let refused = desk.submit_all(members.to_vec());
    assert_eq!(refused, Err(Refused::KeyTwice { key }));
    assert_eq!(answer(&mut desk, "k", "p"), "new");
}

#[test]
fn idempotency_key_outlives_its_task_and_a_restart() {
    let mut desk = Desk::new(1);
    let id = desk.submit(keyed("k", "p"));
    desk.turn();
    desk.report(id, success());
    desk.settle();
    assert_eq!(answer(&mut desk, "k", "p"), "existing");
    let remembered = |at: u64| Remembered {
        task: id,
        payload_digest: format!("p{at}"),
        at: Timestamp(at),
    };
    let day = 24 * 60 * 60 * 1000;
    let newest_last = vec![
        ("k".to_owned(), remembered(1)),
        ("k".to_owned(), remembered(day)),
    ];
    for remembered in [
        newest_last.clone(),
        newest_last.into_iter().rev().collect::<Vec<_>>(),
    ] {
        let stored = Stored {
            remembered,
            ..Stored::default()
        };
        desk.board = Board::new(stored, fixed(1), Bounds::default(), super::BOOT.into());
        desk.now.wall = Timestamp(day + 1);
        assert_eq!(answer(&mut desk, "k", &format!("p{day}")), "existing");
    }
}

#[test]
fn refused_submission_leaves_its_key_free() {
    let mut desk = Desk::with(
        fixed(1),
        Bounds {
            depth: 0,
            ..Bounds::default()
        },
    );
    let parent = desk.submit(|_| {});
    let refused = desk.try_submit(|request| {
        keyed("k", "p")(request);
        request.parent = Some(parent);
    });
    assert_eq!(refused, Err(Refused::TooDeep { depth: 1, limit: 0 }));
    assert_eq!(answer(&mut desk, "k", "p"), "new");
}

#[test]
fn nesting_of_children_is_bounded() {
    let mut desk = Desk::new(9);
    let mut parent = desk.submit(|request| request.above_parent = vec![TaskId::new(7, 7)]);
    assert_eq!(
        desk.task(parent).request.depth(),
        0,
        "the submitter does not choose the depth"
    );
    desk.turn();
    for depth in 1..=5 {
        let child = desk.submit(|request| request.parent = Some(parent));
        assert_eq!(desk.task(child).request.depth(), depth);
        // Ended ancestors count towards the depth too.
        desk.report(parent, success());
        desk.turn();
        parent = child;
    }
    let refused = desk.try_submit(|request| request.parent = Some(parent));
    assert_eq!(refused, Err(Refused::TooDeep { depth: 6, limit: 5 }));
}

#[test]
fn parent_that_has_ended_is_kept_and_parent_that_does_not_exist_is_dropped() {
    let mut desk = Desk::new(2);
    let top = desk.submit(|_| {});
    let parent = desk.submit(|request| request.parent = Some(top));
    desk.turn();
    desk.report(parent, success());
    desk.settle();
    let mut check = |parent: TaskId, expected: &[TaskId]| {
        let child = desk.submit(|request| request.parent = Some(parent));
        let ancestors: Vec<TaskId> = desk.task(child).request.ancestors().collect();
        assert_eq!(ancestors, expected);
    };
    check(parent, &[parent, top]);
    check(TaskId::new(1, 1), &[]);
}

#[test]
fn open_descendants_are_bounded_for_the_topmost_ancestor_too() {
    let bounds = Bounds {
        open_descendants: 3,
        ..Bounds::default()
    };
    let mut desk = Desk::with(fixed(9), bounds);
    let top = desk.submit(|_| {});
    let child = desk.submit(|request| request.parent = Some(top));
    let grandchild = desk.submit(|request| request.parent = Some(child));
    let detached = desk.submit(|request| {
        request.parent = Some(child);
        request.detached = true;
    });
    let refused = Err(Refused::TooManyDescendants {
        ancestor: top,
        limit: 3,
    });
    for parent in [top, child, grandchild, detached] {
        assert_eq!(
            desk.try_submit(|request| request.parent = Some(parent)),
            refused
        );
    }
    // Unrelated tasks are not affected, and a task that ends makes room.
    desk.submit(|_| {});
    desk.turn();
    desk.report(child, success());
    desk.submit(|request| request.parent = Some(top));
    // Tasks below an ended task are still descendants, even for the next host.
    desk.settle();
    desk.reload();
    for parent in [top, child, grandchild] {
        assert_eq!(
            desk.try_submit(|request| request.parent = Some(parent)),
            refused
        );
    }
    desk.recovered(top, Found::Known);
    desk.report(top, success());
    assert_eq!(
        desk.try_submit(|request| request.parent = Some(grandchild)),
        refused,
        "the topmost task has ended, but its descendants have not"
    );
}

#[test]
fn full_queue_refuses_tasks_and_still_answers_a_known_key() {
    let bounds = Bounds {
        unfinished: 2,
        ..Bounds::default()
    };
    let mut desk = Desk::with(fixed(1), bounds);
    let first = desk.submit(keyed("k", "p"));
    desk.submit(|_| {});
    assert_eq!(
        desk.try_submit(|_| {}),
        Err(Refused::QueueFull { limit: 2 })
    );
    assert_eq!(answer(&mut desk, "k", "p"), "existing");
    desk.turn();
    desk.report(first, success());
    desk.submit(|_| {});
}

#[test]
fn task_of_a_parked_account_waits_from_its_submission() {
    let mut desk = Desk::new(1);
    let first = desk.submit(agent);
    desk.turn();
    desk.report(first, limited(Some(Duration::from_mins(1))));
    let second = desk.submit(agent);
    let other = desk.submit(|_| {});
    assert_eq!(
        desk.words(&[first, second, other]),
        ["waiting", "waiting", "ready"]
    );
    // The limit has ended, but the tick that wakes the account's waiting tasks is still to come.
    desk.now.wall = desk.now.wall.after(Duration::from_mins(1));
    let third = desk.submit(agent);
    assert_eq!(desk.word(third), "ready");
}

#[test]
fn attached_tasks_submitted_by_a_parent_that_is_being_cancelled_are_cancelled() {
    let check = |phase: &str, detached: bool, expected: &str| {
        let (mut desk, parent) = Desk::in_phase(phase);
        let child = desk.submit(|request| {
            request.parent = Some(parent);
            request.detached = detached;
        });
        assert_eq!(desk.word(child), expected, "{phase} {detached}");
        desk.turn();
        assert_eq!(
            desk.facts_of(child).len(),
            1 + usize::from(expected != "ready")
        );
    };
    check("live", false, "ready");
    check("stopping:cancelled", false, "cancelled:cancelled");
    check("stopping:cancelled", true, "ready");
    check("stopping:start_timeout", false, "ready");
}

#[test]
fn new_task_is_cancelled_with_its_grandparent_even_if_its_parent_has_ended() {
    let check = |detached: bool, expected: &str| {
        let mut desk = Desk::new(3);
        let top = desk.submit(|_| {});
        let child = desk.submit(|request| {
            request.parent = Some(top);
            request.detached = detached;
        });
        desk.turn();
        desk.report(child, success());
        desk.cancel(top).unwrap();
        let grandchild = desk.submit(|request| request.parent = Some(child));
        assert_eq!(desk.word(grandchild), expected);
    };
    check(false, "cancelled:cancelled");
    check(true, "ready");
}
