//! Rules against habits that are never right.

use crate::{
    nothing,
    sources::{self, Breach, Source},
};

/// Largest number of lines of a file without its tests. A longer file must be split into files with
/// separate purposes.
const LINES_MAX: usize = 600;

const COLUMNS_MAX: usize = 100;

/// Names that do not tell what a thing does.
const EMPTY_NOUNS: &[&str] = &[
    "Manager",
    "Service",
    "Helper",
    "Util",
    "Utils",
    "Processor",
    "Wrapper",
    "Handler",
];

/// Files and folders of the host that may read the time or sleep, each with the reason.
const CLOCKS: &[(&str, &str)] = &[
    ("host/src/clock.rs", "the clock itself"),
    (
        "host/src/plugin/epoch.rs",
        "a thread outside the runtime ticks, because a guest can block the runtime",
    ),
    (
        "host/src/supervise/",
        "a separate process, which enforces deadlines without the host",
    ),
    (
        "host/src/api/client/",
        "runs in the caller's process, not in a host",
    ),
    (
        "host/src/api/cli/",
        "runs in the caller's process, not in a host",
    ),
];

/// Files and folders of the host that may read the environment, each with the reason.
const ENVIRONMENTS: &[(&str, &str)] = &[
    ("host/src/config/", "the configuration itself"),
    ("host/src/main.rs", "passes the arguments on"),
    ("host/src/lib.rs", "passes the arguments on"),
    (
        "host/src/api/cli/",
        "the caller's environment becomes the task's",
    ),
    (
        "host/src/api/client/",
        "the caller's environment selects the host",
    ),
    (
        "host/src/api/mcp/",
        "the environment of `claudine mcp` becomes the task's",
    ),
    (
        "host/src/supervise/",
        "a separate process, which drops the environment that it was started with",
    ),
];

/// Files that may sleep in tests, because they sleep only while they wait for a condition with a
/// deadline.
const PATIENT: &[&str] = &["tests/src/wait.rs"];

#[test]
fn every_file_begins_with_its_purpose() {
    let missing = |source: &Source| !source.text.trim_start().starts_with("//!");
    let breaches: Vec<_> = sources::all()
        .iter()
        .filter(|source| missing(source))
        .map(|source| source.breach(0, "no `//!` at its head"))
        .collect();
    nothing("a file must begin with its purpose", &breaches);
}

#[test]
fn no_file_has_more_than_600_lines_without_its_tests() {
    let sources = sources::all();
    let long = sources.iter().filter(|source| source.length() > LINES_MAX);
    let breaches: Vec<_> = long
        .map(|source| source.breach(0, format!("{} lines without its tests", source.length())))
        .collect();
    nothing(
        "a file must have at most 600 lines without its tests",
        &breaches,
    );
}

/// Table rows, addresses and code in examples may be longer.
#[test]
fn comments_fit_into_a_hundred_columns() {
    let mut breaches = Vec::new();
    for (file, text) in sources::texts(&["rs"]) {
        for (line, text) in (1..).zip(text.lines()) {
            let comment = text.trim_start();
            let may_be_long = ["|", "://", "//!         "]
                .iter()
                .any(|piece| comment.contains(piece));
            if comment.starts_with("//") && !may_be_long {
                breaches.extend(too_wide(&file, line, text));
            }
        }
    }
    nothing("a comment must fit into 100 columns", &breaches);
}

/// Table rows and code blocks may be wider.
#[test]
fn documentation_fits_into_a_hundred_columns() {
    let mut breaches = Vec::new();
    for (file, text) in sources::texts(&["md", "wit"]) {
        let mut is_code = false;
        for (line, text) in (1..).zip(text.lines()) {
            let start = text.trim_start();
            is_code ^= start.starts_with("```");
            if !is_code && !start.starts_with('|') {
                breaches.extend(too_wide(&file, line, text));
            }
        }
    }
    nothing("a line must fit into 100 columns", &breaches);
}

fn too_wide(file: &str, line: usize, text: &str) -> Option<Breach> {
    let columns = text.chars().count();
    (columns > COLUMNS_MAX).then(|| Breach {
        file: file.to_owned(),
        line,
        what: format!("{columns} columns"),
    })
}

#[test]
fn names_of_types_do_not_end_with_an_empty_noun() {
    let mut breaches = Vec::new();
    for source in sources::all() {
        for kind in ["struct ", "trait ", "enum "] {
            for at in source.code.match_indices(kind).map(|(at, _)| at) {
                let name: String = source.code[at + kind.len()..]
                    .chars()
                    .take_while(char::is_ascii_alphanumeric)
                    .collect();
                if EMPTY_NOUNS.iter().any(|noun| name.ends_with(noun)) {
                    breaches.push(source.breach(at, format!("`{name}`")));
                }
            }
        }
    }
    nothing("a name must tell what the thing does", &breaches);
}

#[test]
fn no_stubs_and_no_skipped_tests_exist() {
    let mut breaches = Vec::new();
    for source in sources::all() {
        for piece in ["todo!(", "unimplemented!(", "#[ignore", "dbg!("] {
            breaches.extend(
                source
                    .code
                    .match_indices(piece)
                    .map(|(at, _)| source.breach(at, piece)),
            );
        }
    }
    nothing("no stubs and no skipped tests are allowed", &breaches);
}

#[test]
fn only_listed_files_read_the_time() {
    let pieces = [
        "Instant::now(",
        "SystemTime::now(",
        "Timestamp::now(",
        "thread::sleep(",
        "time::sleep(",
        "sleep_until(",
        "clock_gettime(",
    ];
    let breaches = outside(&sources::below("host/src/"), &pieces, CLOCKS);
    nothing(
        "only the files listed in CLOCKS may read the time or sleep",
        &breaches,
    );
}

#[test]
fn only_listed_files_read_the_environment() {
    let pieces = [
        "env::var(",
        "env::var_os(",
        "env::vars(",
        "env::vars_os(",
        "env::set_var(",
        "env::remove_var(",
    ];
    let breaches = outside(&sources::below("host/src/"), &pieces, ENVIRONMENTS);
    nothing(
        "only the files listed in ENVIRONMENTS may read the environment",
        &breaches,
    );
}

#[test]
fn tests_wait_for_conditions_and_never_sleep() {
    let mut breaches = Vec::new();
    for source in sources::all() {
        for piece in ["thread::sleep(", "time::sleep(", "clock::sleep("] {
            let places = source.code.match_indices(piece).map(|(at, _)| at);
            let places =
                places.filter(|at| source.is_test(*at) && !PATIENT.contains(&source.path.as_str()));
            breaches.extend(places.map(|at| source.breach(at, piece)));
        }
    }
    nothing(
        "a test must wait for a condition, never for a time",
        &breaches,
    );
}

fn outside(sources: &[Source], pieces: &[&str], homes: &[(&str, &str)]) -> Vec<Breach> {
    let mut breaches = Vec::new();
    for source in sources
        .iter()
        .filter(|source| !homes.iter().any(|(home, _)| source.path.starts_with(home)))
    {
        for piece in pieces {
            breaches.extend(source.places(piece).map(|at| source.breach(at, *piece)));
        }
    }
    breaches
}
