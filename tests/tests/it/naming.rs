//! The ways to name a task in a command: by the end of its id, a longer part of the id, its name,
//! or a word such as `@last`.

use std::fs;

use claudine_tests::{
    TestHost,
    command::{Reading, whole_id},
    mcp::Client,
    short_id,
};
use serde_json::{Value, json};

/// The last characters of an id.
fn end(id: &str, characters: usize) -> &str {
    &id[id.len() - characters..]
}

#[test]
fn end_of_an_id_names_a_task_in_commands_options_and_graph_files() {
    let host = TestHost::builder().slots(1).build();
    let blocker = host.script("sleep 600");
    host.live(&blocker);
    let id = host.text(["run", "--", "true"]);
    let (short, bare) = (end(&id, 6), &id["task_".len()..]);
    for reference in [short, &short.to_uppercase(), end(&id, 4), bare, &id] {
        assert_eq!(host.status(reference)["id"], *id, "{reference}");
        host.run(["hold", reference]).check();
        host.run(["release", reference]).check();
        host.run(["why", reference]).check();
        host.run(["logs", reference]).check();
        host.run(["events", reference]).check();
        let graph = host.json(["graph", reference]);
        assert_eq!(graph["nodes"][0]["id"], *id, "{graph:#}");
        let older = host.json(["list", "--before", reference]);
        assert_eq!(older["tasks"][0]["id"], *blocker, "{older:#}");
    }
    let after = host.text(["run", "--depends-on", short, "--", "true"]);
    assert_eq!(host.status(&after)["dependencies"][0]["task"], *id);
    let file = format!("[{{\"argv\": [\"true\"], \"dependencies\": [{short:?}]}}]");
    let from_file = host.run_with(["submit", "-"], file.as_bytes()).ok().text();
    assert_eq!(host.status(&from_file)["dependencies"][0]["task"], *id);
    host.run(["cancel", short]).check();
    assert_eq!(host.status(&id)["outcome"], "cancelled");
    host.run(["retry", short]).check();
    host.run(["cancel", end(&blocker, 6)]).check();
    // A finished task is found in the same way.
    host.run(["wait", short]).check();
    host.run(["checkpoint", short]).check();
}

#[test]
fn three_characters_of_an_id_suffice_to_read_a_task_but_not_to_change_it() {
    let host = TestHost::new();
    let id = host.script("echo here");
    host.finished(&id);
    let three = end(&id, 3);
    assert_eq!(host.text(["logs", three]), "here");
    let refused = host.run(["retry", three]).code(125);
    refused.says(&[
        &format!("no task matches `{three}`"),
        "at least 4 characters of the end of an id are needed",
    ]);
    host.run(["logs", end(&id, 2)])
        .code(125)
        .says(&["at least 3 characters of the end of an id are needed"]);
}

#[test]
fn name_takes_precedence_over_the_end_of_an_id() {
    let host = TestHost::new();
    let id = host.script("true");
    let four = end(&id, 4);
    let named = host.text(["run", "--name", four, "--", "true"]);
    assert_eq!(host.status(four)["id"], *named);
    assert_eq!(host.status(end(&id, 5))["id"], *id);
    host.finished(&named);
    host.finished(&id);
    let retried = host.json(["retry", four]);
    assert_eq!(retried["tasks"][0]["id"], *named);
}

#[test]
fn name_that_is_reserved_or_part_of_another_tasks_id_is_refused() {
    let host = TestHost::new();
    let id = host.script("true");
    let digits = &id["task_".len()..];
    let graph = b"- argv: ['true']\n";
    for part in [
        end(&id, 6),
        end(&id, 20),
        &digits[..22],
        digits,
        &id[..22],
        &id,
        &id.to_uppercase(),
        &format!("Task_{digits}"),
    ] {
        let says = format!("`{part}` is a part of another task's id");
        let refused = host.run(["run", "--name", part, "--", "true"]).code(125);
        refused.says(&[&says]);
        let refused = host.run_with(["submit", "-", "--name", part], graph);
        refused.code(125).says(&[&says]);
    }
    for word in ["@last", "-"] {
        let said = format!("`{word}` is reserved and cannot be a name");
        let named = format!("--name={word}");
        host.run(["run", &named, "--", "true"])
            .code(2)
            .says(&[&said]);
        fs::write(host.work().join("graph.yaml"), "- argv: ['true']\n").unwrap();
        host.run(["submit", "graph.yaml", &named])
            .code(2)
            .says(&[&said]);
    }
    // A name that merely could be the end of an id is allowed, even twice.
    for _ in 0..2 {
        let named = host.text(["run", "--name", "backend", "--", "true"]);
        assert_eq!(host.status("backend")["id"], *named);
    }
}

/// Otherwise a person who waits for a task or graph, or cancels it, could reach that of a client
/// instead.
#[test]
fn client_cannot_name_a_task_or_a_graph_like_any_part_of_an_id() {
    let host = TestHost::new();
    let id = host.text(["run", "--hold", "--", "true"]);
    let digits = &id["task_".len()..];
    let mut client = Client::connect(&host);
    let ends = (3..=digits.len()).map(|length| end(digits, length).to_owned());
    let beginnings = (4..digits.len()).map(|length| digits[..length].to_owned());
    let with_prefix = (6..=id.len()).map(|length| id[..length].to_owned());
    let in_other_case = [id.to_uppercase(), format!("Task_{digits}")];
    let names = ends.chain(beginnings).chain(with_prefix);
    for name in names.chain(in_other_case) {
        for (tool, asked) in [
            (
                "DelegateTask",
                json!({ "name": name, "executor": "shell", "prompt": "true" }),
            ),
            (
                "SubmitGraph",
                json!({ "name": name, "tasks": [{ "script": "true" }] }),
            ),
        ] {
            let complaint = client.fail(tool, asked);
            let says = format!("`{name}` is a part of another task's id");
            assert!(complaint.contains(&says), "{complaint}");
        }
    }
    let tasks = host.json(["list"]);
    assert_eq!(tasks["tasks"].as_array().unwrap().len(), 1, "{tasks:#}");
}

/// Otherwise a person's command for two tasks could be applied to a task of a client.
#[test]
fn name_that_a_client_chose_is_ambiguous_if_it_is_also_a_list_of_tasks() {
    let host = TestHost::new();
    for name in ["one", "two"] {
        host.run(["run", "--hold", "--name", name, "--", "true"])
            .check();
    }
    let mut client = Client::connect(&host);
    let asked = json!({"name": "one two", "executor": "shell", "prompt": "true"});
    let taken = client.call("DelegateTask", asked);
    let id = end(taken["taskId"].as_str().unwrap(), 6);
    let list = format!("`one two` is ambiguous: it is the name of task {id}, and may be a list");
    let says = [
        &*list,
        "hint: for the task of this name",
        "as an argument of its own",
    ];
    host.run(["run", "--hold", "--depends-on", "one two", "--", "true"])
        .code(125)
        .says(&says);
    host.run(["cancel", "one two"]).code(125).says(&says);
    host.run(["status", "one two"]).code(125).says(&says);
    host.run(["run", "--depends-on", "one", "two", "--", "true"])
        .check();
    host.run(["run", "--depends-on", id, "--", "true"]).check();
}

/// Ids begin with the time, so ids that are made within a second begin with the same characters.
#[test]
fn ambiguous_name_changes_no_task_and_lists_the_matches() {
    let host = TestHost::new();
    let ids: Vec<String> = ["one", "two"]
        .map(|name| host.text(["run", "--name", name, "--", "sleep", "600"]))
        .into();
    let shared = &ids[0]["task_".len().."task_".len() + 6];
    for verb in ["cancel", "status"] {
        let refused = host.run([verb, shared]).code(125);
        refused.says(&[
            &format!("error: `{shared}` is ambiguous: 2 tasks match"),
            "ID      STATE",
            end(&ids[0], 6),
            end(&ids[1], 6),
            "one",
            "sleep 600",
            "hint: give more of the end of its id, or its name",
        ]);
        assert_eq!(refused.text(), "");
    }
    let refused = host.run(["status", shared, "--json"]).code(125);
    let last = refused.complaint().lines().last().unwrap().to_owned();
    let error: Value = serde_json::from_str(&last).unwrap();
    let candidates = error["error"]["candidates"].as_array().unwrap();
    let found: Vec<&str> = candidates
        .iter()
        .map(|candidate| candidate["id"].as_str().unwrap())
        .collect();
    assert_eq!(found, [&*ids[1], &*ids[0]], "{error:#}");
    for id in &ids {
        assert_ne!(host.status(id)["state"], "done");
    }
}

#[test]
fn newest_task_is_shown_by_default() {
    let host = TestHost::new();
    host.run(["logs"])
        .code(125)
        .says(&["no task matches `@last`"]);
    let running = host.text(["run", "--", "sh", "-c", "echo running; exec sleep 600"]);
    host.live(&running);
    let last = host.text(["run", "--name", "last", "echo", "last"]);
    host.finished(&last);
    let ran = host.run(["logs"]).ok();
    assert_eq!(ran.text(), "last");
    ran.says(&[&format!("last ({})", end(&last, 6))]);
    assert!(host.text(["status"]).contains(&last));
    assert!(host.text(["why"]).contains(end(&last, 6)));
    host.run(["cancel", &running]).check();
    host.finished(&running);
    // `-f` prefers a running task.
    let running = host.script("echo first; until test -e go; do sleep 0.1; done");
    host.live(&running);
    host.finished(&host.script("echo later"));
    let mut follow = Reading::start(host.command(["logs", "-f"]));
    assert_eq!(follow.line(), "first\n");
    fs::write(host.work().join("go"), "").unwrap();
    let (rest, ended) = follow.rest();
    assert_eq!(rest, "");
    assert!(ended.success(), "{ended}");
    host.finished(&running);
    assert_eq!(host.text(["logs", "-f"]), "later");
}

#[test]
fn tasks_can_be_named_on_standard_input() {
    let host = TestHost::new();
    let ids = host.text(["run", "--name", "a b", "--", "true"]) + "\n" + &host.script("exit 3");
    let waited = host.run_with(["wait", "-"], ids.as_bytes()).code(3);
    assert_eq!(waited.text().lines().count(), 2, "{waited}");
    let waited = host.run_with(["wait", "-"], b"a b\n\n").ok();
    assert_eq!(waited.text().lines().count(), 1, "{waited}");
    let refused = host.run_with(["wait", "-"], b"\n").code(2);
    refused.says(&["standard input names no task"]);
}

#[test]
fn common_alternative_command_names_are_accepted() {
    let host = TestHost::new();
    let id = host.text(["run", "echo", "-n", "one", "--", "two"]);
    host.finished(&id);
    assert_eq!(host.text(["log", "-n", "1", &id]), "one -- two");
    assert!(host.text(["ps"]).contains("echo -n one -- two"));
    assert!(host.text(["show", &id]).contains(&id));
    for verb in ["stop", "kill"] {
        let running = host.text(["run", "sleep", "600"]);
        host.live(&running);
        host.run([verb, &running]).check();
        assert_eq!(host.finished(&running)["outcome"], "cancelled", "{verb}");
    }
}

#[test]
fn last_and_running_name_the_newest_task_and_the_newest_running_task() {
    let host = TestHost::new();
    host.run(["status", "@last"])
        .code(125)
        .says(&["no task matches `@last`"]);
    let running = host.text(["run", "--", "sleep", "600"]);
    host.live(&running);
    let last = host.script("true");
    host.finished(&last);
    assert_eq!(host.status("@last")["id"], *last);
    assert_eq!(host.status("@running")["id"], *running);
    host.run(["cancel", "@running"]).check();
    assert_eq!(host.finished(&running)["outcome"], "cancelled");
}

#[test]
fn list_accepts_the_end_of_a_parents_id() {
    let host = TestHost::new();
    let binary = claudine_tests::harness::binary();
    let script = format!("{} run -- true", binary.display());
    let parent = host.text(["run", "--name", "parent", "--script", &script]);
    host.finished(&parent);
    let below = |reference: &str| -> Vec<Value> {
        let list = host.json(["list", "--parent", reference]);
        list["tasks"].as_array().unwrap().clone()
    };
    for reference in ["parent", end(&parent, 6), &parent] {
        let found = below(reference);
        assert_eq!(found.len(), 1, "{reference}");
        assert_eq!(found[0]["parent"], json!(parent));
    }
    host.run(["list", "--parent", "nobody"])
        .code(125)
        .says(&["no task matches `nobody`"]);
}

#[test]
fn refusals_name_tasks_by_the_ends_of_their_ids() {
    let host = TestHost::builder().slots(1).build();
    let ended = |arguments: &[&str]| {
        let id = host.text(arguments);
        host.finished(&id);
        id
    };
    let done = ended(&["run", "--", "true"]);
    let failed = ended(&["run", "--", "false"]);
    let stopped = ended(&["run", "--depends-on-success", &failed, "--", "true"]);
    let held = host.text(["run", "--hold", "--idempotency-key", "key", "--", "true"]);
    let runs = host.text(["run", "--", "sleep", "600"]);
    host.live(&runs);
    let [done, failed, stopped, held, runs] =
        [&done, &failed, &stopped, &held, &runs].map(|id| short_id(id));
    let refused: [&[&str]; 22] = [
        &["cancel", done],
        &["cancel", done, failed],
        &["hold", done],
        &["hold", runs],
        &["release", done],
        &["release", runs],
        &["release", done, runs],
        &["retry", held],
        &["retry", runs],
        &["retry", stopped],
        &["resume", runs],
        &["resume", stopped],
        &["logs", done, "--attempt", "7"],
        &["checkpoint", held],
        &["checkpoint", done, "--attempt", "7"],
        &["checkpoint", runs, "--attempt", "1"],
        &["diff", done],
        &["enter", done],
        &["worktree", "merge", done],
        &["worktree", "resolve", done],
        &["run", "--idempotency-key", "key", "--", "false"],
        &[
            "run",
            "--depends-on",
            done,
            "--depends-on-success",
            done,
            "--",
            "true",
        ],
    ];
    for line in refused {
        let ran = host.run(line);
        assert!(!ran.status.success(), "{ran}");
        let said = ran.complaint();
        assert!(said.contains("error: "), "{ran}");
        assert_eq!(whole_id(&said), None, "{ran}");
    }
    let shown = host.text(["checkpoint", done]);
    let heading = format!("{done}, attempt 1: succeeded");
    assert_eq!(shown.lines().next(), Some(&*heading));
}
