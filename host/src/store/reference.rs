//! How a person names a task: a whole id, the beginning of one, or a name.
//!
//! What starts with `task_` is always an id or the beginning of one. Anything else is a name first, because a name fits exactly where the
//! beginning of an id only fits so far; where no task has that name, four digits or more are taken as the beginning of an id without its
//! `task_`. Fewer would sooner or later hit a task nobody meant. Of several tasks with one name the newest unfinished one is meant, else
//! the newest.

use claudine_domain::id::TaskId;

/// How many ids an ambiguous answer names.
pub(crate) const SHOWN_AMBIGUOUS: usize = 10;
const FEWEST_BARE_DIGITS: usize = 4;

/// What a reference was found to mean.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Resolved {
    Found(TaskId),
    NotFound,
    /// The newest of the ids that begin so, at most ten.
    Ambiguous(Vec<TaskId>),
}

impl Resolved {
    /// Judges by the newest ids of a range, of which at least two are given if there are two.
    pub(super) fn of_matches(mut matches: Vec<TaskId>) -> Self {
        matches.truncate(SHOWN_AMBIGUOUS);
        match matches.as_slice() {
            [] => Self::NotFound,
            [one] => Self::Found(*one),
            _ => Self::Ambiguous(matches),
        }
    }
}

/// A reference, taken apart: what to look for, and in which order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Reference<'a> {
    pub(super) name: Option<&'a str>,
    pub(super) ids: Option<(TaskId, TaskId)>,
}

impl<'a> Reference<'a> {
    pub(super) fn parse(text: &'a str) -> Self {
        if text.starts_with("task_") {
            let ids = TaskId::range_of_prefix(text);
            return Self { name: None, ids };
        }
        let ids = TaskId::range_of_prefix(text).filter(|_| text.len() >= FEWEST_BARE_DIGITS);
        let name = (!text.is_empty()).then_some(text);
        Self { name, ids }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_names_or_beginnings_of_ids() {
        let check = |text: &str, name: Option<&str>, digits: Option<usize>| {
            let found = Reference::parse(text);
            assert_eq!(found.name, name, "{text}");
            let shared = found.ids.map(|(low, high)| {
                let (low, high) = (low.to_string(), high.to_string());
                let same = low.bytes().zip(high.bytes()).take_while(|(a, b)| a == b);
                same.count() - "task_".len()
            });
            assert_eq!(shared, digits, "{text}");
        };
        check("task_0", None, Some(1));
        check("task_01hx", None, Some(4));
        check("task_", None, None);
        check("task_u", None, None);
        check("task_01hx01hx01hx01hx01hx01hx01", None, Some(26));
        check("task_01hx01hx01hx01hx01hx01hx012", None, None);
        check("01h", Some("01h"), None);
        check("01hx", Some("01hx"), Some(4));
        check("01HX", Some("01HX"), Some(4));
        check("bench", Some("bench"), None);
        check("nightly build", Some("nightly build"), None);
        check("größe", Some("größe"), None);
        check("", None, None);
    }
}
