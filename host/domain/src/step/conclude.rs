//! Derives an attempt's outcome from what is known about its end.

use super::{Cause, Ending, cancel::cancelled};
use crate::{
    attempt::{Attempt, Phase, StopWhy},
    outcome::{IDLE_TIMEOUT, Outcome, Reason, ReasonClass, TIMEOUT, TIMEOUT_BEFORE_START},
};

#[derive(Clone, PartialEq, Debug)]
pub(super) enum Conclusion {
    /// The attempt has not done anything.
    BackToReady,
    /// The machine had no room for the attempt's process, so the attempt has not done anything. The
    /// task's next attempt starts later.
    NoRoom,
    /// The executor's code could not be had, so the attempt has not done anything.
    NoCode,
    End {
        outcome: Outcome,
        reason: Option<Reason>,
    },
}

/// Derives the outcome. If the attempt was stopped, the reason for the stop decides the outcome
/// (cancelled, timed out, or failed because of a spent budget); the exit code does not. If the
/// attempt had succeeded before the first signal reached it, its outcome is success. If it had
/// failed by then, no time limit that passed later decides. A cancellation does, because a
/// cancelled task must not be retried.
pub(super) fn conclude(phase: &Phase, attempt: &Attempt, ending: &Ending) -> Conclusion {
    let asked = match phase {
        Phase::Stopping(why) => Some(why),
        _ => None,
    };
    // If the attempt gave a sign of life, its start was received, even if the opposite is reported
    // now. Starting it again could do its work twice.
    let may_be_unreceived = matches!(phase, Phase::Preparing | Phase::Starting);
    if ending.never_received && may_be_unreceived && attempt.leader.is_none() {
        return Conclusion::BackToReady;
    }
    if ending.no_room && may_be_unreceived && attempt.leader.is_none() {
        return Conclusion::NoRoom;
    }
    if ending.no_code && may_be_unreceived && attempt.leader.is_none() {
        return Conclusion::NoCode;
    }
    let is_late = matches!(asked, Some(StopWhy::Timeout | StopWhy::StartTimeout));
    let finished_first = ending.stopped.is_none()
        && (ending.cause == Cause::Success || (is_late && ending.failed_by_itself));
    if let Some(why) = asked.or(ending.stopped.as_ref())
        && !finished_first
    {
        // The start may have waited for a supervisor that did nothing. Of a lost attempt, nobody
        // knows.
        let is_lost = ending.cause == Cause::Class(ReasonClass::Lost);
        let may_have_started = is_lost || attempt.leader.is_some() || ending.usage.cpu_ms.is_some();
        return stopped(why, may_have_started);
    }
    match ending.cause {
        Cause::Success => Conclusion::End {
            outcome: Outcome::Succeeded,
            reason: None,
        },
        Cause::Class(class) => {
            let outcome = match class {
                ReasonClass::Lost => Outcome::Lost,
                ReasonClass::Timeout => Outcome::TimedOut,
                ReasonClass::Cancelled => Outcome::Cancelled,
                _ => Outcome::Failed,
            };
            Conclusion::End {
                outcome,
                reason: Some(Reason::new(class, ending.message.clone())),
            }
        }
    }
}

/// The conclusion from the reason of a stop. `may_have_started` says whether a process of the
/// attempt may have run.
fn stopped(why: &StopWhy, may_have_started: bool) -> Conclusion {
    let timed_out = |message: &str| Conclusion::End {
        outcome: Outcome::TimedOut,
        reason: Some(Reason::new(ReasonClass::Timeout, message)),
    };
    match why {
        StopWhy::Cancelled { reason } => Conclusion::End {
            outcome: Outcome::Cancelled,
            reason: Some(cancelled(reason.clone())),
        },
        StopWhy::Timeout if may_have_started => timed_out(TIMEOUT),
        StopWhy::Timeout => timed_out(TIMEOUT_BEFORE_START),
        StopWhy::PrepareTimeout => {
            timed_out("the preparation of the attempt took longer than its limit")
        }
        StopWhy::SettleTimeout => {
            timed_out("settling the work of the attempt took longer than its limit")
        }
        StopWhy::StartTimeout => {
            timed_out("the attempt gave no sign of life within its start timeout")
        }
        StopWhy::IdleTimeout => timed_out(IDLE_TIMEOUT),
        StopWhy::Budget { message } => Conclusion::End {
            outcome: Outcome::Failed,
            reason: Some(Reason::new(ReasonClass::Budget, message)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{attempt::Leader, time::Timestamp};

    fn ending(cause: Cause, stopped: Option<StopWhy>, never_received: bool) -> Ending {
        Ending {
            stopped,
            never_received,
            ..crate::tests::ending(cause)
        }
    }

    fn check(
        phase: Phase,
        cause: Cause,
        stopped: Option<StopWhy>,
        never_received: bool,
        expected: &str,
    ) {
        let attempt = Attempt::new(1, Timestamp(0));
        check_attempt(phase, &attempt, cause, stopped, never_received, expected);
    }

    fn check_attempt(
        phase: Phase,
        attempt: &Attempt,
        cause: Cause,
        stopped: Option<StopWhy>,
        never_received: bool,
        expected: &str,
    ) {
        let ending = ending(cause, stopped.clone(), never_received);
        let found = match conclude(&phase, attempt, &ending) {
            Conclusion::BackToReady => "ready".to_owned(),
            Conclusion::NoRoom => "waits for room".to_owned(),
            Conclusion::NoCode => "waits for code".to_owned(),
            Conclusion::End { outcome, reason } => {
                let class = reason.map_or(String::new(), |reason| {
                    format!("/{}", reason.class.as_str())
                });
                format!("{}{class}", outcome.as_str())
            }
        };
        assert_eq!(
            found, expected,
            "{phase:?} {cause:?} {stopped:?} {never_received}"
        );
    }

    #[test]
    fn reason_for_the_stop_decides_the_outcome() {
        let cancel = || StopWhy::Cancelled { reason: None };
        let exit = Cause::Class(ReasonClass::Exit);
        check(Phase::Live, Cause::Success, None, false, "succeeded");
        check(Phase::Live, exit, None, false, "failed/exit");
        let of_class = |class, expected: &str| {
            check(Phase::Live, Cause::Class(class), None, false, expected);
        };
        of_class(ReasonClass::Lost, "lost/lost");
        of_class(ReasonClass::Timeout, "timed_out/timeout");
        of_class(ReasonClass::Cancelled, "cancelled/cancelled");
        of_class(ReasonClass::Network, "failed/network");
        check(
            Phase::Live,
            Cause::Class(ReasonClass::Signal),
            Some(StopWhy::Timeout),
            false,
            "timed_out/timeout",
        );
        check(
            Phase::Live,
            Cause::Success,
            Some(StopWhy::IdleTimeout),
            false,
            "timed_out/timeout",
        );
        check(
            Phase::Stopping(cancel()),
            exit,
            Some(cancel()),
            false,
            "cancelled/cancelled",
        );
        // An attempt that handles the signal and exits with code 0 was stopped nevertheless.
        check(
            Phase::Stopping(cancel()),
            Cause::Success,
            Some(cancel()),
            false,
            "cancelled/cancelled",
        );
        // The attempt succeeded before the signal came.
        check(
            Phase::Stopping(cancel()),
            Cause::Success,
            None,
            false,
            "succeeded",
        );
        check(
            Phase::Stopping(cancel()),
            exit,
            Some(StopWhy::Timeout),
            false,
            "cancelled/cancelled",
        );
    }

    #[test]
    fn attempt_that_failed_by_itself_before_a_time_limit_has_not_timed_out() {
        let check = |why: StopWhy, by_itself: bool, stopped: Option<StopWhy>, expected: &str| {
            let ending = Ending {
                failed_by_itself: by_itself,
                ..ending(Cause::Class(ReasonClass::Exit), stopped, false)
            };
            let phase = Phase::Stopping(why);
            let attempt = Attempt::new(1, Timestamp(0));
            let found = conclude(&phase, &attempt, &ending);
            let is_expected = matches!(
                &found,
                Conclusion::End { outcome, .. } if outcome.as_str() == expected
            );
            assert!(is_expected, "{phase:?} {ending:?} {found:?}");
        };
        for limit in [StopWhy::Timeout, StopWhy::StartTimeout] {
            check(limit.clone(), true, None, "failed");
            check(limit.clone(), false, None, "timed_out");
            check(limit.clone(), true, Some(limit), "timed_out");
        }
        // Its processes had ended long before.
        check(StopWhy::SettleTimeout, true, None, "timed_out");
        check(StopWhy::Cancelled { reason: None }, true, None, "cancelled");
    }

    #[test]
    fn attempt_without_a_process_is_not_said_to_have_run_longer_than_its_timeout() {
        let check = |class: ReasonClass, has_leader: bool, cpu_ms: Option<u64>, expected: &str| {
            let mut ending = ending(Cause::Class(class), None, false);
            ending.usage.cpu_ms = cpu_ms;
            let leader = has_leader.then_some(Leader {
                pid: 1,
                start_time: 1,
            });
            let attempt = Attempt {
                leader,
                ..Attempt::new(1, Timestamp(0))
            };
            let found = conclude(&Phase::Stopping(StopWhy::Timeout), &attempt, &ending);
            let timed_out = Conclusion::End {
                outcome: Outcome::TimedOut,
                reason: Some(Reason::new(ReasonClass::Timeout, expected)),
            };
            assert_eq!(found, timed_out, "{has_leader} {cpu_ms:?}");
        };
        let of_stop = ReasonClass::Cancelled;
        check(of_stop, true, None, TIMEOUT);
        check(of_stop, false, Some(0), TIMEOUT);
        check(of_stop, false, None, TIMEOUT_BEFORE_START);
        check(ReasonClass::Lost, false, None, TIMEOUT);
    }

    #[test]
    fn start_that_was_not_received_is_withdrawn_only_if_the_attempt_sent_no_report() {
        let lost = Cause::Class(ReasonClass::Lost);
        let led = Attempt {
            leader: Some(Leader {
                pid: 1,
                start_time: 1,
            }),
            ..Attempt::new(1, Timestamp(0))
        };
        check(Phase::Starting, lost, None, true, "ready");
        check_attempt(Phase::Starting, &led, lost, None, true, "lost/lost");
        check(Phase::Live, lost, None, true, "lost/lost");
        check(Phase::Finishing, lost, None, true, "lost/lost");
        let cancel = StopWhy::Cancelled { reason: None };
        check(
            Phase::Stopping(cancel),
            lost,
            None,
            true,
            "cancelled/cancelled",
        );
    }
}
