//! Work that somebody merges by hand after its automatic merge has failed.

use super::{Desk, a_merge, ending, failure, starts, success, worktree};
use crate::{
    attempt::Attempt,
    board::Bounds,
    dependency::{Condition, Dependency},
    event::Fact,
    id::TaskId,
    outcome::{Outcome, ReasonClass},
    step::{Answer, Cause, Ending, Input, MergedByHand, Refused, Report, Retry, Submission},
    task::Task,
    worktree::MergeState,
};

fn unmerged(state: MergeState) -> Report {
    Report::Ended(Box::new(Ending {
        merge: Some(Box::new(a_merge(state))),
        ..ending(Cause::Class(ReasonClass::Conflict))
    }))
}

impl Desk {
    /// A task whose merge has failed, and dependants with these conditions.
    fn conflict(slots: u32, below: &[Condition]) -> (Self, TaskId, Vec<TaskId>) {
        let mut desk = Self::new(slots);
        let task = desk.submit(worktree);
        let below = below.iter().map(|condition| {
            let edge = Dependency {
                task,
                condition: *condition,
            };
            let member: Submission = desk.member(vec![edge]);
            let id = member.id;
            desk.submit_all(vec![member]).unwrap();
            id
        });
        let below: Vec<TaskId> = below.collect();
        desk.turn();
        desk.report(task, unmerged(MergeState::Conflict));
        desk.settle();
        assert_eq!(desk.word(task), "failed:conflict");
        (desk, task, below)
    }

    fn merge_by_hand(&mut self, task: TaskId, downstream: &[TaskId]) -> Result<Answer, Refused> {
        let copy = self.task(task);
        self.merge_copy(copy, downstream)
    }

    fn merge_copy(&mut self, task: Task, downstream: &[TaskId]) -> Result<Answer, Refused> {
        let merged = MergedByHand {
            task,
            downstream: downstream.iter().map(|id| self.task(*id)).collect(),
            ended: self.ends(),
            merge: a_merge(MergeState::Merged),
        };
        self.step(Input::MergedByHand(Box::new(merged)))
    }
}

#[test]
fn merge_by_hand_adds_a_successful_attempt_and_changes_no_other_attempt() {
    let (mut desk, task, _) = Desk::conflict(1, &[]);
    let before = desk.task(task);
    let answer = desk.merge_by_hand(task, &[]);
    let expected = Answer::MergedByHand {
        task,
        attempt: 2,
        downstream: 0,
    };
    assert_eq!(answer, Ok(expected));
    let (batch, effects) = desk.board.seal();
    assert!(effects.is_empty(), "nothing is started: {effects:?}");
    desk.keep(&batch);
    let after = desk.task(task);
    assert_eq!(desk.word(task), "succeeded");
    assert_eq!(after.attempts[..1], before.attempts[..]);
    let second = Attempt::merged_by_hand(2, desk.now.wall, a_merge(MergeState::Merged));
    assert_eq!(after.attempts[1], second);
    assert_eq!(after.deciding_attempt(), Some(&second));
    assert_eq!(after.last_run(), before.last_attempt());
    let facts: Vec<Fact> = batch.events.into_iter().map(|event| event.fact).collect();
    let outcome = Outcome::Succeeded;
    let expected = [
        Fact::MergedByHand { attempt: 2 },
        Fact::AttemptEnded {
            attempt: 2,
            outcome,
            reason: None,
        },
        Fact::Done {
            outcome,
            reason: None,
            culprit: None,
        },
    ];
    assert_eq!(facts, expected);
    assert!(desk.turn().is_empty(), "no effect is left");
}

#[test]
fn merge_by_hand_runs_only_tasks_that_the_failed_merge_had_kept_from_running() {
    let conditions = [Condition::Succeeded, Condition::Any];
    let (mut desk, task, below) = Desk::conflict(1, &conditions);
    let [spoilt, other] = below[..] else {
        panic!("{below:?}")
    };
    let words = desk.words(&[spoilt, other]);
    assert_eq!(words, ["upstream_failed", "assigned"], "one is reserved");
    let answer = desk.merge_by_hand(task, &[spoilt]).unwrap();
    let expected = Answer::MergedByHand {
        task,
        attempt: 2,
        downstream: 1,
    };
    assert_eq!(answer, expected);
    assert_eq!(desk.words(&[spoilt, other]), ["ready", "assigned"]);
    let mut started = starts(&desk.turn());
    assert_eq!(started.len(), 1, "there is one slot: {started:?}");
    desk.report(started[0], success());
    started.extend(starts(&desk.settle()));
    started.extend(starts(&desk.turn()));
    started.sort();
    assert_eq!(started, [spoilt, other], "each once");
}

/// A merge by hand does not undo the failure of another dependency.
#[test]
fn dependant_with_another_failed_dependency_ends_again() {
    let mut desk = Desk::new(2);
    let [task, bad] = [desk.submit(worktree), desk.submit(|_| {})];
    let condition = Condition::Succeeded;
    let edges = [task, bad].map(|task| Dependency { task, condition });
    let below = desk.member(edges.to_vec());
    let id = below.id;
    desk.submit_all(vec![below]).unwrap();
    desk.turn();
    desk.report(task, unmerged(MergeState::Refused));
    desk.report(bad, failure(ReasonClass::Exit));
    desk.settle();
    desk.merge_by_hand(task, &[id]).unwrap();
    assert_eq!(desk.word(id), "upstream_failed");
    assert_eq!(desk.task(id).end().unwrap().culprit, Some(bad));
    assert_eq!(desk.word(task), "succeeded");
}

#[test]
fn merge_by_hand_is_refused_if_the_merge_had_not_failed() {
    let refused = |desk: &mut Desk, task| {
        let answer = desk.merge_by_hand(task, &[]);
        assert_eq!(answer, Err(Refused::NotFailedByMerge { task }));
    };
    for report in [success(), failure(ReasonClass::Exit)] {
        let mut desk = Desk::new(1);
        let task = desk.submit(worktree);
        desk.turn();
        desk.report(task, report);
        desk.settle();
        refused(&mut desk, task);
    }
    // The task was retried, and cancelled before another attempt began.
    let (mut desk, task, _) = Desk::conflict(1, &[]);
    let copy = desk.task(task);
    desk.retry(&copy).unwrap();
    let state = desk.merge_by_hand(task, &[]);
    let running = Refused::NotDone {
        task,
        state: "ready",
    };
    assert_eq!(state, Err(running));
    desk.pass(std::time::Duration::from_secs(1));
    desk.cancel(task).unwrap();
    desk.settle();
    refused(&mut desk, task);
    // A second merge by hand is refused.
    let (mut desk, task, _) = Desk::conflict(1, &[]);
    let old = desk.task(task);
    desk.merge_by_hand(task, &[]).unwrap();
    desk.settle();
    refused(&mut desk, task);
    let answer = desk.merge_copy(old, &[]);
    assert_eq!(answer, Err(Refused::NotFailedByMerge { task }));
}

#[test]
fn resume_after_a_merge_by_hand_continues_the_executors_attempt() {
    let (mut desk, task, _) = Desk::conflict(1, &[]);
    desk.merge_by_hand(task, &[]).unwrap();
    desk.settle();
    let retry = Retry {
        task: desk.task(task),
        downstream: Vec::new(),
        ended: desk.ends(),
        resume: Some(b"and now?".as_slice().into()),
        revision: None,
    };
    let answer = desk.step(Input::Retry(Box::new(retry))).unwrap();
    let expected = Answer::Retrying {
        task,
        attempt: 3,
        downstream: 0,
        held: false,
    };
    assert_eq!(answer, expected);
    assert_eq!(desk.task(task).resumes, Some(1));
}

#[test]
fn retry_that_conflicts_again_can_be_merged_by_hand() {
    let (mut desk, task, _) = Desk::conflict(1, &[]);
    let copy = desk.task(task);
    desk.retry(&copy).unwrap();
    desk.turn();
    desk.report(task, unmerged(MergeState::Conflict));
    desk.settle();
    let before = desk.task(task).attempts;
    desk.merge_by_hand(task, &[]).unwrap();
    assert_eq!(desk.word(task), "succeeded");
    let after = desk.task(task).attempts;
    assert_eq!(after[..2], before[..]);
    assert_eq!((after.len(), after[2].number), (3, 3));
}

#[test]
fn merge_by_hand_is_refused_if_the_task_has_had_the_maximum_number_of_attempts() {
    let bounds = Bounds {
        attempts: 1,
        ..Bounds::default()
    };
    let mut desk = Desk::with(super::fixed(1), bounds);
    let task = desk.submit(worktree);
    desk.turn();
    desk.report(task, unmerged(MergeState::Conflict));
    desk.settle();
    let answer = desk.merge_by_hand(task, &[]);
    assert_eq!(answer, Err(Refused::TooManyAttempts { task, limit: 1 }));
    assert_eq!(desk.word(task), "failed:conflict", "nothing has changed");
}
