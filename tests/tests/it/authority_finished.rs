//! Finished tasks that an MCP client runs again: a client may do less with a person's task than
//! with its own.

use std::fs;

use claudine_tests::{
    TestHost,
    git::{git_in, with_repository},
    mcp::Client,
    wait_for,
};
use serde_json::{Value, json};

use crate::authority::{SMALLEST, refused, said, smallest, with_agent};

/// Otherwise a client could change how a person's task has ended, although the person's next step
/// depends on that.
#[test]
fn client_runs_a_persons_task_again_only_unchanged_and_only_after_a_failure() {
    let (host, _agent) = with_agent("[mcp]\nexecutors = [\"claude\", \"shell\"]\n", "exit 3");
    let mut client = Client::connect(&host);
    let id = host.script("test -e good");
    host.finished(&id);
    let says = "only as it is, without instructions or changes";
    for (tool, field, value) in [
        ("RetryTask", "timeout", json!(5_000)),
        ("RetryTask", "priority", json!("P0")),
        ("ResumeTask", "budgetUsd", json!(1)),
        ("ResumeTask", "additionalContext", json!("all is fine")),
    ] {
        let asked = json!({ "taskId": id, field: value });
        refused(&mut client, tool, asked, &[says, "submit a new task"]);
    }
    assert_eq!(host.status(&id)["attempts"].as_array().unwrap().len(), 1);
    fs::write(host.work().join("good"), "").unwrap();
    client.call("RetryTask", json!({ "taskId": id }));
    let task = host.finished(&id);
    assert_eq!(task["outcome"], "succeeded");

    // Everybody can see who has requested the attempt that succeeded.
    assert_eq!(task["attempts"][0]["by"], Value::Null);
    let chat = json!({"kind": "owner", "via": "mcp", "restrained": true});
    assert_eq!(task["attempts"][1]["by"], chat);
    let shown = host.text(["status", &id]);
    assert!(shown.contains("requested by owner via mcp"), "{shown}");
    let shown = host.text(["why", &id]);
    let says = "attempt 2 was requested by owner via mcp";
    assert!(shown.contains(says), "{shown}");

    for tool in ["RetryTask", "ResumeTask"] {
        let says = ["has succeeded", "may not be run again over MCP"];
        refused(&mut client, tool, json!({ "taskId": id }), &says);
    }
    host.run(["retry", &id]).check();
    let task = host.finished(&id);
    assert_eq!(task["attempts"][2]["by"], Value::Null);
}

/// Otherwise the person's own retry could be refused, because the budget is spent.
#[test]
fn client_does_not_spend_the_budget_of_a_persons_task() {
    let (host, _agent) = smallest();
    let mut client = Client::connect(&host);
    let delegate = [
        "delegate",
        "--permission-mode",
        "plan",
        "--budget-usd",
        "1",
        "p",
    ];
    let id = host.text(delegate);
    let graph = "- {prompt: p, permission_mode: plan}\n- {prompt: p, permission_mode: plan}\n";
    let submit = ["submit", "--budget-usd", "1", "-"];
    let members = host.run_with(submit, graph.as_bytes()).ok().text();
    let member = members.lines().next().unwrap().to_owned();
    for id in [&id, &member] {
        let attempts = host.finished(id)["attempts"].clone();
        let says = [
            "another attempt would spend the budget of owner",
            "a person can run this one again with `claudine retry",
        ];
        for tool in ["RetryTask", "ResumeTask"] {
            refused(&mut client, tool, json!({ "taskId": id }), &says);
        }
        assert_eq!(host.status(id)["attempts"], attempts);
        host.run(["retry", id]).check();
    }
    // The client may spend a budget of its own.
    let asked = json!({"prompt": "p", "permissionMode": "plan", "budgetUsd": 1});
    let own = client.call("DelegateTask", asked)["taskId"].clone();
    host.finished(own.as_str().unwrap());
    client.call("RetryTask", json!({ "taskId": own }));
}

/// Otherwise a client could spend the person's money on a task that fails again and again.
#[test]
fn client_causes_only_three_attempts_of_a_persons_task() {
    let host = TestHost::new();
    let mut client = Client::connect(&host);
    let id = host.script("exit 3");
    host.finished(&id);
    for _ in 0..2 {
        client.call("RetryTask", json!({ "taskId": id }));
        host.finished(&id);
    }
    // Neither another host nor an attempt of the person resets the number.
    host.run(["down"]).check();
    host.up();
    host.run(["retry", &id]).check();
    host.finished(&id);
    client.call("RetryTask", json!({ "taskId": id }));
    host.finished(&id);
    let says = [
        "may not be run again over MCP",
        "have already caused 3 of its attempts; 3 is the limit",
        "submit a new task",
    ];
    for tool in ["RetryTask", "ResumeTask"] {
        refused(&mut client, tool, json!({ "taskId": id }), &says);
    }
    host.run(["retry", &id]).check();
    let task = host.finished(&id);
    assert_eq!(task["attempts"].as_array().unwrap().len(), 6, "{task:#}");
    // Its own task is not limited.
    let asked = json!({"executor": "shell", "prompt": "exit 3"});
    let own = client.call("DelegateTask", asked)["taskId"].clone();
    for _ in 0..4 {
        host.finished(own.as_str().unwrap());
        client.call("RetryTask", json!({ "taskId": own }));
    }
}

/// Otherwise a client could use up the attempts of the person's task before the cause of its
/// failures is gone.
#[test]
fn client_does_not_end_the_backoff_of_a_persons_task_by_a_cancellation_and_a_retry() {
    let config = "[mcp]\nexecutors = [\"shell\"]\n";
    let host = TestHost::builder().config(config).build();
    let mut client = Client::connect(&host);
    let failing = ["run", "--retries", "3", "--backoff", "5h", "--", "false"];
    let id = host.text(failing);
    let due = wait_for("the backoff", || {
        let task = host.status(&id);
        (task["state"] == "waiting").then(|| task["until"].clone())
    });
    for tool in ["RetryTask", "ResumeTask"] {
        client.call("CancelTask", json!({ "taskId": id }));
        assert_eq!(host.status(&id)["outcome"], "cancelled");
        // The time is not lost with the host.
        host.run(["down"]).check();
        host.up();
        let answer = client.call(tool, json!({ "taskId": id }));
        let message = answer["message"].as_str().unwrap();
        let says = format!("starts no earlier than {}", due.as_str().unwrap());
        assert!(message.contains(&says), "{tool}: {message}");
        let task = host.status(&id);
        assert_eq!((&task["state"], &task["until"]), (&json!("waiting"), &due));
        assert_eq!(task["attempts"].as_array().unwrap().len(), 1, "{task:#}");
    }
    // A person's retry begins at once.
    client.call("CancelTask", json!({ "taskId": id }));
    host.run(["retry", &id]).check();
    wait_for("the second attempt", || {
        let attempts = host.status(&id)["attempts"].clone();
        (attempts.as_array().unwrap().len() == 2).then_some(())
    });
}

#[test]
fn client_cannot_undo_a_limit_that_a_person_has_set_on_its_task() {
    let host = TestHost::new();
    let mut client = Client::connect(&host);
    let asked = json!({"executor": "shell", "prompt": "exit 3"});
    let id = client.call("DelegateTask", asked)["taskId"].clone();
    let id = id.as_str().unwrap();
    host.finished(id);
    client.call("RetryTask", json!({"taskId": id, "timeout": 600_000}));
    host.finished(id);
    let limits = ["--budget-usd", "0.15", "--timeout", "5m"];
    host.run([&["retry", id][..], &limits[..]].concat()).check();
    host.finished(id);
    let says = ["owner has changed task", "only without further changes"];
    for tool in ["RetryTask", "ResumeTask"] {
        for (field, value) in [
            ("budgetUsd", json!(50)),
            ("timeout", json!(86_400_000)),
            ("priority", json!("P0")),
        ] {
            let asked = json!({ "taskId": id, field: value });
            refused(&mut client, tool, asked, &says);
        }
    }
    client.call("RetryTask", json!({ "taskId": id }));
    let task = host.finished(id);
    assert_eq!(task["attempts"].as_array().unwrap().len(), 4);
    assert_eq!(task["budget_usd"], 0.15);
}

#[test]
fn client_cannot_rerun_a_persons_task_beyond_the_ceiling() {
    let script = "[ \"$1\" != -p ] || echo \"$*\" > args; exit 3";
    let (host, _agent) = with_agent(SMALLEST, script);
    let mut client = Client::connect(&host);
    let mut check = |id: &str, says: &[&str]| {
        host.finished(id);
        let attempts = host.status(id)["attempts"].clone();
        refused(&mut client, "RetryTask", json!({ "taskId": id }), says);
        refused(&mut client, "ResumeTask", json!({ "taskId": id }), says);
        assert_eq!(host.status(id)["attempts"], attempts);
    };
    let bypass = ["delegate", "--permission-mode", "bypassPermissions", "p"];
    check(&host.text(bypass), &["permission mode `bypassPermissions`"]);
    check(
        &host.text(["delegate", "p"]),
        &["sets no `permission_mode`"],
    );
    check(
        &host.script("exit 3"),
        &["executor `shell` may not be used over MCP"],
    );

    // If a task has not ended, this is said first.
    let held = host.text(["run", "--hold", "--", "true"]);
    let later = host.text(["run", "--after", "1h", "--", "true"]);
    for (id, says) in [(held, "is held, not done"), (later, "is waiting, not done")] {
        for tool in ["RetryTask", "ResumeTask"] {
            refused(&mut client, tool, json!({ "taskId": id }), &[says]);
        }
    }

    // Tasks that would run again after the retried task are checked too.
    let graph = "- {name: first, prompt: p, permission_mode: plan}\n\
                 - {name: then, script: touch ran, dependencies: [first]}\n";
    let ran = host.run_with(["submit", "-"], graph.as_bytes()).ok();
    assert!(!ran.text().is_empty());
    host.finished("then");
    let says = ["(`then`) would run again too: executor `shell`"];
    refused(&mut client, "RetryTask", json!({"taskId": "first"}), &says);
    assert!(!host.work().join("ran").exists());

    let plan = host.text(["delegate", "--permission-mode", "plan", "p"]);
    host.finished(&plan);
    let limits = "--setting-sources user --strict-mcp-config";
    assert!(!said(&host, "args").contains(limits));
    client.call("RetryTask", json!({ "taskId": plan }));
    host.finished(&plan);
    let arguments = said(&host, "args");
    assert!(arguments.contains(limits), "{arguments}");
    let events = host.run(["events", &plan, "--json"]).ok().text();
    let retried: Vec<Value> = events
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .filter(|event: &Value| event["kind"] == "retried")
        .collect();
    assert_eq!(retried[0]["by"]["via"], "mcp", "{events}");
    let shown = host.text(["events", &plan]);
    assert!(
        shown.contains("to be retried (by owner via mcp)"),
        "{shown}"
    );
    // `/deploy` is a command of the agent, and such a command may grant permissions for tools.
    let asked = json!({"prompt": "p", "permissionMode": "plan"});
    let own = client.call("DelegateTask", asked)["taskId"].clone();
    host.finished(own.as_str().unwrap());
    let command = json!({ "taskId": own, "additionalContext": "/deploy now" });
    let says = ["do whatever the user can"];
    refused(&mut client, "ResumeTask", command, &says);
}

#[test]
fn client_cannot_trigger_a_merge_by_retrying_or_resuming_a_persons_task() {
    let (host, _agent) = smallest();
    with_repository(&host);
    let mut client = Client::connect(&host);
    let merging = ["--worktree", "--merge", "auto", "--permission-mode", "plan"];
    let arguments = ["delegate"].iter().chain(&merging).chain(&["p"]);
    let id = host.text(arguments);
    host.finished(&id);
    let says = ["merge strategy `auto` may not be used over MCP"];
    refused(&mut client, "RetryTask", json!({ "taskId": id }), &says);
    refused(&mut client, "ResumeTask", json!({ "taskId": id }), &says);
}

/// Otherwise the work of a client would get into a person's branch by settings that the person has
/// withdrawn while the task ran.
#[test]
fn work_of_a_clients_task_is_not_merged_if_a_person_has_forbidden_the_strategy_meanwhile() {
    let config = |strategies: &str| {
        format!("[mcp]\nexecutors = [\"shell\"]\nmerge_strategies = {strategies}\n")
    };
    let host = TestHost::builder()
        .config(config(r#"["manual", "auto"]"#))
        .build();
    with_repository(&host);
    let in_main = || git_in(&host, &host.work(), &["ls-tree", "--name-only", "main"]);
    let [begun, go] = ["begun", "go"].map(|name| host.root().join(name));
    let script = format!(
        "echo theirs > file; touch '{}'; until test -e '{}'; do sleep 0.05; done",
        begun.display(),
        go.display()
    );
    let mut client = Client::connect(&host);
    let task = json!({"name": "theirs", "script": script, "worktree": {"merge": "auto"}});
    client.call("SubmitGraph", json!({ "tasks": [task] }));
    wait_for("the task to begin", || begun.exists().then_some(()));

    host.run(["down"]).check();
    let file = host.config_dir().join("claudine/config.toml");
    fs::write(file, config("[]")).unwrap();
    host.up();
    fs::write(go, "").unwrap();
    let task = host.finished("theirs");
    assert_eq!(task["reason"]["class"], "permission", "{task:#}");
    let message = task["reason"]["message"].as_str().unwrap();
    for says in [
        "merge strategy `auto` may not be used over MCP",
        "mcp.merge_strategies",
    ] {
        assert!(message.contains(says), "{message}");
    }
    assert_eq!(task["attempts"][0]["merge"]["state"], "refused", "{task:#}");
    assert_eq!(in_main(), "");
    // The work is still there, and a person may merge it.
    host.run(["worktree", "merge", "theirs"]).check();
    assert_eq!(in_main(), "file");
    assert_eq!(host.finished("theirs")["outcome"], "succeeded");
}
