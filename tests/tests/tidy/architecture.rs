//! `host/ARCHITECTURE.md` can be read whole, and the files that it names exist.

use std::{ffi::OsStr, path::Path};

use crate::{
    nothing,
    sources::{self, Breach},
};

const ARCHITECTURE: &str = "host/ARCHITECTURE.md";

const LINES_MAX: usize = 240;
/// Of prose; a row of a table is one line, however long it is.
const COLUMNS_MAX: usize = 100;

/// Where the path of a file is looked for that begins so; all others are below the host's sources.
const PLACES: &[(&str, &str)] = &[
    ("domain/", "host/domain/src/"),
    ("plugins/", "plugins/"),
    ("tests/", "tests/"),
];
const ELSE: &str = "host/src/";

#[test]
fn it_can_be_read_whole() {
    let text = text();
    let lines = text.lines().count();
    assert!(lines <= LINES_MAX, "{ARCHITECTURE} has {lines} lines");
    let is_long = |line: &str| !line.starts_with('|') && line.chars().count() > COLUMNS_MAX;
    let breaches: Vec<_> = (1..)
        .zip(text.lines())
        .filter(|&(_, line)| is_long(line))
        .map(|(number, line)| breach(number, format!("{} columns", line.chars().count())))
        .collect();
    nothing("prose has at most 100 columns", &breaches);
}

#[test]
fn the_files_that_it_names_are_there() {
    let root = sources::root();
    let text = text();
    let mut named = 0;
    let mut breaches = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        for path in files(line) {
            named += 1;
            if !root.join(&path).is_file() {
                breaches.push(breach(number, format!("there is no {path}")));
            }
        }
    }
    assert!(named > 30, "only {named} files are named");
    nothing("a file that is named exists", &breaches);
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

/// The Rust files that a line names in backquotes, from the root of the checkout. Backquotes stand
/// in pairs on each line.
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
fn files_are_read_from_a_line() {
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
