//! Commands for several tasks: the tasks are named one by one, or selected by options and confirmed
//! on a terminal.

use std::{collections::BTreeMap, fs, process::Stdio};

use claudine_tests::{TestHost, mcp::Client, terminal::Terminal, wait_for};
use serde_json::json;

const USUAL: (u16, u16) = (80, 24);
/// Exit code of an invalid request.
const USAGE: i32 = 2;
const REFUSED: i32 = 125;

/// A host with one slot, and a task that occupies the slot until the task is cancelled.
fn busy() -> (TestHost, String) {
    let host = TestHost::builder().slots(1).build();
    let blocker = host.text(["run", "--name", "blocker", "--", "sleep", "600"]);
    host.live(&blocker);
    (host, blocker)
}

fn queued(host: &TestHost, name: &str, options: &[&str]) -> String {
    let named = ["run", "--name", name];
    let command = named.iter().chain(options);
    host.text(command.chain(&["--", "true"]))
}

fn outcomes(host: &TestHost, tasks: &[&str]) -> Vec<String> {
    let outcome = |task: &&str| {
        host.status(task)["outcome"]
            .as_str()
            .unwrap_or("none")
            .to_owned()
    };
    tasks.iter().map(outcome).collect()
}

/// The end of the first task frees the slot for the others, if they are cancelled later.
#[test]
fn cancel_of_thousands_of_named_tasks_applies_to_all_at_one_moment() {
    let (host, blocker) = busy();
    let task = json!({ "executor": "shell", "spec": { "script": "echo ran >> ran" } }).to_string();
    let submitted = host.run_with(
        ["submit", "-"],
        format!("{task}\n").repeat(1_200).as_bytes(),
    );
    let queued = submitted.ok().text();
    let named = format!("{blocker}\n{queued}\n");
    host.run_with(["cancel", "-"], named.as_bytes()).check();
    assert_eq!(host.finished(&blocker)["outcome"], "cancelled");
    host.text(["run", "--wait", "--", "true"]);
    assert!(!host.work().join("ran").exists());
}

#[test]
fn cancel_of_several_tasks_reports_each_failure_and_cancels_the_rest() {
    let (host, blocker) = busy();
    let [a, b, c] = ["a", "b", "c"].map(|name| queued(&host, name, &[]));
    let said = host.run(["cancel", &a, "b", "-m", "not tonight"]).ok();
    said.says(&["cancelled 2 tasks"]);
    assert_eq!(host.status(&a)["reason"]["message"], "not tonight");
    // Of the three named tasks, one has ended and one does not exist; the third is cancelled all
    // the same.
    let said = host.run(["cancel", "a", "nobody", &c, &c]).code(REFUSED);
    said.says(&[
        "error: a: ",
        "has already ended: cancelled",
        "error: nobody: no task matches",
        "cancelled 1 task; 2 could not be cancelled",
    ]);
    assert_eq!(outcomes(&host, &[&a, &b, &c]), ["cancelled"; 3]);
    let answer = host
        .run(["cancel", "--json", "a", "blocker"])
        .code(REFUSED)
        .json();
    assert_eq!(
        (&answer["found"], &answer["done"], &answer["failed"]),
        (&json!(2), &json!(1), &json!(1))
    );
    assert_eq!(answer["tasks"][0]["error"]["kind"], "conflict");
    assert_eq!(answer["tasks"][1]["id"], *blocker);
    // A request for a single task is refused with the message for one task.
    host.run(["cancel", "a"])
        .code(REFUSED)
        .says(&["error: task", "already ended"]);
    host.run(["cancel", "-m", "why"])
        .code(USAGE)
        .says(&["nothing to cancel", "--all"]);
    host.run(["hold", "a", "--group", "g"])
        .code(USAGE)
        .says(&["not both"]);
}

#[test]
fn several_named_tasks_are_released_retried_and_resumed() {
    let host = TestHost::new();
    let ids = ["a", "b"].map(|name| host.text(["run", "--hold", "--name", name, "--", "false"]));
    let act = |command: &str| {
        let acted = host.run([command, "a", "b"]).ok();
        let attempts = ["a", "b"].map(|name| host.finished(name)["attempt"].clone());
        (acted, attempts)
    };
    let (released, attempts) = act("release");
    released.says(&["released 2 tasks"]);
    assert_eq!(attempts, [1, 1]);
    for (command, past, attempt) in [("retry", "retried", 2), ("resume", "resumed", 3)] {
        let (acted, attempts) = act(command);
        acted.says(&[&format!("{past} 2 tasks")]);
        assert_eq!(attempts, [attempt, attempt]);
        // A pipe gets the ids, for a next command.
        assert_eq!(acted.text().lines().collect::<Vec<_>>(), ids);
    }
}

#[test]
fn cancel_by_selection_asks_on_a_terminal_and_needs_yes_elsewhere() {
    let (host, blocker) = busy();
    for (name, label) in [("one", "pr=17"), ("two", "pr=17"), ("other", "pr=18")] {
        queued(&host, name, &["--label", label, "--group", "web"]);
    }
    let selected = ["cancel", "--label", "pr=17"];
    host.run(selected)
        .code(USAGE)
        .says(&["--yes (-y)", "name the tasks"]);
    assert_eq!(host.status("one")["state"], "ready");

    let mut asked = Terminal::start(&host, &selected, USUAL);
    asked.shows(&["one", "two", "Cancel 2 tasks? [y/N]"]);
    assert!(!asked.screen().contains("other"), "{}", asked.screen());
    asked.press("\r");
    asked.shows(&["nothing was changed"]);
    assert_eq!(asked.ended().code(), Some(1));
    assert_eq!(host.status("one")["state"], "ready");

    let mut asked = Terminal::start(&host, &selected, USUAL);
    asked.shows(&["[y/N]"]);
    asked.press("y\r");
    asked.shows(&["cancelled 2 tasks"]);
    assert_eq!(asked.ended().code(), Some(0));
    assert_eq!(
        outcomes(&host, &["one", "two", "other"]),
        ["cancelled", "cancelled", "none"]
    );

    // No matching task is left, which is not an error.
    host.run(["cancel", "--label", "pr=17", "-y"])
        .ok()
        .says(&["no matching task can be cancelled"]);
    host.run(["hold", "--group", "web", "-y"])
        .ok()
        .says(&["held 1 task"]);
    let held = host.run(["hold", "other"]).ok();
    held.says(&["task ", " is held already"]);
    assert_eq!(host.status("other")["state"], "held");
    host.run(["release", "--name", "o?her", "-y"])
        .ok()
        .says(&["released 1 task"]);
    host.run(["cancel", "--all", "-y"])
        .ok()
        .says(&["cancelled 1 task, cancelling 1"]);
    assert_eq!(host.finished(&blocker)["outcome"], "cancelled");
}

/// `second` depends on any end of `first`, so `second` would become ready if `first` were cancelled
/// before `second`.
#[test]
fn no_task_of_a_graph_starts_while_the_graph_is_cancelled() {
    let (host, blocker) = busy();
    let graph = "- {name: first, script: 'touch started'}\n\
                 - {name: second, script: 'touch started', dependencies: [{task: first, condition: any}]}\n\
                 - {name: third, script: 'touch started', dependencies: [{task: second, condition: any}]}\n";
    let submitted = host.run_with(
        ["submit", "-", "--name", "release", "--json"],
        graph.as_bytes(),
    );
    let submitted = submitted.ok().json();
    assert_eq!(submitted["graph"]["name"], "release");
    assert_eq!(submitted["graph"]["id"], submitted["tasks"][0]["id"]);
    let answer = host.json(["cancel", "--graph", "release", "--yes"]);
    assert_eq!(
        (&answer["done"], &answer["graph"]["name"]),
        (&json!(3), &json!("release"))
    );
    assert_eq!(
        outcomes(&host, &["first", "second", "third"]),
        ["cancelled"; 3]
    );
    host.run(["cancel", &blocker]).check();
    host.finished(&blocker);
    let events = host.text(["events", "--graph", "release"]);
    assert!(!events.contains("started"), "{events}");
    assert!(!events.contains("blocker"), "{events}");
    assert!(!host.work().join("started").exists());
}

#[test]
fn retry_of_a_graph_reruns_failed_tasks_and_their_dependants() {
    let host = TestHost::new();
    let graph = "- {name: fine, script: 'true'}\n\
                 - {name: test, script: 'test -e mended', dependencies: [fine]}\n\
                 - {name: lint, script: 'test -e mended'}\n\
                 - {name: ship, script: 'true', dependencies: [test, lint]}\n";
    let submit = ["submit", "-", "--name", "release", "--wait"];
    let waited = host.run_with(submit, graph.as_bytes()).code(1);
    let lines: Vec<String> = waited.text().lines().map(str::to_owned).collect();
    assert_eq!(lines.len(), 4, "{lines:?}");
    assert!(lines[3].contains("upstream_failed"), "{lines:?}");
    let waited = host.run(["wait", "--graph", "release"]).code(1);
    assert_eq!(waited.text().lines().count(), 4);
    fs::write(host.work().join("mended"), "").unwrap();
    let answer = host.json(["retry", "--graph", "release", "-y"]);
    assert_eq!(
        (&answer["found"], &answer["done"]),
        (&json!(3), &json!(3)),
        "{answer}"
    );
    let already: BTreeMap<&str, bool> = answer["tasks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|task| (task["name"].as_str().unwrap(), task["already"] == true))
        .collect();
    assert_eq!(
        already,
        [("lint", false), ("ship", true), ("test", false)].into()
    );
    host.run(["wait", "--graph", "release"]).check();
    assert_eq!(host.status("fine")["attempt"], 1);
    // A retry of a graph leaves out successful tasks, unless they are selected by their outcome.
    host.run(["retry", "--graph", "release", "-y"])
        .ok()
        .says(&["no matching task can be retried"]);
    let fine = ["--name", "fine", "-s", "succeeded", "-y"];
    host.run(["retry", "--graph", "release"].iter().chain(&fine))
        .check();
    assert_eq!(host.finished("fine")["attempt"], 2);
}

#[test]
fn retry_of_a_graph_is_carried_out_to_its_end_although_its_command_is_killed() {
    const TASKS: usize = 300;
    let host = TestHost::new();
    let tasks: Vec<_> = (0..TASKS)
        .map(|number| json!({"name": format!("n{number}"), "argv": ["true"], "hold": true}))
        .collect();
    let graph = json!(tasks).to_string();
    host.run_with(["submit", "-", "--name", "wide"], graph.as_bytes())
        .check();
    host.run(["cancel", "--graph", "wide", "--yes"]).check();
    let held = || {
        let shown = host.text([
            "list", "--graph", "wide", "-s", "held", "-q", "--limit", "1000",
        ]);
        shown.lines().count()
    };
    let mut retry = host.command(["retry", "--graph", "wide", "--yes"]);
    retry.stdin(Stdio::null()).stdout(Stdio::null());
    let mut retry = retry.stderr(Stdio::null()).spawn().unwrap();
    wait_for("the first retry", || (held() > 0).then_some(()));
    retry.kill().unwrap();
    retry.wait().unwrap();
    wait_for("all retries", || (held() == TASKS).then_some(()));
}

#[test]
fn newest_graph_of_a_name_is_shown_and_ambiguous_changes_are_refused() {
    let (host, _) = busy();
    let submit = |name: &str| {
        let graph = format!("- {{name: {name}, script: 'true'}}\n- {{script: 'true'}}\n");
        let ids = host.run_with(["submit", "-", "--name", "nightly"], graph.as_bytes());
        ids.ok().text().lines().next().unwrap().to_owned()
    };
    let [old, new] = ["old", "new"].map(submit);
    let listed = host.json(["list", "--graph", "nightly"]);
    let listed = listed["tasks"].as_array().unwrap();
    assert_eq!(listed.len(), 2);
    assert!(
        listed.iter().all(|task| task["graph"] == *new),
        "{listed:?}"
    );
    assert_eq!(host.status(&new)["graph_name"], "nightly");
    let refused = host
        .run(["cancel", "--graph", "nightly", "-y"])
        .code(REFUSED);
    refused.says(&[
        "2 unfinished graphs are named 'nightly'",
        "--graph",
        "old",
        "new",
    ]);
    host.run(["cancel", "--graph", &old, "-y"])
        .ok()
        .says(&["cancelled 2 tasks"]);
    // Now the name is unambiguous.
    host.run(["cancel", "--graph", "nightly", "-y"])
        .ok()
        .says(&["cancelled 2 tasks"]);
    assert_eq!(host.status(&new)["outcome"], "cancelled");
    host.run(["cancel", "--graph", "weekly", "-y"])
        .code(REFUSED)
        .says(&["no graph or task matches 'weekly'"]);
}

/// Tasks that were submitted separately are connected by their dependencies.
#[test]
fn graph_of_a_single_task_contains_all_connected_tasks() {
    let (host, _) = busy();
    queued(&host, "a", &[]);
    queued(&host, "b", &["--depends-on", "a"]);
    queued(&host, "alone", &[]);
    let names = |answer: serde_json::Value| {
        let tasks = answer["tasks"].as_array().unwrap().clone();
        let name = |task: &serde_json::Value| task["name"].as_str().unwrap().to_owned();
        tasks.iter().map(name).collect::<Vec<_>>()
    };
    assert_eq!(names(host.json(["list", "--graph", "a"])), ["b", "a"]);
    assert_eq!(names(host.json(["hold", "--graph", "b", "-y"])), ["b", "a"]);
    assert_eq!(host.status("alone")["state"], "ready");
}

#[test]
fn graph_is_shown_with_counts_until_it_ends() {
    let host = TestHost::new();
    let graph = "- {name: build, script: 'until test -e go; do sleep 0.1; done'}\n\
                 - {name: ship, script: 'exit 3', dependencies: [build]}\n";
    fs::write(host.work().join("graph.yaml"), graph).unwrap();
    let command = ["submit", "graph.yaml", "--name", "release"];
    let mut taken = Terminal::start(&host, &command, USUAL);
    taken.shows(&["release: 2 tasks", "ID", "NAME", "build", "ship"]);
    assert!(taken.ended().success());
    let shown = host.text(["graph", "--graph", "release"]);
    assert!(shown.ends_with("1 running · 1 waiting"), "{shown}");
    let mut followed = Terminal::start(&host, &["graph", "--graph", "release", "-f"], USUAL);
    followed.shows(&["● build", "1 running · 1 waiting"]);
    fs::write(host.work().join("go"), "").unwrap();
    followed.shows(&["✓ build", "✗ ship", "1 ✓ · 1 ✗"]);
    assert!(followed.ended().success());
    let screen = followed.screen();
    assert_eq!(screen.matches("build").count(), 1, "{screen}");
    fs::remove_file(host.work().join("go")).unwrap();
    let wait = ["submit", "graph.yaml", "--wait"];
    let mut waited = Terminal::start(&host, &wait, USUAL);
    waited.shows(&["1 running · 1 waiting"]);
    waited.press("\u{3}");
    waited.shows(&["the tasks continue"]);
    assert_eq!(waited.ended().code(), Some(130));
    let mut waited = Terminal::start(&host, &wait, USUAL);
    waited.shows(&["1 running · 1 waiting"]);
    fs::write(host.work().join("go"), "").unwrap();
    assert_eq!(waited.ended().code(), Some(3));
}

#[test]
fn command_for_one_task_names_the_command_that_lists_a_graph() {
    let host = TestHost::new();
    for command in ["logs", "status", "diff", "checkpoint"] {
        let refused = host.run([command, "--graph", "release"]).code(USAGE);
        refused.says(&[
            &format!("error: `claudine {command}` takes one task, not a graph"),
            "hint: `claudine list --graph release`",
        ]);
    }
    assert!(host.processes().is_empty());
}

#[test]
fn name_of_a_graph_is_stored_and_checked() {
    let host = TestHost::new();
    let graph =
        b"- {script: 'true', idempotency_key: k1}\n- {script: 'true', idempotency_key: k2}\n";
    let submit = |name: &str| host.run_with(["submit", "-", "--name", name], graph);
    let first = submit("release").ok().text();
    // The request is repeated, this time to another host.
    host.kill_host();
    assert_eq!(submit("release").ok().text(), first);
    submit("other").code(REFUSED).says(&["different request"]);
    submit("").code(USAGE).says(&["the name of the graph"]);
    submit("a\u{1b}[2J")
        .code(USAGE)
        .says(&["has a control character"]);
    let listed = host.json(["list", "--graph", "release"]);
    assert_eq!(listed["tasks"].as_array().unwrap().len(), 2);
}

#[test]
fn list_accepts_the_shown_states_as_filters() {
    let (host, blocker) = busy();
    queued(
        &host,
        "test-a",
        &["--label", "a=b", "--label", "c=d", "--group", "gpu"],
    );
    queued(&host, "test-b", &["--label", "a=b"]);
    let stubborn = "trap '' TERM; echo ready; sleep 600";
    host.run(["cancel", &blocker]).check();
    host.finished(&blocker);
    for name in ["test-a", "test-b"] {
        host.finished(name);
    }
    let stops = host.text(["run", "--name", "stubborn", "--script", stubborn]);
    host.live(&stops);
    wait_for("the output of `stubborn`", || {
        (host.text(["logs", &stops]) == "ready").then_some(())
    });
    host.run(["cancel", &stops]).check();
    let names = |options: &[&str]| {
        let listed = host.json(["list"].iter().chain(options));
        let tasks = listed["tasks"].as_array().unwrap().clone();
        let name = |task: &serde_json::Value| task["name"].as_str().unwrap().to_owned();
        tasks.iter().map(name).collect::<Vec<_>>()
    };
    // The words that `list` prints are accepted as filters.
    assert_eq!(names(&["-s", "stopping"]), ["stubborn"]);
    assert_eq!(names(&["--active"]), ["stubborn"]);
    assert_eq!(names(&["--name", "test-*"]), ["test-b", "test-a"]);
    assert_eq!(names(&["-l", "a=b", "-l", "c=d"]), ["test-a"]);
    assert_eq!(names(&["--group", "gpu"]), ["test-a"]);
    assert_eq!(
        names(&["-s", "succeeded,cancelled"]),
        ["test-b", "test-a", "blocker"]
    );
    assert_eq!(names(&["--failed"]), [""; 0]);
    assert_eq!(names(&["--since", "1h", "--until", "30m"]), [""; 0]);
    assert_eq!(names(&["--since", "1h", "-s", "cancelled"]), ["blocker"]);
    let refused = host.run(["list", "--state", "nope"]).code(USAGE);
    refused.says(&["blocked", "held", "starting", "stopping", "upstream_failed"]);
    // `ListTasks` over MCP accepts the same words. If it refuses another word, its message lists
    // the accepted words.
    let mut client = Client::connect(&host);
    let refused = client.fail("ListTasks", json!({"state": "nope"}));
    assert!(
        refused.contains("stopping") && refused.contains("held"),
        "{refused}"
    );
    let listed = client.call(
        "ListTasks",
        json!({"state": "active,cancelled", "since": "1h"}),
    );
    assert_eq!(listed["tasks"].as_array().unwrap().len(), 2);
}

#[test]
fn graph_can_be_named_listed_and_cancelled_over_mcp() {
    let (host, _) = busy();
    let mut client = Client::connect(&host);
    let task = |name: &str| json!({"name": name, "script": "true"});
    let graph = json!({"name": "plan", "tasks": [task("a"), task("b")]});
    client.call("SubmitGraph", graph);
    let listed = client.call("ListTasks", json!({"graph": "plan"}));
    assert_eq!(listed["tasks"].as_array().unwrap().len(), 2);
    let cancelled = client.call("CancelTask", json!({"graph": "plan", "reason": "enough"}));
    assert_eq!(cancelled["message"], "2 tasks of the graph cancelled");
    assert_eq!(host.status("a")["reason"]["message"], "enough");
    let again = client.call("CancelTask", json!({"graph": "plan"}));
    assert_eq!(again["message"], "No task of the graph is left to cancel");
    let refused = client.fail("CancelTask", json!({"graph": "plan", "taskId": "a"}));
    assert!(refused.contains("give taskId"), "{refused}");
}
