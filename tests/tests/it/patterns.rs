//! `examples/patterns/`: checks that the tasks of each pattern end as the pattern's header says.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use claudine_tests::{TestHost, command, wait::PATIENCE};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/patterns")
}

/// Finds the lines of a pattern that begin with `# `, this word and a colon; returns the rest of
/// each of these lines.
fn notes<'a>(pattern: &'a str, word: &str) -> Vec<&'a str> {
    let word = format!("# {word}: ");
    let lines = pattern.lines();
    lines.filter_map(|line| line.strip_prefix(&word)).collect()
}

/// Runs the commands that the header lists after this word.
fn run_noted(host: &TestHost, pattern: &str, word: &str) {
    for line in notes(pattern, word) {
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(words[0], "claudine", "{line}");
        host.run(&words[1..]).check();
    }
}

fn check(name: &str) {
    let host = TestHost::new();
    let path = folder().join(name);
    let pattern = fs::read_to_string(&path).unwrap();
    run_noted(&host, &pattern, "Before");
    let ids = if pattern.starts_with("#!") {
        let written = command::run(host.other(&path), b"", PATIENCE).ok();
        host.run_with(["submit", "-"], &written.stdout).ok().text()
    } else {
        host.text(["submit".as_ref(), path.as_os_str()])
    };
    run_noted(&host, &pattern, "Then");
    let mut ended = BTreeMap::new();
    for id in ids.lines() {
        let task = host.finished(id);
        let text = |field: &str| task[field].as_str().unwrap().to_owned();
        ended.insert(text("name"), text("outcome"));
    }
    let ends = notes(&pattern, "Ends").concat();
    let expected: BTreeMap<String, String> = ends
        .split(", ")
        .map(|end| {
            let (name, outcome) = end.split_once(' ').unwrap();
            (name.to_owned(), outcome.to_owned())
        })
        .collect();
    assert_eq!(ended, expected, "{name}");
}

macro_rules! patterns {
    ($($test:ident: $file:literal),+ $(,)?) => {
        $(
            #[test]
            fn $test() {
                check($file);
            }
        )+

        /// The tested patterns. The pattern with an agent is tested in `tests/tests/claude`.
        const TESTED: &[&str] = &[$($file),+, "review.yaml"];
    };
}

patterns! {
    chain: "chain.yaml",
    fan_out: "fan-out.yaml",
    fan_in: "fan-in.yaml",
    diamond: "diamond.yaml",
    either_or: "either-or.yaml",
    cleanup: "cleanup.yaml",
    gate: "gate.yaml",
    pipeline: "pipeline.yaml",
    retry_until: "retry-until.yaml",
    group_limit: "group-limit.yaml",
    priority_lane: "priority-lane.yaml",
    branches: "branches.yaml",
    time_limit: "time-limit.yaml",
    delayed: "delayed.yaml",
    matrix: "matrix.sh",
}

#[test]
fn every_pattern_has_a_test_and_is_listed_in_the_readme() {
    let readme = fs::read_to_string(folder().join("README.md")).unwrap();
    let mut found = 0;
    for entry in fs::read_dir(folder()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name != "README.md" {
            found += 1;
            assert!(TESTED.contains(&&*name), "{name} has no test");
            assert!(
                readme.contains(&format!("]({name})")),
                "{name} is not listed"
            );
        }
    }
    assert_eq!(found, TESTED.len());
}
