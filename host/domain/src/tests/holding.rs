//! Holds, start times, queue timeouts, and automatic retries.

use std::time::Duration;

use super::{Desk, failure, request, starts, submission, success};
use crate::{
    attempt::{Attempt, Ended},
    board::Bounds,
    capacity::Slots,
    dependency::{Condition, Dependency},
    id::{AttemptId, TaskId},
    outcome::{Outcome, ReasonClass},
    retry_policy::{Backoff, RetryPolicy},
    step::{Answer, Found, Input, Refused, Report, Submission},
    task::Request,
    time::Timestamp,
};

impl Desk {
    fn hold(&mut self, task: TaskId) -> Result<Answer, Refused> {
        self.step(Input::Hold { tasks: vec![task] })
    }

    fn release(&mut self, task: TaskId) -> Result<Answer, Refused> {
        self.step(Input::Release { tasks: vec![task] })
    }

    /// A gate: a task that is held from its submission and depends on `upstream`.
    fn held_after(&mut self, upstream: TaskId) -> TaskId {
        let id = TaskId::new(self.now.wall.0, 1_000_000);
        let dependencies = vec![Dependency {
            task: upstream,
            condition: Condition::Succeeded,
        }];
        let held = Submission {
            held: true,
            dependencies,
            ..submission(id, request())
        };
        self.submit_all(vec![held]).unwrap();
        id
    }
}

#[test]
fn held_task_does_not_start_until_it_is_released() {
    for phase in ["ready", "assigned", "waiting"] {
        let (mut desk, id) = Desk::in_phase(phase);
        desk.board.capacity.limits.slots = crate::capacity::Slots::Fixed(1);
        assert_eq!(desk.hold(id), Ok(Answer::Changed(1)), "{phase}");
        assert_eq!(desk.hold(id), Ok(Answer::Changed(0)), "{phase}");
        assert_eq!(starts(&desk.turn()), [], "{phase}");
        assert_eq!(desk.word(id), "held", "{phase}");
        // A release computes the task's state anew.
        desk.release(id).unwrap();
        let expected = if phase == "waiting" {
            "waiting"
        } else {
            "ready"
        };
        assert_eq!(desk.word(id), expected, "{phase}");
    }
}

#[test]
fn hold_of_a_running_task_and_release_of_an_unheld_task_are_refused() {
    let (mut desk, id) = Desk::in_phase("live");
    let state = "running";
    assert_eq!(desk.hold(id), Err(Refused::NotQueued { task: id, state }));
    assert_eq!(desk.release(id), Err(Refused::NotHeld { task: id, state }));
    let nobody = TaskId::new(1, 1);
    assert_eq!(desk.hold(nobody), Err(Refused::Unknown { task: nobody }));
}

#[test]
fn task_may_be_submitted_as_held() {
    let mut desk = Desk::new(1);
    let id = TaskId::new(1, 1);
    let held = Submission {
        held: true,
        ..submission(id, request())
    };
    desk.submit_all(vec![held]).unwrap();
    assert_eq!(starts(&desk.turn()), []);
    desk.release(id).unwrap();
    assert_eq!(starts(&desk.turn()), [id]);
}

#[test]
fn task_held_at_submission_stays_held_when_its_failed_dependency_is_retried() {
    for is_loaded_again in [false, true] {
        let mut desk = Desk::new(2);
        let test = desk.submit(|_| {});
        let gate = desk.held_after(test);
        desk.turn();
        desk.report(test, failure(ReasonClass::Exit));
        desk.settle();
        assert_eq!(desk.word(gate), "upstream_failed");
        let (copy, downstream) = (desk.task(test), vec![desk.task(gate)]);
        desk.retry_with(&copy, downstream).unwrap();
        assert_eq!(desk.word(gate), "held");
        assert_eq!(starts(&desk.turn()), [test]);
        if is_loaded_again {
            desk.reload();
            desk.recovered(test, Found::Known);
        }
        desk.report(test, success());
        desk.settle();
        desk.pass(Duration::from_hours(1));
        assert_eq!(starts(&desk.turn()), []);
        assert_eq!(desk.word(gate), "held");
        desk.release(gate).unwrap();
        assert_eq!(starts(&desk.turn()), [gate]);
    }
}

#[test]
fn hold_survives_a_cancel_and_a_retry() {
    // Rows of earlier versions record a hold only in the state.
    for by_state_alone in [false, true] {
        let (mut desk, id) = Desk::in_phase("ready");
        desk.step(Input::SetSlots(Some(Slots::Fixed(1)))).unwrap();
        desk.hold(id).unwrap();
        desk.settle();
        if by_state_alone {
            desk.stored.get_mut(&id).unwrap().held = None;
            desk.reload();
        }
        for attempt in [1, 1] {
            desk.cancel(id).unwrap();
            desk.settle();
            let copy = desk.task(id);
            let answer = desk.retry(&copy);
            let expected = Answer::Retrying {
                task: id,
                attempt,
                downstream: 0,
                held: true,
            };
            assert_eq!(answer, Ok(expected));
            assert_eq!(starts(&desk.turn()), []);
            assert_eq!(desk.word(id), "held");
        }
        desk.release(id).unwrap();
        assert_eq!(starts(&desk.turn()), [id]);
        // Once released, the task is no longer held.
        desk.report(id, success());
        desk.settle();
        let copy = desk.task(id);
        desk.retry(&copy).unwrap();
        assert_eq!(desk.word(id), "ready");
    }
}

#[test]
fn task_waits_for_its_start_time() {
    let mut desk = Desk::new(1);
    let at = desk.now.wall.after(Duration::from_mins(10));
    let id = desk.submit(|request| request.start_at = Some(at));
    assert_eq!(desk.word(id), "waiting");
    assert_eq!(starts(&desk.turn()), []);
    desk.pass(Duration::from_mins(10));
    assert_eq!(starts(&desk.turn()), [id]);
}

#[test]
fn start_time_in_the_past_means_now() {
    let mut desk = Desk::new(1);
    let id = desk.submit(|request| request.start_at = Some(Timestamp(5)));
    assert_eq!(starts(&desk.turn()), [id]);
}

#[test]
fn queue_timeout_counts_only_the_time_in_state_ready() {
    let mut desk = Desk::new(1);
    let minutes = Duration::from_mins;
    let running = desk.submit(|_| {});
    desk.turn();
    let later = desk.now.wall.after(minutes(30));
    let id = desk.submit(|request| {
        request.queue_timeout = Some(minutes(5));
        request.start_at = Some(later);
    });
    desk.pass(minutes(30));
    assert_eq!(desk.word(id), "ready");
    desk.pass(minutes(4));
    assert_eq!(desk.word(id), "ready");
    desk.settle();
    desk.reload();
    desk.pass(minutes(1));
    assert_eq!(desk.word(id), "timed_out:timeout");
    assert_eq!(desk.word(running), "starting");
}

#[test]
fn queue_timeout_begins_anew_on_another_boot() {
    let mut desk = Desk::new(0);
    let id = desk.submit(|request| request.queue_timeout = Some(Duration::from_mins(5)));
    desk.pass(Duration::from_mins(4));
    desk.settle();
    desk.reload_on("boot-2");
    desk.board.restart_queue_clocks(desk.now);
    desk.pass(Duration::from_mins(4));
    assert_eq!(desk.word(id), "ready");
    desk.pass(Duration::from_mins(1));
    assert_eq!(desk.word(id), "timed_out:timeout");
}

fn retries(limit: u32, on: &[ReasonClass]) -> RetryPolicy {
    RetryPolicy {
        limit,
        backoff: Backoff::default(),
        on: on.to_vec(),
    }
}

#[test]
fn failed_task_has_as_many_retries_as_its_policy_says() {
    let mut desk = Desk::new(1);
    let id = desk.submit(|request| request.retries = Some(retries(2, &[]).into()));
    assert_eq!(desk.task(id).attempts_left(), 3);
    for (expected, left) in [("waiting", 2), ("waiting", 1), ("failed:exit", 0)] {
        desk.pass(Duration::from_mins(5));
        assert_eq!(starts(&desk.turn()), [id]);
        assert_eq!(desk.task(id).attempts_left(), left);
        desk.report(id, failure(ReasonClass::Exit));
        desk.settle();
        // A delay of zero is possible, but unlikely.
        assert_eq!(desk.word(id), expected);
        assert_eq!(desk.task(id).attempts_left(), left);
    }
    let task = desk.task(id);
    assert_eq!(task.attempts.len(), 3);
    // A retry that somebody asks for does not count against the policy.
    desk.retry(&task).unwrap();
    assert_eq!(desk.task(id).attempts_left(), 1);
    assert_eq!(starts(&desk.turn()), [id]);
    assert_eq!(desk.task(id).attempts_left(), 0);
}

#[test]
fn task_without_a_policy_is_not_retried() {
    let mut desk = Desk::new(1);
    let id = desk.submit(|_| {});
    desk.turn();
    desk.report(id, failure(ReasonClass::Network));
    assert_eq!(desk.word(id), "failed:network");
}

#[test]
fn pending_retry_does_not_undo_a_cancel() {
    let mut desk = Desk::new(1);
    let id = desk.submit(|request| request.retries = Some(retries(2, &[]).into()));
    desk.turn();
    desk.report(id, failure(ReasonClass::Exit));
    desk.settle();
    desk.cancel(id).unwrap();
    desk.pass(Duration::from_hours(1));
    assert_eq!(starts(&desk.turn()), []);
    assert_eq!(desk.word(id), "cancelled:cancelled");
}

#[test]
fn class_of_failure_decides_about_retries() {
    use ReasonClass::{Auth, Budget, Exit, Invalid, Lost, Network, Permission, Timeout};
    let check = |class, on: &[ReasonClass], expected: bool| {
        let mut desk = Desk::new(1);
        let id = desk.submit(|request| request.retries = Some(retries(1, on).into()));
        desk.turn();
        desk.report(id, failure(class));
        desk.settle();
        assert_eq!(!desk.task(id).is_done(), expected, "{class:?} {on:?}");
    };
    check(Exit, &[], true);
    check(Network, &[], true);
    check(Timeout, &[], true);
    check(Lost, &[], false);
    check(Lost, &[Lost], true);
    check(Exit, &[Network], false);
    check(Network, &[Network], true);
    for never in [Auth, Invalid, Budget, Permission] {
        check(never, &[never], false);
    }
}

#[test]
fn usage_limit_uses_up_no_retry() {
    let mut desk = Desk::new(1);
    let id = desk.submit(|request| {
        super::agent(request);
        request.retries = Some(retries(1, &[]).into());
    });
    desk.turn();
    desk.report(id, super::limited(None));
    desk.settle();
    desk.pass(Duration::from_hours(1));
    desk.turn();
    desk.report(id, failure(ReasonClass::Network));
    desk.settle();
    assert_eq!(desk.word(id), "waiting");
}

/// Without this rule, an executor that always reports a limit would be started endlessly, with no
/// delay between its attempts.
#[test]
fn usage_limit_without_an_account_is_an_ordinary_failure() {
    let mut desk = Desk::new(1);
    let id = desk.submit(|request| request.retries = Some(retries(1, &[]).into()));
    for expected in ["waiting", "failed:rate_limit"] {
        desk.pass(Duration::from_mins(5));
        assert_eq!(starts(&desk.turn()), [id]);
        desk.report(id, super::limited(Some(Duration::ZERO)));
        desk.settle();
        assert_eq!(desk.word(id), expected);
    }
}

#[test]
fn usage_limit_that_ends_at_once_still_delays_the_next_attempt() {
    let mut desk = Desk::new(1);
    let id = desk.submit(super::agent);
    for seconds in [1, 2, 4, 8, 16] {
        assert_eq!(starts(&desk.turn()), [id]);
        desk.report(id, super::limited(Some(Duration::ZERO)));
        desk.pass(Duration::from_millis(seconds * 1_000 - 1));
        assert_eq!(starts(&desk.turn()), [], "it started before {seconds} s");
        desk.pass(Duration::from_millis(1));
    }
}

#[test]
fn repeated_starts_that_are_not_received_wait_longer_each_time() {
    let mut desk = Desk::new(1);
    let id = desk.submit(|_| {});
    for seconds in [0, 1, 2, 4] {
        assert_eq!(starts(&desk.turn()), [id]);
        desk.report(id, super::never_received());
        if seconds > 0 {
            assert_eq!(desk.word(id), "waiting");
            desk.pass(Duration::from_millis(seconds * 1_000 - 1));
            assert_eq!(starts(&desk.turn()), [], "it started before {seconds} s");
            desk.pass(Duration::from_millis(1));
        }
    }
    // The waits stop growing once an attempt has begun.
    desk.turn();
    desk.report(id, failure(ReasonClass::Exit));
    desk.settle();
    let copy = desk.task(id);
    desk.retry(&copy).unwrap();
    assert_eq!(starts(&desk.turn()), [id]);
    desk.report(id, super::never_received());
    assert_eq!(desk.word(id), "ready");
}

#[test]
fn number_of_attempts_is_bounded_for_automatic_and_requested_retries() {
    let check = |edit: fn(&mut Request), report: Report, expected: &str| {
        let bounds = Bounds {
            attempts: 3,
            ..Bounds::default()
        };
        let mut desk = Desk::with(super::fixed(1), bounds);
        let id = desk.submit(edit);
        for number in 1..=3 {
            desk.pass(Duration::from_hours(1));
            assert_eq!(starts(&desk.turn()), [id], "{expected}");
            desk.report(id, report.clone());
            desk.settle();
            assert_eq!(desk.task(id).is_done(), number == 3, "{expected}");
        }
        assert_eq!(desk.word(id), expected);
        let copy = desk.task(id);
        let refused = Refused::TooManyAttempts { task: id, limit: 3 };
        assert_eq!(desk.retry(&copy), Err(refused));
        assert!(desk.task(id).is_done());
    };
    check(super::agent, super::limited(None), "failed:rate_limit");
    check(|_| {}, super::never_received(), "lost:lost");
    let many = |request: &mut Request| request.retries = Some(retries(1_000, &[]).into());
    check(many, failure(ReasonClass::Exit), "failed:exit");
}

#[test]
fn start_that_was_not_received_uses_up_no_retry() {
    let mut desk = Desk::new(1);
    let id = desk.submit(|request| request.retries = Some(Box::new(retries(1, &[]))));
    desk.turn();
    desk.report(id, super::never_received());
    for expected in ["waiting", "failed:network"] {
        desk.pass(Duration::from_hours(1));
        assert_eq!(starts(&desk.turn()), [id]);
        desk.report(id, failure(ReasonClass::Network));
        assert_eq!(desk.word(id), expected);
    }
}

#[test]
fn successful_retry_ends_the_task() {
    let mut desk = Desk::new(1);
    let id = desk.submit(|request| request.retries = Some(retries(1, &[]).into()));
    desk.turn();
    desk.report(id, failure(ReasonClass::Exit));
    desk.settle();
    desk.pass(Duration::from_mins(5));
    desk.turn();
    desk.report(id, success());
    assert_eq!(desk.word(id), "succeeded");
}

/// Over many attempts the delays fill the range from zero to the grown delay. They never exceed the
/// grown delay or the longest delay of the policy.
#[test]
fn delays_grow_with_full_jitter() {
    let policy = RetryPolicy {
        limit: u32::MAX,
        backoff: Backoff {
            initial: Duration::from_secs(1),
            factor: 3,
            max: Duration::from_secs(20),
        },
        on: Vec::new(),
    };
    let ended = |number| {
        let mut attempt = Attempt::new(number, Timestamp(0));
        attempt.ended = Some(Ended::new(Timestamp(0), Outcome::Failed));
        attempt
    };
    for (failures, grown) in [(1, 1), (2, 3), (3, 9), (4, 20), (40, 20)] {
        let attempts: Vec<Attempt> = (1..=failures).map(ended).collect();
        let delays: Vec<Duration> = (0..1000)
            .map(|bits| {
                let task = TaskId::new(1, bits);
                let id = AttemptId {
                    task,
                    number: failures,
                };
                let class = Some(ReasonClass::Exit);
                policy
                    .delay_after(id, &attempts, false, Outcome::Failed, class)
                    .unwrap()
            })
            .collect();
        let grown = Duration::from_secs(grown);
        let (least, most) = (delays.iter().min().unwrap(), delays.iter().max().unwrap());
        assert!(*most <= grown && *most > grown.mul_f64(0.99), "{most:?}");
        assert!(*least < grown.mul_f64(0.01), "{least:?}");
        let mean = delays.iter().sum::<Duration>() / 1000;
        assert!(
            mean > grown.mul_f64(0.45) && mean < grown.mul_f64(0.55),
            "{mean:?}"
        );
    }
}
