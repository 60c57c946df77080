//! Finished tasks that run again.

use std::sync::Arc;

use super::{Desk, failure, fixed, limited, never_received, starts, success};
use crate::{
    batch::DocumentKey,
    board::Bounds,
    budget::GraphBudget,
    event::Fact,
    id::{AttemptId, TaskId},
    outcome::ReasonClass,
    revision::Difference,
    step::{Answer, Ends, Input, Refused, Report, Retry, Revision},
    task::{Class, Request, Task},
};

impl Desk {
    /// Retries from a copy that was read earlier. Returns the number of the next attempt.
    fn retry_as_of(&mut self, copy: &Task, ended: Ends) -> Result<u32, Refused> {
        let retry = Retry {
            task: copy.clone(),
            downstream: Vec::new(),
            ended,
            resume: None,
            revision: None,
        };
        match self.step(Input::Retry(Box::new(retry)))? {
            Answer::Retrying { attempt, .. } => Ok(attempt),
            other => panic!("{other:?}"),
        }
    }
}

/// A task that ran once, as stored.
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
fn retry_adds_the_next_attempt() {
    let (mut desk, copy) = failed();
    let answer = desk.retry(&copy);
    assert_eq!(
        answer,
        Ok(Answer::Retrying {
            task: copy.id,
            attempt: 2,
            downstream: 0,
            held: false
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
fn resume_continues_the_last_attempt_that_began() {
    let resume = |desk: &mut Desk, copy: &Task| {
        let retry = Retry {
            task: copy.clone(),
            downstream: Vec::new(),
            ended: desk.ends(),
            resume: Some(Arc::from(&b"and now?"[..])),
            revision: None,
        };
        desk.step(Input::Retry(Box::new(retry)))
    };
    let (mut desk, copy) = failed();
    let id = copy.id;
    resume(&mut desk, &copy).unwrap();
    assert_eq!(desk.task(id).resumes, Some(1));
    let (batch, _) = desk.board.seal();
    desk.keep(&batch);
    let said: Arc<[u8]> = Arc::from(&b"and now?"[..]);
    assert_eq!(batch.documents, [(DocumentKey::Context(id), said)]);
    assert!(desk.facts_of(id).contains(&&Fact::Resumed { from: 1 }));
    // The second attempt was never received. So another resumption continues the first attempt
    // again.
    desk.turn();
    desk.report(id, never_received());
    desk.cancel(id).unwrap();
    desk.settle();
    let copy = desk.task(id);
    assert_eq!(copy.attempts.len(), 2);
    resume(&mut desk, &copy).unwrap();
    assert_eq!(desk.task(id).resumes, Some(1));
    // A plain retry starts afresh.
    desk.cancel(id).unwrap();
    desk.settle();
    let copy = desk.task(id);
    desk.retry(&copy).unwrap();
    assert_eq!(desk.task(id).resumes, None);
    // A task whose attempts never began has nothing to resume.
    let never = desk.submit(|_| {});
    desk.cancel(never).unwrap();
    desk.settle();
    let copy = desk.task(never);
    let refused = resume(&mut desk, &copy);
    assert_eq!(refused, Err(Refused::NothingToResume { task: never }));
}

#[test]
fn unfinished_task_is_not_retried() {
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
        // A board without the task makes the same decision.
        assert_eq!(Desk::new(1).retry(&copy), Err(refused), "{phase}");
    }
}

#[test]
fn two_concurrent_retries_make_one_attempt() {
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
fn retry_from_an_older_copy_keeps_newer_attempts() {
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
            downstream: 0,
            held: false
        })
    );
    run(&mut desk, attempt(3), success());
    assert_eq!(desk.task(copy.id).attempts.len(), 3);
}

#[test]
fn retry_waits_for_a_parked_account_and_respects_a_full_queue() {
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
fn task_that_ends_and_is_retried_in_one_batch_is_written_once() {
    let (mut desk, task) = Desk::in_phase("live");
    desk.report(task, failure(ReasonClass::Exit));
    let copy = desk.task(task);
    desk.retry(&copy).unwrap();
    let (batch, _) = desk.board.seal();
    let rows: Vec<_> = batch.tasks.iter().map(|row| row.state.as_str()).collect();
    assert_eq!(rows, ["ready"]);
}

/// The ends are forgotten in the order of their times. In the order of the tasks' ids, the newest
/// end could be forgotten first.
#[test]
fn only_the_latest_ends_of_tasks_that_ran_again_are_remembered() {
    let bounds = Bounds {
        remembered_ends: 2,
        ..Bounds::default()
    };
    let mut desk = Desk::with(fixed(1), bounds);
    let ids = [(); 3].map(|()| desk.submit(|_| {}));
    for id in ids {
        desk.turn();
        desk.report(id, failure(ReasonClass::Exit));
        desk.settle();
    }
    let (copies, then) = (ids.map(|id| desk.task(id)), desk.ends());
    let [first, second, third] = [2, 1, 0];
    for which in [first, second, third] {
        desk.retry(&copies[which]).unwrap();
        desk.turn();
        desk.report(ids[which], success());
        desk.settle();
    }
    let kept: Vec<TaskId> = desk.board.ended_again.kept().collect();
    assert_eq!(kept, [ids[second], ids[third]]);
    // If the task's newest end is remembered, even an old copy is enough for a retry. Otherwise the
    // copy must be read again.
    assert_eq!(desk.retry_as_of(&copies[second], then.clone()), Ok(3));
    let task = ids[first];
    let moved = Err(Refused::Moved { task });
    assert_eq!(desk.retry_as_of(&copies[first], then), moved);
    let (copy, now) = (desk.task(task), desk.ends());
    assert_eq!(desk.retry_as_of(&copy, now), Ok(3));
}

/// The task may have ended again before this board was made.
#[test]
fn copy_read_before_a_board_was_loaded_must_be_read_again() {
    let (mut desk, copy) = failed();
    let then = desk.ends();
    desk.retry(&copy).unwrap();
    desk.turn();
    desk.report(copy.id, success());
    desk.settle();
    desk.reload();
    let task = copy.id;
    assert_eq!(desk.retry_as_of(&copy, then), Err(Refused::Moved { task }));
    let (copy, now) = (desk.task(task), desk.ends());
    assert_eq!(desk.retry_as_of(&copy, now), Ok(3));
}

/// A task that runs again is unfinished, like a newly submitted task.
#[test]
fn task_that_runs_again_counts_as_an_open_descendant() {
    let bounds = Bounds {
        open_descendants: 1,
        ..Bounds::default()
    };
    let mut desk = Desk::with(fixed(2), bounds);
    let parent = desk.submit(|_| {});
    desk.turn();
    let child = |request: &mut Request| request.parent = Some(parent);
    let first = desk.submit(child);
    desk.cancel(first).unwrap();
    desk.settle();
    let second = desk.submit(child);
    let copy = desk.task(first);
    let refused = Refused::TooManyDescendants {
        ancestor: parent,
        limit: 1,
    };
    assert_eq!(desk.retry(&copy), Err(refused.clone()));
    desk.cancel(second).unwrap();
    desk.settle();
    // If the retry also ran the second task again, the parent would have too many unfinished
    // descendants.
    let below = desk.task(second);
    assert_eq!(desk.retry_with(&copy, vec![below]), Err(refused));
    desk.retry(&copy).unwrap();
}

impl Desk {
    fn revise(&mut self, task: TaskId, edit: impl FnOnce(&mut Request)) -> Result<Answer, Refused> {
        let copy = self.task(task);
        let mut request = Request::clone(&copy.request);
        edit(&mut request);
        let difference = Difference {
            option: "budget_usd".to_owned(),
            before: None,
            after: Some("5".to_owned()),
        };
        let retry = Retry {
            task: copy,
            downstream: Vec::new(),
            ended: self.ends(),
            resume: None,
            revision: Some(Box::new(Revision {
                request,
                spec: Some(b"{}".as_slice().into()),
                differences: vec![difference],
            })),
        };
        self.step(Input::Retry(Box::new(retry)))
    }
}

#[test]
fn revision_applies_from_the_next_attempt_and_is_recorded() {
    let mut desk = Desk::new(1);
    let task = desk.submit(|request| request.budget_micro_usd = Some(2));
    desk.turn();
    desk.report(task, Report::Cost(2));
    desk.report(task, failure(ReasonClass::Exit));
    desk.settle();
    let refused = desk.revise(task, |request| request.timeout = None);
    assert!(
        matches!(refused, Err(Refused::OverBudget { .. })),
        "{refused:?}"
    );
    desk.revise(task, |request| {
        request.budget_micro_usd = Some(5);
        request.cwd = "/elsewhere".into();
    })
    .unwrap();
    let (batch, _) = desk.board.seal();
    let documents: Vec<_> = batch.documents.iter().map(|(key, _)| *key).collect();
    assert_eq!(documents, [DocumentKey::Spec(task)]);
    desk.keep(&batch);
    let after = desk.task(task);
    assert_eq!(after.request.budget_micro_usd, Some(5));
    assert_eq!(&*after.request.cwd, "/", "the working directory is kept");
    assert_eq!(after.revised.len(), 1);
    assert_eq!(after.revised[0].from_attempt, 2);
    let is_told = |fact: &&&Fact| matches!(fact, Fact::Revised { attempt: 2, .. });
    assert_eq!(desk.facts_of(task).iter().filter(is_told).count(), 1);
    desk.turn();
    let attempt = desk.task(task).attempts.pop().unwrap();
    assert_eq!((attempt.number, attempt.may_cost_micro_usd), (2, Some(3)));
}

/// Two revisions are based on the same stored copy of the task. The second revision is requested
/// after the task has run with the first revision, which may have changed only the document.
#[test]
fn revision_of_an_outdated_request_must_be_made_again() {
    let edits: [fn(&mut Request); 2] = [|request| request.timeout = None, |_| {}];
    for edit in edits {
        let (mut desk, task) = Desk::in_phase("succeeded");
        let old = desk.task(task);
        desk.revise(task, edit).unwrap();
        desk.turn();
        desk.report(task, success());
        desk.settle();
        desk.stored.insert(task, old);
        let moved = desk.revise(task, |request| request.queue_timeout = None);
        assert_eq!(moved, Err(Refused::Moved { task }));
    }
}

/// A task that kept the old budget would fail once the graph has spent that amount.
#[test]
fn new_graph_budget_applies_to_all_unfinished_tasks_of_the_graph() {
    let mut desk = Desk::new(2);
    let budget = |graph, micro_usd| GraphBudget {
        graph: TaskId::new(1, graph),
        micro_usd,
    };
    let mut member = |graph| {
        desk.submit(|request| {
            request.class = Class::Agent;
            request.graph_budget = Some(budget(graph, 3));
        })
    };
    let [first, second, other] = [member(1), member(1), member(2)];
    desk.turn();
    desk.report(first, failure(ReasonClass::Exit));
    desk.settle();
    desk.revise(first, |request| {
        request.graph_budget = Some(budget(1, 9));
    })
    .unwrap();
    let found = [first, second, other].map(|task| desk.task(task).request.graph_budget);
    let expected = [budget(1, 9), budget(1, 9), budget(2, 3)];
    assert_eq!(found, expected.map(Some));
}
