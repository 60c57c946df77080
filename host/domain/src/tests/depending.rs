//! Dependencies: conditions, the effects of an end on the graph, cycles.

use std::time::Duration;

use super::{Desk, failure, request, starts, submission, success};
use crate::{
    board::Bounds,
    dependency::{Condition, Dependency},
    event::Fact,
    id::TaskId,
    outcome::{Outcome, ReasonClass},
    retry_policy::{Backoff, RetryPolicy},
    step::{Answer, Ends, Input, Refused, Retry, Submission},
    task::State,
};

fn on(task: TaskId, condition: Condition) -> Dependency {
    Dependency { task, condition }
}

impl Desk {
    pub(super) fn member(&mut self, dependencies: Vec<Dependency>) -> Submission {
        self.made += 1;
        let id = TaskId::new(self.now.wall.0, self.made.into());
        Submission {
            dependencies,
            ..submission(id, request())
        }
    }

    fn after(&mut self, dependencies: &[Dependency]) -> TaskId {
        let member = self.member(dependencies.to_vec());
        let id = member.id;
        self.submit_all(vec![member]).unwrap();
        id
    }

    fn culprit(&self, id: TaskId) -> Option<TaskId> {
        match self.task(id).state {
            State::Done { culprit, .. } => culprit,
            _ => None,
        }
    }

    /// Starts the next task and runs it to its end.
    fn run(&mut self, id: TaskId, fails: bool) {
        assert_eq!(starts(&self.turn()), [id]);
        let report = if fails {
            failure(ReasonClass::Exit)
        } else {
            success()
        };
        self.report(id, report);
        self.settle();
    }
}

/// Checks a table with a row for each condition and a column for each outcome.
#[test]
fn each_condition_is_met_only_by_its_outcomes() {
    let outcomes = [
        Outcome::Succeeded,
        Outcome::Failed,
        Outcome::TimedOut,
        Outcome::Lost,
        Outcome::Cancelled,
        Outcome::Skipped,
        Outcome::UpstreamFailed,
    ];
    let check = |condition: Condition, expected: [bool; 7]| {
        let met = outcomes.map(|outcome| condition.is_met_by(outcome));
        assert_eq!(met, expected, "{condition:?}");
    };
    let (o, x) = (true, false);
    check(Condition::Succeeded, [o, x, x, x, x, x, x]);
    check(Condition::Completed, [o, o, o, o, x, x, x]);
    check(Condition::Any, [o, o, o, o, o, o, o]);
}

#[test]
fn each_condition_has_one_name() {
    let check = |condition: Condition, word: &str| assert_eq!(condition.as_str(), word);
    check(Condition::Succeeded, "succeeded");
    check(Condition::Completed, "completed");
    check(Condition::Any, "any");
}

#[test]
fn task_waits_for_all_its_dependencies() {
    let mut desk = Desk::new(1);
    let [a, b] = [desk.submit(|_| {}), desk.submit(|_| {})];
    let c = desk.after(&[on(a, Condition::Succeeded), on(b, Condition::Completed)]);
    assert_eq!(desk.word(c), "blocked");
    desk.run(a, false);
    assert_eq!(desk.word(c), "blocked");
    desk.run(b, true);
    assert_eq!(desk.word(c), "assigned");
    desk.run(c, false);
}

#[test]
fn dependency_that_has_already_ended_counts_at_once() {
    let mut desk = Desk::new(1);
    let [good, bad] = [desk.submit(|_| {}), desk.submit(|_| {})];
    desk.run(good, false);
    desk.run(bad, true);
    let check = |desk: &mut Desk, task, condition, expected| {
        let id = desk.after(&[on(task, condition)]);
        assert_eq!(desk.word(id), expected, "{condition:?}");
    };
    check(&mut desk, good, Condition::Succeeded, "ready");
    check(&mut desk, bad, Condition::Any, "ready");
    check(&mut desk, bad, Condition::Completed, "ready");
    check(&mut desk, bad, Condition::Succeeded, "upstream_failed");
}

#[test]
fn failure_ends_all_dependants_in_one_transaction() {
    let mut desk = Desk::new(1);
    let a = desk.submit(|_| {});
    let b = desk.after(&[on(a, Condition::Succeeded)]);
    let c = desk.after(&[on(b, Condition::Succeeded)]);
    let cleanup = desk.after(&[on(c, Condition::Any)]);
    desk.turn();
    desk.report(a, failure(ReasonClass::Exit));
    let (batch, _) = desk.board.seal();
    desk.keep(&batch);
    let mut written: Vec<TaskId> = batch.tasks.iter().map(|task| task.id).collect();
    written.sort_unstable();
    assert_eq!(written, [a, b, c, cleanup]);
    assert_eq!(
        desk.words(&[a, b, c, cleanup]),
        [
            "failed:exit",
            "upstream_failed",
            "upstream_failed",
            "assigned"
        ]
    );
    assert_eq!([b, c].map(|id| desk.culprit(id)), [Some(a), Some(a)]);
}

#[test]
fn dependants_of_a_cancelled_task_end_as_upstream_failed() {
    let mut desk = Desk::new(0);
    let a = desk.submit(|_| {});
    let b = desk.after(&[on(a, Condition::Completed)]);
    desk.cancel(a).unwrap();
    assert_eq!(
        desk.words(&[a, b]),
        ["cancelled:cancelled", "upstream_failed"]
    );
    assert_eq!(desk.culprit(b), Some(a));
}

#[test]
fn retry_of_a_failed_task_revives_dependants_that_never_started() {
    let mut desk = Desk::new(1);
    let a = desk.submit(|_| {});
    let b = desk.after(&[on(a, Condition::Succeeded)]);
    let c = desk.after(&[on(b, Condition::Succeeded)]);
    desk.run(a, true);
    let downstream = vec![desk.task(b), desk.task(c)];
    let copy = desk.task(a);
    assert_eq!(
        desk.retry_with(&copy, downstream),
        Ok(Answer::Retrying {
            task: a,
            attempt: 2,
            downstream: 2,
            held: false
        })
    );
    assert_eq!(desk.words(&[a, b, c]), ["ready", "blocked", "blocked"]);
    for id in [a, b, c] {
        desk.run(id, false);
    }
}

/// Ready and reserved tasks look the same to users.
#[test]
fn dependant_that_has_not_begun_waits_again_after_a_retry() {
    for chosen_ahead in [false, true] {
        let mut desk = Desk::new(1);
        let a = desk.submit(|_| {});
        desk.run(a, true);
        let other = desk.submit(|_| {});
        desk.turn();
        let b = desk.after(&[on(a, Condition::Completed)]);
        if chosen_ahead {
            desk.turn();
        }
        let word = if chosen_ahead { "assigned" } else { "ready" };
        assert_eq!(desk.word(b), word);
        let copy = desk.task(a);
        desk.retry(&copy).unwrap();
        assert_eq!(desk.words(&[a, b]), ["ready", "blocked"]);
        assert!(desk.task(b).attempts.is_empty());
        desk.report(other, success());
        desk.cancel(a).unwrap();
        assert_eq!(desk.word(b), "upstream_failed");
    }
}

#[test]
fn blocked_dependant_also_waits_for_a_retried_task() {
    let mut desk = Desk::new(1);
    let a = desk.submit(|_| {});
    desk.run(a, true);
    let other = desk.submit(|_| {});
    let b = desk.after(&[on(a, Condition::Completed), on(other, Condition::Any)]);
    let blocked = desk.task(b);
    desk.pass(Duration::from_secs(1));
    let copy = desk.task(a);
    desk.retry(&copy).unwrap();
    desk.settle();
    assert_eq!(desk.task(b), blocked, "the start of the wait is unchanged");
    assert!(!desk.facts_of(b).contains(&&Fact::Blocked));
    desk.run(other, false);
    assert_eq!(desk.word(b), "blocked");
    desk.run(a, false);
    assert_eq!(desk.word(b), "assigned");
}

#[test]
fn held_dependant_stays_held_when_its_dependency_is_retried() {
    let mut desk = Desk::new(1);
    let a = desk.submit(|_| {});
    let b = desk.after(&[on(a, Condition::Completed)]);
    desk.step(Input::Hold { tasks: vec![b] }).unwrap();
    desk.run(a, true);
    let copy = desk.task(a);
    desk.retry(&copy).unwrap();
    assert_eq!(desk.word(b), "held");
    desk.step(Input::Release { tasks: vec![b] }).unwrap();
    assert_eq!(desk.word(b), "blocked");
}

/// The caller looks up the ends of all dependencies. If another dependency has ended since then,
/// the caller looks the ends up again.
#[test]
fn rerun_needs_the_ends_of_all_its_dependencies() {
    let mut desk = Desk::new(1);
    let [a, other] = [desk.submit(|_| {}), desk.submit(|_| {})];
    let b = desk.after(&[on(a, Condition::Succeeded), on(other, Condition::Succeeded)]);
    desk.run(a, true);
    let (copy, downstream) = (desk.task(a), vec![desk.task(b)]);
    let retry = |desk: &mut Desk, ended: Ends| {
        let retry = Retry {
            task: copy.clone(),
            downstream: downstream.clone(),
            ended,
            resume: None,
            revision: None,
        };
        desk.step(Input::Retry(Box::new(retry)))
    };
    let before = desk.ends();
    desk.run(other, false);
    let moved = Refused::Moved { task: other };
    assert_eq!(retry(&mut desk, before), Err(moved));
    assert_eq!(desk.words(&[a, b]), ["failed:exit", "upstream_failed"]);
    let ended = desk.ends();
    retry(&mut desk, ended).unwrap();
    assert_eq!(desk.words(&[a, b]), ["ready", "blocked"]);
}

#[test]
fn rerun_may_wait_for_an_unfinished_dependency() {
    let mut desk = Desk::new(1);
    let [a, other] = [desk.submit(|_| {}), desk.submit(|_| {})];
    let b = desk.after(&[on(a, Condition::Succeeded), on(other, Condition::Succeeded)]);
    desk.run(a, true);
    let (copy, downstream) = (desk.task(a), vec![desk.task(b)]);
    desk.retry_with(&copy, downstream).unwrap();
    assert_eq!(desk.words(&[a, b]), ["ready", "blocked"]);
    assert!(!desk.task(other).is_done());
}

#[test]
fn task_that_has_begun_ignores_its_dependencies() {
    let mut desk = Desk::new(1);
    let a = desk.submit(|_| {});
    let mut member = desk.member(vec![on(a, Condition::Succeeded)]);
    member.request.retries = Some(Box::new(RetryPolicy {
        limit: 1,
        backoff: Backoff::default(),
        on: Vec::new(),
    }));
    let b = member.id;
    desk.submit_all(vec![member]).unwrap();
    desk.run(a, false);
    desk.run(b, true);
    assert_eq!(desk.word(b), "waiting");
    let copy = desk.task(a);
    desk.retry(&copy).unwrap();
    desk.cancel(a).unwrap();
    assert_eq!(desk.word(b), "waiting");
    desk.pass(Duration::from_hours(1));
    desk.run(b, false);
}

#[test]
fn dependant_that_another_failure_keeps_from_running_is_not_revived() {
    let mut desk = Desk::new(1);
    let [a, other] = [desk.submit(|_| {}), desk.submit(|_| {})];
    let b = desk.after(&[on(a, Condition::Succeeded), on(other, Condition::Succeeded)]);
    desk.run(a, true);
    desk.run(other, true);
    let (copy, downstream) = (desk.task(a), vec![desk.task(b)]);
    desk.retry_with(&copy, downstream).unwrap();
    assert_eq!(desk.words(&[a, b]), ["ready", "upstream_failed"]);
    assert_eq!(desk.culprit(b), Some(other));
}

#[test]
fn downstream_retry_also_reruns_finished_dependants() {
    let mut desk = Desk::new(1);
    let a = desk.submit(|_| {});
    let b = desk.after(&[on(a, Condition::Succeeded)]);
    for round in 1..=4 {
        desk.run(a, false);
        desk.run(b, false);
        for id in [a, b] {
            let numbers = desk.task(id).attempts.into_iter().map(|it| it.number);
            assert_eq!(numbers.collect::<Vec<_>>(), (1..=round).collect::<Vec<_>>());
        }
        let (copy, before) = (desk.task(a), desk.task(b));
        desk.retry_with(&copy, vec![before.clone()]).unwrap();
        assert_eq!(desk.words(&[a, b]), ["ready", "blocked"]);
        assert_eq!(desk.task(b).attempts, before.attempts);
    }
}

#[test]
fn retry_of_a_task_is_refused_while_a_failed_dependency_keeps_it_from_running() {
    let mut desk = Desk::new(1);
    let a = desk.submit(|_| {});
    let b = desk.after(&[on(a, Condition::Succeeded)]);
    desk.run(a, true);
    let copy = desk.task(b);
    assert_eq!(
        desk.retry(&copy),
        Err(Refused::UpstreamStands {
            task: b,
            culprit: a
        })
    );
}

/// A dependency is retried several times before its dependant begins. The dependant is ready or
/// reserved each time. No attempt of the dependant is lost.
#[test]
fn each_retry_makes_dependants_that_have_not_begun_wait_again() {
    let check = |has_run: bool, group: Option<&str>, expected: &str| {
        let mut desk = Desk::new(1);
        let a = desk.submit(|_| {});
        let mut member = desk.member(vec![on(a, Condition::Succeeded)]);
        // An attempt is not reserved if its task is in a group.
        member.request.group = group.map(ToOwned::to_owned);
        let b = member.id;
        desk.submit_all(vec![member]).unwrap();
        desk.run(a, false);
        if has_run {
            desk.run(b, true);
            let (copy, downstream) = (desk.task(a), vec![desk.task(b)]);
            desk.retry_with(&copy, downstream).unwrap();
            desk.run(a, false);
        }
        let ended = |desk: &Desk| {
            let mut attempts = desk.task(b).attempts;
            attempts.retain(|attempt| attempt.ended.is_some());
            attempts
        };
        let before = ended(&desk);
        assert_eq!(before.len(), usize::from(has_run));
        for _ in 0..3 {
            assert_eq!(desk.word(b), expected);
            let copy = desk.task(a);
            desk.retry(&copy).unwrap();
            assert_eq!(desk.word(b), "blocked");
            assert_eq!(desk.task(b).attempts, before);
            desk.run(a, false);
        }
        desk.run(b, false);
        assert!(ended(&desk).starts_with(&before));
        let numbers = desk.task(b).attempts.into_iter().map(|it| it.number);
        let expected: Vec<u32> = if has_run { vec![1, 2] } else { vec![1] };
        assert_eq!(numbers.collect::<Vec<_>>(), expected);
    };
    for has_run in [false, true] {
        check(has_run, None, "assigned");
        check(has_run, Some("line"), "ready");
    }
}

#[test]
fn cycle_is_refused_with_its_path_and_no_task_is_accepted() {
    let mut desk = Desk::new(1);
    let mut members: Vec<Submission> = (0..4).map(|_| desk.member(Vec::new())).collect();
    let ids: Vec<TaskId> = members.iter().map(|member| member.id).collect();
    for (index, upstream) in [(1, 2), (2, 3), (3, 1), (0, 1)] {
        members[index].dependencies = vec![on(ids[upstream], Condition::Any)];
    }
    assert_eq!(
        desk.submit_all(members),
        Err(Refused::Cycle {
            path: vec![ids[1], ids[2], ids[3], ids[1]]
        })
    );
    assert_eq!(desk.board.unfinished().count(), 0);
    assert!(!desk.board.has_pending());
}

#[test]
fn task_that_depends_on_itself_is_a_cycle() {
    let mut desk = Desk::new(1);
    let mut member = desk.member(Vec::new());
    let id = member.id;
    member.dependencies = vec![on(id, Condition::Succeeded)];
    let refused = Refused::Cycle { path: vec![id, id] };
    let text = format!("dependency cycle: {id:#} → {id:#}");
    assert_eq!(refused.to_string(), text);
    assert_eq!(desk.submit_all(vec![member]), Err(refused));
}

#[test]
fn task_may_depend_on_a_later_task_of_its_submission() {
    let mut desk = Desk::new(1);
    let mut first = desk.member(Vec::new());
    let second = desk.member(Vec::new());
    first.dependencies = vec![on(second.id, Condition::Succeeded)];
    let ids = [first.id, second.id];
    desk.submit_all(vec![first, second]).unwrap();
    assert_eq!(desk.words(&ids), ["blocked", "ready"]);
}

#[test]
fn invalid_dependencies_are_refused() {
    let bounds = Bounds {
        dependencies: 2,
        ..Bounds::default()
    };
    let mut desk = Desk::with(super::fixed(1), bounds);
    let ids = [(); 3].map(|()| desk.submit(|_| {}));
    let all = ids.map(|id| on(id, Condition::Any)).to_vec();
    let member = desk.member(all);
    let (task, unknown) = (member.id, TaskId::new(9, 9));
    assert_eq!(
        desk.submit_all(vec![member]),
        Err(Refused::TooManyDependencies {
            task,
            count: 3,
            limit: 2
        })
    );
    let member = desk.member(vec![on(unknown, Condition::Any)]);
    assert_eq!(
        desk.submit_all(vec![member]),
        Err(Refused::Moved { task: unknown })
    );
    let member = desk.member(vec![
        on(ids[0], Condition::Any),
        on(ids[0], Condition::Completed),
    ]);
    let task = member.id;
    assert_eq!(
        desk.submit_all(vec![member]),
        Err(Refused::TwoConditions {
            task,
            upstream: ids[0]
        })
    );
    // An edge that is given twice counts once.
    let twice = desk.after(&[on(ids[0], Condition::Any), on(ids[0], Condition::Any)]);
    assert_eq!(desk.task(twice).dependencies.len(), 1);
}

/// Ten thousand tasks depend on one task, and another task depends on all of them. The cost of each
/// end depends only on the number of the ended task's dependants.
#[test]
fn end_of_a_task_in_a_wide_graph_changes_only_its_dependants() {
    const WIDTH: usize = 10_000;
    let mut desk = Desk::new(u32::MAX);
    let first = desk.member(Vec::new());
    let root = first.id;
    let middle: Vec<Submission> = (0..WIDTH)
        .map(|_| desk.member(vec![on(root, Condition::Succeeded)]))
        .collect();
    let ids: Vec<TaskId> = middle.iter().map(|task| task.id).collect();
    let last = desk.member(ids.iter().map(|id| on(*id, Condition::Succeeded)).collect());
    let end = last.id;
    let all = std::iter::once(first).chain(middle).chain([last]).collect();
    desk.submit_all(all).unwrap();
    desk.run(root, false);
    let begun = starts(&desk.turn());
    assert_eq!(begun.len(), WIDTH);
    for id in &ids {
        assert_eq!(desk.word(end), "blocked");
        desk.report(*id, success());
        let batch = desk.board.seal().0;
        let changed: Vec<TaskId> = batch.tasks.iter().map(|task| task.id).collect();
        let expected: &[TaskId] = if id == ids.last().unwrap() {
            &[end, *id]
        } else {
            &[*id]
        };
        assert_eq!(changed, expected, "nothing else is written");
        desk.keep(&batch);
    }
    assert_eq!(desk.word(end), "ready");
}
