//! References to tasks as people write them: an id, the beginning or the end of an id, a name, or a
//! keyword.
//!
//! `@last` is the task that was created last, and `@running` is the running task that was created
//! last. A reference that starts with `task_` is an id or the beginning of an id. Any other
//! reference is first looked up as a name. An exact name has precedence over a part of an id, even
//! for changes. So a task can always be reached by its name, whatever ids exist. If several tasks
//! have the same name, the reference means the newest unfinished task, or the newest task if all
//! are finished. But tasks of restrained principals count only if no other task has the name:
//! otherwise a client could take the name of a person's task. If a client or an agent chose the
//! name, `app` also looks for a part of an id (`resolve_part`).
//!
//! If no task has the name, a reference that consists of digits is matched with the ends and the
//! beginnings of ids. If several tasks match, none is chosen. Ids of the same day begin with the
//! same digits, so users are shown the end. A minimum number of digits is required, because a few
//! digits would sooner or later match the wrong task, especially when a name is misspelt.

use claudine_domain::id::{IdEnd, TaskId};

use super::{Filter, States, Status};

/// The maximum number of tasks that an answer to an ambiguous reference names.
pub(crate) const SHOWN_AMBIGUOUS: usize = 10;
/// The minimum number of digits in a reference by a part of an id. If the part is the end of the id
/// and the task is only looked at, [`FEWEST_DIGITS_TO_LOOK`] applies instead.
const FEWEST_DIGITS: usize = 4;
/// The minimum number of digits in a reference by the end of an id if the task is only looked at.
const FEWEST_DIGITS_TO_LOOK: usize = 3;

const LAST: &str = "@last";
const LAST_RUNNING: &str = "@running";

/// Whether the reference is a keyword. A keyword is never taken for a name.
pub(crate) fn is_word(text: &str) -> bool {
    matches!(text, LAST | LAST_RUNNING)
}

/// The filter for the tasks of unrestrained principals that a keyword may mean; the keyword means
/// the newest of them. `None` if the text is not a keyword.
pub(crate) fn unrestrained_of_word(text: &str) -> Option<Filter> {
    let all = Filter {
        unrestrained: true,
        ..Filter::default()
    };
    match text {
        LAST => Some(all),
        LAST_RUNNING => Some(Filter {
            states: States::of([Status::Running]),
            ..all
        }),
        _ => None,
    }
}

/// Whether the text can be an id, or a part of an id with at least this number of digits.
pub(crate) fn may_be_of_an_id(text: &str, fewest: usize) -> bool {
    IdEnd::parse(text).is_some_and(|end| end.digits() >= fewest)
        || (text.len() >= fewest && TaskId::range_of_prefix(text).is_some())
}

/// The purpose for which the caller looks up a task.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Intent {
    Look,
    Change,
}

impl Intent {
    /// The minimum number of digits in a reference by the end of an id, for this purpose.
    pub(crate) const fn fewest_digits(self) -> usize {
        match self {
            Self::Look => FEWEST_DIGITS_TO_LOOK,
            Self::Change => FEWEST_DIGITS,
        }
    }
}

/// The result of looking up a reference.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Resolved {
    Found(TaskId),
    NotFound,
    /// The newest tasks that match: at most ten, and one more if there are more than ten.
    Ambiguous(Vec<TaskId>),
}

impl Resolved {
    /// Makes the result from the matching ids. There may be more ids than are shown to the user.
    pub(super) fn of_matches(mut matches: Vec<TaskId>) -> Self {
        matches.sort_unstable_by(|one, other| other.cmp(one));
        matches.dedup();
        matches.truncate(SHOWN_AMBIGUOUS + 1);
        match matches.as_slice() {
            [] => Self::NotFound,
            [one] => Self::Found(*one),
            _ => Self::Ambiguous(matches),
        }
    }

    pub(super) fn of_one(found: Option<TaskId>) -> Self {
        found.map_or(Self::NotFound, Self::Found)
    }
}

/// A parsed reference.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Reference<'a> {
    Last,
    LastRunning,
    Named {
        /// Name of a task, looked up before the parts of ids.
        name: Option<&'a str>,
        /// The range of ids with this beginning.
        begin: Option<(TaskId, TaskId)>,
        end: Option<IdEnd>,
    },
}

impl<'a> Reference<'a> {
    pub(super) fn parse(text: &'a str, intent: Intent) -> Self {
        match text {
            LAST => return Self::Last,
            LAST_RUNNING => return Self::LastRunning,
            _ => {}
        }
        let begin = TaskId::range_of_prefix(text);
        if text.starts_with("task_") {
            return Self::Named {
                name: None,
                begin,
                end: None,
            };
        }
        let fewest = intent.fewest_digits();
        Self::Named {
            name: (!text.is_empty()).then_some(text),
            begin: begin.filter(|_| text.len() >= FEWEST_DIGITS),
            end: IdEnd::parse(text).filter(|end| end.digits() >= fewest),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn references_are_names_or_parts_of_ids() {
        let check = |text: &str, expected: (Option<&str>, Option<usize>, Option<usize>)| {
            let Reference::Named { name, begin, end } = Reference::parse(text, Intent::Change)
            else {
                panic!("{text} is a word");
            };
            let shared = begin.map(|(low, high)| {
                let (low, high) = (low.to_string(), high.to_string());
                let same = low.bytes().zip(high.bytes()).take_while(|(a, b)| a == b);
                same.count() - "task_".len()
            });
            assert_eq!((name, shared, end.map(IdEnd::digits)), expected, "{text}");
        };
        check("task_0", (None, Some(1), None));
        check("task_01hx", (None, Some(4), None));
        check("task_", (None, None, None));
        check("task_u", (None, None, None));
        check("task_01hx01hx01hx01hx01hx01hx01", (None, Some(26), None));
        check("task_01hx01hx01hx01hx01hx01hx012", (None, None, None));
        check("01h", (Some("01h"), None, None));
        check("01hx", (Some("01hx"), Some(4), Some(4)));
        check("01HX", (Some("01HX"), Some(4), Some(4)));
        // No id begins with the digit `x`, but an id may end with any digits.
        check("x7tqrp", (Some("x7tqrp"), None, Some(6)));
        let whole = "01hx01hx01hx01hx01hx01hx01";
        check(whole, (Some(whole), Some(26), None));
        check("bench", (Some("bench"), None, Some(5)));
        check("build", (Some("build"), None, None));
        check("nightly build", (Some("nightly build"), None, None));
        check("größe", (Some("größe"), None, None));
        check("@later", (Some("@later"), None, None));
        check("", (None, None, None));
    }

    #[test]
    fn fewer_digits_of_an_id_suffice_to_look_at_a_task() {
        let end = |text: &str, intent| match Reference::parse(text, intent) {
            Reference::Named { end, .. } => end.is_some(),
            _ => false,
        };
        assert!(end("qrp", Intent::Look) && !end("qrp", Intent::Change));
        assert!(end("tqrp", Intent::Look) && end("tqrp", Intent::Change));
        assert!(!end("rp", Intent::Look));
    }

    #[test]
    fn a_part_of_an_id_is_recognised_by_its_characters_and_length() {
        let id = TaskId::new(1_760_000_000_000, (1 << 79) + 12_345).to_string();
        let digits = &id["task_".len()..];
        for length in 1..=digits.len() {
            for part in [&digits[..length], &digits[digits.len() - length..]] {
                for fewest in [3, 6] {
                    let expected = length >= fewest;
                    assert_eq!(may_be_of_an_id(part, fewest), expected, "{part} {fewest}");
                    let upper = part.to_uppercase();
                    assert_eq!(may_be_of_an_id(&upper, fewest), expected, "{upper}");
                }
                for prefix in ["task_", "TASK_", "Task_"] {
                    let part = format!("{prefix}{}", &digits[..length]);
                    assert!(may_be_of_an_id(&part, 6), "{part}");
                }
            }
        }
        let long = format!("{digits}0");
        for name in ["", "task_", "build", "nightly build", "größer", &long] {
            assert!(!may_be_of_an_id(name, 3), "{name}");
        }
    }

    #[test]
    fn keywords_are_not_names() {
        for intent in [Intent::Look, Intent::Change] {
            assert_eq!(Reference::parse("@last", intent), Reference::Last);
            assert_eq!(Reference::parse("@running", intent), Reference::LastRunning);
        }
    }
}
