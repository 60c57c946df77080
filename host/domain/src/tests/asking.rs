//! Principals: events name them, and only a task's holder or the owner can release a held task.

use std::sync::Arc;

use super::{Desk, request, submission};
use crate::{
    dependency::{Condition, Dependency},
    event::Fact,
    id::TaskId,
    outcome::ReasonClass,
    principal::{Kind, Principal, Via},
    revision::Requested,
    step::{Answer, Input, Refused, Retry, Revision, Submission, Submit},
    task::Request,
};

fn owner() -> Arc<Principal> {
    Arc::default()
}

pub(super) fn chat() -> Arc<Principal> {
    Arc::new(Principal {
        via: Via::Mcp,
        restrained: true,
        ..Principal::default()
    })
}

fn agent(number: u128) -> Arc<Principal> {
    let task = Some(TaskId::new(0, number));
    Arc::new(Principal {
        kind: Kind::Agent { task },
        name: None,
        via: Via::Cli,
        restrained: true,
    })
}

impl Desk {
    pub(super) fn asked(&mut self, by: &Arc<Principal>, command: Input) -> Result<Answer, Refused> {
        self.step(Input::Asked {
            by: by.clone(),
            command: Box::new(command),
        })
    }

    fn submitted_by(&mut self, by: &Arc<Principal>, task: Submission) {
        let submit = Submit {
            tasks: vec![task],
            ..Submit::default()
        };
        self.asked(by, Input::Submit(submit)).unwrap();
    }

    pub(super) fn retried_by(&mut self, by: &Arc<Principal>, task: TaskId) {
        let retry = Retry {
            task: self.task(task),
            downstream: Vec::new(),
            ended: self.ends(),
            resume: None,
            revision: None,
        };
        self.asked(by, Input::Retry(Box::new(retry))).unwrap();
    }

    fn held_by(&mut self, by: &Arc<Principal>, task: TaskId) -> Result<Answer, Refused> {
        self.asked(by, Input::Hold { tasks: vec![task] })
    }

    fn released_by(&mut self, by: &Arc<Principal>, task: TaskId) -> Result<Answer, Refused> {
        self.asked(by, Input::Release { tasks: vec![task] })
    }

    /// Facts in the batch being filled, each with its principal.
    fn named(&self) -> Vec<(Option<String>, Fact)> {
        let events = self.board.pending.events.iter();
        events
            .map(|event| {
                let by = event.by.as_ref().map(ToString::to_string);
                (by, event.fact.clone())
            })
            .collect()
    }
}

#[test]
fn retried_task_has_the_limits_of_the_principal_who_asked() {
    let mut desk = Desk::new(1);
    let id = TaskId::new(1, 1);
    desk.submitted_by(&owner(), submission(id, request()));
    for (by, restrained) in [(chat(), true), (owner(), false)] {
        desk.turn();
        let attempt = desk.attempt(id);
        desk.report_of(attempt, super::success());
        desk.settle();
        desk.retried_by(&by, id);
        assert_eq!(desk.task(id).restrained, restrained, "{by}");
        desk.settle();
    }
}

#[test]
fn each_attempt_names_the_principal_who_requested_it() {
    let mut desk = Desk::new(1);
    let id = TaskId::new(1, 1);
    desk.submitted_by(&owner(), submission(id, request()));
    for by in [chat(), chat(), owner(), owner()] {
        desk.turn();
        let attempt = desk.attempt(id);
        desk.report_of(attempt, super::success());
        desk.settle();
        desk.retried_by(&by, id);
        desk.settle();
    }
    let task = desk.task(id);
    let requesters: Vec<String> = (1..=5)
        .map(|attempt| task.requester_of(attempt).to_string())
        .collect();
    let chat = "owner via mcp";
    assert_eq!(requesters, ["owner", chat, chat, "owner", "owner"]);
    let stored: Vec<u32> = task.requested.iter().map(|it| it.from_attempt).collect();
    assert_eq!(stored, [2, 4], "a request that changes nothing is left out");
}

#[test]
fn a_request_is_dropped_at_the_next_request_if_its_attempt_never_began() {
    let mut desk = Desk::new(1);
    let id = TaskId::new(1, 1);
    desk.submitted_by(&owner(), submission(id, request()));
    desk.turn();
    let attempt = desk.attempt(id);
    desk.report_of(attempt, super::success());
    desk.settle();
    desk.retried_by(&chat(), id);
    desk.settle();
    assert_eq!(desk.task(id).requested.len(), 1);
    let cancel = Input::Cancel {
        task: id,
        reason: None,
    };
    desk.asked(&owner(), cancel).unwrap();
    desk.settle();
    desk.retried_by(&owner(), id);
    let task = desk.task(id);
    assert_eq!(task.requester_of(2).to_string(), "owner");
    assert!(task.requested.is_empty(), "{:?}", task.requested);
}

#[test]
fn revived_task_of_a_restrained_principal_keeps_its_requester() {
    let mut desk = Desk::new(1);
    let (above, below, own) = (TaskId::new(1, 1), TaskId::new(1, 2), TaskId::new(1, 3));
    desk.submitted_by(&owner(), submission(above, request()));
    let of_chat = Request {
        by: chat(),
        ..request()
    };
    let edge = Dependency {
        task: above,
        condition: Condition::Succeeded,
    };
    let dependant = Submission {
        dependencies: vec![edge],
        ..submission(below, of_chat)
    };
    desk.submitted_by(&chat(), dependant);
    let of_owner = Submission {
        dependencies: vec![edge],
        ..submission(own, request())
    };
    desk.submitted_by(&owner(), of_owner);
    assert_eq!(desk.task(below).requester_of(1), &chat());
    desk.turn();
    let attempt = desk.attempt(above);
    desk.report_of(attempt, super::failure(ReasonClass::Exit));
    desk.settle();
    assert_eq!(desk.word(below), "upstream_failed");
    let retry = |desk: &Desk, task: TaskId, downstream: &[TaskId]| {
        Input::Retry(Box::new(Retry {
            task: desk.task(task),
            downstream: downstream.iter().map(|id| desk.task(*id)).collect(),
            ended: desk.ends(),
            resume: None,
            revision: None,
        }))
    };
    // A client's retry makes both tasks the client's.
    let again = retry(&desk, above, &[below, own]);
    desk.asked(&chat(), again).unwrap();
    desk.settle();
    assert_eq!(desk.task(own).requester_of(1), &chat());
    desk.turn();
    let attempt = desk.attempt(above);
    desk.report_of(attempt, super::failure(ReasonClass::Exit));
    desk.settle();
    let again = retry(&desk, above, &[below, own]);
    desk.asked(&owner(), again).unwrap();
    desk.settle();
    assert_eq!(desk.words(&[above, below]), ["ready", "blocked"]);
    assert_eq!(desk.task(below).requester_of(1), &chat());
    assert_eq!(desk.task(own).requester_of(1), &owner());
    desk.turn();
    let attempt = desk.attempt(above);
    desk.report_of(attempt, super::success());
    desk.settle();
    desk.turn();
    let attempt = desk.attempt(below);
    desk.report_of(attempt, super::failure(ReasonClass::Exit));
    desk.settle();
    // A person who names the task takes it over.
    let named = retry(&desk, below, &[]);
    desk.asked(&owner(), named).unwrap();
    assert_eq!(desk.task(below).requester_of(2), &owner());
}

/// Whether a restrained principal may run a task again depends on the task's end.
#[test]
fn restrained_principal_is_refused_if_an_end_has_changed_since_it_was_read() {
    let mut desk = Desk::new(1);
    let id = TaskId::new(1, 1);
    desk.submitted_by(&owner(), submission(id, request()));
    let run = |desk: &mut Desk, report| {
        desk.turn();
        let attempt = desk.attempt(id);
        desk.report_of(attempt, report);
        desk.settle();
    };
    run(&mut desk, super::failure(ReasonClass::Exit));
    let failed = desk.task(id);
    desk.retried_by(&owner(), id);
    run(&mut desk, super::success());
    let again = |desk: &Desk| {
        Input::Retry(Box::new(Retry {
            task: failed.clone(),
            downstream: Vec::new(),
            ended: desk.ends(),
            resume: None,
            revision: None,
        }))
    };
    let (by_chat, by_owner) = (again(&desk), again(&desk));
    let moved = Refused::Moved { task: id };
    assert_eq!(desk.asked(&chat(), by_chat), Err(moved));
    assert!(desk.asked(&owner(), by_owner).is_ok());
}

#[test]
fn revised_task_names_the_unrestrained_principal_who_last_changed_it() {
    let mut desk = Desk::new(1);
    let id = TaskId::new(1, 1);
    let of_chat = Request {
        by: chat(),
        ..request()
    };
    desk.submitted_by(&chat(), submission(id, of_chat));
    let revised_by = |desk: &mut Desk, by: &Arc<Principal>, micro_usd: u64| {
        desk.turn();
        let attempt = desk.attempt(id);
        desk.report_of(attempt, super::failure(ReasonClass::Exit));
        desk.settle();
        let task = desk.task(id);
        let request = Request {
            budget_micro_usd: Some(micro_usd),
            ..Request::clone(&task.request)
        };
        let retry = Retry {
            task,
            downstream: Vec::new(),
            ended: desk.ends(),
            resume: None,
            revision: Some(Box::new(Revision {
                request,
                spec: None,
                differences: Vec::new(),
            })),
        };
        desk.asked(by, Input::Retry(Box::new(retry))).unwrap();
        desk.settle();
        let reviser = desk.task(id).unrestrained_reviser().cloned();
        reviser.map(|reviser| reviser.to_string())
    };
    assert_eq!(revised_by(&mut desk, &chat(), 9), None);
    let named = Some("owner".to_owned());
    assert_eq!(revised_by(&mut desk, &owner(), 5), named);
    // A later change by a client does not make this one undone.
    assert_eq!(revised_by(&mut desk, &chat(), 7), named);

    // Earlier versions stored only who had requested an attempt.
    let mut old = desk.task(id);
    old.requested = vec![Requested {
        from_attempt: 3,
        by: owner(),
    }];
    for revised in &mut old.revised {
        revised.by = None;
    }
    assert!(old.unrestrained_reviser().is_some());
    old.requested.clear();
    assert!(old.unrestrained_reviser().is_none());
}

/// Otherwise the principal could use up more attempts than it may.
#[test]
fn restrained_principal_is_refused_if_a_task_has_run_since_it_was_read() {
    let mut desk = Desk::new(1);
    let id = TaskId::new(1, 1);
    desk.submitted_by(&owner(), submission(id, request()));
    let fail = |desk: &mut Desk| {
        desk.turn();
        let attempt = desk.attempt(id);
        desk.report_of(attempt, super::failure(ReasonClass::Exit));
        desk.settle();
    };
    fail(&mut desk);
    let failed = desk.task(id);
    desk.retried_by(&owner(), id);
    fail(&mut desk);
    let again = Input::Retry(Box::new(Retry {
        task: failed,
        downstream: Vec::new(),
        ended: desk.ends(),
        resume: None,
        revision: None,
    }));
    let moved = Refused::Moved { task: id };
    assert_eq!(desk.asked(&chat(), again), Err(moved));
    desk.retried_by(&chat(), id);
}

#[test]
fn events_name_their_principal_unless_the_host_caused_them() {
    let mut desk = Desk::new(1);
    let id = TaskId::new(1, 1);
    desk.submitted_by(&agent(7), submission(id, request()));
    let by = || Some(agent(7).to_string());
    assert_eq!(desk.named(), [(by(), Fact::Submitted)]);
    desk.turn();
    let attempt = desk.attempt(id);
    desk.report_of(attempt, super::success());
    assert!(desk.named().iter().all(|(by, _)| by.is_none()));
    desk.settle();
    desk.retried_by(&chat(), id);
    let by_chat = Some("owner via mcp".to_owned());
    assert_eq!(desk.named(), [(by_chat, Fact::Retried)]);
    desk.settle();
    let cancel = Input::Cancel {
        task: id,
        reason: None,
    };
    desk.asked(&owner(), cancel).unwrap();
    let by_owner = Some("owner".to_owned());
    assert!(matches!(&desk.named()[..], [(by, Fact::Done { .. })] if *by == by_owner));
}

#[test]
fn only_the_holder_or_the_owner_releases_a_hold() {
    let check = |holder: Arc<Principal>, by: Arc<Principal>, allowed: bool| {
        let (mut desk, id) = Desk::in_phase("ready");
        desk.held_by(&holder, id).unwrap();
        let released = desk.released_by(&by, id);
        if allowed {
            assert_eq!(released, Ok(Answer::Changed(1)), "{holder} {by}");
            assert_eq!(desk.word(id), "ready");
        } else {
            let holders = vec![holder.clone()];
            let refused = Refused::HeldByOthers { task: id, holders };
            assert_eq!(released, Err(refused), "{holder} {by}");
            assert_eq!(desk.word(id), "held");
        }
    };
    check(owner(), owner(), true);
    check(chat(), owner(), true);
    check(agent(7), owner(), true);
    check(agent(7), agent(7), true);
    check(chat(), chat(), true);
    check(owner(), chat(), false);
    check(owner(), agent(7), false);
    check(agent(7), agent(8), false);
    check(agent(7), chat(), false);
}

#[test]
fn task_held_by_several_principals_is_ready_after_the_last_release() {
    let (mut desk, id) = Desk::in_phase("ready");
    let (one, two) = (agent(7), agent(8));
    assert_eq!(desk.held_by(&one, id), Ok(Answer::Changed(1)));
    assert_eq!(desk.held_by(&two, id), Ok(Answer::Changed(1)));
    assert_eq!(desk.held_by(&two, id), Ok(Answer::Changed(0)));
    desk.settle();
    let holds = |fact: &&&Fact| matches!(fact, Fact::Held);
    assert_eq!(desk.facts_of(id).iter().filter(holds).count(), 2);
    assert_eq!(desk.released_by(&one, id), Ok(Answer::Changed(0)));
    assert_eq!(desk.word(id), "held");
    assert_eq!(desk.released_by(&two, id), Ok(Answer::Changed(1)));
    assert_eq!(desk.word(id), "ready");

    // The owner may release the task, whoever else holds it.
    desk.held_by(&one, id).unwrap();
    desk.held_by(&owner(), id).unwrap();
    assert_eq!(desk.released_by(&one, id), Ok(Answer::Changed(0)));
    desk.held_by(&one, id).unwrap();
    assert_eq!(desk.released_by(&owner(), id), Ok(Answer::Changed(1)));
    assert_eq!(desk.task(id).holders, []);
}

#[test]
fn only_a_person_releases_a_task_that_was_held_by_a_restore() {
    let (mut desk, id) = Desk::in_phase("ready");
    desk.held_by(&agent(7), id).unwrap();
    let taken_at = desk.now.wall;
    desk.board
        .change(id, |task| task.restored_from = Some(taken_at));
    assert_eq!(desk.released_by(&agent(7), id), Ok(Answer::Changed(0)));
    assert_eq!(desk.word(id), "held");
    assert!(desk.released_by(&agent(7), id).is_err());
    assert_eq!(desk.released_by(&owner(), id), Ok(Answer::Changed(1)));
    assert_eq!(desk.task(id).restored_from, None);
    // A hold that comes from a restore does not belong to the owner. So the next principal who
    // holds the task is its only holder.
    let (mut desk, id) = Desk::in_phase("ready");
    desk.held_by(&owner(), id).unwrap();
    desk.board.change(id, |task| {
        task.holders.clear();
        task.restored_from = Some(taken_at);
    });
    desk.held_by(&agent(7), id).unwrap();
    assert_eq!(desk.task(id).holders, [agent(7)]);
}

#[test]
fn initial_hold_belongs_to_the_submitter_and_a_hold_without_holders_to_the_owner() {
    let mut desk = Desk::new(1);
    let id = TaskId::new(1, 1);
    let held = Submission {
        held: true,
        ..submission(id, request())
    };
    desk.submitted_by(&agent(7), held);
    assert_eq!(desk.task(id).holders, [agent(7)]);
    assert!(desk.released_by(&chat(), id).is_err());
    // Older versions stored no holders.
    desk.board.change(id, |task| task.holders.clear());
    let refused = desk.released_by(&agent(7), id).unwrap_err();
    assert!(
        refused.to_string().contains("is held by owner"),
        "{refused}"
    );
    desk.held_by(&agent(7), id).unwrap();
    assert_eq!(desk.task(id).holders, [owner(), agent(7)]);
    assert_eq!(desk.released_by(&agent(7), id), Ok(Answer::Changed(0)));
    assert_eq!(desk.released_by(&owner(), id), Ok(Answer::Changed(1)));
}
