//! Makes the end of an attempt from the answer of its executor and the reports of its supervisor.

use std::collections::BTreeMap;

use claudine_domain::{
    attempt::{StopWhy, Usage},
    outcome::ReasonClass,
    step::{Cause, Ending},
};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::value::{RawValue, to_raw_value};

use super::live::{ChildState, State};
use crate::{
    plugin::{Failure, GuestEnd, GuestOutcome},
    supervise::{self, NotStartedClass},
    text::{harmless, shortened},
    units,
};

/// Length limit of the name of a usage limit. A longer name is shortened.
const LIMIT_CHARS: usize = 40;
/// Length limit of a cost that cannot be read, in the message about it.
const COST_CHARS: usize = 40;

/// Why the end of an attempt is unknown that had started, but that no supervisor knows.
const UNTRACED: &str = "the attempt had started, but no supervisor knows it any more, so nobody \
    knows how it ended; the directory of its supervisor may have been removed, the database may be \
    an earlier copy that was put back, or the machine may have lost its power";

/// Why a supervisor ended an attempt that nobody had told it to end.
const WITH_SUPERVISOR: &str = "its supervisor was ended by a signal (SIGTERM), or the directory of \
    its supervisor was removed, so the supervisor ended it";

/// The end of an attempt that the plugin `executor` ran for `wall_ms`. The git state is added
/// later.
pub(super) fn ending(
    executor: &str,
    result: Result<GuestOutcome, GuestEnd>,
    state: &State,
    wall_ms: u64,
) -> Ending {
    let ending = of_result(executor, result, state, wall_ms);
    if !ended_with_supervisor(state) {
        return Ending {
            failed_by_itself: is_of_processes(ending.cause) && state.has_failed_by_itself(),
            ..ending
        };
    }
    // Nobody has cancelled the attempt, and its exit tells nothing about its work.
    Ending {
        cause: Cause::Class(ReasonClass::Lost),
        message: with_cut_output(WITH_SUPERVISOR.to_owned(), state),
        ..ending
    }
}

/// Whether an executor names this cause because of what its processes have done. It names the
/// others also because it was asked to stop, or because the attempt's processes are unknown.
fn is_of_processes(cause: Cause) -> bool {
    let Cause::Class(class) = cause else {
        return false;
    };
    !matches!(
        class,
        ReasonClass::Cancelled | ReasonClass::Timeout | ReasonClass::Lost | ReasonClass::Plugin
    )
}

/// Whether the supervisor ended the attempt because it had to end itself.
pub(super) fn ended_with_supervisor(state: &State) -> bool {
    stopped_by_supervisor(state) == Some(supervise::StopWhy::Shutdown)
}

fn of_result(
    executor: &str,
    result: Result<GuestOutcome, GuestEnd>,
    state: &State,
    wall_ms: u64,
) -> Ending {
    let usage = usage(state, wall_ms);
    let stopped = stopped(state);
    let lost = state.children.contains(&ChildState::Lost);
    match result {
        Ok(outcome) => {
            let costs = Costs::of(&outcome.outputs);
            Ending {
                denied: denied(&outcome.outputs),
                output_bytes: output_bytes(state),
                is_all_output: is_all_output(state),
                limit: limit(&outcome.outputs),
                cause: cause(&outcome.cause),
                message: {
                    let message = bounded(outcome.summary);
                    let message = match cause(&outcome.cause) {
                        Cause::Success => message,
                        Cause::Class(_) => with_broken_input(message, state),
                    };
                    with_unread_costs(with_cut_output(message, state), &costs)
                },
                exit_code: outcome.code.or_else(|| never_begun(state)),
                signal: outcome.signal,
                usage,
                cost_micro_usd: micro_usd(costs.cost_usd.as_deref()),
                cost_at_most_micro_usd: micro_usd(costs.cost_at_most_usd.as_deref()),
                outputs: Some(outcome.outputs)
                    .filter(|outputs| outputs != "{}")
                    .map(|outputs| outputs.into_bytes().into()),
                git: None,
                merge: None,
                files: None,
                retry_after: outcome.retry_after,
                stopped,
                failed_by_itself: false,
                never_received: false,
                no_room: false,
                no_code: false,
            }
        }
        Err(end) => {
            let lacks_code =
                matches!(&end, GuestEnd::Unavailable(error) if error.lets_tasks_wait());
            let Failure {
                code,
                message,
                retry_after,
                ..
            } = end.failure(executor);
            // If children were lost, the guest gives another reason, because it cannot learn how
            // they ended. The host knows the real reason.
            let class = if lost {
                ReasonClass::Lost
            } else {
                ReasonClass::from_plugin(&code)
            };
            let message = if state.is_untraced {
                UNTRACED.to_owned()
            } else {
                message
            };
            let exit = state.children.iter().find_map(|child| match child {
                ChildState::Exited(exit) => Some(exit),
                _ => None,
            });
            let (exit_code, signal) =
                exit.map_or((never_begun(state), None), |exit| status(exit.status));
            Ending {
                cause: Cause::Class(class),
                message: with_cut_output(with_broken_input(bounded(message), state), state),
                exit_code,
                signal,
                usage,
                cost_micro_usd: None,
                cost_at_most_micro_usd: None,
                outputs: None,
                git: None,
                merge: None,
                denied: 0,
                output_bytes: output_bytes(state),
                is_all_output: is_all_output(state),
                files: None,
                limit: None,
                retry_after,
                stopped,
                failed_by_itself: false,
                never_received: was_never_received(state),
                no_room: all_refused(state, NotStartedClass::Resource),
                no_code: lacks_code && state.children.is_empty(),
            }
        }
    }
}

/// Size limit of a message. A message is kept in the task's row, in an event and on the board, and
/// is written again with each change. A longer message is cut at its end.
const MESSAGE_BYTES: usize = 16 << 10;

fn bounded(mut message: String) -> String {
    let length = message.len();
    if length > MESSAGE_BYTES {
        message.truncate(message.floor_char_boundary(MESSAGE_BYTES));
        let left_out = length - message.len();
        return format!("{message}… {left_out} more bytes are in the log");
    }
    message
}

/// Length limit of the result of an attempt.
const RESULT_BYTES: usize = 1 << 20;

/// Cuts the result of an executor to the limit for an attempt of which this much output is kept: a
/// quarter of the output, and at most [`RESULT_BYTES`].
///
/// An executor reads its result from the attempt's output. The middle of output over its limit is
/// removed while the executor reads, so it depends on the executor's speed how much of a longer
/// result it finds. The first half of the limit is never removed. So a result near the beginning of
/// the output is the same, whatever the executor's speed. A result that comes later, or whose
/// characters are written as escapes, may still end in the removed part.
pub(super) fn with_bounded_result(
    mut outcome: GuestOutcome,
    max_output_bytes: u64,
) -> GuestOutcome {
    let most =
        usize::try_from(max_output_bytes / 4).map_or(RESULT_BYTES, |it| it.min(RESULT_BYTES));
    if let Some(outputs) = with_cut_result(&outcome.outputs, most) {
        outcome.outputs = outputs;
    }
    outcome
}

/// The outputs with a shorter result. `None` if there is no result of more than `most` bytes.
fn with_cut_result(outputs: &str, most: usize) -> Option<String> {
    // A text is not longer than the document that contains it.
    if outputs.len() <= most {
        return None;
    }
    // All other outputs are kept as they are written.
    let mut all: BTreeMap<String, Box<RawValue>> = serde_json::from_str(outputs).ok()?;
    let text: String = serde_json::from_str(all.get("result")?.get()).ok()?;
    if text.len() <= most {
        return None;
    }
    let kept = &text[..text.floor_char_boundary(most)];
    let limit = units::bytes_text(most as u64);
    let cut = format!("{kept}… [claudine: the rest is left out: a result is kept up to {limit}]");
    all.insert("result".to_owned(), to_raw_value(&cut).ok()?);
    serde_json::to_string(&all).ok()
}

/// Adds to the message that the child's input broke off, because the executor knows only that the
/// child was killed.
fn with_broken_input(message: String, state: &State) -> String {
    let broke_off =
        |child: &ChildState| matches!(child, ChildState::Exited(exit) if exit.input_broke_off);
    if state.children.iter().any(broke_off) {
        format!("{message}: the process was killed, because its input broke off before the end")
    } else {
        message
    }
}

/// Adds to the message that output may be missing.
fn with_cut_output(message: String, state: &State) -> String {
    if !state.output_cut {
        return message;
    }
    let cut = "the end of its output may be missing, because its supervisor died";
    with(message, cut)
}

/// Adds to the message which costs cannot be read, because they count as not told.
fn with_unread_costs(message: String, costs: &Costs) -> String {
    let told = [
        ("cost_usd", &costs.cost_usd),
        ("cost_at_most_usd", &costs.cost_at_most_usd),
    ];
    let unread = told.into_iter().filter_map(|(name, told)| {
        let told = told.as_deref();
        let told = told.filter(|told| micro_usd(Some(*told)).is_none())?;
        let shown = shortened(&harmless(told.get()), COST_CHARS);
        Some(format!("{name} is {shown}"))
    });
    let unread: Vec<String> = unread.collect();
    if unread.is_empty() {
        return message;
    }
    let unread = format!(
        "its executor told a cost that cannot be read ({}), and that counts as not told; a cost is \
         a number of US dollars from 0 to {}",
        unread.join(", "),
        units::MAX_USD
    );
    with(message, &unread)
}

/// Adds a note to the message.
fn with(message: String, note: &str) -> String {
    if message.is_empty() {
        note.to_owned()
    } else {
        format!("{message}; {note}")
    }
}

/// The exit code with which a shell reports a missing command (127) or a command that cannot be
/// executed (126), so that scripts can distinguish this case from a failure of the command. `None`
/// if any child was started or lost, or if no start failed for one of these reasons.
fn never_begun(state: &State) -> Option<i32> {
    let mut found = None;
    for child in &state.children {
        match child {
            ChildState::NotStarted { class, .. } => {
                found = found.or(match class {
                    NotStartedClass::CommandNotFound => Some(127),
                    NotStartedClass::NotExecutable => Some(126),
                    _ => None,
                });
            }
            _ => return None,
        }
    }
    found
}

/// Whether no supervisor received a start of the attempt, so that the attempt has done nothing.
fn was_never_received(state: &State) -> bool {
    let is_unprepared = state.children.is_empty() && state.command_unreceived;
    is_unprepared || all_refused(state, NotStartedClass::Supervisor)
}

/// Whether all starts of the attempt's children failed for this reason.
fn all_refused(state: &State, class: NotStartedClass) -> bool {
    let is_refused = |child: &ChildState| match child {
        ChildState::NotStarted { class: of, .. } => *of == class,
        _ => false,
    };
    !state.children.is_empty() && state.children.iter().all(is_refused)
}

fn cause(word: &str) -> Cause {
    match word {
        "success" => Cause::Success,
        class => Cause::Class(ReasonClass::from_plugin(class)),
    }
}

pub(super) fn status(status: supervise::Status) -> (Option<i32>, Option<i32>) {
    match status {
        supervise::Status::Code(code) => (Some(code), None),
        supervise::Status::Signal(signal) => (None, Some(signal)),
    }
}

/// The reason for which the supervisor stopped the attempt, if it did. The supervisor enforces the
/// deadlines with or without a host.
fn stopped(state: &State) -> Option<StopWhy> {
    match stopped_by_supervisor(state)? {
        supervise::StopWhy::Cancelled => Some(StopWhy::Cancelled { reason: None }),
        supervise::StopWhy::TimedOut => Some(StopWhy::Timeout),
        supervise::StopWhy::Idle => Some(StopWhy::IdleTimeout),
        // The executor had already answered, and only leftover processes were stopped; or nobody
        // had asked for the end.
        supervise::StopWhy::Finished | supervise::StopWhy::Shutdown => None,
    }
}

/// The reason of the stop in which the attempt's first stopped child ended.
fn stopped_by_supervisor(state: &State) -> Option<supervise::StopWhy> {
    state.children.iter().find_map(|child| match child {
        ChildState::Exited(exit) => exit.stopped,
        _ => None,
    })
}

fn usage(state: &State, wall_ms: u64) -> Usage {
    let exits = state.children.iter().filter_map(|child| match child {
        ChildState::Exited(exit) => Some(exit.usage),
        _ => None,
    });
    exits.fold(
        Usage {
            wall_ms,
            ..Usage::default()
        },
        |sum, one| Usage {
            wall_ms: sum.wall_ms,
            cpu_ms: Some(sum.cpu_ms.unwrap_or(0).saturating_add(one.cpu_ms)),
            peak_rss_bytes: sum.peak_rss_bytes.max(one.peak_rss_bytes),
        },
    )
}

/// How many bytes the children had written when they ended. What their descendants wrote later is
/// not counted.
fn output_bytes(state: &State) -> u64 {
    let exits = state.children.iter().map(|child| match child {
        ChildState::Exited(exit) => exit.stdout_bytes.saturating_add(exit.stderr_bytes),
        _ => 0,
    });
    exits.fold(0, u64::saturating_add)
}

/// Whether [`output_bytes`] counts all output: only one child was started, and nothing that could
/// write more was left when it ended.
fn is_all_output(state: &State) -> bool {
    let is_refused = |child: &&ChildState| matches!(child, ChildState::NotStarted { .. });
    let mut begun = state.children.iter().filter(|child| !is_refused(child));
    let is_only = matches!(
        (begun.next(), begun.next()),
        (Some(ChildState::Exited(_)), None)
    );
    is_only && state.is_drained_at_exit && !state.output_cut
}

/// The costs in outputs, as they are written.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Costs {
    cost_usd: Option<Box<RawValue>>,
    /// An upper bound of a cost that the executor does not know.
    cost_at_most_usd: Option<Box<RawValue>>,
}

impl Costs {
    /// Outputs that are no object have no costs.
    fn of(outputs: &str) -> Self {
        serde_json::from_str(outputs).unwrap_or_default()
    }
}

/// The `cost_usd` of the outputs, if it is valid.
pub(super) fn cost_micro_usd(outputs: &str) -> Option<u64> {
    micro_usd(Costs::of(outputs).cost_usd.as_deref())
}

fn micro_usd(told: Option<&RawValue>) -> Option<u64> {
    let usd = serde_json::from_str(told?.get()).ok()?;
    units::told_micro_usd(usd)
}

/// The name of the usage limit in the outputs.
fn limit(outputs: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Limit {
        // Optional, because an error about a missing field is slow to make.
        usage_limit: Option<String>,
    }
    let named = serde_json::from_str::<Limit>(outputs).ok()?.usage_limit?;
    let shown = shortened(&harmless(&named), LIMIT_CHARS);
    (!shown.is_empty()).then_some(shown)
}

/// The number of refused calls in the outputs.
fn denied(outputs: &str) -> u32 {
    #[derive(Deserialize)]
    struct Denials {
        // Optional, because an error about a missing field is slow to make.
        denials: Option<Vec<IgnoredAny>>,
    }
    let found = serde_json::from_str::<Denials>(outputs).ok();
    let denials = found.and_then(|found| found.denials).unwrap_or_default();
    u32::try_from(denials.len()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::PluginError;

    fn failed(state: &State) -> Ending {
        let failure = Failure::new("lost", "the child was not started");
        ending("shell", Err(GuestEnd::Failed(failure)), state, 0)
    }

    fn refused(class: NotStartedClass) -> ChildState {
        ChildState::NotStarted {
            class,
            message: String::new(),
        }
    }

    #[test]
    fn the_output_of_all_ended_children_is_counted() {
        let exited = |stdout_bytes, stderr_bytes| {
            ChildState::Exited(supervise::Exit {
                stdout_bytes,
                stderr_bytes,
                ..supervise::Exit::sample(supervise::Status::Code(1))
            })
        };
        let state = State {
            children: vec![exited(5, 2), ChildState::Lost, exited(0, 3)],
            ..State::default()
        };
        assert_eq!(failed(&state).output_bytes, 10);
    }

    #[test]
    fn output_counts_as_all_only_if_one_child_has_left_nothing_that_could_write_more() {
        let exited = || ChildState::Exited(supervise::Exit::sample(supervise::Status::Code(0)));
        let check = |heard: Vec<(ChildState, bool)>, expected: bool| {
            let mut state = State::default();
            for (index, (child, at_rest)) in heard.into_iter().enumerate() {
                state.hear(index, child, at_rest);
            }
            state.ended = true;
            assert_eq!(failed(&state).is_all_output, expected, "{state:?}");
        };
        check(vec![(exited(), true)], true);
        check(vec![(exited(), false)], false);
        let missing = refused(NotStartedClass::CommandNotFound);
        check(vec![(missing, false), (exited(), true)], true);
        check(vec![(exited(), false), (exited(), true)], false);
        check(vec![(ChildState::Lost, true), (exited(), true)], false);
        check(Vec::new(), false);
    }

    #[test]
    fn an_attempt_that_had_started_and_that_no_supervisor_knows_is_lost_and_says_so() {
        let state = State {
            children: vec![ChildState::Lost],
            is_untraced: true,
            ..State::default()
        };
        let ending = failed(&state);
        assert_eq!(ending.cause, Cause::Class(ReasonClass::Lost));
        assert!(!ending.never_received);
        assert_eq!(ending.message, UNTRACED);
    }

    #[test]
    fn an_attempt_that_ended_with_its_supervisor_is_lost_and_not_cancelled() {
        let check = |stopped: Option<supervise::StopWhy>, expected: bool| {
            let exit = supervise::Exit {
                stopped,
                ..supervise::Exit::sample(supervise::Status::Code(143))
            };
            let ending = failed(&State {
                children: vec![ChildState::Exited(exit)],
                ..State::default()
            });
            let is_lost = ending.message == WITH_SUPERVISOR
                && ending.cause == Cause::Class(ReasonClass::Lost)
                && ending.stopped.is_none();
            assert_eq!(is_lost, expected, "{ending:?}");
            assert_eq!(ending.exit_code, Some(143));
        };
        check(Some(supervise::StopWhy::Shutdown), true);
        check(Some(supervise::StopWhy::Cancelled), false);
        check(None, false);
    }

    #[test]
    fn an_attempt_fails_by_itself_only_if_its_last_process_did_before_anybody_stopped_it() {
        let exited = |code: i32, stopped: Option<supervise::StopWhy>| {
            ChildState::Exited(supervise::Exit {
                stopped,
                ..supervise::Exit::sample(supervise::Status::Code(code))
            })
        };
        let check = |children: &[ChildState], is_fed: bool, class: &str, expected: bool| {
            let state = State {
                ended: true,
                children: children.to_vec(),
                stop: Some(StopWhy::Timeout),
                is_fed,
                ..State::default()
            };
            let end = Err(GuestEnd::Failed(Failure::new(class, "it failed")));
            let ending = ending("shell", end, &state, 0);
            assert_eq!(ending.failed_by_itself, expected, "{class} {state:?}");
        };
        let failed = exited(7, None);
        check(std::slice::from_ref(&failed), false, "exit", true);
        check(&[exited(0, None), failed.clone()], false, "network", true);
        // The executor answers the request to stop, not the end of a process.
        for class in ["cancelled", "timeout", "lost", "plugin"] {
            check(std::slice::from_ref(&failed), false, class, false);
        }
        check(&[failed.clone(), exited(0, None)], false, "exit", false);
        // It may have told its process of the stop.
        check(std::slice::from_ref(&failed), true, "exit", false);
        for why in [supervise::StopWhy::TimedOut, supervise::StopWhy::Finished] {
            check(
                &[failed.clone(), exited(7, Some(why))],
                false,
                "exit",
                false,
            );
        }
        check(&[ChildState::Lost, failed], false, "exit", false);
        check(&[], false, "exit", false);
    }

    #[test]
    fn an_attempt_that_was_started_before_is_lost_and_does_not_wait_for_another_start() {
        let children = vec![refused(NotStartedClass::StartedBefore)];
        let ending = failed(&State {
            children,
            ..State::default()
        });
        assert_eq!(ending.cause, Cause::Class(ReasonClass::Lost));
        assert!(!ending.never_received && !ending.no_room);
    }

    #[test]
    fn a_message_is_bounded() {
        let short = "ä".repeat(MESSAGE_BYTES / 2);
        assert_eq!(bounded(short.clone()), short);
        let long = bounded("ä".repeat(10 << 20));
        assert!(long.len() < MESSAGE_BYTES + 100);
        let told = format!(
            "ä… {} more bytes are in the log",
            (20 << 20) - MESSAGE_BYTES
        );
        assert!(long.ends_with(&told), "{}", &long[MESSAGE_BYTES - 10..]);
    }

    #[test]
    fn a_long_result_is_cut_to_a_part_of_the_output_limit_and_says_so() {
        let cut = |outputs: &str, max_output_bytes: u64| {
            let outcome = GuestOutcome {
                cause: "success".to_owned(),
                code: None,
                signal: None,
                summary: String::new(),
                outputs: outputs.to_owned(),
                retry_after: None,
                metrics: Vec::new(),
            };
            with_bounded_result(outcome, max_output_bytes).outputs
        };
        let with = |result: &str| format!(r#"{{"cost_usd":0.10,"result":"{result}"}}"#);
        let check = |length: usize, max_output_bytes: u64, most: usize, limit: &str| {
            let note =
                format!("… [claudine: the rest is left out: a result is kept up to {limit}]");
            let expected = with(&format!("{}{note}", "x".repeat(most)));
            assert!(
                cut(&with(&"x".repeat(length)), max_output_bytes) == expected,
                "{length} of {max_output_bytes}"
            );
        };
        check(8 << 20, 1 << 30, 1 << 20, "1.0 MiB");
        check((1 << 20) + 1, u64::MAX, 1 << 20, "1.0 MiB");
        check(8 << 20, 1 << 20, 256 << 10, "256.0 KiB");
        // An executor that found less of the same result, but enough, leaves the same text.
        check(500 << 10, 1 << 20, 256 << 10, "256.0 KiB");
        check(300, 1024, 256, "256 B");
        // A character is not cut, and quotes are escaped again.
        assert!(cut(&with(&r#"\""#.repeat(300)), 1024).contains(r#"\"… [claudine: "#));
        assert!(cut(&with(&format!("x{}", "ä".repeat(300))), 1024).contains("ä… [claudine: "));
        for outputs in [
            with(&"x".repeat(256)),
            format!(r#"{{"other":"{}"}}"#, "x".repeat(300)),
            format!(r#"{{"result":[{}1]}}"#, "1,".repeat(300)),
            "{}".to_owned(),
        ] {
            assert_eq!(cut(&outputs, 1024), outputs);
        }
    }

    #[test]
    fn every_ending_has_a_bounded_message() {
        let check = |result| {
            let ending = ending("shell", result, &State::default(), 0);
            let length = ending.message.len();
            assert!(
                (MESSAGE_BYTES..MESSAGE_BYTES + 100).contains(&length),
                "{:?}: {length} bytes",
                ending.cause
            );
        };
        let long = "x".repeat(10 << 20);
        for cause in ["success", "exit"] {
            check(Ok(GuestOutcome {
                cause: cause.to_owned(),
                code: None,
                signal: None,
                summary: long.clone(),
                outputs: "{}".to_owned(),
                retry_after: None,
                metrics: Vec::new(),
            }));
        }
        check(Err(GuestEnd::Failed(Failure::new("exit", long))));
    }

    #[test]
    fn every_ending_says_that_output_may_be_missing() {
        let state = State {
            output_cut: true,
            ..State::default()
        };
        let cut = "the end of its output may be missing, because its supervisor died";
        assert_eq!(
            failed(&state).message,
            format!("the child was not started; {cut}")
        );
        for cause in ["success", "exit"] {
            let outcome = GuestOutcome {
                cause: cause.to_owned(),
                code: None,
                signal: None,
                summary: String::new(),
                outputs: "{}".to_owned(),
                retry_after: None,
                metrics: Vec::new(),
            };
            assert_eq!(ending("shell", Ok(outcome), &state, 0).message, cut);
        }
    }

    #[test]
    fn a_command_that_cannot_start_gets_the_exit_code_of_a_shell() {
        let check = |children: Vec<ChildState>, expected: Option<i32>| {
            let state = State {
                children,
                ..State::default()
            };
            assert_eq!(never_begun(&state), expected, "{state:?}");
        };
        check(vec![], None);
        check(vec![refused(NotStartedClass::CommandNotFound)], Some(127));
        check(vec![refused(NotStartedClass::NotExecutable)], Some(126));
        check(vec![refused(NotStartedClass::Resource)], None);
        let second = refused(NotStartedClass::CommandNotFound);
        check(vec![ChildState::Lost, second], None);
    }

    #[test]
    fn lack_of_room_is_reported_if_it_prevented_all_starts() {
        use supervise::NotStartedClass::{CommandNotFound, Resource};
        let check = |children: Vec<ChildState>, expected: bool| {
            let state = State {
                children,
                ..State::default()
            };
            assert_eq!(failed(&state).no_room, expected, "{state:?}");
        };
        check(vec![], false);
        check(vec![refused(Resource)], true);
        check(vec![refused(Resource), refused(Resource)], true);
        check(vec![refused(Resource), refused(CommandNotFound)], false);
        check(vec![ChildState::Lost], false);
    }

    #[test]
    fn a_lack_of_code_is_reported_only_if_the_attempt_has_started_nothing() {
        let check = |error: PluginError, children: Vec<ChildState>, expected: bool| {
            let state = State {
                children,
                ..State::default()
            };
            let ending = ending("shell", Err(GuestEnd::Unavailable(error)), &state, 0);
            assert_eq!(ending.no_code, expected, "{ending:?}");
        };
        let message = || "the compiler was killed".to_owned();
        let lack = || PluginError::Uncompiled { message: message() };
        check(lack(), vec![], true);
        check(lack(), vec![ChildState::Lost], false);
        check(PluginError::Unread { message: message() }, vec![], true);
        check(PluginError::Compile { message: message() }, vec![], false);
    }

    #[test]
    fn an_attempt_is_reported_as_never_received_if_no_supervisor_received_any_of_its_starts() {
        use supervise::NotStartedClass::{Resource, Stopped, Supervisor};
        let check = |children: Vec<ChildState>, command_unreceived: bool, expected: bool| {
            let state = State {
                children,
                command_unreceived,
                ..State::default()
            };
            assert_eq!(failed(&state).never_received, expected, "{state:?}");
        };
        check(vec![], false, false);
        check(vec![refused(Supervisor)], false, true);
        check(vec![refused(Supervisor), refused(Supervisor)], false, true);
        check(vec![refused(Supervisor), refused(Resource)], false, false);
        check(vec![refused(Stopped)], false, false);
        check(vec![ChildState::Lost, refused(Supervisor)], false, false);
        // A command that prepares the attempt, such as git, was not received.
        check(vec![], true, true);
        check(vec![ChildState::Lost], true, false);
    }

    #[test]
    fn the_name_of_a_usage_limit_is_read_from_the_outputs() {
        let check = |outputs: &str, expected: Option<&str>| {
            assert_eq!(limit(outputs).as_deref(), expected, "{outputs}");
        };
        check(
            r#"{"usage_limit": "5-hour", "cost_usd": 0}"#,
            Some("5-hour"),
        );
        check(r#"{"usage_limit": ""}"#, None);
        check(r#"{"usage_limit": 5}"#, None);
        check("{}", None);
    }

    #[test]
    fn refused_calls_are_counted() {
        let check =
            |outputs: &str, expected: u32| assert_eq!(denied(outputs), expected, "{outputs}");
        check(r#"{"denials": [{"tool": "Bash", "input": {}}, 7]}"#, 2);
        check(r#"{"denials": []}"#, 0);
        check(r#"{"denials": "many"}"#, 0);
        check("{}", 0);
    }

    #[test]
    fn costs_are_read_from_the_outputs() {
        let check = |outputs: &str, expected: Option<u64>| {
            assert_eq!(cost_micro_usd(outputs), expected, "{outputs}");
        };
        check(r#"{"cost_usd": 0.000188}"#, Some(188));
        check(r#"{"cost_usd": 0}"#, Some(0));
        check(r#"{"cost_usd": -1}"#, None);
        check(r#"{"cost_usd": "much"}"#, None);
        check(r#"{"cost_usd": 1e300}"#, None);
        check(r#"{"cost_usd": 1e999}"#, None);
        check(r#"{"cost_usd": null}"#, None);
        check("{}", None);
        check("7", None);
    }

    #[test]
    fn a_cost_that_cannot_be_read_is_told_in_the_message() {
        let check = |outputs: &str, expected: Option<&str>| {
            for (message, begin) in [("", ""), ("done", "done; ")] {
                let told = with_unread_costs(message.to_owned(), &Costs::of(outputs));
                let expected = expected.map_or_else(
                    || message.to_owned(),
                    |unread| {
                        format!(
                            "{begin}its executor told a cost that cannot be read ({unread}), and \
                             that counts as not told; a cost is a number of US dollars from 0 to \
                             1000000"
                        )
                    },
                );
                assert_eq!(told, expected, "{outputs}");
            }
        };
        check("{}", None);
        check(r#"{"cost_usd": null, "cost_at_most_usd": 0.5}"#, None);
        check(r#"{"cost_usd": 1e300}"#, Some("cost_usd is 1e300"));
        let both = r#"{"cost_usd": -1, "cost_at_most_usd": "much"}"#;
        let expected = r#"cost_usd is -1, cost_at_most_usd is "much""#;
        check(both, Some(expected));
        let outcome = GuestOutcome {
            cause: "success".to_owned(),
            code: None,
            signal: None,
            summary: String::new(),
            outputs: r#"{"cost_usd": 1e300}"#.to_owned(),
            retry_after: None,
            metrics: Vec::new(),
        };
        let ending = ending("other", Ok(outcome), &State::default(), 0);
        assert_eq!(ending.cost_micro_usd, None);
        assert!(ending.message.contains("1e300"), "{}", ending.message);
    }

    #[test]
    fn an_upper_bound_of_an_unknown_cost_is_read_from_the_outputs() {
        let check = |outputs: &str, expected: Option<u64>| {
            let told = Costs::of(outputs).cost_at_most_usd;
            assert_eq!(micro_usd(told.as_deref()), expected, "{outputs}");
        };
        check(r#"{"cost_at_most_usd": 0.5}"#, Some(500_000));
        check(r#"{"cost_at_most_usd": 1e-9}"#, Some(1));
        check(r#"{"cost_at_most_usd": 0}"#, Some(0));
        check(r#"{"cost_at_most_usd": -1}"#, None);
        check(r#"{"cost_at_most_usd": "much"}"#, None);
        check(r#"{"cost_at_most_usd": 1e300}"#, None);
        check(r#"{"cost_usd": 0.5}"#, None);
    }
}
