//! The phases before an attempt's first process and after its last process.

use std::{sync::Arc, time::Duration};

use super::{Desk, agent, ending, kinds, limited, started, starts, stored, success, worktree};
use crate::{
    attempt::{Phase, StopWhy},
    batch::{Action, DocumentKey},
    capacity::Refusal,
    event::Fact,
    outcome::ReasonClass,
    step::{Answer, Cause, Ending, Found, Input, Report},
    task::Request,
    time::MonotonicMs,
};

const MINUTE: Duration = Duration::from_mins(1);
/// One second less than the time limit for preparing, and for settling.
const ALMOST: Duration = Duration::from_secs(30 * 60 - 1);

fn settling() -> Report {
    Report::Settling(Box::new(Ending {
        exit_code: Some(0),
        outputs: Some(b"{}".as_slice().into()),
        ..ending(Cause::Success)
    }))
}

/// The words must not change, since the store has rows of every earlier version.
#[test]
fn each_phase_has_one_word() {
    let check = |phase: Phase, word: &str| assert_eq!(stored(phase), word);
    check(Phase::Assigned, "assigned");
    check(Phase::Preparing, "preparing");
    check(Phase::Starting, "starting");
    check(Phase::Live, "live");
    check(Phase::Finishing, "finishing");
    check(Phase::Settling, "settling");
    let stopping = |why: StopWhy| serde_json::to_value(Phase::Stopping(why)).unwrap();
    assert_eq!(
        stopping(StopWhy::PrepareTimeout)["stopping"],
        "prepare_timeout"
    );
    assert_eq!(
        stopping(StopWhy::SettleTimeout)["stopping"],
        "settle_timeout"
    );
}

#[test]
fn plain_command_has_no_preparation_phase() {
    let check = |edit: fn(&mut Request), word: &str| {
        let mut desk = Desk::new(1);
        desk.prepares = false;
        let task = desk.submit(edit);
        assert_eq!(kinds(&desk.turn()), ["start"]);
        assert_eq!(desk.word(task), word);
    };
    check(|_| {}, "starting");
    check(|request| request.timeout = Some(MINUTE), "starting");
    check(worktree, "preparing");
    check(|request| request.start_timeout = Some(MINUTE), "preparing");
    check(
        |request| request.serial_start = Some("k".into()),
        "preparing",
    );
}

#[test]
fn start_timeout_does_not_count_the_preparation() {
    let (mut desk, task) = Desk::in_phase("preparing");
    assert_eq!(desk.task(task).attempts[0].started_at, None);
    desk.pass(10 * MINUTE);
    assert_eq!(
        desk.word(task),
        "preparing",
        "the start timeout is two minutes"
    );
    desk.report(task, Report::Prepared);
    assert_eq!(
        desk.word(task),
        "preparing",
        "the attempt gets its turn at the next admission"
    );
    desk.board.admit(desk.now);
    assert_eq!(desk.word(task), "starting");
    assert_eq!(
        kinds(&desk.settle()),
        ["spawn"],
        "the spawn follows once the phase is durable"
    );
    assert_eq!(desk.task(task).attempts[0].started_at, Some(desk.now.wall));
    desk.pass(Duration::from_secs(119));
    assert_eq!(desk.word(task), "starting");
    desk.pass(Duration::from_secs(1));
    assert_eq!(desk.word(task), "stopping:start_timeout");
}

#[test]
fn preparing_and_settling_have_their_own_limits() {
    let check = |phase: &str, expected: &str, ended: &str| {
        let (mut desk, task) = Desk::in_phase(phase);
        desk.settle();
        desk.pass(ALMOST);
        assert_eq!(desk.word(task), phase);
        desk.pass(Duration::from_secs(1));
        assert_eq!(desk.word(task), expected);
        assert_eq!(kinds(&desk.settle()), ["stop"]);
        let why = match desk.task(task).phase() {
            Some(Phase::Stopping(why)) => why.clone(),
            other => panic!("{other:?}"),
        };
        let cut = Ending {
            stopped: Some(why),
            ..ending(Cause::Class(ReasonClass::Cancelled))
        };
        desk.report(task, Report::Ended(Box::new(cut)));
        assert_eq!(desk.word(task), ended);
    };
    check("preparing", "stopping:prepare_timeout", "timed_out:timeout");
    check("settling", "stopping:settle_timeout", "timed_out:timeout");
}

#[test]
fn attempt_can_be_stopped_in_every_phase() {
    for phase in ["preparing", "starting", "live", "finishing", "settling"] {
        let (mut desk, task) = Desk::in_phase(phase);
        desk.settle();
        desk.cancel(task).unwrap();
        assert_eq!(desk.word(task), "stopping:cancelled", "{phase}");
        assert_eq!(kinds(&desk.settle()), ["stop"], "{phase}");
        // Reports from here on change nothing.
        desk.report(task, Report::Prepared);
        desk.report(task, settling());
        desk.board.admit(desk.now);
        assert_eq!(desk.word(task), "stopping:cancelled", "{phase}");
        assert_eq!(kinds(&desk.settle()), [""; 0], "{phase}");
    }
}

/// Work merged before the stop stays merged, and the task has succeeded.
#[test]
fn work_settled_before_a_stop_counts_as_success() {
    let (mut desk, task) = Desk::in_phase("settling");
    desk.cancel(task).unwrap();
    desk.report(task, success());
    assert_eq!(desk.word(task), "succeeded");
}

#[test]
fn preparing_attempt_delays_no_other_attempt_with_the_same_serial_start() {
    let mut desk = Desk::new(3);
    desk.prepares = false;
    let serial = |request: &mut Request| request.serial_start = Some("k".to_owned());
    let tasks = [(); 3].map(|()| desk.submit(serial));
    assert_eq!(starts(&desk.turn()), tasks);
    assert_eq!(desk.words(&tasks), ["preparing"; 3]);
    // The last attempt is prepared first, and does not wait for the others.
    desk.report(tasks[2], Report::Prepared);
    assert_eq!(kinds(&desk.turn()), ["spawn"]);
    desk.report(tasks[0], Report::Prepared);
    desk.report(tasks[1], Report::Prepared);
    assert_eq!(kinds(&desk.turn()), [""; 0], "one attempt starts at a time");
    desk.report(tasks[2], Report::Alive);
    assert_eq!(desk.turn(), [Action::Spawn(desk.attempt(tasks[0]))]);
    assert_eq!(desk.words(&tasks), ["starting", "preparing", "live"]);
    // An attempt that ends without a sign of life also frees the `serial_start` key.
    desk.report(tasks[0], success());
    assert!(desk.turn().contains(&Action::Spawn(desk.attempt(tasks[1]))));
}

/// An attempt that is stopped during its preparation has never occupied its `serial_start` key.
#[test]
fn attempt_stopped_during_preparation_delays_no_other_attempt() {
    let mut desk = Desk::new(2);
    desk.prepares = false;
    let serial = |request: &mut Request| request.serial_start = Some("k".to_owned());
    let [first, second] = [(); 2].map(|()| desk.submit(serial));
    desk.turn();
    desk.cancel(first).unwrap();
    desk.report(second, Report::Prepared);
    assert!(desk.turn().contains(&Action::Spawn(desk.attempt(second))));
}

#[test]
fn ending_is_durable_before_the_work_is_settled() {
    let (mut desk, task) = Desk::in_phase("live");
    desk.report(task, started(7));
    desk.report(task, settling());
    assert_eq!(desk.word(task), "settling");
    let attempt = desk.attempt(task);
    let (batch, effects) = desk.board.seal();
    let bytes: std::sync::Arc<[u8]> = b"{}".as_slice().into();
    assert_eq!(batch.documents, [(DocumentKey::Outputs(attempt), bytes)]);
    let row = batch.tasks[0].last_attempt().unwrap();
    assert_eq!(row.answered.as_ref().unwrap().exit_code, Some(0));
    let text = serde_json::to_string(row).unwrap();
    assert_eq!(
        &serde_json::from_str::<crate::attempt::Attempt>(&text).unwrap(),
        row
    );
    assert_eq!(effects[0].after, batch.number);
    assert_eq!(effects[0].action, Action::Settle(attempt));
    desk.keep(&batch);
    desk.report(task, success());
    assert_eq!(desk.word(task), "succeeded");
    assert_eq!(desk.task(task).attempts[0].answered, None);
    desk.settle();
    let kinds: Vec<String> = desk
        .facts_of(task)
        .iter()
        .map(|fact| serde_json::to_value(fact).unwrap()["kind"].to_string())
        .collect();
    let expected = [
        "submitted",
        "attempt_preparing",
        "attempt_started",
        "attempt_settling",
    ];
    assert!(
        kinds
            .iter()
            .map(|kind| kind.trim_matches('"'))
            .take(4)
            .eq(expected),
        "{kinds:?}"
    );
}

/// Reports are repeated after the board was loaded again.
#[test]
fn repeated_report_causes_its_action_again_and_changes_nothing() {
    let (mut desk, task) = Desk::in_phase("preparing");
    desk.report(task, Report::Prepared);
    desk.reload();
    assert_eq!(
        desk.turn(),
        [],
        "the new board has no report of the attempt"
    );
    desk.recovered(task, Found::Known);
    assert_eq!(kinds(&desk.settle()), ["resume"]);
    desk.report(task, Report::Prepared);
    assert_eq!(kinds(&desk.turn()), ["spawn"]);
    desk.report(task, Report::Prepared);
    assert_eq!(
        kinds(&desk.settle()),
        ["spawn"],
        "the first spawn may have been lost"
    );
    desk.report(task, settling());
    desk.report(task, settling());
    assert_eq!(kinds(&desk.settle()), ["settle", "settle"]);
    let facts = desk.facts_of(task).len();
    desk.report(task, settling());
    desk.settle();
    assert_eq!(desk.facts_of(task).len(), facts);
}

/// The next host continues the phase. After a reboot, nothing is lost if no process had been
/// started.
#[test]
fn next_host_continues_the_phase() {
    let check = |phase: &str, found: Found, expected: &[&str]| {
        let (mut desk, task) = Desk::in_phase(phase);
        desk.settle();
        desk.now.monotonic = MonotonicMs(desk.now.monotonic.0 + 1);
        desk.reload();
        desk.recovered(task, found);
        assert_eq!(desk.word(task), phase, "{found:?}");
        assert_eq!(kinds(&desk.settle()), expected, "{phase} {found:?}");
        // The limit of the phase counts anew.
        desk.pass(ALMOST);
        assert_eq!(desk.word(task), phase, "{found:?}");
    };
    check("preparing", Found::NeverReceived, &["start"]);
    check("preparing", Found::Orphaned, &["start"]);
    check("preparing", Found::Known, &["resume"]);
    for found in [Found::NeverReceived, Found::Orphaned, Found::Known] {
        check("settling", found, &["resume"]);
    }
}

/// The attempt has not failed and uses up no retry, since another attempt would not find room
/// either.
#[test]
fn attempt_without_room_on_the_machine_waits_instead_of_failing() {
    let no_room = || {
        Report::Ended(Box::new(Ending {
            no_room: true,
            ..ending(Cause::Class(ReasonClass::Resource))
        }))
    };
    for phase in ["preparing", "starting"] {
        let (mut desk, task) = Desk::in_phase(phase);
        desk.prepares = true;
        let other = desk.submit(|_| {});
        for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
            assert_eq!(desk.report(task, no_room()), Answer::Noted);
            assert_eq!(desk.word(task), "waiting", "{phase}");
            assert_eq!(starts(&desk.turn()), [], "starts pause for a moment");
            if seconds == 1 {
                let refusals: Vec<_> = desk.board.refusals(desk.now).into_values().collect();
                assert_eq!(refusals, [Refusal::NoRoom]);
                desk.cancel(other).unwrap();
            }
            desk.pass(Duration::from_millis(seconds * 1000 - 1));
            assert_eq!(desk.word(task), "waiting", "{seconds}");
            desk.pass(Duration::from_millis(1));
            assert_eq!(desk.word(task), "ready", "{seconds}");
            assert_eq!(starts(&desk.turn()), [task]);
        }
        desk.report(task, started(7));
        desk.report(task, success());
        assert_eq!(desk.word(task), "succeeded");
    }
    // An attempt that has already run fails instead.
    let (mut desk, task) = Desk::in_phase("live");
    desk.report(task, no_room());
    assert_eq!(desk.word(task), "failed:resource");
}

/// The attempt has not failed and uses up no retry, since nothing is wrong with the task.
#[test]
fn task_whose_executor_lacks_its_code_waits_for_the_code_instead_of_failing() {
    let lacking = || {
        Report::Ended(Box::new(Ending {
            no_code: true,
            ..ending(Cause::Class(ReasonClass::Plugin))
        }))
    };
    for phase in ["preparing", "starting"] {
        let (mut desk, task) = Desk::in_phase(phase);
        desk.prepares = true;
        let executor = desk.task(task).request.executor.clone();
        let code = |lacks: Option<&str>| Input::Code {
            executor: executor.clone(),
            lacks: lacks.map(Arc::from),
        };
        desk.step(code(Some("the disk is full"))).unwrap();
        assert_eq!(desk.report(task, lacking()), Answer::Noted);
        assert_eq!(desk.word(task), "ready", "{phase}");
        assert_eq!(starts(&desk.turn()), [], "{phase}");
        let refusals: Vec<_> = desk.refusals().into_values().collect();
        let refusal = Refusal::NoCode {
            executor: executor.to_string(),
            why: "the disk is full".to_owned(),
        };
        assert_eq!(refusals, [refusal], "{phase}");
        // The next host can look for the code before it starts the task again.
        desk.settle();
        desk.reload();
        let lacked: Vec<_> = desk.board.lacked_code().into_keys().collect();
        assert_eq!(lacked, std::slice::from_ref(&executor), "{phase}");
        desk.step(code(Some("the disk is full"))).unwrap();
        let other = desk.submit(|request| request.executor = "other".into());
        assert_eq!(starts(&desk.turn()), [other], "{phase}");
        desk.report(other, started(6));
        desk.report(other, success());
        desk.step(code(None)).unwrap();
        assert_eq!(starts(&desk.turn()), [task], "{phase}");
        assert!(desk.board.lacked_code().is_empty(), "{phase}");
        desk.report(task, started(7));
        desk.report(task, success());
        assert_eq!(desk.word(task), "succeeded", "{phase}");
    }
    // An attempt that has already run fails instead.
    let (mut desk, task) = Desk::in_phase("live");
    desk.report(task, lacking());
    assert_eq!(desk.word(task), "failed:plugin");
}

/// Rows and events agree, even for an attempt that never began and for an attempt whose task waits
/// afterwards.
#[test]
fn each_ended_attempt_has_an_event_of_its_end() {
    let check = |phase: &str, cause: Cause, edit: fn(&mut Ending), expected: &str| {
        let (mut desk, task) = Desk::in_phase(phase);
        let mut ending = ending(cause);
        edit(&mut ending);
        desk.report(task, Report::Ended(Box::new(ending)));
        desk.settle();
        assert_eq!(desk.word(task), expected, "{phase}");
        let ended = desk.task(task).attempts[0].ended.clone().unwrap();
        let told = Fact::AttemptEnded {
            attempt: 1,
            outcome: ended.outcome,
            reason: ended.reason,
        };
        let facts = desk.facts_of(task);
        let times = facts.iter().filter(|fact| ***fact == told).count();
        assert_eq!(times, 1, "{phase} {facts:?}");
    };
    let class = Cause::Class;
    let as_it_is = |_: &mut Ending| {};
    check("live", Cause::Success, as_it_is, "succeeded");
    let no_room = |ending: &mut Ending| ending.no_room = true;
    check("starting", class(ReasonClass::Resource), no_room, "waiting");
    let no_code = |ending: &mut Ending| ending.no_code = true;
    check("starting", class(ReasonClass::Plugin), no_code, "ready");
    let unheard = |ending: &mut Ending| ending.never_received = true;
    check("starting", class(ReasonClass::Lost), unheard, "ready");
    let mut desk = Desk::new(1);
    let parked = desk.submit(agent);
    desk.turn();
    desk.report(parked, limited(None));
    desk.settle();
    let ends = |fact: &&&Fact| matches!(fact, Fact::AttemptEnded { attempt: 1, .. });
    assert_eq!(desk.facts_of(parked).iter().filter(ends).count(), 1);
}

/// The earlier host had not finished the stop. The executor's answer is known, and the next host
/// finds out which steps of settling were done.
#[test]
fn next_host_finishes_a_stop_during_settling() {
    let (mut desk, task) = Desk::in_phase("settling");
    desk.cancel(task).unwrap();
    desk.settle();
    desk.reload();
    desk.recovered(task, Found::NeverReceived);
    assert_eq!(desk.word(task), "stopping:cancelled");
    assert_eq!(kinds(&desk.settle()), ["resume", "stop"]);
}
