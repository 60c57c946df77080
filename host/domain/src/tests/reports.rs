//! Reports: in order, late, repeated, stale.

use std::{sync::Arc, time::Duration};

use super::{Desk, ending, failure, kinds, limited, never_received, started, starts, success};
use crate::{
    attempt::{Ended, GitState, Leader, Usage},
    batch::{Action, DocumentKey},
    event::Fact,
    id::{AttemptId, TaskId},
    outcome::{Outcome, Reason, ReasonClass},
    session::Session,
    step::{Answer, Cause, Ending, Report},
    worktree::{Merge, MergeState, MergeStrategy},
};

fn check(phase: &str, report: Report, expected: &str, effects: &[&str]) {
    let (mut desk, task) = Desk::in_phase(phase);
    let what = format!("{phase}: {report:?}");
    assert_eq!(desk.report(task, report), Answer::Noted, "{what}");
    assert_eq!(desk.word(task), expected, "{what}");
    assert_eq!(kinds(&desk.settle()), effects, "{what}");
}

#[test]
fn each_report_has_its_effect_only_in_the_phases_that_allow_it() {
    let exit = || failure(ReasonClass::Exit);
    let finishing = || Report::Finishing;
    let checkpoint = || Report::Checkpoint {
        number: 1,
        state: b"state".as_slice().into(),
    };
    check("starting", started(1), "starting", &[]);
    check("starting", Report::Alive, "live", &[]);
    check("starting", finishing(), "finishing", &[]);
    check("starting", success(), "succeeded", &["release"]);
    check("starting", exit(), "failed:exit", &["release"]);
    check("starting", never_received(), "ready", &["release"]);
    check("live", started(1), "live", &[]);
    check("live", Report::Alive, "live", &[]);
    check("live", finishing(), "finishing", &[]);
    check("live", checkpoint(), "live", &["checkpoint"]);
    check("live", success(), "succeeded", &["release"]);
    check(
        "live",
        failure(ReasonClass::Lost),
        "lost:lost",
        &["release"],
    );
    check(
        "live",
        failure(ReasonClass::Timeout),
        "timed_out:timeout",
        &["release"],
    );
    check("live", never_received(), "lost:lost", &["release"]);
    // Without an account, a usage limit is an ordinary failure.
    check("live", limited(None), "failed:rate_limit", &["release"]);
    check("finishing", Report::Alive, "finishing", &[]);
    check("finishing", finishing(), "finishing", &[]);
    check("finishing", exit(), "failed:exit", &["release"]);
    check("preparing", Report::Over, "finishing", &[]);
    check("starting", Report::Over, "finishing", &[]);
    check("live", Report::Over, "finishing", &[]);
    check("finishing", Report::Over, "finishing", &[]);
    check("settling", Report::Over, "settling", &[]);
    check(
        "stopping:cancelled",
        Report::Over,
        "stopping:cancelled",
        &[],
    );
    check("live", Report::GoesOn, "live", &[]);
    check("finishing", Report::GoesOn, "finishing", &[]);
    check(
        "stopping:start_timeout",
        Report::Alive,
        "stopping:start_timeout",
        &[],
    );
    check(
        "stopping:start_timeout",
        finishing(),
        "stopping:start_timeout",
        &[],
    );
    check(
        "stopping:start_timeout",
        exit(),
        "timed_out:timeout",
        &["release"],
    );
    check(
        "stopping:cancelled",
        never_received(),
        "cancelled:cancelled",
        &["release"],
    );
    // The commit that records `starting` failed, and the board was loaded again.
    check("assigned", started(1), "live", &[]);
    check("assigned", success(), "succeeded", &["release"]);
}

#[test]
fn report_of_an_attempt_that_is_not_the_current_one_is_dropped_and_its_end_released() {
    let (mut desk, task) = Desk::in_phase("live");
    desk.report(task, failure(ReasonClass::Exit));
    desk.settle();
    let copy = desk.task(task);
    desk.retry(&copy).unwrap();
    desk.turn();
    let older = AttemptId { task, number: 1 };
    let newer = AttemptId { task, number: 3 };
    let unknown = AttemptId {
        task: TaskId::new(9, 9),
        number: 1,
    };
    for attempt in [older, newer, unknown] {
        for report in [started(3), Report::Alive, Report::Finishing] {
            assert_eq!(desk.report_of(attempt, report), Answer::Stale);
        }
        assert_eq!(desk.settle(), []);
        assert_eq!(desk.report_of(attempt, success()), Answer::Stale);
        // The release writes nothing, so it needs no batch of its own.
        assert!(!desk.board.has_pending());
        let durable = desk.board.pending_batch() - 1;
        let released = super::actions(desk.board.take_released(durable));
        assert_eq!(released, [Action::Release(attempt)]);
    }
    assert_eq!(desk.word(task), "starting");
}

#[test]
fn end_reported_twice_is_released_twice_and_counts_once() {
    let (mut desk, task) = Desk::in_phase("live");
    let attempt = desk.attempt(task);
    desk.report_of(attempt, failure(ReasonClass::Exit));
    desk.report_of(attempt, success());
    assert_eq!(desk.settle(), vec![Action::Release(attempt); 2]);
    assert_eq!(desk.word(task), "failed:exit");
    let done = desk
        .facts_of(task)
        .iter()
        .filter(|fact| matches!(fact, Fact::Done { .. }))
        .count();
    assert_eq!(done, 1);
}

#[test]
fn late_report_of_a_parked_task_is_dropped() {
    let (mut desk, task) = Desk::in_phase("waiting");
    assert_eq!(desk.report(task, success()), Answer::Stale);
    assert_eq!(desk.word(task), "waiting");
}

#[test]
fn only_the_first_reported_leader_is_stored_even_during_a_stop() {
    for phase in ["starting", "live", "finishing", "stopping:cancelled"] {
        let (mut desk, task) = Desk::in_phase(phase);
        desk.report(task, started(11));
        desk.report(task, started(12));
        let leader = desk.task(task).attempts[0].leader;
        assert_eq!(
            leader,
            Some(Leader {
                pid: 11,
                start_time: 7
            }),
            "{phase}"
        );
        desk.settle();
        let told = |fact: &&&Fact| matches!(fact, Fact::AttemptStarted { .. });
        assert_eq!(
            desk.facts_of(task).iter().filter(told).count(),
            1,
            "{phase}"
        );
    }
}

#[test]
fn process_counts_as_sign_of_life_only_without_start_timeout_and_serial_start() {
    let check = |timeout: Option<u64>, serial: bool, leader: bool, expected: &str| {
        let mut desk = Desk::new(1);
        let task = desk.submit(|request| {
            request.start_timeout = timeout.map(Duration::from_secs);
            request.serial_start = serial.then(|| "key".to_owned());
        });
        desk.turn();
        let leader = leader.then_some(Leader {
            pid: 1,
            start_time: 1,
        });
        // The report comes twice, as after a recovery.
        desk.report(task, Report::Started { leader });
        assert_eq!(desk.word(task), expected);
        desk.report(task, Report::Started { leader });
        assert_eq!(desk.word(task), expected);
        desk.settle();
        desk.facts_of(task).len()
    };
    assert_eq!(check(None, false, true, "live"), 2);
    assert_eq!(check(None, false, false, "live"), 2);
    // The preparation adds a fact.
    assert_eq!(check(Some(1), false, true, "starting"), 3);
    assert_eq!(check(None, true, true, "starting"), 3);
}

#[test]
fn reports_of_the_executor_are_stored() {
    let (mut desk, task) = Desk::in_phase("live");
    let session = Session {
        id: "s".to_owned(),
        model: None,
    };
    let bytes: Arc<[u8]> = b"{}".as_slice().into();
    let attempt = desk.attempt(task);
    desk.report(task, Report::Session(session.clone()));
    desk.report(
        task,
        Report::Progress {
            kind: "tool".to_owned(),
            data: "Bash".to_owned(),
        },
    );
    let report = Report::Checkpoint {
        number: 3,
        state: bytes.clone(),
    };
    desk.report(task, report);
    desk.report(
        task,
        Report::Ended(Box::new(Ending {
            exit_code: Some(3),
            signal: Some(9),
            cost_micro_usd: Some(12),
            outputs: Some(bytes.clone()),
            ..ending(Cause::Class(ReasonClass::MaxTurns))
        })),
    );
    let (batch, _) = desk.board.seal();
    assert_eq!(
        batch.documents,
        [
            (DocumentKey::Checkpoint(attempt), bytes.clone()),
            (DocumentKey::Outputs(attempt), bytes)
        ]
    );
    let row = &batch.tasks[0];
    let last = row.last_attempt().unwrap();
    let ended = last.ended.as_ref().unwrap();
    assert_eq!(last.session, Some(session));
    assert_eq!(
        (ended.exit_code, ended.signal, ended.cost_micro_usd),
        (Some(3), Some(9), Some(12))
    );
    let kinds: Vec<_> = batch
        .events
        .iter()
        .map(|event| event.fact.clone())
        .collect();
    assert!(
        matches!(
            kinds.as_slice(),
            [
                Fact::Progress { attempt: 1, .. },
                Fact::AttemptEnded { attempt: 1, .. },
                Fact::Done { .. }
            ]
        ),
        "{kinds:?}"
    );
}

#[test]
fn report_of_an_end_is_stored_with_the_attempt() {
    let (mut desk, task) = Desk::in_phase("live");
    let git = GitState {
        branch: Some("main".to_owned()),
        ..GitState::default()
    };
    let merge = Merge {
        worktree_removed: true,
        ..Merge::new(MergeStrategy::Auto, MergeState::Merged, "d")
    };
    let usage = Usage {
        wall_ms: 3,
        cpu_ms: Some(2),
        peak_rss_bytes: Some(1),
    };
    let ending = Ending {
        exit_code: Some(3),
        signal: Some(9),
        usage,
        cost_micro_usd: Some(12),
        output_bytes: 7,
        is_all_output: true,
        git: Some(Box::new(git.clone())),
        merge: Some(Box::new(merge.clone())),
        ..ending(Cause::Class(ReasonClass::Exit))
    };
    desk.report(task, Report::Doing("something".to_owned()));
    desk.report(task, Report::Ended(Box::new(ending)));
    let attempt = desk.task(task).attempts[0].clone();
    assert_eq!(attempt.doing, None);
    let expected = Ended {
        at: desk.now.wall,
        outcome: Outcome::Failed,
        reason: Some(Reason::new(ReasonClass::Exit, "m")),
        exit_code: Some(3),
        signal: Some(9),
        usage,
        cost_micro_usd: Some(12),
        cost_is_assumed: false,
        cost_is_unknown: false,
        git: Some(Box::new(git)),
        merge: Some(Box::new(merge)),
        denied: 0,
        output_bytes: 7,
        is_all_output: true,
        files: None,
        never_began: false,
    };
    assert_eq!(attempt.ended, Some(expected));
}

#[test]
fn start_that_was_not_received_is_withdrawn_once_and_repeated() {
    let (mut desk, task) = Desk::in_phase("starting");
    let lost = desk.attempt(task);
    desk.report_of(lost, never_received());
    desk.settle();
    assert_eq!(starts(&desk.turn()), [task]);
    assert_eq!(desk.attempt(task).number, 2);
    assert_eq!(desk.report_of(lost, never_received()), Answer::Stale);
    assert_eq!(desk.word(task), "starting");
    let ended = desk.task(task).attempts[0].ended.clone().unwrap();
    assert_eq!((ended.outcome, ended.never_began), (Outcome::Lost, true));
    let reason = ended.reason.unwrap();
    assert_eq!(reason.class, ReasonClass::Lost);
    assert_eq!(reason.message, "no supervisor received its start: m");
}
