//! Reads a YAML document, within limits that fit the largest request. The limits that the parser
//! has by default fit a configuration file.

use serde::Deserialize;
use serde_saphyr::{Error, MessageFormatter, Options, UserMessageFormatter, budget::BudgetBreach};

use super::{JSON_DEPTH, LIMIT_BYTES};
use crate::api::once;

/// Limit of the values of a document in millions, copies by aliases included. A hundred thousand
/// tasks with a million dependencies, each with a condition, have ten million.
const MILLIONS: usize = 20;
/// Limit of the nesting of lists and objects. Each level takes room on the stack.
const DEPTH: usize = 32;

/// Limit of the copies by aliases that even the smallest file may make, and of those that each of
/// its bytes allows in addition. Nested aliases would otherwise turn a few hundred bytes into all
/// the values that a document may have, which takes minutes.
const COPIES: usize = 100_000;
const COPIES_PER_BYTE: usize = 10;

pub(super) fn read<'de, T: Deserialize<'de>>(text: &'de str) -> Result<T, Box<Error>> {
    read_within(text, MILLIONS * 1_000_000)
}

fn read_within<'de, T: Deserialize<'de>>(text: &'de str, values: usize) -> Result<T, Box<Error>> {
    let copies = text.len().saturating_mul(COPIES_PER_BYTE);
    let copies = copies.saturating_add(COPIES);
    serde_saphyr::from_str_with_options(text, options(values, copies)).map_err(Box::new)
}

/// Options with a limit on the values, on the bytes of their text, on the depth, and on the copies
/// by aliases. The copies count for all other limits too, so anchors need no limits of their own.
fn options(values: usize, copies: usize) -> Options {
    let bytes = usize::try_from(LIMIT_BYTES).unwrap_or(usize::MAX);
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_nodes: values,
            max_total_scalar_bytes: bytes,
            max_depth: DEPTH,
            max_events: usize::MAX,
            max_aliases: values,
            max_anchors: values,
            max_merge_keys: values,
            max_recorded_anchor_events: values,
            max_recorded_anchor_bytes: bytes,
            enforce_alias_anchor_ratio: false,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: copies,
        },
        with_snippet: false,
    }
}

/// The message of an error. An exceeded limit is named, with the way out.
pub(super) fn in_words(error: &Error) -> String {
    let known = match original(error) {
        Error::Budget { breach, .. } => over_limit(breach),
        Error::AliasReplayLimitExceeded {
            max_total_replayed_events: copies,
            ..
        } => Some(format!(
            "the aliases of the file copy more than {copies} values, the limit for a file of this size; write some of the values in place of aliases"
        )),
        Error::DuplicateMappingKey { key: Some(key), .. } => Some(once::given_twice(key)),
        _ => None,
    };
    known.unwrap_or_else(|| UserMessageFormatter.format_message(error).into_owned())
}

/// Whether the error is about a field that is given twice.
pub(super) fn is_given_twice(error: &Error) -> bool {
    matches!(original(error), Error::DuplicateMappingKey { .. })
}

/// The error without its context.
fn original(mut error: &Error) -> &Error {
    while let Error::AliasError { error: inner, .. } | Error::WithSnippet { error: inner, .. } =
        error
    {
        error = inner;
    }
    error
}

fn over_limit(breach: &BudgetBreach) -> Option<String> {
    let split = "submit the tasks in several files: a file may name tasks of earlier ones";
    match breach {
        BudgetBreach::Nodes { .. }
        | BudgetBreach::Aliases { .. }
        | BudgetBreach::Anchors { .. }
        | BudgetBreach::MergeKeys { .. }
        | BudgetBreach::RecordedAnchorEvents { .. } => Some(format!(
            "the file has more than {MILLIONS} million values, copies by aliases included; {split}"
        )),
        BudgetBreach::ScalarBytes { .. } | BudgetBreach::RecordedAnchorBytes { .. } => {
            Some(format!(
                "the values of the file have more than {} MiB, copies by aliases included; {split}",
                LIMIT_BYTES >> 20
            ))
        }
        BudgetBreach::Depth { .. } => Some(format!(
            "lists and objects are nested more than {DEPTH} deep; use fewer levels, or write the file in JSON, which may have {JSON_DEPTH} levels"
        )),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use serde_json::Value;

    use super::*;

    fn told(text: &str, values: usize) -> String {
        in_words(&read_within::<Value>(text, values).unwrap_err())
    }

    #[test]
    fn a_document_over_a_limit_is_refused_with_the_limit_and_the_way_out() {
        let list = "- a\n".repeat(100);
        assert!(read_within::<Value>(&list, 101).is_ok());
        let told_of_values = told(&list, 100);
        assert!(
            told_of_values.contains("more than 20 million values")
                && told_of_values.contains("several files"),
            "{told_of_values}"
        );
        // Each level doubles the copies.
        let doubled = (1..40).map(|level| format!("- &a{level} [*a{0}, *a{0}]\n", level - 1));
        let bomb = format!("- &a0 [x]\n{}", doubled.collect::<String>());
        assert_eq!(told(&bomb, 10_000), told_of_values);
        let deep = format!("{}{}", "[".repeat(DEPTH + 1), "]".repeat(DEPTH + 1));
        let told_of_depth = told(&deep, 1_000);
        assert!(
            told_of_depth.contains("more than 32 deep") && told_of_depth.contains("JSON"),
            "{told_of_depth}"
        );
    }

    #[test]
    fn aliases_of_a_small_file_cannot_make_millions_of_copies() {
        let nested = (1..9).map(|level| {
            let copies = vec![format!("*a{}", level - 1); 9].join(", ");
            format!("a{level}: &a{level} [{copies}]\n")
        });
        let bomb = format!("a0: &a0 [x]\n{}", nested.collect::<String>());
        let error = read::<Value>(&bomb).unwrap_err();
        let told = in_words(&error);
        assert!(
            told.contains("the aliases of the file copy more than 10"),
            "{told}"
        );
        assert!(error.location().is_some());
    }

    #[test]
    fn an_anchor_may_be_used_by_each_of_many_values() {
        let text = format!("- &a {{x: 1}}\n{}", "- {<<: *a, y: *a}\n".repeat(20_000));
        let read: Vec<Value> = read(&text).unwrap();
        assert_eq!(read.len(), 20_001);
        assert_eq!(read[20_000], serde_json::json!({"x": 1, "y": {"x": 1}}));
    }
}
