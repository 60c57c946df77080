//! JSON answers of commands, and JSON errors, match the schemas that `claudine schema` prints.

use std::{collections::BTreeSet, fs};

use claudine_tests::{Ran, TestHost, git::git_in, schema::faults};
use serde_json::{Value, json};

/// Schemas that are not checked here, because their commands need a toolchain or run a host in the
/// foreground.
const ELSEWHERE: &[&str] = &["plugin build", "serve"];

/// A host, and the names of the schemas against which an answer or an input was checked.
struct Published {
    host: TestHost,
    seen: BTreeSet<String>,
}

impl Published {
    fn schema(&self, name: &str) -> Value {
        let words = ["schema"].into_iter().chain(name.split(' '));
        self.host.run(words).ok().json()
    }

    #[track_caller]
    fn holds(&mut self, name: &str, answer: &Value) {
        let found = faults(&self.schema(name), answer);
        assert!(found.is_empty(), "{name}: {found:#?}\n{answer:#}");
        self.seen.insert(name.to_owned());
    }

    /// Runs a command with `--json` and checks its answer; any exit code is accepted.
    #[track_caller]
    fn answers(&mut self, name: &str, arguments: &[&str]) -> Value {
        let ran = self.host.run(with_json(arguments));
        let answer = ran.json();
        self.holds(name, &answer);
        answer
    }

    /// Checks a command that answers line by line.
    #[track_caller]
    fn answers_lines(&mut self, name: &str, arguments: &[&str]) {
        let ran = self.host.run(with_json(arguments)).ok();
        let text = ran.text();
        assert!(!text.is_empty(), "{ran}");
        for line in text.lines() {
            self.holds(name, &serde_json::from_str(line).unwrap());
        }
    }
}

fn with_json<'a>(arguments: &[&'a str]) -> Vec<&'a str> {
    let mut arguments = arguments.to_vec();
    let end = arguments.iter().position(|argument| *argument == "--");
    arguments.insert(end.unwrap_or(arguments.len()), "--json");
    arguments
}

fn error(ran: &Ran) -> Value {
    let complaint = ran.complaint();
    serde_json::from_str(complaint.lines().last().unwrap_or_default())
        .unwrap_or_else(|error| panic!("the last line is not JSON: {error}\n{ran}"))
}

#[test]
fn answer_of_each_command_matches_its_schema() {
    let host = TestHost::builder().env("EDITOR", "true").build();
    let git = |arguments: &[&str]| git_in(&host, &host.work(), arguments);
    git(&["init", "-q", "-b", "main"]);
    fs::write(host.work().join("file"), "one\n").unwrap();
    git(&["add", "-A"]);
    git(&["commit", "-q", "-m", "first"]);
    let mut all = Published {
        host,
        seen: BTreeSet::new(),
    };
    all.answers("up", &["up"]);
    // Makes tasks that fail, succeed, are held, and work in a worktree.
    let script = "echo out; echo err >&2; exit 3";
    all.answers(
        "run",
        &[
            "run", "--wait", "--name", "bad", "--label", "a=b", "--script", script,
        ],
    );
    all.answers("run", &["run", "--name", "good", "--", "true"]);
    all.answers(
        "delegate",
        &[
            "delegate",
            "--executor",
            "mock",
            "--name",
            "agent",
            "--hold",
            "--spec",
            "{}",
        ],
    );
    let work = "echo two > file && git -c user.name=T -c user.email=t@e.org commit -qam two";
    all.answers(
        "run",
        &[
            "run",
            "--wait",
            "--worktree",
            "--keep-worktree",
            "--name",
            "tree",
            "--script",
            work,
        ],
    );
    let graph = "- {name: first, argv: ['true'], group: gpu}\n\
                 - {name: second, argv: ['true'], dependencies: [first, bad]}\n";
    let file = all.host.work().join("graph.yaml");
    fs::write(&file, graph).unwrap();
    let file = file.to_str().unwrap().to_owned();
    all.answers("submit", &["submit", "--dry-run", &file]);
    all.answers("submit", &["submit", &file]);
    all.answers("wait", &["wait", "good", "tree", "first", "second"]);
    for task in ["bad", "good", "agent", "tree", "second"] {
        all.answers("status", &["status", task]);
        all.answers("why", &["why", task]);
    }
    all.answers("list", &["list"]);
    all.answers("top", &["top"]);
    all.answers("cost", &["cost"]);
    all.answers("graph-json", &["graph", "second"]);
    all.answers("checkpoint", &["checkpoint", "bad"]);
    all.answers_lines("events", &["events", "--since", "0"]);
    all.answers_lines("logs", &["logs", "bad"]);
    all.answers("hold", &["hold", "agent"]);
    all.answers("release", &["release", "agent"]);
    let waits = ["run", "--hold", "--name", "waits", "--", "true"];
    all.host.run(waits).check();
    all.answers("cancel", &["cancel", "waits"]);
    all.answers("retry", &["retry", "good"]);
    all.host.finished("good");
    all.answers("resume", &["resume", "good", "--context", "again"]);
    all.host.finished("good");
    all.answers("group add", &["group", "add", "cpu"]);
    all.answers("group set", &["group", "set", "cpu", "--limit", "2"]);
    all.answers("group pause", &["group", "pause", "cpu"]);
    all.answers("group unpause", &["group", "unpause", "cpu"]);
    all.answers("group list", &["group", "list"]);
    all.answers("group rm", &["group", "rm", "cpu"]);
    all.answers("pause", &["pause"]);
    all.answers("unpause", &["unpause"]);
    all.answers("capacity", &["capacity"]);
    all.answers("slots", &["slots", "3"]);
    all.answers("slots", &["slots", "auto"]);
    all.answers("doctor", &["doctor"]);
    all.answers("plugin list", &["plugin", "list"]);
    all.answers("plugin inspect", &["plugin", "inspect", "shell"]);
    all.answers("mcp config", &["mcp", "config"]);
    all.answers("mcp test", &["mcp", "test"]);
    all.answers("diff", &["diff", "tree"]);
    all.answers("enter", &["enter", "tree"]);
    all.answers("worktree list", &["worktree", "list"]);
    all.answers("worktree resolve", &["worktree", "resolve", "tree"]);
    all.answers(
        "worktree merge",
        &["worktree", "merge", "tree", "--merge", "patch"],
    );
    all.answers("worktree clean", &["worktree", "clean", "--all"]);
    all.answers("config path", &["config", "path"]);
    all.answers("config set", &["config", "set", "keep", "8d"]);
    all.answers("config edit", &["config", "edit"]);
    let shown = all.answers("config show", &["config", "show"]);
    let keep = |setting: &&Value| setting["name"] == "keep";
    let keep = shown["settings"].as_array().unwrap().iter().find(keep);
    assert_eq!(keep.unwrap()["running"]["value"], "7d", "{shown:#}");
    let backup = all.host.root().join("backup.tar.gz");
    let backup = backup.to_str().unwrap();
    all.answers("backup", &["backup", backup]);
    let elsewhere = all.host.root().join("restored");
    all.answers(
        "restore",
        &["restore", backup, "--data-dir", elsewhere.to_str().unwrap()],
    );
    all.answers("down", &["down"]);
    all.answers("down", &["down"]);

    // A graph file for `submit` matches its schema, and the schema detects a mistake.
    let tasks = json!([
        {"name": "a", "argv": ["make"], "timeout": "1h30m", "env": {"A": "b"}},
        {"prompt": "p", "dependencies": ["a", {"task": "b", "condition": "any"}], "worktree": true,
         "budget_usd": 2, "retry_on": ["exit"], "labels": {"x": "y"}},
    ]);
    all.holds("graph", &tasks);
    let wrong = faults(&all.schema("graph"), &json!([{"dependecies": []}]));
    let told = wrong.iter().any(|fault| fault.contains("dependecies"));
    assert!(told, "{wrong:?}");
    all.holds(
        "error",
        &error(&all.host.run(["status", "nobody", "--json"])),
    );

    let names: Vec<String> = serde_json::from_value(all.host.json(["schema"])).unwrap();
    let unseen: Vec<_> = names
        .iter()
        .filter(|name| !all.seen.contains(*name) && !ELSEWHERE.contains(&name.as_str()))
        .collect();
    assert!(
        unseen.is_empty(),
        "no answer was checked against the schemas {unseen:?}"
    );
}

#[test]
fn error_is_one_line_of_json() {
    let host = TestHost::new();
    let schema = host.run(["schema", "error"]).ok().json();
    let check = |arguments: &[&str], code: i32, class: &str, says: &str| {
        let ran = host.run(arguments).code(code);
        assert!(ran.stdout.is_empty(), "{ran}");
        let error = error(&ran);
        assert_eq!(faults(&schema, &error), [""; 0], "{error:#}");
        assert_eq!(error["error"]["class"], class, "{error:#}");
        let message = error["error"]["message"].as_str().unwrap();
        assert!(
            message.contains(says) && !message.contains('\n'),
            "{error:#}"
        );
    };
    check(&["status", "nobody", "--json"], 125, "not_found", "nobody");
    check(&["frobnicate", "--json"], 2, "invalid", "frobnicate");
    check(&["--json", "list", "--limit", "0"], 2, "invalid", "limit");
    check(
        &["run", "-w", "/no/such/place", "--json", "--", "true"],
        2,
        "invalid",
        "/no/such/place",
    );
    check(
        &["list", "--json=id,colour"],
        2,
        "invalid",
        "no field `colour`",
    );
    check(
        &["schema", "nothing", "--json"],
        125,
        "not_found",
        "nothing",
    );
    // After `--`, `--json` belongs to the task's command, so this error is not JSON.
    let ran = host.run(["run", "--frob", "--", "true", "--json"]).code(2);
    ran.says(&["error: "]);
}

#[test]
fn answer_has_only_the_requested_fields() {
    let host = TestHost::new();
    let id = host.text(["run", "--name", "a", "--", "true"]);
    host.finished(&id);
    let list = host.run(["list", "--json=id,outcome,group"]).ok().json();
    assert_eq!(
        list,
        json!({"tasks": [{"id": id, "outcome": "succeeded", "group": null}]})
    );
    let task = host.run(["status", "--json=name", "a"]).ok().json();
    assert_eq!(task, json!({"name": "a"}));
    let waited = host.run(["wait", "a", "--json=id"]).ok().json();
    assert_eq!(waited, json!([{"id": id}]));
    let events = host.run(["events", "a", "--json=kind"]).ok().text();
    assert!(
        events.lines().all(|line| line.starts_with("{\"kind\":")),
        "{events}"
    );
    // An unknown field is refused before anything is done.
    let refused = host.run(["run", "--json=colour", "--", "true"]);
    refused.code(2).says(&["colour"]);
    // So is one that only another answer of the command has.
    let refused = host.run(["run", "--json=outcome", "--", "true"]);
    refused
        .code(2)
        .says(&["no field `outcome`", "with these options"]);
    assert_eq!(host.json(["list"])["tasks"].as_array().unwrap().len(), 1);
    let waited = host.run(["run", "--wait", "--json=outcome", "--", "true"]);
    assert_eq!(waited.ok().json(), json!({"outcome": "succeeded"}));
    let task = json!({"executor": "shell", "spec": {"script": "true"}}).to_string();
    let submitted = host.run_with(["submit", "--json=class", "-"], task.as_bytes());
    assert_eq!(
        submitted.ok().json(),
        json!({"tasks": [{"class": "command"}]})
    );
}
