//! `host/ARCHITECTURE.md` is short enough to read, and the files that it names exist.

use std::{ffi::OsStr, path::Path};

use crate::{
    nothing,
    sources::{self, Breach},
};

const ARCHITECTURE: &str = "host/ARCHITECTURE.md";

const LINES_MAX: usize = 240;

/// Beginnings of named paths, each with the directory that replaces it. All other named paths are
/// below the host's sources.
const PLACES: &[(&str, &str)] = &[
    ("domain/", "host/domain/src/"),
    ("plugins/", "plugins/"),
    ("tests/", "tests/"),
];
const ELSE: &str = "host/src/";

#[test]
fn architecture_is_short_enough() {
    let lines = text().lines().count();
    assert!(lines <= LINES_MAX, "{ARCHITECTURE} has {lines} lines");
}

#[test]
fn files_named_in_the_architecture_exist() {
    let root = sources::root();
    let text = text();
    let mut named = 0;
    let mut breaches = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        for path in files(line) {
            named += 1;
            if !root.join(&path).is_file() {
                breaches.push(breach(number, format!("{path} does not exist")));
            }
        }
    }
    assert!(named > 30, "only {named} files are named");
    nothing("named files must exist", &breaches);
}

fn text() -> String {
    std::fs::read_to_string(sources::root().join(ARCHITECTURE)).unwrap()
}

fn breach(line: usize, what: String) -> Breach {
    Breach {
        file: ARCHITECTURE.to_owned(),
        line,
        what,
    }
}

/// Rust files that a line names in backquotes, from the root of the checkout. Backquotes come in
/// pairs on each line.
fn files(line: &str) -> impl Iterator<Item = String> {
    let quoted = line.split('`').skip(1).step_by(2);
    let is_rust = |name: &&str| Path::new(name).extension() == Some(OsStr::new("rs"));
    quoted.filter(is_rust).map(|name| {
        let place = PLACES.iter().find(|(start, _)| name.starts_with(start));
        match place {
            Some((start, dir)) => format!("{dir}{}", &name[start.len()..]),
            None => format!("{ELSE}{name}"),
        }
    })
}

#[test]
fn file_names_are_parsed_from_a_line() {
    let check = |line: &str, expected: &[&str]| {
        let found: Vec<_> = files(line).collect();
        assert_eq!(found, expected, "{line}");
    };
    check(
        "`domain/step/place.rs` and `serve.rs`, not `place`",
        &["host/domain/src/step/place.rs", "host/src/serve.rs"],
    );
    check("a.rs, `plugins/a/src/lib.rs`", &["plugins/a/src/lib.rs"]);
}
