//! MCP as official clients see it (the Python client and the Inspector's command line), and answers
//! of the tools that do not depend on the client.

use std::fs;

use claudine_tests::{
    TestHost,
    mcp::{Client, inspector},
    process::alive,
    wait_for,
};
use serde_json::{Value, json};

pub(super) const TOOLS: [&str; 11] = [
    "DelegateTask",
    "SubmitGraph",
    "TaskStatus",
    "TaskLogs",
    "CancelTask",
    "RetryTask",
    "ResumeTask",
    "ListTasks",
    "WaitTask",
    "TaskDiff",
    "MergeTask",
];

/// A host that lets MCP clients use the mock executor, which the default settings do not.
fn host() -> TestHost {
    TestHost::builder()
        .config("[mcp]\nexecutors = [\"claude\", \"shell\", \"mock\"]\n")
        .build()
}

fn delegate(client: &mut Client, script: &str) -> String {
    let answer = client.call(
        "DelegateTask",
        json!({ "prompt": script, "executor": "shell" }),
    );
    answer["taskId"].as_str().unwrap().to_owned()
}

fn wait(client: &mut Client, id: &str) -> Value {
    wait_for("the task's end", || {
        let task = client.call("WaitTask", json!({ "taskId": id }));
        (task["status"] != "queued" && task["status"] != "running").then_some(task)
    })
}

/// The official client checks each answer against the tool's schema.
#[test]
fn official_client_lists_the_tools_and_delegates_reads_and_retries_a_task() {
    let host = host();
    let mut client = Client::official(&host);
    let mut names: Vec<&str> = client.hello["tools"]
        .as_array()
        .unwrap()
        .iter()
        .map(|name| name.as_str().unwrap())
        .collect();
    let mut expected = TOOLS;
    names.sort_unstable();
    expected.sort_unstable();
    assert_eq!(names, expected);
    let instructions = client.hello["instructions"].as_str().unwrap();
    assert!(instructions.contains("DelegateTask"), "{instructions}");
    let complaint = client.fail("TaskStatus", json!({ "taskId": "nobody" }));
    let says = "no task matches `nobody`";
    assert!(complaint.contains(says), "{complaint}");

    let id = delegate(
        &mut client,
        "echo one; echo two >&2; echo three; test -e ready",
    );
    assert_eq!(wait(&mut client, &id)["status"], "failed");

    let status = client.call("TaskStatus", json!({ "taskId": id }));
    for field in [
        "taskId",
        "status",
        "prompt",
        "startTime",
        "endTime",
        "duration",
        "exitCode",
        "workingDirectory",
    ] {
        assert!(!status[field].is_null(), "{field} in {status:#}");
    }
    assert_eq!(
        (&status["exitCode"], &status["workingDirectory"]),
        (&1.into(), &host.work().to_str().unwrap().into())
    );

    let logs = client.call("TaskLogs", json!({ "taskId": id, "tail": 1 }));
    let output = logs["output"].to_string();
    assert!(
        output.contains("three") && !output.contains("one"),
        "{logs:#}"
    );
    assert!(logs["errors"].to_string().contains("two"), "{logs:#}");

    fs::write(host.work().join("ready"), "").unwrap();
    let retried = client.call("RetryTask", json!({ "taskId": id }));
    assert_eq!(
        (&retried["newTaskId"], &retried["retryCount"]),
        (&id.as_str().into(), &1.into()),
        "{retried:#}"
    );
    assert_eq!(wait(&mut client, &id)["status"], "completed");

    let list = client.call("ListTasks", json!({}));
    assert_eq!(list["tasks"].as_array().unwrap().len(), 1, "{list:#}");
}

#[test]
fn running_task_can_be_cancelled_over_mcp() {
    let host = host();
    let mut client = Client::connect(&host);
    let id = delegate(&mut client, "exec sleep 600");
    let pid = host.live(&id);
    client.call(
        "CancelTask",
        json!({ "taskId": id, "reason": "no longer wanted" }),
    );
    assert_eq!(wait(&mut client, &id)["status"], "cancelled");
    assert!(!alive(pid));
}

#[test]
fn several_tasks_can_be_waited_for_together() {
    let host = host();
    let mut client = Client::connect(&host);
    let mut waits = |file: &str| {
        let script = format!("until test -e {file}; do sleep 0.1; done; echo {file}");
        delegate(&mut client, &script)
    };
    let (first, second) = (waits("first"), waits("second"));
    let both = json!([first, second]);
    host.live(&first);
    host.live(&second);
    let mut wait = |arguments: Value| {
        let answer = client.call("WaitTask", arguments);
        let ids = answer["tasks"].as_array().unwrap().iter();
        let ids: Vec<&Value> = ids.map(|task| &task["taskId"]).collect();
        assert_eq!(json!(ids), both, "{answer:#}");
        answer
    };
    let neither = wait(json!({ "taskIds": both, "any": true, "timeout": 0 }));
    assert_eq!(neither["done"], false, "{neither:#}");
    assert_eq!(neither["tasks"][1]["status"], "running", "{neither:#}");
    fs::write(host.work().join("second"), "").unwrap();
    // A wait with `any` ends with the first task that ends, and a wait without `any` does not.
    let one = wait(json!({ "taskIds": both, "any": true }));
    assert_eq!(one["done"], true, "{one:#}");
    assert_eq!(one["tasks"][0]["status"], "running", "{one:#}");
    assert_eq!(one["tasks"][1]["output"], "second\n", "{one:#}");
    let one = wait(json!({ "taskIds": both, "timeout": 100 }));
    assert_eq!(one["done"], false, "{one:#}");
    fs::write(host.work().join("first"), "").unwrap();
    let all = wait(json!({ "taskIds": both }));
    assert_eq!(all["done"], true, "{all:#}");
    for task in all["tasks"].as_array().unwrap() {
        assert_eq!(task["status"], "completed", "{all:#}");
    }

    let mut refuse = |arguments: Value, says: &str| {
        let complaint = client.fail("WaitTask", arguments);
        assert!(complaint.contains(says), "{complaint}");
    };
    refuse(json!({}), "give taskId, or taskIds for several tasks");
    refuse(
        json!({ "taskId": first, "taskIds": both }),
        "give taskId, or taskIds for several tasks",
    );
    refuse(
        json!({ "taskIds": [] }),
        "taskIds has 0 tasks, but must have from 1 to 32",
    );
    refuse(
        json!({ "taskIds": [first, "nobody"] }),
        "no task matches `nobody`",
    );
}

/// A client could otherwise take a key that a person's command is known to use.
#[test]
fn idempotency_key_of_a_client_does_not_stop_a_persons_command() {
    let host = host();
    let mut client = Client::connect(&host);
    let asked = |script: &str| json!({ "prompt": script, "executor": "shell", "idempotencyKey": "nightly" });
    let first = client.call("DelegateTask", asked("true"))["taskId"].clone();
    let of_person = ["run", "--idempotency-key", "nightly", "--", "true"];
    let id = host.text(of_person);
    assert_ne!(first, *id);
    assert_eq!(host.text(of_person), id);
    assert_eq!(client.call("DelegateTask", asked("true"))["taskId"], first);
    let complaint = client.fail("DelegateTask", asked("false"));
    let says = "idempotency key `nightly` was used for";
    assert!(complaint.contains(says), "{complaint}");
}

#[test]
fn number_of_tasks_in_a_graph_over_mcp_is_bounded() {
    let host = host();
    let mut client = Client::connect(&host);
    for count in [0, 1_001] {
        let tasks = vec![json!({ "script": "true" }); count];
        let complaint = client.fail("SubmitGraph", json!({ "tasks": tasks }));
        let says = format!("tasks has {count} tasks, but must have from 1 to 1000");
        assert!(complaint.contains(&says), "{complaint}");
    }
    assert_eq!(host.json(["list"])["tasks"], json!([]));
}

#[test]
fn status_and_wait_over_mcp_report_why_a_task_waits_or_has_failed() {
    let host = host();
    let mut client = Client::connect(&host);
    let gate = delegate(&mut client, "until test -e go; do sleep 0.1; done; exit 3");
    let answer = client.call(
        "DelegateTask",
        json!({ "prompt": "true", "executor": "shell", "dependencies": [gate] }),
    );
    let after = answer["taskId"].as_str().unwrap().to_owned();
    let mut why = |tool: &str, id: &str, says: &str| {
        let told = client.call(tool, json!({ "taskId": id }));
        let why = told["why"].to_string();
        assert!(why.contains(says), "{told:#}");
    };
    host.live(&gate);
    why("TaskStatus", &after, "to succeed (now running)");
    fs::write(host.work().join("go"), "").unwrap();
    why("WaitTask", &after, "it could not run because of");
    why("WaitTask", &gate, "code 3");
    why("TaskStatus", &gate, "code 3");
    let succeeded = delegate(&mut client, "true");
    let told = wait(&mut client, &succeeded);
    assert_eq!(told["why"], Value::Null, "{told:#}");
}

#[test]
fn refusals_are_returned_as_tool_results() {
    let host = host();
    let mut client = Client::connect(&host);
    let mut check = |tool: &str, arguments: Value, says: &str| {
        let complaint = client.fail(tool, arguments);
        assert!(
            complaint.contains(says),
            "{complaint:?} does not contain {says:?}"
        );
    };
    check(
        "TaskStatus",
        json!({ "taskId": "task_00000000000000000000000000" }),
        "task_00000000000000000000000000",
    );
    check(
        "DelegateTask",
        json!({ "prompt": "true", "executor": "nonesuch" }),
        "nonesuch",
    );
    check(
        "DelegateTask",
        json!({ "prompt": "", "executor": "shell" }),
        "empty",
    );
    check(
        "DelegateTask",
        json!({ "prompt": "true", "executor": "shell", "workingDirectory": "/no/such/place" }),
        "/no/such/place",
    );
    assert_eq!(host.json(["list"])["tasks"].as_array().unwrap().len(), 0);
}

/// No argument, variable or path of a program can have a NUL byte.
#[test]
fn no_text_of_a_request_over_mcp_may_have_a_nul_byte() {
    let host = host();
    let mut client = Client::connect(&host);
    let id = delegate(&mut client, "exit 3");
    host.finished(&id);
    for (tool, asked) in [
        ("DelegateTask", json!({ "prompt": "a\0b" })),
        (
            "DelegateTask",
            json!({ "prompt": "true", "executor": "shell", "workingDirectory": "/\0" }),
        ),
        (
            "DelegateTask",
            json!({ "prompt": "p", "useWorktree": true, "branchName": "a\0b" }),
        ),
        (
            "SubmitGraph",
            json!({ "tasks": [{ "executor": "shell", "spec": { "script": "a\0b" } }] }),
        ),
        (
            "ResumeTask",
            json!({ "taskId": id, "additionalContext": "a\0b" }),
        ),
        ("CancelTask", json!({ "taskId": id, "reason": "a\0b" })),
    ] {
        let complaint = client.fail(tool, asked);
        assert!(
            complaint.contains("this has a NUL byte at byte 1"),
            "{tool}: {complaint}"
        );
    }
    assert_eq!(host.status(&id)["attempts"].as_array().unwrap().len(), 1);
}

#[test]
fn refusal_of_a_retry_or_resume_names_the_tool_that_helps() {
    let host = host();
    let mut client = Client::connect(&host);
    let running = host.script("exec sleep 600");
    host.live(&running);
    let blocked = host.text(["run", "--depends-on", &running, "--", "true"]);
    for (id, says) in [
        (
            &running,
            "is running, not done (WaitTask waits for its end, CancelTask ends it)",
        ),
        (
            &blocked,
            "is blocked, not done (it starts by itself: TaskStatus says what it waits for)",
        ),
    ] {
        for (tool, asked) in [
            ("RetryTask", json!({ "taskId": id })),
            ("RetryTask", json!({ "taskId": id, "now": true })),
            ("ResumeTask", json!({ "taskId": id })),
        ] {
            let complaint = client.fail(tool, asked);
            assert!(complaint.contains(says), "{tool}: {complaint}");
        }
    }
    host.run(["cancel", &running]).check();
}

/// Otherwise a client, or a person, would believe that the attempt runs.
#[test]
fn retry_and_resume_say_what_the_task_waits_for() {
    let host = host();
    let mut client = Client::connect(&host);
    let failed = |options: &[&str]| {
        let command = ["--", "sh", "-c", "exit 3"];
        let id = host.text([&["run"][..], options, &command].concat());
        host.finished(&id);
        id
    };
    let never_begun = |options: &[&str]| {
        let id = host.text([&["run"][..], options, &["--", "true"]].concat());
        host.run(["cancel", &id]).check();
        id
    };
    let [plain, grouped, held] = [&[] as &[&str], &["-g", "g"], &[]].map(failed);
    let retried = client.call("RetryTask", json!({ "taskId": plain }));
    let message = retried["message"].as_str().unwrap();
    assert!(message.ends_with(" as attempt 2"), "{message}");
    host.finished(&plain);

    // Each task is cancelled again before it has begun another attempt.
    let mut check = |id: &str, tools: &[&str], says: &str| {
        for tool in tools {
            let answer = client.call(tool, json!({ "taskId": id }));
            let message = answer["message"].as_str().unwrap();
            assert!(message.contains(says), "{tool}: {message}");
            host.run(["cancel", id]).check();
        }
    };
    let both = ["RetryTask", "ResumeTask"];
    host.run(["group", "add", "g"]).check();
    host.run(["group", "pause", "g"]).check();
    check(&grouped, &both, "; group `g` is paused, so it starts when");
    host.run(["resume", &grouped])
        .ok()
        .says(&["group `g` is paused"]);
    host.run(["pause"]).check();
    check(&plain, &both, "; the queue is paused, so it starts when");
    for verb in ["retry", "resume"] {
        host.run([verb, &plain]).ok().says(&["the queue is paused"]);
        host.run(["cancel", &plain]).check();
    }
    host.run(["retry", &held]).check();
    host.run(["hold", &held]).check();
    host.run(["cancel", &held]).check();
    let releases = "; it is held and starts when a person releases it";
    check(&held, &both, releases);
    host.run(["resume", &held])
        .ok()
        .says(&["is held: `claudine release"]);
    let later = never_begun(&["--after", "1h"]);
    check(&later, &["RetryTask"], "; it starts no earlier than ");
    let below = never_begun(&["--depends-on", &held]);
    check(&below, &["RetryTask"], "; it is blocked and starts after");
    host.run(["retry", &below])
        .ok()
        .says(&["it is blocked and starts after"]);
}

#[test]
fn executor_that_the_settings_do_not_allow_is_refused_over_mcp() {
    let host = TestHost::builder()
        .config("[mcp]\nexecutors = [\"claude\"]\n")
        .build();
    let mut client = Client::connect(&host);
    let complaint = client.fail(
        "DelegateTask",
        json!({ "prompt": "true", "executor": "shell" }),
    );
    assert!(complaint.contains("mcp.executors"), "{complaint}");
}

#[test]
fn long_prompt_arrives_complete() {
    let host = host();
    let mut client = Client::connect(&host);
    // One mebibyte, and then a command that only a complete prompt runs.
    let id = delegate(
        &mut client,
        &format!(": {}\necho the end", "x".repeat(1 << 20)),
    );
    wait(&mut client, &id);
    assert_eq!(host.status(&id)["output"], "the end\n");
}

#[test]
fn client_gets_answers_across_restarts_of_the_host() {
    let host = host();
    let mut client = Client::connect(&host);
    let id = delegate(&mut client, "until test -e go; do sleep 0.1; done");
    host.live(&id);
    for _ in 0..3 {
        host.kill_host();
        assert_eq!(
            client.call("TaskStatus", json!({ "taskId": id }))["status"],
            "running"
        );
        // `TaskStatus` starts no host, because it only reads.
        host.up();
    }
    host.kill_host();
    let second = delegate(&mut client, "echo once >> count");
    fs::write(host.work().join("go"), "").unwrap();
    assert_eq!(wait(&mut client, &id)["status"], "completed");
    assert_eq!(wait(&mut client, &second)["status"], "completed");
    assert_eq!(
        fs::read_to_string(host.work().join("count")).unwrap(),
        "once\n"
    );
}

#[test]
fn several_clients_and_calls_share_one_host() {
    let host = host();
    let mut clients = [Client::connect(&host), Client::official(&host)];
    let id = delegate(&mut clients[0], "until test -e go; do sleep 0.1; done");
    // While one call waits, other calls on the same connection are answered. The wait ends at its
    // time limit.
    let answers = clients[1].call_at_once(&[
        ("WaitTask", json!({ "taskId": id, "timeout": 1000 })),
        ("TaskStatus", json!({ "taskId": id })),
        (
            "DelegateTask",
            json!({ "prompt": "true", "executor": "shell" }),
        ),
        ("ListTasks", json!({})),
    ]);
    assert!(
        answers.iter().all(|answer| answer["success"] == true),
        "{answers:#?}"
    );
    fs::write(host.work().join("go"), "").unwrap();
    assert_eq!(wait(&mut clients[0], &id)["status"], "completed");
    let hosts = host
        .processes()
        .into_iter()
        .filter(|found| found.command.contains(" serve"))
        .count();
    assert_eq!(hosts, 1);
}

#[test]
fn inspector_lists_and_calls_tools() {
    let host = host();
    let list = inspector(&host, &["--method", "tools/list"]).ok().json();
    assert_eq!(list["tools"].as_array().unwrap().len(), TOOLS.len());
    assert!(
        list["tools"]
            .as_array()
            .unwrap()
            .iter()
            .all(|tool| tool["outputSchema"].is_object()),
        "{list:#}"
    );

    let call = |tool: &str, arguments: &[&str]| {
        let words = ["--method", "tools/call", "--tool-name", tool].into_iter();
        let arguments: Vec<&str> = words
            .chain(
                arguments
                    .iter()
                    .flat_map(|argument| ["--tool-arg", argument]),
            )
            .collect();
        inspector(&host, &arguments)
    };
    let delegated = call("DelegateTask", &["prompt=echo inspected", "executor=shell"])
        .ok()
        .json();
    let id = delegated["structuredContent"]["taskId"]
        .as_str()
        .unwrap()
        .to_owned();
    host.finished(&id);
    let logs = call("TaskLogs", &[&format!("taskId={id}")]).ok().json();
    assert!(
        logs["structuredContent"]["output"]
            .to_string()
            .contains("inspected"),
        "{logs:#}"
    );
    let several = format!("taskIds=[\"{id}\",\"{id}\"]");
    let waited = call("WaitTask", &[&several, "any=true"]).ok().json();
    let waited = &waited["structuredContent"];
    assert_eq!(waited["done"], true, "{waited:#}");
    assert_eq!(waited["tasks"][1]["taskId"], id, "{waited:#}");
    // The Inspector checks each answer against the tool's schema, including errors.
    let refused = call("TaskStatus", &["taskId=task_00000000000000000000000000"]);
    let shown = format!("{refused}");
    assert!(
        shown.contains("task_00000000000000000000000000") && !shown.contains("must have"),
        "{shown}"
    );
}
