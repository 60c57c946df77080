//! Commands that are carried out together, and the graph of a task.

use std::sync::Arc;

use super::{Desk, kinds, request, submission, success};
use crate::{
    dependency::{Condition, Dependency},
    id::TaskId,
    principal::Principal,
    step::{Answer, Cancelling, Input, Refused, Submission},
    task::{Idempotency, InGraph},
};

fn cancel(task: TaskId) -> Input {
    Input::Cancel { task, reason: None }
}

/// Submits a task that waits for any end of `task`.
fn after(desk: &mut Desk, task: TaskId) -> TaskId {
    let condition = Condition::Any;
    let member = desk.member(vec![Dependency { task, condition }]);
    let id = member.id;
    desk.submit_all(vec![member]).unwrap();
    id
}

#[test]
fn several_tasks_are_cancelled_without_a_start_in_between() {
    let check = |downstream_first: bool| {
        let mut desk = Desk::new(9);
        let done = desk.submit(|_| {});
        desk.turn();
        desk.report(done, success());
        desk.settle();
        let a = desk.submit(|_| {});
        let b = after(&mut desk, a);
        let mut tasks = [done, a, b];
        if downstream_first {
            tasks.reverse();
        }
        let answer = desk.step(Input::Each(tasks.map(cancel).into()));
        let Ok(Answer::Each(mut each)) = answer else {
            panic!("{answer:?}")
        };
        if downstream_first {
            each.reverse();
        }
        let how = Cancelling::Ended;
        let cancelling = |task| Ok(Answer::Cancelling { task, how });
        let unknown = Err(Refused::Unknown { task: done });
        assert_eq!(each, [unknown, cancelling(a), cancelling(b)]);
        assert_eq!(
            desk.words(&[a, b]),
            ["cancelled:cancelled", "cancelled:cancelled"]
        );
        assert_eq!(kinds(&desk.turn()), [""; 0]);
    };
    check(true);
    check(false);
}

#[test]
fn facts_of_several_commands_name_their_author() {
    let mut desk = Desk::new(9);
    let [a, b] = [desk.submit(|_| {}), desk.submit(|_| {})];
    desk.settle();
    let by = Arc::new(Principal {
        name: Some("deploy".to_owned()),
        ..Principal::default()
    });
    desk.step(Input::Asked {
        by: by.clone(),
        command: Box::new(Input::Each(vec![cancel(a), cancel(b)])),
    })
    .unwrap();
    let events = &desk.board.pending.events;
    assert_eq!(events.len(), 2);
    assert!(events.iter().all(|event| event.by.as_ref() == Some(&by)));
}

/// Somebody repeats a request with an additional task.
#[test]
fn task_added_by_a_repeated_request_joins_the_graph() {
    let mut desk = Desk::new(9);
    let graph = |desk: &mut Desk, keys: &[&str], first: Option<TaskId>| {
        let mut members: Vec<Submission> = Vec::new();
        for key in keys {
            let mut member = submission(desk.member(Vec::new()).id, request());
            let first = members.first().map_or(member.id, |first| first.id);
            let name = (first == member.id).then(|| "release".to_owned());
            member.request.graph = Some(Arc::new(InGraph { first, name }));
            member.request.idempotency = Some(Box::new(Idempotency {
                key: (*key).to_owned(),
                payload_digest: "p".to_owned(),
            }));
            members.push(member);
        }
        let Ok(Answer::Accepted(accepted)) = desk.submit_all(members) else {
            panic!("the tasks were not accepted")
        };
        for one in &accepted {
            let of = desk.task(one.task).request.graph.clone().unwrap();
            assert_eq!(of.first, first.unwrap_or(accepted[0].task));
            assert_eq!(of.name.is_some(), one.task == of.first);
        }
        accepted[0].task
    };
    let first = graph(&mut desk, &["a", "b"], None);
    assert_eq!(graph(&mut desk, &["a", "b", "c"], Some(first)), first);
    assert_eq!(desk.board.tasks.len(), 3);
}
