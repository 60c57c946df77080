//! `graph`: the same graph in every format, before and after a crash.

use std::fs;

use claudine_tests::{TestHost, short_id};
use serde_json::Value;

const RELEASE: &str = "\
- {name: fetch, script: 'true'}
- {name: build, script: 'until test -e go; do sleep 0.1; done', dependencies: [fetch]}
- {name: lint, script: 'exit 3', dependencies: [fetch]}
- {name: publish, script: 'true', dependencies: [build]}
- {name: 'say \"hi\" & <b>', script: 'true', dependencies: [lint]}
- {name: clean up, script: 'true', dependencies: [{task: build, condition: completed}, {task: lint, condition: any}]}
";

/// Submits the graph of a release, whose `build` runs until there is a file `go`. Returns the ids
/// when `build` runs and the tasks that do not depend on it have ended.
fn release(host: &TestHost) -> Vec<String> {
    let submitted = host.run_with(["submit", "-"], RELEASE.as_bytes());
    let ids: Vec<String> = submitted.ok().text().lines().map(str::to_owned).collect();
    host.finished(&ids[4]);
    host.live(&ids[1]);
    ids
}

/// The name of each task, its outcome (or its state if it has not ended), and whether it is on the
/// critical path.
fn nodes(graph: &Value) -> Vec<(String, String, bool)> {
    let nodes = graph["nodes"].as_array().unwrap().iter();
    nodes
        .map(|node| {
            let word = if node["outcome"].is_null() {
                &node["state"]
            } else {
                &node["outcome"]
            };
            (
                node["name"].as_str().unwrap().to_owned(),
                word.as_str().unwrap().to_owned(),
                node["critical"].as_bool().unwrap(),
            )
        })
        .collect()
}

#[test]
fn every_format_shows_the_same_graph() {
    let host = TestHost::new();
    let ids = release(&host);
    let graph = host.json(["graph", "publish"]);
    let expected = [
        ("fetch", "succeeded", true),
        ("build", "running", true),
        ("lint", "failed", false),
        ("publish", "blocked", true),
        ("say \"hi\" & <b>", "upstream_failed", false),
        ("clean up", "blocked", false),
    ];
    let expected = expected.map(|(name, word, on)| (name.to_owned(), word.to_owned(), on));
    assert_eq!(nodes(&graph), expected, "{graph:#}");
    assert_eq!(graph["edges"].as_array().unwrap().len(), 6);
    let text = host.text(["graph", "publish"]);
    for (id, (name, word, _)) in ids.iter().zip(&expected) {
        let line = text
            .lines()
            .find(|line| line.contains(short_id(id)))
            .unwrap();
        assert!(line.contains(name) && line.contains(word), "{line}");
    }
    assert!(text.contains("[any] "), "{text}");
    assert!(!text.contains('\x1b'), "colours in a pipe");
    let dot = host.text(["graph", "publish", "--format", "dot"]);
    assert!(
        dot.starts_with("digraph ") && dot.contains("say \\\"hi\\\" &amp; <b>"),
        "{dot}"
    );
    let mermaid = host.text(["graph", "publish", "--format", "mermaid"]);
    assert!(mermaid.starts_with("flowchart LR\n"), "{mermaid}");
    assert!(mermaid.contains("-.->|\"completed\"|"), "{mermaid}");
    let svg = host.text(["graph", "publish", "--format", "svg"]);
    assert!(
        svg.starts_with("<svg ") && svg.contains("say &quot;hi&quot; &amp; &lt;b&gt;"),
        "{svg}"
    );
    // The tasks and edges are the same after a crash of the host.
    host.kill_host();
    let after = host.json(["graph", "publish"]);
    assert_eq!(nodes(&after), nodes(&graph));
    assert_eq!(after["edges"], graph["edges"]);
    fs::write(host.work().join("go"), "").unwrap();
    host.finished(&ids[3]);
    host.finished(&ids[5]);
}

#[test]
fn graph_shows_the_tasks_connected_to_a_given_task_or_all_unfinished_tasks() {
    let host = TestHost::new();
    let ids = release(&host);
    let alone = host.script("true");
    host.finished(&alone);
    let count = |arguments: &[&str]| {
        let words = ["graph"].iter().chain(arguments);
        host.json(words)["nodes"].as_array().unwrap().len()
    };
    assert_eq!(count(&[&ids[4]]), 6);
    assert_eq!(count(&[&alone]), 1);
    assert_eq!(count(&[&alone, "lint", "build"]), 7);
    // Only unfinished tasks and their dependencies are shown. Two tasks are left out: the separate
    // task, and the finished task that failed because of `lint`.
    assert_eq!(count(&[]), 5);
    assert_eq!(count(&["--all"]), 5);
    fs::write(host.work().join("go"), "").unwrap();
    host.finished(&ids[3]);
    host.finished(&ids[5]);
    assert_eq!(count(&[]), 0);
    host.run(["graph"])
        .ok()
        .says(&["no unfinished tasks; `claudine graph ID` shows"]);
}

#[test]
fn expected_time_of_a_task_is_the_median_of_earlier_runs_of_its_name() {
    let host = TestHost::new();
    let run = |script: &str| {
        let id = host.text(["run", "--name", "nightly", "--script", script]);
        host.finished(&id);
        host.json(["graph", &id])["nodes"][0].clone()
    };
    let first = run("sleep 0.3");
    let took = first["elapsed_ms"].as_u64().unwrap();
    assert!(took >= 300, "{first:#}");
    // The median of two runs is their mean. The second run takes less time, so the mean is between
    // half of the first run's time and all of it.
    let second = run("true");
    let expected = second["expected_ms"].as_u64().unwrap();
    assert!(expected >= 150 && expected <= took, "{second:#}");
}

#[test]
fn invalid_arguments_are_refused() {
    let host = TestHost::new();
    let check = |arguments: &[&str], code: i32, why: &str| {
        let ran = host.run(["graph"].iter().chain(arguments)).code(code);
        assert!(ran.complaint().contains(why), "{}", ran.complaint());
    };
    check(&["nobody"], 125, "no task matches `nobody`");
    check(&["nightly", "--all"], 2, "cannot be used with");
    check(
        &["--format", "png"],
        2,
        "possible values: text, dot, mermaid, svg, json",
    );
}
