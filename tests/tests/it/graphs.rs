//! Tasks that wait for other tasks, for a group, for a person or for a time.

use std::{collections::BTreeMap, fmt::Write as _, fs};

use claudine_tests::{TestHost, mcp::Client, process::kill_9, wait_for};
use serde_json::{Value, json};

const PIPELINE: &str = r"
- {name: test,   script: 'test -e broken && exit 3 || echo tested'}
- {name: deploy, script: 'echo deployed >> deployed', dependencies: [test]}
- {name: smoke,  script: 'echo smoke', depends-on: [deploy]}
- {name: notify, script: 'echo told', dependencies: [{task: smoke, condition: any}]}
";

/// Submits a graph; returns the ids by name.
fn submit(host: &TestHost, yaml: &str) -> BTreeMap<String, String> {
    let ids = host.run_with(["submit", "-"], yaml.as_bytes()).ok().text();
    let ids = ids.lines().map(|id| (name(host, id), id.to_owned()));
    ids.collect()
}

fn name(host: &TestHost, id: &str) -> String {
    host.status(id)["name"].as_str().unwrap().to_owned()
}

fn outcomes(host: &TestHost, ids: &BTreeMap<String, String>) -> Vec<String> {
    let outcome = |id| {
        let outcome = host.finished(id)["outcome"].clone();
        outcome.as_str().unwrap().to_owned()
    };
    ids.iter()
        .map(|(name, id)| format!("{name} {}", outcome(id)))
        .collect()
}

fn why(host: &TestHost, task: &str) -> String {
    host.json(["why", task])["reasons"].to_string()
}

#[test]
fn failed_task_stops_its_dependants_until_a_retry_revives_them() {
    let host = TestHost::new();
    fs::write(host.work().join("broken"), "").unwrap();
    let ids = submit(&host, PIPELINE);
    assert_eq!(
        outcomes(&host, &ids),
        [
            "deploy upstream_failed",
            "notify succeeded",
            "smoke upstream_failed",
            "test failed"
        ]
    );
    let smoke = host.status("smoke");
    assert_eq!(smoke["culprit"], ids["test"].as_str());
    assert!(why(&host, "smoke").contains("it could not run because of test ("));
    assert!(!host.work().join("deployed").exists());

    fs::remove_file(host.work().join("broken")).unwrap();
    let retried = host.json(["retry", "test"]);
    assert_eq!(retried["tasks"][0]["downstream"], 2);
    let again = outcomes(&host, &ids);
    assert!(
        again.iter().all(|line| line.ends_with("succeeded")),
        "{again:?}"
    );
    // A dependant that has succeeded runs again only after a retry with `--downstream`.
    assert_eq!(
        host.status("notify")["attempts"].as_array().unwrap().len(),
        1
    );
    host.run(["retry", "--downstream", "deploy"]).check();
    outcomes(&host, &ids);
    let deployed = fs::read_to_string(host.work().join("deployed")).unwrap();
    assert_eq!(deployed.lines().count(), 2);
    assert_eq!(
        host.status("notify")["attempts"].as_array().unwrap().len(),
        2
    );
}

const GATE: &str = r"
- {name: test, script: 'test -e mended'}
- {name: approve, argv: ['true'], hold: true, dependencies: [test]}
- {name: deploy, script: 'touch deployed', dependencies: [approve]}
";

/// A gate, which is a task submitted with `hold`, starts only after a release, whatever happens to
/// the tasks that it depends on.
#[test]
fn gate_stays_closed_when_a_failed_dependency_runs_again() {
    let host = TestHost::new();
    let ids = submit(&host, GATE);
    assert_eq!(host.finished("deploy")["outcome"], "upstream_failed");
    assert!(why(&host, "approve").contains("held by"));
    fs::write(host.work().join("mended"), "").unwrap();
    host.run(["retry", "test"]).check();
    assert_eq!(host.finished("test")["outcome"], "succeeded");
    assert_eq!(host.status("approve")["state"], "held");
    // A retry of the gate itself does not open the gate either.
    host.run(["cancel", "approve"]).check();
    host.run(["retry", "approve"])
        .ok()
        .says(&["is held", "claudine release"]);
    assert_eq!(host.status("approve")["state"], "held");
    assert!(!host.work().join("deployed").exists());
    host.run(["release", "approve"]).check();
    assert!(
        outcomes(&host, &ids)
            .iter()
            .all(|line| line.ends_with("succeeded"))
    );
}

#[test]
fn dependencies_can_be_given_to_delegate_and_run() {
    let host = TestHost::new();
    let failed = host.script("exit 1");
    host.finished(&failed);
    let check = |option: &str, expected: &str| {
        let id = host.text(["run", option, &failed, "--", "true"]);
        assert_eq!(host.finished(&id)["outcome"], expected, "{option}");
    };
    check("--depends-on", "succeeded");
    check("--depends-on-any", "succeeded");
    check("--depends-on-success", "upstream_failed");
    let first = host.text(["run", "--name", "first", "--hold", "--", "true"]);
    let both = host.text([
        "delegate",
        "--executor",
        "shell",
        "echo after",
        "--depends-on",
        &first,
        &failed,
    ]);
    let edges = host.status(&both)["dependencies"].clone();
    let tasks: Vec<&str> = edges
        .as_array()
        .unwrap()
        .iter()
        .map(|edge| edge["task"].as_str().unwrap())
        .collect();
    assert_eq!(tasks, [failed.as_str(), first.as_str()]);
    assert_eq!(edges[0]["condition"], "completed");
    assert!(why(&host, &both).contains("waiting for first ("));
    host.run(["release", "first"]).check();
    assert_eq!(host.finished(&both)["outcome"], "succeeded");
}

#[test]
fn waiting_tasks_continue_after_a_kill_of_the_host() {
    let host = TestHost::new();
    let mut chain = String::from("- {name: t0, script: 'until test -e go; do sleep 0.1; done'}\n");
    for number in 1..20 {
        let before = number - 1;
        writeln!(
            chain,
            "- {{name: t{number}, script: 'echo {number} >> order', dependencies: [t{before}]}}"
        )
        .unwrap();
    }
    let ids = submit(&host, &chain);
    host.live(&ids["t0"]);
    let look = || -> Vec<(String, Value, Value)> {
        let look = |id: &String| {
            let task = host.status(id);
            (
                id.clone(),
                task["state"].clone(),
                task["dependencies"].clone(),
            )
        };
        ids.values().map(look).collect()
    };
    let before = look();
    kill_9(host.host_pid().unwrap());
    assert_eq!(before, look());
    fs::write(host.work().join("go"), "").unwrap();
    // The chain goes on while hosts die.
    for _ in 0..3 {
        host.run(["list"]).check();
        if let Some(pid) = host.host_pid() {
            kill_9(pid);
        }
    }
    assert_eq!(host.finished(&ids["t19"])["outcome"], "succeeded");
    let order = fs::read_to_string(host.work().join("order")).unwrap();
    let expected: Vec<String> = (1..20).map(|number| number.to_string()).collect();
    assert_eq!(order.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn group_limit_can_change_while_tasks_run() {
    let host = TestHost::builder().slots(8).build();
    host.run(["group", "set", "g", "--limit", "1"]).check();
    let sleeper = ["run", "-g", "g", "--", "sleep", "600"];
    let [first, second, third] = [(); 3].map(|()| host.text(sleeper));
    host.live(&first);
    assert!(why(&host, &second).contains("group `g` is full (1 of 1)"));
    host.run(["group", "set", "g", "--limit", "2"]).check();
    host.live(&second);
    host.run(["group", "pause", "g"]).check();
    host.run(["group", "set", "g", "--no-limit"]).check();
    assert!(why(&host, &third).contains("group `g` is paused"));
    let groups = host.json(["group", "list"]);
    let counted = ["name", "paused", "running", "queued", "limit"].map(|field| &groups[0][field]);
    assert_eq!(json!(counted), json!(["g", true, 2, 1, null]));
    assert_eq!(groups[0]["tasks"][2]["id"], third.as_str(), "{groups:#}");
    host.run(["group", "unpause", "g"]).check();
    host.live(&third);
    for id in [first, second, third] {
        host.run(["cancel", &id]).check();
    }
}

#[test]
fn graph_can_be_held_and_released() {
    let host = TestHost::new();
    let ids = submit(
        &host,
        "- {name: a, script: 'true', hold: true}\n- {name: b, script: 'true', dependencies: [a]}\n- {name: c, script: 'true', dependencies: [b]}\n",
    );
    assert_eq!(host.status("a")["state"], "held");
    assert_eq!(host.status("a")["held_by"], "owner");
    assert!(why(&host, "a").contains("held by owner"));
    let held = host.json(["hold", "--graph", "b", "--yes"]);
    assert_eq!(held["done"], 2);
    assert_eq!(host.status("c")["state"], "held");
    let released = host.json(["release", "--graph", "c", "--yes"]);
    assert_eq!(released["done"], 3);
    let outcomes = outcomes(&host, &ids);
    assert_eq!(outcomes, ["a succeeded", "b succeeded", "c succeeded"]);
}

#[test]
fn tasks_wait_for_their_start_time_and_time_out_in_the_queue() {
    let host = TestHost::builder().slots(1).build();
    let later = host.text(["run", "--after", "1h", "--", "true"]);
    let task = host.status(&later);
    assert_eq!(task["state"], "waiting");
    assert!(task["until"].as_str().is_some());
    assert!(why(&host, &later).contains("it starts no earlier than"));
    let soon = host.text(["run", "--after", "300ms", "--", "true"]);
    assert_eq!(host.finished(&soon)["outcome"], "succeeded");
    let running = host.text(["run", "--", "sleep", "600"]);
    host.live(&running);
    let impatient = host.text(["run", "--queue-timeout", "1s", "--", "true"]);
    let task = host.finished(&impatient);
    assert_eq!(task["outcome"], "timed_out");
    assert_eq!(
        task["reason"]["message"],
        "the task was ready for longer than its queue timeout"
    );
    assert_eq!(task["attempts"], json!([]));
    host.run(["cancel", &running]).check();
}

#[test]
fn failures_are_retried_until_an_attempt_succeeds_or_no_retry_is_left() {
    let host = TestHost::new();
    let flaky = "echo x >> tries; test $(wc -l < tries) -ge 3";
    let id = host.text([
        "run",
        "--retries",
        "4",
        "--backoff",
        "20ms",
        "--script",
        flaky,
    ]);
    let task = host.finished(&id);
    assert_eq!(task["outcome"], "succeeded");
    let attempts = task["attempts"].as_array().unwrap();
    let outcomes: Vec<&str> = attempts
        .iter()
        .map(|attempt| attempt["outcome"].as_str().unwrap())
        .collect();
    assert_eq!(outcomes, ["failed", "failed", "succeeded"]);
    let hopeless = ["run", "--retries", "1", "--backoff", "20ms", "--", "false"];
    let task = host.finished(&host.text(hopeless));
    assert_eq!(task["outcome"], "failed");
    assert_eq!(
        task["attempts"].as_array().map(Vec::len),
        Some(2),
        "{task:#}"
    );
    let slow = host.text([
        "run",
        "--retries",
        "1",
        "--backoff",
        "20dx1..29d",
        "--",
        "false",
    ]);
    wait_for("the retry to be put off", || {
        (host.status(&slow)["state"] == "waiting").then_some(())
    });
    assert!(why(&host, &slow).contains("attempt 1 failed (exited with code 1); retry at"));
    // A task that waits for its retry can be cancelled, and stays cancelled.
    host.run(["cancel", &slow]).check();
    assert_eq!(host.finished(&slow)["outcome"], "cancelled");
}

#[test]
fn graph_can_be_submitted_over_mcp() {
    let host = TestHost::builder()
        .config("[mcp]\nexecutors = [\"shell\"]\n")
        .build();
    let mut client = Client::connect(&host);
    let tasks = json!([
        {"name": "one", "script": "echo 1 >> order"},
        {"name": "two", "argv": ["sh", "-c", "echo 2 >> order"], "dependsOn": ["one"]},
    ]);
    let answer = client.call("SubmitGraph", json!({ "tasks": tasks }));
    let ids: Vec<&str> = answer["taskIds"]
        .as_array()
        .unwrap()
        .iter()
        .map(|id| id.as_str().unwrap())
        .collect();
    let answer = client.call(
        "DelegateTask",
        json!({"executor": "shell", "prompt": "echo 3 >> order", "dependencies": [{"taskId": ids[1], "condition": "completed"}]}),
    );
    let third = answer["taskId"].as_str().unwrap();
    assert_eq!(host.finished(third)["outcome"], "succeeded");
    let order = fs::read_to_string(host.work().join("order")).unwrap();
    assert_eq!(order, "1\n2\n3\n");
}

/// Each invalid graph is refused with a message that names the fault, and none of its tasks is
/// accepted.
#[test]
fn invalid_graphs_are_refused_as_a_whole() {
    let host = TestHost::new();
    let check = |graph: &str, expected: &str| {
        let ran = host.run_with(["submit", "-"], graph.as_bytes()).code(2);
        assert!(ran.complaint().contains(expected), "{}", ran.complaint());
    };
    check(
        r#"[{"name":"a","argv":["true"],"dependencies":["c"]},{"name":"b","argv":["true"],"dependencies":["a"]},{"name":"c","argv":["true"],"dependencies":["b"]}]"#,
        "dependency cycle: a → c → b → a",
    );
    check(
        r#"[{"name":"a","argv":["true"],"dependencies":["a"]},{"argv":["true"]}]"#,
        "dependency cycle: a → a",
    );
    check(
        r#"[{"name":"a","argv":["true"],"dependencies":["a"]}]"#,
        "dependency cycle: a → a",
    );
    check(
        r#"[{"name":"a","argv":["true"]},{"name":"a","argv":["true"]}]"#,
        "standard input:1:39: two tasks have the name 'a' (see line 1)",
    );
    check(
        r#"[{"argv":["true"],"dependencies":[{"task":"a","condition":"sometimes"}]}]"#,
        "standard input:1:59: `sometimes` is not one of succeeded, completed, any",
    );
    check(
        r#"[{"argv":["true"]},{"name":"x","argv":["true"],"timeout":"0"}]"#,
        "standard input:1:20: the timeout must be from 1 s to 30 days, not 0 ms",
    );
    check("- {argv: [true", "error: standard input:1:");
    check("", "the file has no tasks");
    let many: Vec<String> = (0..100_001)
        .map(|number| format!("task_{number:026}"))
        .collect();
    let edges = json!([{"argv": ["true"], "dependencies": many}]);
    let ran = host.run_with(["submit", "-"], edges.to_string().as_bytes());
    assert!(
        ran.code(2).complaint().contains("100000"),
        "the message lacks the limit"
    );
    let missing = r#"[{"argv":["true"]},{"argv":["true"],"dependencies":["nobody"]}]"#;
    check(missing, "standard input:1:53: no task matches `nobody`");
    assert_eq!(host.json(["list"])["tasks"], json!([]));
    // In a file, a name means the file's own task, although an older task has the name.
    host.run(["run", "--name", "a", "--", "true"]).check();
    check(
        r#"[{"name":"a","argv":["true"],"dependencies":["a"]}]"#,
        "dependency cycle: a → a",
    );
}

/// Every mistake is reported with its place, including mistakes that only the host can find.
#[test]
fn every_mistake_of_a_graph_file_is_reported() {
    let host = TestHost::new();
    let path = host.work().join("pipe.yaml");
    let path = path.to_str().unwrap();
    let submit = |text: &str, arguments: &[&str]| {
        fs::write(path, text).unwrap();
        let ran = host.run([&["submit", path][..], arguments].concat());
        let complaint = ran.complaint().replace(path, "pipe.yaml");
        (ran, complaint)
    };
    let (ran, complaint) = submit(
        "- {name: a, argv: [make], tmeout: 3}\n- {name: b, argv: [make], dependecies: [a]}\n",
        &[],
    );
    assert_eq!(ran.status.code(), Some(2), "{ran}");
    let expected = "\
error: pipe.yaml:1:27: unknown field 'tmeout'; did you mean 'timeout'?
  1 | - {name: a, argv: [make], tmeout: 3}
    |                           ^
error: pipe.yaml:2:27: unknown field 'dependecies'; did you mean 'dependencies'?
  2 | - {name: b, argv: [make], dependecies: [a]}
    |                           ^
";
    assert_eq!(complaint, expected);
    let unknown = "- {name: checkout, argv: [x]}\n- {argv: [x], dependencies: [checkuot]}\n\
                   - {argv: [x], with_output_of: [nobody]}\n";
    let (ran, complaint) = submit(unknown, &[]);
    assert_eq!(ran.status.code(), Some(2), "{ran}");
    for expected in [
        "error: pipe.yaml:2:30: no task matches `checkuot`\n",
        "hint: did you mean 'checkout' (line 1)?\n",
        "error: pipe.yaml:3:32: no task matches `nobody`\n",
    ] {
        assert!(complaint.contains(expected), "{expected}{complaint}");
    }
    let (ran, _) = submit(unknown, &["--json"]);
    let ran = ran.code(2);
    let error: Value = serde_json::from_str(ran.complaint().lines().last().unwrap()).unwrap();
    assert_eq!(error["error"]["class"], "invalid");
    let places: Vec<_> = error["error"]["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| (it["line"].clone(), it["column"].clone(), it["file"] == path))
        .collect();
    let place = |line: u64, column: u64| (line.into(), column.into(), true);
    assert_eq!(places, [place(2, 30), place(3, 32)]);
    assert_eq!(host.json(["list"])["tasks"], json!([]));
}

#[test]
fn dry_run_shows_the_graph_and_submits_nothing() {
    let host = TestHost::new();
    host.run(["run", "--name", "earlier", "--hold", "--", "true"])
        .check();
    let graph = "- {name: build, argv: [make], dependencies: [earlier]}\n\
                 - {name: deploy, script: make deploy, dependencies: [build]}\n";
    let dry = |text: &str, more: &[&str]| {
        host.run_with(
            [&["submit", "--dry-run", "-"][..], more].concat(),
            text.as_bytes(),
        )
    };
    let ran = dry(graph, &[]).ok();
    let shown = ran.text();
    for name in ["earlier", "build", "deploy"] {
        assert!(shown.contains(name), "{shown}");
    }
    ran.says(&["nothing was submitted"]);
    let planned: Value = serde_json::from_str(&dry(graph, &["--json"]).ok().text()).unwrap();
    assert_eq!(planned["nodes"].as_array().unwrap().len(), 3);
    assert_eq!(planned["edges"].as_array().unwrap().len(), 2);
    let cycle = "- {name: a, argv: [x], dependencies: [b]}\n\
                 - {name: b, argv: [x], dependencies: [a]}\n";
    dry(cycle, &[]).code(2).says(&["dependency cycle"]);
    dry("- {prompt: x, executor: nobody}", &[])
        .code(125)
        .says(&["nobody"]);
    assert_eq!(host.json(["list"])["tasks"].as_array().unwrap().len(), 1);
    let example = host.text(["submit", "--example"]);
    let ran = dry(&example, &[]).ok();
    ran.says(&["nothing was submitted"]);
    let shown = ran.text();
    for name in ["test", "review", "report"] {
        assert!(shown.contains(name), "{shown}");
    }
}

#[test]
fn too_large_graph_file_is_refused() {
    let host = TestHost::new();
    let path = host.work().join("large.json");
    // A sparse file has this size without using space on the disk.
    fs::File::create(&path).unwrap().set_len(500 << 20).unwrap();
    let ran = host.run(["submit", path.to_str().unwrap()]).code(2);
    assert!(
        ran.complaint().contains("is larger than 256 MiB"),
        "{}",
        ran.complaint()
    );
}

#[test]
fn invalid_times_limits_and_retries_are_refused() {
    let host = TestHost::new();
    let check = |arguments: &[&str], expected: &str| {
        let ran = host.run(arguments).code(2);
        assert!(ran.complaint().contains(expected), "{}", ran.complaint());
    };
    check(
        &["run", "--at", "2001-01-01T00:00:00Z", "--", "true"],
        "the start time 2001-01-01T00:00:00.000Z is in the past",
    );
    check(
        &["group", "set", "g", "--limit", "0"],
        "a group's limit is at least 1; to start none of its tasks, pause it",
    );
    check(&["group", "set", "g", "--limit=-1"], "-1");
    check(&["run", "--retries=-1", "--", "true"], "-1");
    check(
        &["run", "--retries", "1", "--retry-on", "auth", "--", "true"],
        "`auth` is not a class of failures that can be retried",
    );
    check(
        &[
            "run",
            "--retries",
            "1",
            "--backoff",
            "5mx2..1s",
            "--",
            "true",
        ],
        "is longer than the longest",
    );
    check(
        &["run", "--queue-timeout", "0", "--", "true"],
        "`0` is out of range",
    );
}
