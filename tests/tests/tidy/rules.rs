//! The table in `tests/RULES.md` names the tests of each rule: checks that these tests exist.

use std::collections::BTreeSet;

use crate::{
    nothing,
    scan::words,
    sources::{self, Breach, Source},
};

const RULES: &str = "tests/RULES.md";

/// Directories by the first word of a test's name. Other names begin with a module of the host.
const PLACES: &[(&str, &str)] = &[
    ("domain", "host/domain/src/tests/"),
    ("it", "tests/tests/it/"),
    ("claude", "tests/tests/claude/"),
    ("claude_plugin", "plugins/claude/src/"),
    ("shell_plugin", "plugins/shell/src/"),
    ("sdk", "plugin-sdk/src/"),
];

/// A test that the table names.
#[derive(Debug, PartialEq, Eq)]
struct Named {
    module: String,
    test: String,
}

#[test]
fn tests_named_in_the_table_of_rules_exist() {
    let text = std::fs::read_to_string(sources::root().join(RULES)).unwrap();
    let sources = sources::all();
    let mut breaches = Vec::new();
    let breach = |line: usize, what: String| Breach {
        file: RULES.to_owned(),
        line: line + 1,
        what,
    };
    let mut rows = 0;
    for (line, row) in rows_of(&text) {
        rows += 1;
        let named = names(row);
        if named.is_empty() && !row.starts_with("| Open") {
            breaches.push(breach(line, "a rule without a test".to_owned()));
        }
        for Named { module, test } in named {
            let files = files_of(&module);
            let found = sources
                .iter()
                .any(|source| files.contains(&source.path) && has_test(source, &test));
            if !found {
                breaches.push(breach(
                    line,
                    format!("no test `{test}` in any of {files:?}"),
                ));
            }
        }
    }
    assert!(rows > 40, "the table was not found: {rows} rows");
    nothing("each rule must have an existing test", &breaches);
}

/// Rows of the table, with their line numbers from 0.
fn rows_of(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().enumerate();
    lines.filter(|(_, line)| line.starts_with("| ") && !line.starts_with("| rule |"))
}

/// Names in backquotes in the last column: `module::test` or `module::{test, test}`.
fn names(row: &str) -> Vec<Named> {
    let cell = row
        .trim_end_matches([' ', '|'])
        .rsplit("| ")
        .next()
        .unwrap_or("");
    let mut found = Vec::new();
    for quoted in cell.split('`').skip(1).step_by(2) {
        let Some((module, tests)) = quoted.rsplit_once("::") else {
            continue;
        };
        let tests = tests.trim_matches(['{', '}']).split(", ");
        found.extend(tests.map(|test| Named {
            module: module.to_owned(),
            test: test.to_owned(),
        }));
    }
    found
}

/// Files that may contain the tests of a module.
fn files_of(module: &str) -> BTreeSet<String> {
    let (first, rest) = module.split_once("::").unwrap_or((module, ""));
    let place = PLACES.iter().find(|(name, _)| *name == first);
    let path = match place {
        Some((_, dir)) => format!("{dir}{}", rest.replace("::", "/")),
        None => format!("host/src/{}", module.replace("::", "/")),
    };
    [format!("{path}.rs"), format!("{path}/mod.rs")].into()
}

/// Whether the file has this test: a function of that name after `fn`, with a test attribute (or a
/// macro that makes tests) above.
fn has_test(source: &Source, test: &str) -> bool {
    let named: Vec<usize> = words(&source.code)
        .filter(|(_, word)| *word == test)
        .map(|(at, _)| at)
        .collect();
    named.into_iter().any(|at| {
        let before = source.code[..at].trim_end();
        let Some(before) = before.strip_suffix("fn") else {
            return false;
        };
        let head = before.rsplit(['}', ';', '{']).next().unwrap_or("");
        head.contains("test]") || head.contains("test(")
    })
}

#[test]
fn test_names_are_parsed_from_a_row() {
    let check = |row: &str, expected: &[(&str, &str)]| {
        let found = names(row);
        let found: Vec<_> = found
            .iter()
            .map(|named| (named.module.as_str(), named.test.as_str()))
            .collect();
        assert_eq!(found, expected, "{row}");
    };
    check("| a rule | `it::run::one` |", &[("it::run", "one")]);
    check(
        "| of `argv` | `a::b::{one, two}`, `c::three` |",
        &[("a::b", "one"), ("a::b", "two"), ("c", "three")],
    );
    check("| Open: much | |", &[]);
}
