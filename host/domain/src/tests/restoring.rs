//! Boards restored from a backup.

use std::time::Duration;

use super::{Desk, fixed, request, starts, submission};
use crate::{
    board::{Board, Bounds, Stored},
    dependency::{Condition, Dependency},
    event::Fact,
    id::TaskId,
    outcome::{Outcome, ReasonClass},
    retry_policy::{Backoff, RetryPolicy},
    step::{Answer, Input, Submission},
    task::{State, Task},
    time::Timestamp,
};

const TAKEN_AT: Timestamp = Timestamp(999_000_000);

impl Desk {
    /// Restores the durable state as another host on another machine would. Returns the number of
    /// held tasks.
    fn restore(&mut self) -> usize {
        self.reload_on("another boot");
        let answer = self.step(Input::Restored { taken_at: TAKEN_AT });
        self.settle();
        match answer {
            Ok(Answer::Changed(held)) => held,
            other => panic!("{other:?}"),
        }
    }
}

/// No task starts automatically, whatever its state was.
#[test]
fn restored_running_attempts_are_lost_and_other_tasks_held() {
    let check = |phase: &str, expected: &str| {
        let (mut desk, id) = Desk::in_phase(phase);
        let before = desk.task(id);
        let held = desk.restore();
        assert_eq!(desk.word(id), expected, "{phase}");
        assert_eq!(held, usize::from(expected == "held"), "{phase}");
        assert_eq!(starts(&desk.turn()), [], "{phase}");
        let after = desk.task(id);
        assert_eq!((after.id, &after.request), (before.id, &before.request));
        assert_eq!(after.created_at, before.created_at, "{phase}");
        if expected == "held" {
            assert_eq!(after.restored_from, Some(TAKEN_AT), "{phase}");
            assert!(!after.has_open_attempt(), "{phase}");
            let restored = Fact::Restored { taken_at: TAKEN_AT };
            assert_eq!(desk.facts_of(id).last(), Some(&&restored), "{phase}");
        } else {
            let ended = after.last_attempt().and_then(|last| last.ended.clone());
            let outcome = ended.expect("an attempt without an end").outcome;
            assert!(expected.starts_with(outcome.as_str()), "{phase}");
        }
    };
    check("ready", "held");
    check("assigned", "held");
    check("waiting", "held");
    check("preparing", "lost:lost");
    check("starting", "lost:lost");
    check("live", "lost:lost");
    check("finishing", "lost:lost");
    check("settling", "lost:lost");
    // The reason for the stop decides the outcome, as always.
    check("stopping:cancelled", "cancelled:cancelled");
    check("stopping:start_timeout", "timed_out:timeout");
    check("succeeded", "succeeded");
}

#[test]
fn automatic_retry_of_a_lost_attempt_is_held_until_it_is_released() {
    let mut desk = Desk::new(1);
    let id = desk.submit(|request| {
        request.retries = Some(Box::new(RetryPolicy {
            limit: 1,
            backoff: Backoff::default(),
            on: vec![ReasonClass::Lost],
        }));
    });
    desk.turn();
    desk.restore();
    assert_eq!(desk.word(id), "held");
    let first = desk.task(id).attempts[0].ended.clone();
    assert_eq!(first.map(|ended| ended.outcome), Some(Outcome::Lost));
    desk.pass(Duration::from_hours(1));
    assert_eq!(starts(&desk.turn()), []);
    desk.step(Input::Release { tasks: vec![id] }).unwrap();
    assert_eq!(starts(&desk.turn()), [id]);
    let task = desk.task(id);
    assert_eq!((task.attempts.len(), task.restored_from), (2, None));
}

#[test]
fn dependants_of_lost_tasks_end_and_dependants_of_held_tasks_are_held() {
    let mut desk = Desk::new(1);
    let ran = desk.submit(|_| {});
    desk.turn();
    let queued = desk.submit(|_| {});
    let needs = |desk: &mut Desk, upstream: TaskId| {
        let edge = Dependency {
            task: upstream,
            condition: Condition::Succeeded,
        };
        desk.made += 1;
        let id = TaskId::new(desk.now.wall.0, desk.made.into());
        let submission = Submission {
            dependencies: vec![edge],
            ..submission(id, request())
        };
        desk.submit_all(vec![submission]).unwrap();
        id
    };
    let (after_ran, after_queued) = (needs(&mut desk, ran), needs(&mut desk, queued));
    desk.settle();
    assert_eq!(desk.restore(), 2);
    let words = desk.words(&[ran, after_ran, queued, after_queued]);
    assert_eq!(words, ["lost:lost", "upstream_failed", "held", "held"]);
    let both = vec![queued, after_queued];
    desk.step(Input::Release { tasks: both }).unwrap();
    assert_eq!(starts(&desk.turn()), [queued]);
    assert_eq!(desk.word(after_queued), "blocked");
}

#[test]
fn restore_does_not_change_tasks_that_were_already_held() {
    let (mut desk, id) = Desk::in_phase("ready");
    desk.step(Input::Hold { tasks: vec![id] }).unwrap();
    desk.settle();
    assert_eq!(desk.restore(), 0);
    let task = desk.task(id);
    assert!(matches!(task.state, State::Held { .. }));
    assert_eq!(task.restored_from, None);
}

/// Another host may have run other tasks since the backup was taken.
#[test]
fn after_a_restore_all_earlier_uses_of_sessions_may_be_forgotten() {
    let (mut desk, _) = Desk::in_phase("succeeded");
    assert_eq!(desk.board.queue().sessions_forgotten_to, None);
    desk.restore();
    let queue = desk.board.queue();
    let forgotten = [queue.sessions_forgotten_to, queue.all_sessions_forgotten_to];
    assert_eq!(forgotten, [Some(desk.now.wall); 2]);
}

/// Two hosts that restore the same backup write the same events.
#[test]
fn restoring_a_backup_is_deterministic() {
    let mut desk = Desk::new(2);
    let ids: Vec<TaskId> = (0..6).map(|_| desk.submit(|_| {})).collect();
    desk.turn();
    let open = desk.stored.values().filter(|task| !task.is_done());
    let unfinished: Vec<Task> = open.cloned().collect();
    let restore = || {
        let stored = Stored {
            unfinished: unfinished.clone(),
            ..Stored::default()
        };
        let mut board = Board::new(stored, fixed(2), Bounds::default(), "elsewhere".into());
        board
            .step(desk.now, Input::Restored { taken_at: TAKEN_AT })
            .unwrap();
        format!("{:?}", board.seal().0)
    };
    assert_eq!(restore(), restore());
    assert_eq!(ids.len(), unfinished.len());
}
