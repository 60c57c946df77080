//! Descriptions of events.

use claudine_domain::{
    event::Fact,
    outcome::{Outcome, Reason},
    revision::listed,
};

use serde_json::Value;

use super::super::{explain::stop_word, limit_view::limit_text};
use crate::clock::rfc3339;

pub(super) fn of(fact: &Fact) -> String {
    match fact {
        Fact::Submitted => "submitted".to_owned(),
        Fact::AttemptPreparing { attempt } => format!("attempt {attempt} is being prepared"),
        Fact::AttemptSettling { attempt } => {
            format!("attempt {attempt} has ended; committing, merging or pushing its changes")
        }
        Fact::AttemptStarted {
            attempt,
            leader: Some(leader),
        } => format!("attempt {attempt} started, pid {}", leader.pid),
        Fact::AttemptStarted {
            attempt,
            leader: None,
        } => format!("attempt {attempt} started"),
        Fact::StopRequested { attempt, why } => {
            format!("attempt {attempt} is being stopped: {}", stop_word(why))
        }
        Fact::Progress {
            attempt,
            progress,
            data,
        } => {
            let text = text_of(data);
            format!("attempt {attempt}: {}", text.as_deref().unwrap_or(progress))
        }
        Fact::Parked { account, until } => limit_text(account, None, *until),
        Fact::BackToReady => "ready again".to_owned(),
        Fact::AttemptEnded {
            attempt,
            outcome,
            reason,
        } => format!("attempt {attempt} {}", ended(*outcome, reason.as_ref())),
        Fact::Retried => "to be retried".to_owned(),
        Fact::Resumed { from } => format!("to continue from attempt {from}"),
        Fact::Revised {
            attempt,
            differences,
        } => format!("attempt {attempt} runs with {}", listed(differences)),
        Fact::TriedNow => "to be started now".to_owned(),
        Fact::MergedByHand { attempt } => {
            format!("merged by hand, which counts as attempt {attempt}")
        }
        Fact::RetryScheduled { until } => format!("to be retried at {}", rfc3339(*until)),
        Fact::Unblocked => "its dependencies are met".to_owned(),
        Fact::Blocked => "blocked again, because a dependency runs again".to_owned(),
        Fact::Held => "held".to_owned(),
        Fact::Released => "released".to_owned(),
        Fact::Restored { taken_at } => {
            format!(
                "restored from the backup of {} and held",
                rfc3339(*taken_at)
            )
        }
        Fact::Done {
            outcome,
            culprit: Some(culprit),
            ..
        } => format!("done: {}: because of {culprit:#}", outcome.as_str()),
        Fact::Done {
            outcome,
            reason,
            culprit: None,
        } => format!("done: {}", ended(*outcome, reason.as_ref())),
    }
}

/// The first line of the text in a report. `None` if the report has no text.
fn text_of(data: &str) -> Option<String> {
    let data: Value = serde_json::from_str(data).ok()?;
    let line = data.get("text")?.as_str()?.lines().next()?;
    Some(line.to_owned())
}

fn ended(outcome: Outcome, reason: Option<&Reason>) -> String {
    match reason {
        Some(reason) => format!("{}: {}", outcome.as_str(), reason.message),
        None => outcome.as_str().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use claudine_domain::{
        attempt::{Leader, StopWhy},
        id::{AccountKey, TaskId},
        outcome::ReasonClass,
        revision::Difference,
        time::Timestamp,
    };

    use super::*;

    #[test]
    fn each_fact_has_a_description() {
        let check = |fact: Fact, expected: &str| assert_eq!(of(&fact), expected);
        let leader = Leader {
            pid: 77,
            start_time: 1,
        };
        let reason = || Some(Reason::new(ReasonClass::Exit, "exited with code 3"));
        check(Fact::Submitted, "submitted");
        check(
            Fact::AttemptPreparing { attempt: 2 },
            "attempt 2 is being prepared",
        );
        check(
            Fact::AttemptSettling { attempt: 2 },
            "attempt 2 has ended; committing, merging or pushing its changes",
        );
        check(
            Fact::AttemptStarted {
                attempt: 2,
                leader: Some(leader),
            },
            "attempt 2 started, pid 77",
        );
        check(
            Fact::AttemptStarted {
                attempt: 2,
                leader: None,
            },
            "attempt 2 started",
        );
        check(
            Fact::StopRequested {
                attempt: 1,
                why: StopWhy::Cancelled {
                    reason: Some("wrong branch".to_owned()),
                },
            },
            "attempt 1 is being stopped: cancelled (wrong branch)",
        );
        check(
            Fact::Progress {
                attempt: 1,
                progress: "editing".to_owned(),
                data: "{}".to_owned(),
            },
            "attempt 1: editing",
        );
        check(
            Fact::Progress {
                attempt: 1,
                progress: "phase".to_owned(),
                data: r#"{"text": "Bash: npm test\nnpm run lint"}"#.to_owned(),
            },
            "attempt 1: Bash: npm test",
        );
        check(
            Fact::Parked {
                account: AccountKey("a".to_owned()),
                until: Timestamp(1_795_359_093_042),
            },
            "A usage limit until 2026-11-22T14:51:33.042Z",
        );
        check(Fact::BackToReady, "ready again");
        check(
            Fact::AttemptEnded {
                attempt: 1,
                outcome: Outcome::Failed,
                reason: reason(),
            },
            "attempt 1 failed: exited with code 3",
        );
        check(Fact::Retried, "to be retried");
        check(Fact::TriedNow, "to be started now");
        let difference = |option: &str, before: Option<&str>, after: Option<&str>| Difference {
            option: option.to_owned(),
            before: before.map(str::to_owned),
            after: after.map(str::to_owned),
        };
        check(
            Fact::Revised {
                attempt: 2,
                differences: vec![
                    difference("model", None, Some("opus")),
                    difference("timeout", Some("5m"), Some("10m")),
                    difference("max_turns", Some("3"), None),
                ],
            },
            "attempt 2 runs with model opus, timeout 10m (was 5m), no max_turns (was 3)",
        );
        check(Fact::Resumed { from: 2 }, "to continue from attempt 2");
        check(
            Fact::MergedByHand { attempt: 2 },
            "merged by hand, which counts as attempt 2",
        );
        check(
            Fact::Done {
                outcome: Outcome::Failed,
                reason: reason(),
                culprit: None,
            },
            "done: failed: exited with code 3",
        );
        check(
            Fact::Done {
                outcome: Outcome::Succeeded,
                reason: None,
                culprit: None,
            },
            "done: succeeded",
        );
        check(
            Fact::Done {
                outcome: Outcome::UpstreamFailed,
                reason: None,
                culprit: Some(TaskId::new(0, 7)),
            },
            "done: upstream_failed: because of 000007",
        );
        check(
            Fact::RetryScheduled {
                until: Timestamp(1_795_359_093_042),
            },
            "to be retried at 2026-11-22T14:51:33.042Z",
        );
        check(Fact::Unblocked, "its dependencies are met");
        check(Fact::Held, "held");
        check(
            Fact::Restored {
                taken_at: Timestamp(0),
            },
            "restored from the backup of 1970-01-01T00:00:00.000Z and held",
        );
    }
}
