//! Tells from a task what its attempts have written to their logs.

use claudine_domain::{attempt::Attempt, task::Task};

use crate::{supervise::log::Written, transcript::written_by};

/// The name of the option in the history of a task's changes.
pub(super) const START_TIMEOUT: &str = "start_timeout";

/// Number of the last attempt that has begun to run.
pub(super) fn begun(task: &Task) -> Option<u32> {
    let latest_first = task.attempts.iter().rev().filter(|it| !it.by_hand);
    let mut begun = latest_first.filter(|it| it.started_at.is_some());
    begun.next().map(|attempt| attempt.number)
}

/// How much output the log of an attempt must have.
pub(super) fn written_of(task: &Task, number: u32) -> Written {
    let found = task.attempts.iter().find(|one| one.number == number);
    let Some(begun) = found.filter(|one| one.started_at.is_some() && !one.by_hand) else {
        return Written::default();
    };
    match written_by(begun) {
        unknown if unknown == Written::default() && had_output(task, begun) => Written::SOME,
        written => written,
    }
}

/// Whether an attempt has certainly had output: its end tells it and, before the end, its first
/// sign of life. With a start timeout, output is the first sign of life. An attempt that ran before
/// the task got its start timeout has shown nothing by this sign.
pub(super) fn had_output(task: &Task, begun: &Attempt) -> bool {
    if begun.ended.as_ref().is_some_and(|it| it.output_bytes > 0) {
        return true;
    }
    let revised = task.revised.iter();
    let later = revised.filter(|revised| revised.from_attempt > begun.number);
    let mut differences = later.flat_map(|revised| &revised.differences);
    let had_another_limit = differences.any(|difference| difference.option == START_TIMEOUT);
    task.request.start_timeout.is_some() && !had_another_limit && begun.live_at.is_some()
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use claudine_domain::{
        attempt::Ended,
        outcome::Outcome,
        revision::{Difference, Revised},
        time::Timestamp,
    };

    use super::*;
    use crate::store::sample_task;

    #[test]
    fn a_sign_of_life_shows_output_only_if_the_attempt_itself_had_a_start_timeout() {
        let attempt = |number: u32, live_at: Option<Timestamp>| Attempt {
            live_at,
            ..Attempt::new(number, Timestamp(0))
        };
        let live = Some(Timestamp(1));
        let mut task = sample_task(1);
        Arc::make_mut(&mut task.request).start_timeout = None;
        assert!(!had_output(&task, &attempt(1, live)));
        Arc::make_mut(&mut task.request).start_timeout = Some(Duration::from_secs(1));
        assert!(had_output(&task, &attempt(1, live)));
        assert!(!had_output(&task, &attempt(1, None)));
        let ended = |output_bytes: u64| Attempt {
            ended: Some(Ended {
                output_bytes,
                ..Ended::new(Timestamp(2), Outcome::Succeeded)
            }),
            ..attempt(1, None)
        };
        assert!(had_output(&task, &ended(1)) && !had_output(&task, &ended(0)));

        for (option, expected) in [(START_TIMEOUT, false), ("timeout", true)] {
            task.revised = vec![Revised {
                from_attempt: 2,
                differences: vec![Difference {
                    option: option.to_owned(),
                    before: None,
                    after: Some("1s".to_owned()),
                }],
                by: None,
            }];
            assert_eq!(had_output(&task, &attempt(1, live)), expected, "{option}");
            assert!(had_output(&task, &attempt(2, live)), "{option}");
        }
    }
}
