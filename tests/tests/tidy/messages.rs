//! Records the texts for people in the sources of the host and of the built-in plugins in a
//! snapshot, so that each new or changed message is seen in a review. `INSTA_UPDATE=always`
//! rewrites the snapshot.
//!
//! A text for people is recognised by its words: a literal with a word next to another word or to a
//! value. Texts in attributes are left out, except the messages of errors, because all other texts
//! in attributes are in the snapshots of the help, or are not for users.

use std::ops::Range;

use crate::{
    scan::strings,
    sources::{self, Source},
};

const PLACES: &[&str] = &["host/src/", "host/domain/src/", "plugins/"];

/// First words of literals that only the database reads.
const SQL: &[&str] = &[
    "AND", "CREATE", "DELETE", "INSERT", "ORDER", "PRAGMA", "REPLACE", "SELECT", "UPDATE", "WHERE",
    "WITH",
];

#[test]
fn messages_are_as_recorded() {
    let mut all = String::new();
    for source in sources::all() {
        if !PLACES.iter().any(|place| source.path.starts_with(place)) {
            continue;
        }
        let messages = messages(&source);
        if !messages.is_empty() {
            all.extend(["==== ", &source.path, "\n", &messages.join("\n"), "\n"]);
        }
    }
    insta::assert_snapshot!("messages", all);
}

/// The texts for people in a source, in their order.
fn messages(source: &Source) -> Vec<String> {
    let attributes = attributes(&source.code);
    let is_in_attribute = |at: usize| attributes.iter().any(|range| range.contains(&at));
    strings(&source.text)
        .filter(|(at, text)| !source.is_test(*at) && !is_in_attribute(*at) && is_prose(text))
        .map(|(_, text)| text)
        .collect()
}

/// Offsets of all attributes except those with the message of an error.
fn attributes(code: &str) -> Vec<Range<usize>> {
    let starts = code.match_indices('#').filter_map(|(at, _)| {
        let rest = code[at + 1..].trim_start_matches('!');
        (rest.starts_with('[') && !rest.starts_with("[error(")).then_some(at)
    });
    starts
        .map(|start| {
            let mut depth = 0_usize;
            let end = code[start..].find(|c: char| {
                match c {
                    '[' => depth += 1,
                    ']' => depth -= 1,
                    _ => {}
                }
                c == ']' && depth == 0
            });
            start..end.map_or(code.len(), |length| start + length)
        })
        .collect()
}

/// Whether the text has a word next to another word or to a value.
fn is_prose(text: &str) -> bool {
    let words: Vec<&str> = text.split_whitespace().collect();
    let is_sql = words.first().is_some_and(|first| SQL.contains(first));
    let is_value = |word: &str| word.contains('{');
    let is_phrase = |pair: &[&str]| {
        pair.iter().any(|word| is_word(word))
            && pair.iter().all(|word| is_word(word) || is_value(word))
    };
    !is_sql && words.windows(2).any(is_phrase)
}

/// Whether the text is a word of a sentence, with or without punctuation.
fn is_word(word: &str) -> bool {
    let word = word.trim_matches(|c: char| ",.:;!?()`".contains(c));
    let is_letter = |c: char| c.is_ascii_lowercase() || c == '-' || c == '\'';
    let mut letters = word.chars();
    let is_long = word.len() > 1 && letters.next().is_some_and(char::is_alphabetic);
    word == "a" || (is_long && letters.all(is_letter))
}

#[test]
fn texts_for_people_are_told_from_other_literals() {
    let check = |text: &str, expected: bool| assert_eq!(is_prose(text), expected, "{text:?}");
    check("no tasks", true);
    check("`{name}` is missing", true);
    check("until {} ago", true);
    check("Set up", true);
    check("task", false);
    check("{} {}: {error}", false);
    check(r#"{"argv": ["true"]}"#, false);
    check("application/json; charset=utf-8", false);
    check("SELECT name, body FROM task", false);
    check("<g class=\\\"{}\\\">", false);
    check("%H:%M %d", false);
}
