//! Which tasks a list shows.

use std::str::FromStr;

use claudine_domain::id::TaskId;

use super::Status;

/// Conditions a task has to meet, all of them. One status, `name`, `parent` and `before` are looked up in an index. `executor`, `label` and
/// [`StatusFilter::Done`] are tested on one task after the other, newest first, until the page is full: a label that hardly any task has
/// costs a walk through them all, some 3 µs a task.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    pub(crate) status: Option<StatusFilter>,
    pub(crate) name: Option<String>,
    pub(crate) executor: Option<String>,
    /// Key and value.
    pub(crate) label: Option<(String, String)>,
    pub(crate) parent: Option<TaskId>,
    /// Only tasks older than this one.
    pub(crate) before: Option<TaskId>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum StatusFilter {
    Is(Status),
    /// Any outcome.
    Done,
}

/// A word that is neither a state nor an outcome.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("`{0}` is neither a state nor an outcome; there are {all}", all = words())]
pub(crate) struct UnknownStatus(String);

/// All words that are understood, made of the types, so that none can be missing.
fn words() -> String {
    let states = Status::all().filter(|status| !matches!(status, Status::Done(_)));
    let outcomes = Status::all().filter(|status| matches!(status, Status::Done(_)));
    let words = states.map(Status::as_str).chain(["done"]);
    words
        .chain(outcomes.map(Status::as_str))
        .collect::<Vec<_>>()
        .join(", ")
}

impl FromStr for StatusFilter {
    type Err = UnknownStatus;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "done" {
            return Ok(Self::Done);
        }
        Status::all()
            .find(|status| status.as_str() == text)
            .map(Self::Is)
            .ok_or_else(|| UnknownStatus(text.chars().take(80).collect()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn words_for_states_and_outcomes() {
        let check = |text: &str, expected: Option<StatusFilter>| {
            assert_eq!(text.parse().ok(), expected, "{text}");
        };
        check("done", Some(StatusFilter::Done));
        check("waiting", Some(StatusFilter::Is(Status::Waiting)));
        check("ready", Some(StatusFilter::Is(Status::Ready)));
        check("running", Some(StatusFilter::Is(Status::Running)));
        for outcome in crate::store::OUTCOMES {
            let expected = StatusFilter::Is(Status::Done(outcome));
            check(outcome.as_str(), Some(expected));
        }
        let refusal = "Done".parse::<StatusFilter>().unwrap_err().to_string();
        for status in Status::all() {
            assert!(refusal.contains(status.as_str()), "{refusal}");
        }
        check("Done", None);
        check("", None);
        check("queued", None);
    }
}
