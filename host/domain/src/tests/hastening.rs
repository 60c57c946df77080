//! Waits of persons' tasks, which no sequence of requests of a client ends early.

use std::{sync::Arc, time::Duration};

use super::{Desk, agent, asking::chat, failure, limited, starts, success};
use crate::{
    dependency::{Condition, Dependency},
    event::Fact,
    id::{AccountKey, TaskId},
    outcome::ReasonClass,
    principal::Principal,
    retry_policy::{Backoff, RetryPolicy},
    step::{Answer, Input, Report, Retry},
    task::{Request, State, Task},
    time::Timestamp,
};

const HOUR: Duration = Duration::from_hours(1);

/// What a client may request.
#[derive(Clone, Copy, Debug)]
enum Verb {
    Cancel,
    Retry,
    Resume,
    Hold,
    Release,
    /// The client lets a task of its own, of the same account, test the account's limit, and
    /// cancels that task.
    TestLimit,
}

const VERBS: [Verb; 6] = [
    Verb::Cancel,
    Verb::Retry,
    Verb::Resume,
    Verb::Hold,
    Verb::Release,
    Verb::TestLimit,
];

fn of_chat(request: &mut Request) {
    request.by = chat();
}

/// A task that is retried after a delay of up to two hours.
fn with_retries(request: &mut Request) {
    let delay = 2 * HOUR;
    request.retries = Some(Box::new(RetryPolicy {
        limit: 3,
        backoff: Backoff {
            initial: delay,
            factor: 1,
            max: delay,
        },
        on: Vec::new(),
    }));
}

fn again(desk: &Desk, task: Task, resume: bool) -> Input {
    Input::Retry(Box::new(Retry {
        task,
        downstream: Vec::new(),
        ended: desk.ends(),
        resume: resume.then(|| Arc::from(&b""[..])),
        revision: None,
    }))
}

/// A person's task that waits, the task of a client that waits for the same account, and the
/// earliest start of the person's task; none if a person holds the task.
type Waiting = (Desk, TaskId, Option<TaskId>, Option<Timestamp>);

fn waits_for_its_retry() -> Waiting {
    let mut desk = Desk::new(9);
    let id = desk.submit(with_retries);
    desk.turn();
    desk.report(id, failure(ReasonClass::Exit));
    until(desk, id, None)
}

fn waits_for_its_start() -> Waiting {
    let mut desk = Desk::new(9);
    let later = desk.now.wall.after(2 * HOUR);
    let id = desk.submit(|request| request.start_at = Some(later));
    until(desk, id, None)
}

fn waits_for_a_limit() -> Waiting {
    let mut desk = Desk::new(9);
    let id = desk.submit(agent);
    let own = desk.submit(|request| {
        agent(request);
        of_chat(request);
    });
    desk.turn();
    for task in [id, own] {
        desk.report(task, limited(Some(2 * HOUR)));
    }
    until(desk, id, Some(own))
}

fn is_held() -> Waiting {
    let mut desk = Desk::new(9);
    let id = desk.submit(|_| {});
    let hold = Input::Hold { tasks: vec![id] };
    desk.asked(&Arc::default(), hold).unwrap();
    desk.settle();
    (desk, id, None, None)
}

fn until(mut desk: Desk, id: TaskId, own: Option<TaskId>) -> Waiting {
    desk.settle();
    let State::Waiting { until, .. } = desk.task(id).state else {
        panic!("the task does not wait: {}", desk.word(id))
    };
    (desk, id, own, Some(until))
}

impl Desk {
    /// Lets a task fail, and cancels it before its automatic retry. Returns the time of that retry.
    fn cancelled_before_its_retry(&mut self, id: TaskId) -> Timestamp {
        self.turn();
        self.report(id, failure(ReasonClass::Exit));
        self.settle();
        let due = self.task(id).retry_at.unwrap();
        self.cancel(id).unwrap();
        self.settle();
        due
    }

    /// Makes a request of a client. It may be refused.
    fn tried_by_chat(&mut self, verb: Verb, id: TaskId, own: Option<TaskId>) {
        let cancel = |task| Input::Cancel { task, reason: None };
        let inputs = match verb {
            Verb::Cancel => vec![cancel(id)],
            Verb::Retry => vec![again(self, self.task(id), false)],
            Verb::Resume => vec![again(self, self.task(id), true)],
            Verb::Hold => vec![Input::Hold { tasks: vec![id] }],
            Verb::Release => vec![Input::Release { tasks: vec![id] }],
            Verb::TestLimit => {
                own.map_or_else(Vec::new, |task| vec![Input::TryNow { task }, cancel(task)])
            }
        };
        for input in inputs {
            drop(self.asked(&chat(), input));
        }
        self.settle();
    }
}

/// All sequences of up to four requests.
fn sequences() -> Vec<Vec<Verb>> {
    let mut all = vec![Vec::new()];
    let mut longest = all.clone();
    for _ in 0..4 {
        let longer = longest.iter().flat_map(|before| {
            VERBS.map(|verb| {
                let mut sequence: Vec<Verb> = before.clone();
                sequence.push(verb);
                sequence
            })
        });
        longest = longer.collect();
        all.extend(longest.iter().cloned());
    }
    all
}

#[test]
fn no_requests_of_a_client_start_a_persons_task_before_its_time() {
    let kinds: [fn() -> Waiting; 4] = [
        waits_for_its_retry,
        waits_for_its_start,
        waits_for_a_limit,
        is_held,
    ];
    for (kind, make) in kinds.into_iter().enumerate() {
        for sequence in sequences() {
            let (mut desk, id, own, earliest) = make();
            let what = format!("{kind} {sequence:?}");
            for verb in &sequence {
                desk.tried_by_chat(*verb, id, own);
                assert!(!starts(&desk.turn()).contains(&id), "{what}");
            }
            let end = earliest.unwrap_or_else(|| desk.now.wall.after(9 * HOUR));
            desk.pass(Duration::from_millis(end.0 - desk.now.wall.0 - 1));
            assert!(!starts(&desk.turn()).contains(&id), "{what}");
            // Nothing else keeps it from starting then.
            let waits = desk.word(id) == "waiting";
            assert!(!waits || earliest.is_some(), "{what}");
            desk.pass(Duration::from_millis(1));
            assert_eq!(starts(&desk.turn()).contains(&id), waits, "{what}");
        }
    }
}

/// A person's own retry begins at once, and so does that of a client's task by the client.
#[test]
fn only_a_client_that_retries_a_persons_cancelled_task_waits_for_its_next_automatic_retry() {
    let owner = Arc::<Principal>::default();
    for (by, is_own, waits) in [
        (&owner, false, false),
        (&chat(), false, true),
        (&owner, true, false),
        (&chat(), true, false),
    ] {
        let what = format!("{by} {is_own}");
        let mut desk = Desk::new(1);
        let id = desk.submit(|request| {
            with_retries(request);
            if is_own {
                of_chat(request);
            }
        });
        let due = desk.cancelled_before_its_retry(id);
        // The next host knows the time too.
        desk.reload();
        let input = again(&desk, desk.task(id), false);
        desk.asked(by, input).unwrap();
        let found = starts(&desk.turn());
        assert_eq!(found.is_empty(), waits, "{what}");
        let told = Fact::RetryScheduled { until: due };
        let count = desk.facts_of(id).iter().filter(|it| ***it == told).count();
        assert_eq!(count, 1 + usize::from(waits), "{what}");
    }
    // The time has passed.
    let (mut desk, id, _, earliest) = waits_for_its_retry();
    desk.cancel(id).unwrap();
    desk.settle();
    let now = desk.now.wall;
    desk.pass(Duration::from_millis(earliest.unwrap().0 - now.0));
    let input = again(&desk, desk.task(id), false);
    desk.asked(&chat(), input).unwrap();
    assert_eq!(starts(&desk.turn()), [id]);
}

/// A finished task is not corrected when the clock is set back.
#[test]
fn wait_that_outlives_a_cancellation_is_not_longer_after_the_clock_was_set_back() {
    let mut desk = Desk::new(1);
    let start = desk.now.wall;
    desk.now.wall = start.after(1_000 * HOUR);
    let id = desk.submit(with_retries);
    desk.cancelled_before_its_retry(id);
    desk.now.wall = start;
    desk.step(Input::ClockSetBack).unwrap();
    let input = again(&desk, desk.task(id), false);
    desk.asked(&chat(), input).unwrap();
    assert!(starts(&desk.turn()).is_empty());
    assert_eq!(desk.task(id).retry_at, Some(start.after(24 * HOUR)));
}

/// A client retries a task of its own, and after it the person's cancelled task.
#[test]
fn persons_task_that_runs_again_after_a_clients_task_waits_for_its_next_automatic_retry() {
    for (by, waits) in [(chat(), true), (Arc::default(), false)] {
        let mut desk = Desk::new(2);
        let above = desk.submit(of_chat);
        desk.turn();
        desk.report(above, failure(ReasonClass::Exit));
        desk.settle();
        let edge = Dependency {
            task: above,
            condition: Condition::Any,
        };
        let mut below = desk.member(vec![edge]);
        with_retries(&mut below.request);
        let id = below.id;
        desk.submit_all(vec![below]).unwrap();
        let due = desk.cancelled_before_its_retry(id);
        let retry = Retry {
            task: desk.task(above),
            downstream: vec![desk.task(id)],
            ended: desk.ends(),
            resume: None,
            revision: None,
        };
        let answer = desk.asked(&by, Input::Retry(Box::new(retry)));
        assert!(matches!(answer, Ok(Answer::Retrying { downstream: 1, .. })));
        assert_eq!(starts(&desk.turn()), [above]);
        desk.report(above, success());
        desk.settle();
        assert_eq!(starts(&desk.turn()).is_empty(), waits, "{by}");
        desk.pass(Duration::from_millis(due.0 - desk.now.wall.0));
        assert_eq!(starts(&desk.turn()).is_empty(), !waits, "{by}");
    }
}

/// A test of the limit that a client has requested says something about the limit only if it has a
/// result.
#[test]
fn limit_that_a_client_lets_be_tested_stands_for_persons_until_the_test_shows_that_it_is_over() {
    let account = AccountKey("a".to_owned());
    let check = |end: Report, expected: &str| {
        let (mut desk, id, own, earliest) = waits_for_a_limit();
        let (own, earliest) = (own.unwrap(), earliest.unwrap());
        let what = format!("{end:?}");
        desk.asked(&chat(), Input::TryNow { task: own }).unwrap();
        assert_eq!(starts(&desk.turn()), [own], "{what}");
        desk.report(own, end);
        desk.settle();
        assert_eq!(desk.word(id), expected, "{what}");
        if expected == "ready" {
            return;
        }
        // A person's new task waits as long. The next host knows the limit too.
        desk.reload();
        let next = desk.submit(agent);
        for task in [id, next] {
            let State::Waiting { until, .. } = desk.task(task).state else {
                panic!("{what}: {}", desk.word(task))
            };
            assert_eq!(until, earliest, "{what}");
        }
        // A person may let it be tested at once.
        desk.asked(&Arc::default(), Input::TryNow { task: next })
            .unwrap();
        assert_eq!(desk.board.parked()[&account].stands_until, None);
        assert_eq!(starts(&desk.turn()), [next], "{what}");
    };
    check(success(), "ready");
    check(failure(ReasonClass::Exit), "waiting");
    // The service names no end, or an earlier one.
    check(limited(None), "waiting");
    check(limited(Some(HOUR)), "waiting");
}
