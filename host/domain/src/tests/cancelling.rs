//! Cancelling in each phase, and through the tree of descendants.

use super::{Desk, ending, failure, kinds, success};
use crate::{
    attempt::StopWhy,
    batch::Action,
    id::TaskId,
    outcome::ReasonClass,
    step::{Answer, Cancelling, Cause, Ending, Found, Input, Refused, Report},
    task::State,
};

fn check(phase: &str, how: Cancelling, expected: &str, effects: &[&str]) {
    let (mut desk, task) = Desk::in_phase(phase);
    assert_eq!(
        desk.cancel(task),
        Ok(Answer::Cancelling { task, how }),
        "{phase}"
    );
    assert_eq!(desk.word(task), expected, "{phase}");
    assert_eq!(kinds(&desk.settle()), effects, "{phase}");
    desk.board.admit(desk.now);
    assert_eq!(desk.word(task), expected, "{phase}: the state stays");
}

#[test]
fn task_can_be_cancelled_in_each_phase() {
    for phase in ["waiting", "ready", "assigned"] {
        check(phase, Cancelling::Ended, "cancelled:cancelled", &[]);
    }
    let stopping = "stopping:cancelled";
    for phase in ["preparing", "starting", "live", "finishing"] {
        check(phase, Cancelling::Stopping, stopping, &["stop"]);
    }
    check("settling", Cancelling::Settling, stopping, &["stop"]);
    check(stopping, Cancelling::Already, stopping, &[]);
    // The first reason for a stop decides the outcome.
    check(
        "stopping:start_timeout",
        Cancelling::Already,
        "stopping:start_timeout",
        &[],
    );
}

/// The answer to the cancel says that the task may still succeed.
#[test]
fn task_that_is_cancelled_while_its_work_is_settled_succeeds_if_this_is_done_in_time() {
    let late = failure(ReasonClass::Timeout);
    for (end, expected) in [(success(), "succeeded"), (late, "cancelled:cancelled")] {
        let (mut desk, task) = Desk::in_phase("settling");
        let how = Cancelling::Settling;
        assert_eq!(desk.cancel(task), Ok(Answer::Cancelling { task, how }));
        desk.report(task, end);
        assert_eq!(desk.word(task), expected);
    }
}

/// As in the ordinary case, in which its executor answers at once.
#[test]
fn task_that_is_cancelled_after_its_processes_have_ended_succeeds_if_they_had_done_their_work() {
    let exit = failure(ReasonClass::Exit);
    for (end, expected) in [(success(), "succeeded"), (exit, "cancelled:cancelled")] {
        let (mut desk, task) = Desk::in_phase("live");
        desk.report(task, Report::Over);
        desk.cancel(task).unwrap();
        desk.report(task, end);
        assert_eq!(desk.word(task), expected);
    }
}

#[test]
fn cancel_of_a_finished_or_unknown_task_is_refused() {
    let (mut desk, task) = Desk::in_phase("succeeded");
    assert_eq!(desk.cancel(task), Err(Refused::Unknown { task }));
    let task = TaskId::new(3, 3);
    assert_eq!(desk.cancel(task), Err(Refused::Unknown { task }));
    assert!(!desk.board.has_pending());
}

#[test]
fn cancelled_reservation_leaves_no_attempt() {
    let (mut desk, task) = Desk::in_phase("assigned");
    desk.cancel(task).unwrap();
    assert_eq!(desk.task(task).attempts, []);
}

#[test]
fn cancel_decides_the_outcome_unless_the_attempt_had_succeeded() {
    let check = |ending: Ending, expected: &str| {
        let (mut desk, task) = Desk::in_phase("stopping:cancelled");
        desk.report(task, Report::Ended(Box::new(ending)));
        assert_eq!(desk.word(task), expected);
        assert_eq!(kinds(&desk.turn()), ["release"]);
    };
    let stopped = Some(StopWhy::Cancelled { reason: None });
    let signal = ending(Cause::Class(ReasonClass::Signal));
    check(ending(Cause::Success), "succeeded");
    check(signal.clone(), "cancelled:cancelled");
    check(
        Ending {
            stopped: stopped.clone(),
            ..signal
        },
        "cancelled:cancelled",
    );
    check(
        Ending {
            stopped,
            ..ending(Cause::Success)
        },
        "cancelled:cancelled",
    );
    // A usage limit that the attempt meets while it is being stopped does not change the outcome.
    check(
        ending(Cause::Class(ReasonClass::RateLimit)),
        "cancelled:cancelled",
    );
}

/// top ─ child ─ grandchild
///     └ detached
fn family(desk: &mut Desk) -> [TaskId; 4] {
    let top = desk.submit(|_| {});
    let child = desk.submit(|request| request.parent = Some(top));
    let grandchild = desk.submit(|request| request.parent = Some(child));
    let detached = desk.submit(|request| {
        request.parent = Some(top);
        request.detached = true;
    });
    [top, child, grandchild, detached]
}

/// top ─ child ─ grandchild
///     ├ detached ─ below
///     └ ready
#[test]
fn attached_descendants_are_cancelled_with_their_parent() {
    let mut desk = Desk::new(5);
    let [top, child, grandchild, detached] = family(&mut desk);
    let below = desk.submit(|request| request.parent = Some(detached));
    desk.turn();
    let ready = desk.submit(|request| request.parent = Some(top));
    let stranger = desk.submit(|_| {});
    for task in [top, child, grandchild, detached, below] {
        desk.report(task, super::started(1));
    }
    desk.settle();
    let answer = desk.step(Input::Cancel {
        task: top,
        reason: Some("enough".to_owned()),
    });
    assert_eq!(
        answer,
        Ok(Answer::Cancelling {
            task: top,
            how: Cancelling::Stopping
        })
    );
    let all = [top, child, grandchild, detached, below, ready, stranger];
    assert_eq!(
        desk.words(&all),
        [
            "stopping:cancelled",
            "stopping:cancelled",
            "stopping:cancelled",
            "live",
            "live",
            "cancelled:cancelled",
            "ready",
        ]
    );
    let stops: Vec<TaskId> = desk
        .settle()
        .into_iter()
        .map(|action| match action {
            Action::Stop { attempt, .. } => attempt.task,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(stops, [top, child, grandchild]);
    let State::Done { reason, .. } = desk.task(ready).state else {
        panic!("the task was not cancelled")
    };
    assert_eq!(
        reason.unwrap().message,
        format!("with its parent {top:#}: enough")
    );
}

/// top ─ (child) ─ grandchild ─ (below) ─ deepest: tasks in brackets have ended before `top` is
/// cancelled.
#[test]
fn cancel_reaches_descendants_below_ended_tasks() {
    let check = |detached: Option<usize>, restarted: bool, expected: [&str; 3]| {
        let mut desk = Desk::new(9);
        let mut line = vec![desk.submit(|_| {})];
        for number in 1..5 {
            let parent = line.last().copied();
            line.push(desk.submit(|request| {
                request.parent = parent;
                request.detached = detached == Some(number);
            }));
        }
        desk.turn();
        for ended in [line[1], line[3]] {
            desk.report(ended, success());
        }
        desk.settle();
        if restarted {
            // Ended tasks are not on the new board.
            desk.reload();
            for task in [line[0], line[2], line[4]] {
                desk.recovered(task, Found::Known);
            }
        }
        for task in [line[0], line[2], line[4]] {
            desk.report(task, Report::Alive);
        }
        desk.cancel(line[0]).unwrap();
        assert_eq!(
            desk.words(&[line[0], line[2], line[4]]),
            expected,
            "{detached:?} {restarted}"
        );
    };
    let stopping = "stopping:cancelled";
    for restarted in [false, true] {
        check(None, restarted, [stopping; 3]);
        check(Some(1), restarted, [stopping, "live", "live"]);
        check(Some(2), restarted, [stopping, "live", "live"]);
        check(Some(3), restarted, [stopping, stopping, "live"]);
        check(Some(4), restarted, [stopping, stopping, "live"]);
    }
}

/// (top) ─ (child) ─ grandchild
///       ├ detached
///       └ ready
///
/// Tasks in brackets have ended.
#[test]
fn cancel_of_a_finished_task_reaches_its_descendants() {
    for restarted in [false, true] {
        let mut desk = Desk::new(5);
        let [top, child, grandchild, detached] = family(&mut desk);
        desk.turn();
        for ended in [top, child] {
            desk.report(ended, success());
        }
        desk.settle();
        let ready = desk.submit(|request| {
            request.parent = Some(top);
            request.start_at = Some(crate::time::Timestamp(u64::MAX));
        });
        desk.settle();
        if restarted {
            desk.reload();
            for task in [grandchild, detached] {
                desk.recovered(task, Found::Known);
            }
        }
        for task in [grandchild, detached] {
            desk.report(task, Report::Alive);
        }
        let below = |descendants, already| Answer::CancellingBelow {
            task: top,
            descendants,
            already,
        };
        assert_eq!(desk.cancel(top), Ok(below(2, false)), "{restarted}");
        assert_eq!(
            desk.words(&[grandchild, detached, ready]),
            ["stopping:cancelled", "live", "cancelled:cancelled"],
            "{restarted}"
        );
        let State::Done { reason, .. } = desk.task(ready).state else {
            panic!("the task was not cancelled")
        };
        let message = reason.unwrap().message;
        assert!(
            message.starts_with(&format!("with its parent {top:#}")),
            "{message}"
        );
        assert_eq!(desk.cancel(top), Ok(below(1, true)));
        desk.report(grandchild, failure(ReasonClass::Signal));
        desk.settle();
        // No unfinished descendant is left.
        assert_eq!(desk.cancel(top), Err(Refused::Unknown { task: top }));
    }
}

#[test]
fn cancel_reaches_children_submitted_while_their_parent_is_being_stopped() {
    let (mut desk, top) = Desk::in_phase("stopping:start_timeout");
    let child = desk.submit(|request| request.parent = Some(top));
    desk.cancel(top).unwrap();
    assert_eq!(
        desk.words(&[top, child]),
        ["stopping:start_timeout", "cancelled:cancelled"]
    );
}

#[test]
fn later_reports_do_not_undo_a_cancel() {
    let (mut desk, task) = Desk::in_phase("stopping:cancelled");
    for late in [super::started(4), Report::Alive, Report::Finishing] {
        desk.report(task, late);
        assert_eq!(desk.word(task), "stopping:cancelled");
    }
    desk.report(task, failure(ReasonClass::Exit));
    desk.report(task, success());
    assert_eq!(desk.word(task), "cancelled:cancelled");
}
