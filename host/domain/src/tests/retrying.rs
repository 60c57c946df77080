//! Finished tasks that run again.

use super::{Desk, failure, fixed, limited, starts, success};
use crate::{
    board::Bounds,
    event::Fact,
    id::AttemptId,
    outcome::ReasonClass,
    step::{Answer, Refused, Report},
    task::Task,
};

/// A task that ran once, and how the store has it.
fn failed() -> (Desk, Task) {
    let (mut desk, task) = Desk::in_phase("live");
    desk.report(task, failure(ReasonClass::Exit));
    desk.settle();
    let copy = desk.task(task);
    (desk, copy)
}

fn run(desk: &mut Desk, attempt: AttemptId, report: Report) {
    assert_eq!(starts(&desk.turn()), [attempt.task]);
    assert_eq!(desk.attempt(attempt.task), attempt);
    desk.report(attempt.task, report);
    desk.settle();
}

#[test]
fn a_finished_task_gets_the_next_attempt() {
    let (mut desk, copy) = failed();
    let answer = desk.retry(&copy);
    assert_eq!(
        answer,
        Ok(Answer::Retrying {
            task: copy.id,
            attempt: 2,
            downstream: 0
        })
    );
    assert_eq!(desk.word(copy.id), "ready");
    let second = AttemptId {
        task: copy.id,
        number: 2,
    };
    run(&mut desk, second, success());
    let task = desk.task(copy.id);
    assert_eq!(desk.word(copy.id), "succeeded");
    assert_eq!(task.attempts[0], copy.attempts[0]);
    assert_eq!(task.attempts.len(), 2);
    let retried = desk
        .facts_of(copy.id)
        .iter()
        .filter(|fact| ***fact == Fact::Retried)
        .count();
    assert_eq!(retried, 1);
}

#[test]
fn what_is_not_done_is_not_retried() {
    for (phase, word) in [
        ("ready", "ready"),
        ("assigned", "ready"),
        ("live", "running"),
        ("stopping:cancelled", "running"),
        ("waiting", "waiting"),
    ] {
        let (mut desk, id) = Desk::in_phase(phase);
        let copy = desk.task(id);
        let refused = Refused::NotDone {
            task: id,
            state: word,
        };
        assert_eq!(desk.retry(&copy), Err(refused.clone()), "{phase}");
        // Nor where the board knows nothing of it.
        assert_eq!(Desk::new(1).retry(&copy), Err(refused), "{phase}");
    }
}

#[test]
fn two_retries_at_once_make_one_attempt() {
    let (mut desk, copy) = failed();
    desk.retry(&copy).unwrap();
    assert_eq!(
        desk.retry(&copy),
        Err(Refused::NotDone {
            task: copy.id,
            state: "ready"
        })
    );
}

#[test]
fn a_copy_older_than_another_retry_does_not_write_over_it() {
    let (mut desk, copy) = failed();
    let attempt = |number| AttemptId {
        task: copy.id,
        number,
    };
    desk.retry(&copy).unwrap();
    run(&mut desk, attempt(2), success());
    assert_eq!(
        desk.retry(&copy),
        Ok(Answer::Retrying {
            task: copy.id,
            attempt: 3,
            downstream: 0
        })
    );
    run(&mut desk, attempt(3), success());
    assert_eq!(desk.task(copy.id).attempts.len(), 3);
}

#[test]
fn a_retry_waits_where_its_account_is_parked_and_finds_room_or_not() {
    let mut desk = Desk::new(2);
    let [first, second] = [desk.submit(super::agent), desk.submit(super::agent)];
    desk.turn();
    desk.report(first, failure(ReasonClass::Exit));
    desk.report(second, limited(None));
    desk.settle();
    let copy = desk.task(first);
    desk.retry(&copy).unwrap();
    assert_eq!(desk.words(&[first, second]), ["waiting", "waiting"]);

    let (_, copy) = failed();
    let mut full = Desk::with(
        fixed(1),
        Bounds {
            unfinished: 1,
            ..Bounds::default()
        },
    );
    full.made = 7;
    full.submit(|_| {});
    assert_eq!(full.retry(&copy), Err(Refused::QueueFull { limit: 1 }));
}

#[test]
fn ended_and_retried_in_one_batch_is_written_once() {
    let (mut desk, task) = Desk::in_phase("live");
    desk.report(task, failure(ReasonClass::Exit));
    let copy = desk.task(task);
    desk.retry(&copy).unwrap();
    let (batch, _) = desk.board.seal();
    let rows: Vec<_> = batch.tasks.iter().map(|row| row.state.as_str()).collect();
    assert_eq!(rows, ["ready"]);
}
